"""Lanes: several runs that differ only in seeds and hyperparameters, trained by one program.

A lane is the place of a run on the leading axis of that program. The state has a leading lane axis; the data are shared
and have none. The state of a lane that has stopped or diverged is unchanged while the other lanes continue, and it does
not affect them.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, PyTree

from lenet_jax.augment import Augment, Mixup
from lenet_jax.config import TrainerConfig
from lenet_jax.errors import InputError, unknown_name
from lenet_jax.objective import Task
from lenet_jax.optimizers.standard_form import Optimizer
from lenet_jax.training import Evaluation, TrainResult, TrainState, make_train, no_evaluation, train_interval
from lenet_jax.types import Dataset, Model, Objective, Status

STRATEGIES = ("auto", "vmap", "map", "devices")
AXIS = "lanes"
LaneFn = Callable[[Any, Any], Any]  # (lane, shared) -> result, each a pytree


def choose_strategy(num_lanes: int, devices: Sequence[Any]) -> str:
    """Return the strategy that "auto" stands for: "vmap" on GPU and TPU, "devices" or "map" on a CPU.

    On a CPU lanes on separate cores wait for each other less often than the parts of one operation do.

    Args:
        num_lanes: 1 or above.
        devices: the devices that the lanes may use.
    """
    if devices[0].platform != "cpu":
        return "vmap"
    return "devices" if min(num_lanes, len(devices)) > 1 else "map"


def over_lanes(fn: LaneFn, *, strategy: str = "auto", devices: Sequence[Any] | None = None) -> LaneFn:
    """Transform a function of one lane into a function of several lanes.

    Args:
        fn: (lane, shared) -> result, each a pytree.
        strategy: "map": the lanes run sequentially in one program; bit-identical to `fn`. "devices": the lanes are
            sharded over devices and sequential on each; bit-identical to `fn` on one device. "vmap": the lanes are
            sharded over devices and vectorized on each, which keeps a GPU busy; equal to `fn` within rounding. "auto":
            the result of `choose_strategy`.
        devices: the devices over which the lanes are sharded; default: all devices of this process.

    Returns:
        A function (lanes, shared) -> results, to be jitted; every array of `lanes` and of the results has a leading
        lane axis.

    Raises:
        InputError: if the strategy is unknown; during tracing, if the arrays of `lanes` have no common first axis.
    """
    if strategy not in STRATEGIES:
        raise unknown_name("lanes strategy", strategy, STRATEGIES)
    chosen = list(devices or jax.local_devices())
    sequential, vectorized = functools.partial(_sequential, fn), jax.vmap(fn, (0, None))

    def run(lanes: PyTree, shared: PyTree) -> PyTree:
        num_lanes = _count(lanes)
        match choose_strategy(num_lanes, chosen) if strategy == "auto" else strategy:
            case "map":
                return sequential(lanes, shared)
            case "vmap":
                return _sharded(vectorized, lanes, shared, num_lanes, chosen[:num_lanes])
            case _:
                return _sharded(sequential, lanes, shared, num_lanes, chosen[:num_lanes])

    return run


def _count(lanes: PyTree) -> int:
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(lanes)]
    lengths = {shape[0] if shape else 0 for shape in shapes}
    if len(lengths) != 1 or 0 in lengths:
        found = ", ".join(map(str, shapes[:3])) or "no arrays"
        raise InputError(
            f"over_lanes: all arrays in `lanes` must share a first axis of length 1 or more; got shapes {found}."
        )
    return lengths.pop()


def _sequential(fn: LaneFn, lanes: PyTree, shared: PyTree) -> PyTree:
    return lax.map(lambda lane: fn(lane, shared), lanes)


def _sharded(of_lanes: LaneFn, lanes: PyTree, shared: PyTree, num_lanes: int, devices: Sequence[Any]) -> PyTree:
    """Run the same number of lanes on each device; copies of the last lane fill the remaining places."""
    if len(devices) == 1:
        return of_lanes(lanes, shared)
    missing = -num_lanes % len(devices)
    padded = jax.tree.map(lambda x: jnp.concatenate([x, jnp.repeat(x[-1:], missing, 0)]) if missing else x, lanes)
    sharded, replicated = PartitionSpec(AXIS), PartitionSpec()
    mesh = Mesh(devices, (AXIS,))
    run = jax.shard_map(of_lanes, mesh=mesh, in_specs=(sharded, replicated), out_specs=sharded, check_vma=False)
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):  # instead of a mesh that the caller may have set
        return jax.tree.map(lambda y: y[:num_lanes] if missing else y, run(padded, shared))


def advance(
    task: Task, optimizer: Optimizer, config: TrainerConfig, state: TrainState, data: Dataset
) -> tuple[TrainState, Evaluation]:
    """Train a lane up to its next validation; return the state of a finished lane unchanged.

    This is `train_interval` for `over_lanes`. The evaluation of a finished lane has NaN losses and no examples.
    """

    def train(state: TrainState) -> tuple[TrainState, Evaluation]:
        return train_interval(task, optimizer, config, state, data)

    def skip(state: TrainState) -> tuple[TrainState, Evaluation]:
        return state, no_evaluation(task.objective, config)._replace(iteration=state.iteration)

    return lax.cond(state.status == Status.RUNNING, train, skip, state)


def make_train_lanes(
    model: Model,
    optimizer: Optimizer,
    config: TrainerConfig,
    *,
    objective: Objective | None = None,
    augment: Sequence[Augment | Mixup] = (),
    strategy: str = "auto",
    devices: Sequence[Any] | None = None,
) -> Callable[[Array, dict[str, Array], Dataset], TrainResult]:
    """Return several complete runs as one pure function, to be jitted.

    Args:
        model: the network.
        optimizer: any Optax gradient transformation.
        config: the trainer's configuration.
        objective: loss and metrics; None: classification.
        augment: augmentations of the training examples, applied in order.
        strategy: as in `over_lanes`.
        devices: as in `over_lanes`.

    Returns:
        A function `train(keys, hyperparameters, data)`. `keys` holds one key per lane (L,). `hyperparameters` maps
        names in the optimizer's state to the values that replace them, one per lane (L,), such as
        {"learning_rate": rates}; changing a value does not recompile. `data` is one data set for all lanes. The result
        is a `TrainResult` whose arrays have a leading lane axis.

    Raises:
        InputError: as `over_lanes` and `make_train`.
    """
    train = make_train(model, optimizer, config, objective=objective, augment=augment)
    lanes = over_lanes(lambda lane, data: train(*lane, data), strategy=strategy, devices=devices)
    return lambda keys, hyperparameters, data: lanes((keys, hyperparameters), data)
