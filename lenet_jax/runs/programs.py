"""The compiled programs of a group of runs: initialize, train up to the next validation, evaluate the result.

All runs with the same program signature share them. The programs work on the stacked states of the runs that are
trained in parallel, with one lane per run. The lane of a finished run is unchanged until another run starts in it.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from lenet_jax.config import Config
from lenet_jax.errors import unknown_name
from lenet_jax.evaluation import evaluate_task
from lenet_jax.lanes import AXIS, STRATEGIES, advance, choose_strategy, over_lanes
from lenet_jax.objective import no_examples
from lenet_jax.optimizers import hyperparameters
from lenet_jax.runs.compilation_cache import use_compilation_cache
from lenet_jax.runs.prepared_run import PreparedRun, unwrap_keys, wrap_keys
from lenet_jax.sharding import choose_devices, jit_on, put_on
from lenet_jax.training import Evaluation, TrainState, train_interval
from lenet_jax.types import Dataset, Metrics, Status, Variables

_MAX_VMAPPED = 64  # default number of vmapped lanes; halved when out of memory


class Programs(NamedTuple):
    """Programs for runs with one signature, with their data; every array of `states` has a leading lane axis."""

    states: TrainState  # empty lanes, in which runs can start
    restore: Callable[[TrainState], TrainState]  # copies states of NumPy arrays with unwrapped keys to the devices
    data: Dataset  # on the devices
    start: Callable[..., TrainState]  # ((states, is_new, *lane_inputs), None) -> states
    advance: Callable[..., tuple[TrainState, Evaluation]]  # (states, data); the buffers of `states` are donated
    measure: Callable[..., tuple[Metrics, Metrics]]  # ((variables, finished), data) -> training and test metrics
    compile_seconds: float


def choose_lanes(
    strategy: str, num_jobs: int, batch_size: int | None, max_parallel: int | None = None
) -> tuple[str, int]:
    """Return the strategy and the number of lanes for the jobs of a group.

    "auto" means "vmap" on GPU and TPU. On a CPU it means the strategy that makes each job bit-identical to a single
    run: "devices" if the minibatches are so small that a single run would use one core only, else "map".

    Args:
        strategy: one of `lenet_jax.lanes.STRATEGIES`, as in `compile_programs`.
        num_jobs: 1 or above.
        batch_size: batch size of the jobs; None: all examples.
        max_parallel: maximum number of lanes; None: one per device for "devices", 64 for "vmap".

    Returns:
        The strategy, other than "auto", and the number of lanes.

    Raises:
        InputError: if the strategy is unknown.
    """
    if strategy not in STRATEGIES:
        raise unknown_name("sweep.strategy", strategy, STRATEGIES)
    devices = jax.local_devices()
    if strategy == "auto":
        is_split = batch_size is None or len(choose_devices(batch_size)) > 1
        strategy = choose_strategy(num_jobs, devices, is_split=is_split)
    default = {"map": 1, "devices": len(devices), "vmap": _MAX_VMAPPED}[strategy]
    num_lanes = 1 if strategy == "map" else min(num_jobs, default if max_parallel is None else max_parallel)
    if num_lanes > len(devices):
        num_lanes += -num_lanes % len(devices)  # the same number on each device
    return strategy, num_lanes


def compile_programs(prepared: PreparedRun, *, strategy: str = "map", num_lanes: int = 1) -> Programs:
    """Compile the programs for runs with one signature, and copy the data to the devices.

    Args:
        prepared: any of the runs.
        strategy: "map": the runs are sequential, and the minibatches of each run are split over the devices like those
            of a single run. "devices": the lanes are sharded over the devices; bit-identical to a single run on one
            device. "vmap": the lanes are sharded over the devices and vectorized on each; equal to a single run on one
            device within rounding.
        num_lanes: number of runs that are trained in parallel; 1 for "map".
    """
    start_time = time.perf_counter()
    config, task, optimizer, plan = prepared.config, prepared.task, prepared.optimizer, prepared.plan
    trainer = config.trainer

    def start(lane: Any, _: None, *, axis_name: str | None = None) -> TrainState:
        state, is_new, seed, values = lane
        return lax.cond(is_new, lambda: prepared.init(jax.random.key(seed), values), lambda: state)

    def train(state: TrainState, data: Dataset, *, axis_name: str | None = None) -> tuple[TrainState, Evaluation]:
        if strategy == "map":
            return train_interval(task, optimizer, trainer, state, data, axis_name=axis_name)
        return advance(task, optimizer, trainer, state, data)

    def measure(lane: Any, data: Dataset, *, axis_name: str | None = None) -> tuple[Metrics, Metrics]:
        variables, finished = lane

        def evaluate(variables: Variables) -> tuple[Metrics, Metrics]:
            train, test = (
                evaluate_task(task, variables, split, axis_name=axis_name) for split in (data.train, data.test)
            )
            return train, test

        nothing = no_examples(task.objective)
        return lax.cond(finished, evaluate, lambda _: (nothing, nothing), variables)

    state = prepared.state
    if strategy != "map":
        devices = _devices_of_lanes(num_lanes)
    elif jax.tree.leaves(state.variables.state) or not task.model.takes_example_keys:  # minibatches cannot be split
        devices = jax.local_devices()[:1]
    else:
        devices = choose_devices(plan.batch_size)
    put, jit_over_lanes = _single_run(devices) if strategy == "map" else _in_parallel(devices, strategy)

    states = _empty_lanes(state, num_lanes)
    none = np.zeros(num_lanes, bool)

    def compiled(fn: Callable, *args: Any, **options: Any) -> Any:
        return jit_over_lanes(fn, **options).lower(*jax.eval_shape(lambda *args: args, *args)).compile()

    with use_compilation_cache(), jax.default_matmul_precision(trainer.matmul_precision):
        return Programs(
            states=put(states),
            restore=lambda values: put(wrap_keys(values, states)),
            data=put_on(devices, prepared.data),
            start=compiled(start, (states, none, *lane_inputs([config] * num_lanes)), None),
            advance=compiled(train, states, prepared.data, donate_argnums=0),
            measure=compiled(measure, (states.best, none), prepared.data),
            compile_seconds=time.perf_counter() - start_time,
        )


JitOverLanes = Callable[..., Any]  # (fn, **options of jax.jit) -> a jitted function of lanes


def _single_run(devices: list[Any]) -> tuple[Callable[[Any], Any], JitOverLanes]:
    """Return a function that copies states to the devices, and one that jits a function of a run over a single lane."""

    def jit_over_lanes(fn: Callable, **options: Any) -> Any:
        def of_lanes(lanes: Any, shared: Any, *, axis_name: str | None = None) -> Any:
            result = fn(jax.tree.map(lambda x: x[0], lanes), shared, axis_name=axis_name)
            return jax.tree.map(lambda y: y[None], result)

        return jit_on(devices, of_lanes, **options)

    return lambda states: put_on(devices, states), jit_over_lanes


def _in_parallel(devices: list[Any], strategy: str) -> tuple[Callable[[Any], Any], JitOverLanes]:
    """Return the same functions as `_single_run` for several lanes, which are sharded over the devices."""
    mesh = Mesh(devices, (AXIS,))
    sharded, replicated = NamedSharding(mesh, PartitionSpec(AXIS)), NamedSharding(mesh, PartitionSpec())

    def jit_over_lanes(fn: Callable, **options: Any) -> Any:
        of_lanes = over_lanes(lambda lane, shared: fn(lane, shared), strategy=strategy, devices=devices)
        return jax.jit(of_lanes, in_shardings=(sharded, replicated), out_shardings=sharded, **options)

    return lambda states: jax.device_put(states, sharded), jit_over_lanes


def _devices_of_lanes(num_lanes: int) -> list[Any]:
    """Return the largest number of devices that divides the number of lanes."""
    devices = jax.local_devices()
    return devices[: next(n for n in range(min(len(devices), num_lanes), 0, -1) if num_lanes % n == 0)]


def lane_inputs(configs: Sequence[Config]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return the seeds and the hyperparameters of runs with one signature, one per lane."""
    rows = [hyperparameters(config.optimizer) for config in configs]
    columns = {name: np.array([row[name] for row in rows], np.float32) for name in rows[0]}
    return np.array([config.seed for config in configs], np.uint32), columns


def _empty_lanes(state: TrainState, num_lanes: int) -> TrainState:
    """Return the stacked states of lanes in which no run trains."""
    shapes = jax.eval_shape(unwrap_keys, state)
    empty = jax.tree.map(lambda leaf: np.zeros((num_lanes, *leaf.shape), leaf.dtype), shapes)
    return wrap_keys(empty._replace(status=np.full(num_lanes, Status.MAX_EPOCHS, np.int32)), state)
