"""One run over many devices: each takes a share of every minibatch, and holds all of the training state or a share.

The devices are a mesh of one axis. A program that is traced under it (`jax.sharding.use_abstract_mesh`, or
`jax.set_mesh`) divides the examples of each minibatch along that axis by `shard_examples`; XLA does the rest. It keeps
the meaning of the program: a mean over the batch, as in batch normalization, is one over all devices, and the gradient
is the sum over them. Without such a mesh the same program is for one device.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
from jax import lax
from jax.sharding import AxisType, Mesh, PartitionSpec
from jaxtyping import PyTree

from lenet_jax.config.checks import Count
from lenet_jax.errors import InputError

AXIS = "batch"


class Sharding(NamedTuple):
    """How a run is divided over devices."""

    num_devices: int | None  # None: all that there are
    smallest: int | None = None  # numbers in the smallest array of the state that is divided; None: none is


def one_device() -> Sharding:
    """Return that a run has one device to itself."""
    return Sharding(1)


def data_parallel(*, num_devices: Count | None = None) -> Sharding:
    """Return that each device takes a share of every minibatch, and holds all of the training state.

    Gradients are summed over the devices once a microbatch.

    Args:
        num_devices: how many devices, of all processes together; null: all.
    """
    return Sharding(num_devices)


def fully_sharded(*, num_devices: Count | None = None, smallest: Count = 1024) -> Sharding:
    """Return that each device takes a share of every minibatch, and holds a share of the training state.

    Parameters, their best copy and the optimizer's state are divided along their longest axis that the devices
    divide, and parameters are gathered where a step computes with them. Source: Rajbhandari et al. 2020, "ZeRO: memory
    optimizations toward training trillion parameter models", section 5; there it is stage 3.

    Args:
        num_devices: how many devices, of all processes together; null: all.
        smallest: an array of fewer numbers is not divided.
    """
    return Sharding(num_devices, smallest)


def make_mesh(sharding: Sharding, devices: Sequence[Any]) -> Mesh | None:
    """Return the mesh of a run; None: it has one device to itself.

    Args:
        sharding: of the run.
        devices: those that there are.

    Raises:
        InputError: if there are fewer devices than it asks for.
    """
    count = len(devices) if sharding.num_devices is None else sharding.num_devices
    if count > len(devices):
        raise InputError(
            f"`sharding.num_devices` must be at most the number of devices, {len(devices)} here; got {count}; on a "
            f"CPU set JAX_NUM_CPU_DEVICES={count}."
        )
    return None if sharding == one_device() else Mesh(devices[:count], (AXIS,))


def state_specs(sharding: Sharding, state: PyTree, num_devices: int) -> PyTree:
    """Return for each array of a training state how it is divided.

    Args:
        sharding: of the run.
        state: its arrays, or their shapes and dtypes.
        num_devices: how many devices the run is divided over.
    """

    def spec(leaf: Any) -> PartitionSpec:
        divided = [(n, axis) for axis, n in enumerate(leaf.shape) if n % num_devices == 0]
        if sharding.smallest is None or leaf.size < max(sharding.smallest, num_devices) or not divided:
            return PartitionSpec()
        _, longest = max(divided, key=lambda pair: pair[0])
        return PartitionSpec(*[None] * longest, AXIS)

    return jax.tree.map(spec, state)


def num_shards() -> int:
    """Return over how many devices the examples of a minibatch are divided in the program that is traced."""
    mesh = jax.sharding.get_abstract_mesh()
    types = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))
    return mesh.shape[AXIS] if types.get(AXIS) == AxisType.Auto else 1


def shard_examples(tree: PyTree) -> PyTree:
    """Return arrays (N, ...) of which each device has a share of N; unchanged where there is one device."""
    return _constrained(tree, PartitionSpec(AXIS))


def replicate(tree: PyTree) -> PyTree:
    """Return arrays of which each device has all; unchanged where there is one device."""
    return _constrained(tree, PartitionSpec())


def _constrained(tree: PyTree, spec: PartitionSpec) -> PyTree:
    return tree if num_shards() == 1 else lax.with_sharding_constraint(tree, spec)
