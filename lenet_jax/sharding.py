"""Sharding: the minibatches of one run are split over several devices.

By default XLA treats all cores of a CPU as one device and splits each operation over them. Every operation then waits
for the slowest core, and an operation that is too small to be split leaves all cores but one idle. With one device per
core, each device computes its own shard of the minibatch, and the devices synchronize once per step. JAX creates these
devices when it is first used, if `lenet_jax.environment.tune_environment` was called before, or

    jax.config.update("jax_num_cpu_devices", os.cpu_count())

`experiments/benchmarks/README.md` reports the speedup.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

AXIS = "shards"
_ALIGNMENT = 64  # bytes
_MIN_SHARD_SIZE = 16  # examples; the matrix products of smaller shards are inefficient


def choose_devices(batch_size: int) -> list[Any]:
    """Return the devices over which the minibatches of a run are split.

    On a CPU these are as many devices as divide the minibatch into equal shards of 16 or more examples; on other
    platforms, the first device only.

    Args:
        batch_size: number of examples in a minibatch.
    """
    devices = jax.local_devices()
    if devices[0].platform != "cpu":
        return devices[:1]
    most = max(min(len(devices), batch_size // _MIN_SHARD_SIZE), 1)
    return devices[: next(n for n in range(most, 0, -1) if batch_size % n == 0)]


def jit_on(devices: list[Any], fn: Callable, **options: Any) -> Callable:
    """Jit a function that splits its work over the mesh axis `AXIS`; its arguments and results are replicated.

    Args:
        devices: one or several.
        fn: a function of arrays with a keyword argument `axis_name`, which is None for one device, else `AXIS`:
            `train_interval`, `evaluate`, the result of `make_train`, or a `functools.partial` of one of them.
        **options: options of `jax.jit`.
    """
    if len(devices) == 1:
        return jax.jit(fn, **options)
    mesh = Mesh(devices, (AXIS,))
    spec = PartitionSpec()

    def run(*args: Any) -> Any:
        return fn(*args, axis_name=AXIS)

    split = jax.shard_map(run, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)
    replicated = NamedSharding(mesh, spec)
    return jax.jit(split, in_shardings=replicated, out_shardings=replicated, **options)


def put_on(devices: list[Any], tree: Any) -> Any:
    """Replicate arrays on every device; the devices of one CPU share a single copy of each NumPy array."""
    replicated = NamedSharding(Mesh(devices, (AXIS,)), PartitionSpec())
    if devices[0].platform == "cpu":
        tree = jax.tree.map(lambda x: _copy_aligned(x) if isinstance(x, np.ndarray) else x, tree)
    return jax.device_put(tree, replicated)


def _copy_aligned(x: np.ndarray) -> np.ndarray:
    """Return a read-only copy whose memory is aligned, so that XLA can use it without a copy of its own."""
    memory = np.empty(x.nbytes + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    copy = memory[start : start + x.nbytes].view(x.dtype).reshape(x.shape)
    copy[...] = x
    copy.flags.writeable = False
    return copy
