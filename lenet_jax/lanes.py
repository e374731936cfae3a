"""Lanes: runs side by side that differ in their seeds and hyperparameters, as one program.

A lane is a run. Whatever it carries gets a leading axis of lanes; the data, which all share, do not. A lane that has
stopped or diverged stays as it is while the others go on, and what it would have done does not reach them.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array

from lenet_jax.config import TrainerConfig
from lenet_jax.errors import InputError, unknown_name
from lenet_jax.training import make_train, train_interval
from lenet_jax.types import Dataset, Evaluation, Metrics, Model, Status, TrainResult, TrainState

STRATEGIES = ("auto", "vmap", "map", "devices")
AXIS = "lanes"


def choose_strategy(num_lanes: int, devices: Sequence[Any]) -> str:
    """Return how so many lanes are fastest: "vmap" on GPU and TPU, a core each on CPU.

    On CPU a lane's operations are large enough to keep a core busy, and lanes on cores of their own need not wait for
    each other.
    """
    if devices[0].platform != "cpu":
        return "vmap"
    return "devices" if min(num_lanes, len(devices)) > 1 else "map"


def over_lanes(
    fn: Callable[[Any, Any], Any], *, strategy: str = "auto", devices: Sequence[Any] | None = None
) -> Callable[[Any, Any], Any]:
    """Return a function of one lane as a function of many.

    Args:
        fn: (lane, shared) -> result, each a pytree.
        strategy: "vmap": each operation is done for all lanes at once, which is what fills a GPU; equal to `fn` within
            rounding. "map": one lane after another in one program, bit for bit what `fn` returns. "devices": the lanes
            are dealt out to devices, one after another on each; bit for bit what `fn` returns on one of them. "auto":
            as `choose_strategy` says.
        devices: those that "devices" uses; default: all of this process.

    Returns:
        A function (lanes, shared) -> results, to be jitted; every array of `lanes` and of the results has the lanes as
        its first axis.

    Raises:
        InputError: if the strategy is unknown; while tracing, if the arrays of `lanes` have no common first axis.
    """
    if strategy not in STRATEGIES:
        raise unknown_name("lanes strategy", strategy, STRATEGIES)
    chosen = list(devices or jax.local_devices())

    def run(lanes: Any, shared: Any) -> Any:
        num_lanes = _count(lanes)
        match choose_strategy(num_lanes, chosen) if strategy == "auto" else strategy:
            case "vmap":
                return jax.vmap(fn, (0, None))(lanes, shared)
            case "map":
                return _one_by_one(fn, lanes, shared)
            case _:
                return _dealt_out(fn, lanes, shared, num_lanes, chosen[:num_lanes])

    return run


def _count(lanes: Any) -> int:
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(lanes)]
    lengths = {shape[0] if shape else 0 for shape in shapes}
    if len(lengths) != 1 or 0 in lengths:
        found = ", ".join(map(str, shapes[:3])) or "no arrays"
        raise InputError(f"over_lanes: `lanes` must have one first axis, of length 1 or above; got {found}.")
    return lengths.pop()


def _one_by_one(fn: Callable[[Any, Any], Any], lanes: Any, shared: Any) -> Any:
    return lax.map(lambda lane: fn(lane, shared), lanes)


def _dealt_out(fn: Callable[[Any, Any], Any], lanes: Any, shared: Any, num_lanes: int, devices: Sequence[Any]) -> Any:
    """Run a share of the lanes on each device; the last lane is repeated until there are as many for all."""
    missing = -num_lanes % len(devices)
    padded = jax.tree.map(lambda x: jnp.concatenate([x, jnp.repeat(x[-1:], missing, 0)]) if missing else x, lanes)
    dealt, everywhere = PartitionSpec(AXIS), PartitionSpec()
    share = jax.shard_map(
        functools.partial(_one_by_one, fn),
        mesh=Mesh(devices, (AXIS,)),
        in_specs=(dealt, everywhere),
        out_specs=dealt,
        check_vma=False,
    )
    return jax.tree.map(lambda y: y[:num_lanes] if missing else y, share(padded, shared))


def advance(
    model: Model,
    optimizer: optax.GradientTransformation,
    config: TrainerConfig,
    state: TrainState,
    data: Dataset,
) -> tuple[TrainState, Evaluation]:
    """Train a lane up to its next validation; leave it as it is if it has ended.

    Same as `train_interval`, for `over_lanes`. The evaluation of a lane that has ended is NaN and 0.
    """

    def train(state: TrainState) -> tuple[TrainState, Evaluation]:
        return train_interval(model, optimizer, config, state, data)

    def stay(state: TrainState) -> tuple[TrainState, Evaluation]:
        nothing, zero = jnp.full((), jnp.nan, jnp.float32), jnp.zeros((), jnp.int32)
        return state, Evaluation(state.iteration, nothing, Metrics(nothing, zero, zero))

    return lax.cond(state.status == Status.RUNNING, train, stay, state)


def make_train_lanes(
    model: Model,
    optimizer: optax.GradientTransformation,
    config: TrainerConfig,
    *,
    strategy: str = "auto",
    devices: Sequence[Any] | None = None,
) -> Callable[[Array, dict[str, Array], Dataset], TrainResult]:
    """Return many whole runs as one pure function, to be jitted.

    The function `train(keys, hyperparameters, data)` takes a key a lane (L,), values that replace those of the same
    name in the optimizer's state, each (L,), as {"learning_rate": rates}, and one data set for all. It returns a
    `TrainResult` whose arrays have the lanes as their first axis. Another value does not compile again.

    Args:
        model: the network.
        optimizer: any Optax gradient transformation.
        config: the trainer's configuration.
        strategy: as in `over_lanes`.
        devices: as in `over_lanes`.

    Raises:
        InputError: as `over_lanes` and `make_train`.
    """
    train = make_train(model, optimizer, config)
    lanes = over_lanes(lambda lane, data: train(*lane, data), strategy=strategy, devices=devices)
    return lambda keys, hyperparameters, data: lanes((keys, hyperparameters), data)
