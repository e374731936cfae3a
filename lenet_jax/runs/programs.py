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
from lenet_jax.data.folds import FoldedData
from lenet_jax.errors import InputError, unknown_name
from lenet_jax.evaluation import evaluate_task
from lenet_jax.lanes import AXIS, STRATEGIES, advance, choose_strategy, over_lanes
from lenet_jax.objective import no_examples
from lenet_jax.runs.compilation_cache import use_compilation_cache
from lenet_jax.runs.mesh import over_mesh
from lenet_jax.runs.parts import float_options
from lenet_jax.runs.prepared_run import PreparedRun
from lenet_jax.runs.processes import put as put_on
from lenet_jax.traced_numbers import scalar
from lenet_jax.training import Evaluation, TrainState, evaluation_variables, result_variables, train_interval
from lenet_jax.types import Dataset, Metrics, Status, Variables
from lenet_jax.weights import unwrap_keys, wrap_keys

MAX_VMAPPED = 64  # default number of vmapped lanes; halved when out of memory
_ALIGNMENT = 64  # bytes


class Measured(NamedTuple):
    """What a finished run leaves."""

    variables: Variables  # the result: the best or the last ones, as the configuration says
    train: Metrics
    test: Metrics
    last: Variables | None  # where the configuration keeps them
    other: tuple[Metrics, Metrics] | None  # on both sets, of the best or last ones that are kept but not the result


class Programs(NamedTuple):
    """Programs for runs with one signature, with their data; every array of `states` has a leading lane axis."""

    states: TrainState  # empty lanes, in which runs can start
    restore: Callable[[TrainState], TrainState]  # copies states of NumPy arrays with unwrapped keys to the devices
    data: Dataset | FoldedData  # on the devices
    initial: Any  # initial weights that the seed does not make, on the devices; None: there are none
    start: Callable[..., TrainState]  # (states, (is_new, seeds, values), initial) -> states
    advance: Callable[..., tuple[TrainState, Evaluation]]  # (states, (values, folds), data); `states` are donated
    measure: Callable[..., Measured]  # (states, (finished, values, folds), data)
    compile_seconds: float


def choose_lanes(
    strategy: str, num_jobs: int, max_parallel: int | None = None, *, may_divide: bool = False, is_sharded: bool = False
) -> tuple[str, int]:
    """Return the strategy and the number of lanes for the jobs of a group.

    "auto" means "vmap" on GPU and TPU. On a CPU it means "devices": a lane on each core, bit-identical to a single run.
    It means "map" where an array may be divided by an option, as by 1 - rate in dropout: of a program over several
    devices XLA makes a product with the reciprocal, which rounds otherwise.

    Args:
        strategy: one of `lenet_jax.lanes.STRATEGIES`, as in `compile_programs`.
        num_jobs: 1 or above.
        max_parallel: maximum number of lanes; None: one per device for "devices", 64 for "vmap".
        may_divide: `PreparedRun.may_divide`.
        is_sharded: whether each job is divided over devices; then they run one after another.

    Returns:
        The strategy, other than "auto", and the number of lanes.

    Raises:
        InputError: if the strategy is unknown, or is for several jobs on devices that each of them needs.
    """
    if strategy not in STRATEGIES:
        raise unknown_name("sweep.strategy", strategy, STRATEGIES)
    if is_sharded:
        if strategy not in ("auto", "map"):
            raise InputError(
                f"`sweep.strategy` must be auto or map where each run takes all devices, by `sharding`; got {strategy}."
            )
        return "map", 1
    devices = jax.local_devices()
    if strategy == "auto":
        strategy = "map" if may_divide and devices[0].platform == "cpu" else choose_strategy(num_jobs, devices)
    default = {"map": 1, "devices": len(devices), "vmap": MAX_VMAPPED}[strategy]
    num_lanes = 1 if strategy == "map" else min(num_jobs, default if max_parallel is None else max_parallel)
    if num_lanes > len(devices):
        num_lanes += -num_lanes % len(devices)  # the same number on each device
    return strategy, num_lanes


def compile_programs(prepared: PreparedRun, *, strategy: str = "map", num_lanes: int = 1) -> Programs:
    """Compile the programs for runs with one signature, and copy the data to the devices.

    Args:
        prepared: any of the runs.
        strategy: "map": the runs are sequential, each on the first device. "devices": the lanes are sharded over the
            devices; bit-identical to a single run. "vmap": the lanes are sharded over the devices and vectorized on
            each; equal to a single run within rounding.
        num_lanes: number of runs that are trained in parallel; 1 for "map".
    """
    start_time = time.perf_counter()
    trainer = prepared.config.trainer

    def start(state: TrainState, lane: Any, initial: Any) -> TrainState:
        is_new, seed, values = lane
        return lax.cond(is_new, lambda: prepared.at(values).init(jax.random.key(seed), initial), lambda: state)

    def train(state: TrainState, lane: Any, data: Any) -> tuple[TrainState, Evaluation]:
        values, fold = lane
        step = train_interval if strategy == "map" else advance
        return step(*prepared.at(values), state, _of_fold(data, fold))

    def measure(state: TrainState, lane: Any, data: Any) -> Measured:
        finished, values, fold = lane
        task, data = prepared.at(values).task, _of_fold(data, fold)

        def evaluate(variables: Variables) -> tuple[Metrics, Metrics]:
            train, test = (evaluate_task(task, variables, split) for split in (data.train, data.test))
            return train, test

        nothing = no_examples(task.objective)

        def if_finished(variables: Variables) -> tuple[Metrics, Metrics]:
            return lax.cond(finished, evaluate, lambda _: (nothing, nothing), variables)

        variables = result_variables(trainer, state)
        last = None if trainer.weights == "best" else evaluation_variables(state)
        kept = {"best": None, "last": state.best, "both": last}[trainer.weights]
        other = None if kept is None else if_finished(kept)
        return Measured(variables, *if_finished(variables), last, other)

    state = prepared.state
    if prepared.mesh is not None:
        devices, (put, jit_over_lanes) = prepared.mesh.devices, over_mesh(prepared.mesh, state)
    else:
        devices = jax.local_devices()[:1] if strategy == "map" else _devices_of_lanes(num_lanes)
        put, jit_over_lanes = _single_run(devices[0]) if strategy == "map" else _in_parallel(devices, strategy)

    states = _empty_lanes(state, num_lanes)
    none, seeds = np.zeros(num_lanes, bool), np.zeros(num_lanes, np.uint32)
    values = {path: scalar((num_lanes,)) for path in prepared.options}

    def compiled(fn: Callable, *args: Any, **options: Any) -> Any:
        return jit_over_lanes(fn, **options).lower(*args).compile()

    folds = None if prepared.folded is None else np.zeros(num_lanes, np.int32)
    data = prepared.data if prepared.folded is None else prepared.folded
    tensors = prepared.initial_tensors
    shapes, data_shapes, initial = jax.eval_shape(lambda *trees: trees, states, data, tensors)
    with use_compilation_cache(), jax.default_matmul_precision(trainer.matmul_precision):
        return Programs(
            states=put(states),
            restore=lambda values: put(wrap_keys(values, states)),
            data=_put_on(devices, data),
            initial=_put_on(devices, tensors),
            start=compiled(start, shapes, (none, seeds, values), initial),
            advance=compiled(train, shapes, (values, folds), data_shapes, donate_argnums=0),
            measure=compiled(measure, shapes, (none, values, folds), data_shapes),
            compile_seconds=time.perf_counter() - start_time,
        )


JitOverLanes = Callable[..., Any]  # (fn, **options of jax.jit) -> a jitted function (states, lanes, shared)


def _single_run(device: Any) -> tuple[Callable[[Any], Any], JitOverLanes]:
    """Return a function that copies states to the device, and one that jits a function of a run over a single lane."""

    def jit_over_lanes(fn: Callable, **options: Any) -> Any:
        def of_lanes(states: Any, lanes: Any, shared: Any) -> Any:
            state, lane = jax.tree.map(lambda x: x[0], (states, lanes))
            return jax.tree.map(lambda y: y[None], fn(state, lane, shared))

        return jax.jit(of_lanes, **options)

    return lambda states: jax.device_put(states, device), jit_over_lanes


def _in_parallel(devices: list[Any], strategy: str) -> tuple[Callable[[Any], Any], JitOverLanes]:
    """Return the same functions as `_single_run` for several lanes, which are sharded over the devices."""
    mesh = Mesh(devices, (AXIS,))
    sharded, replicated = NamedSharding(mesh, PartitionSpec(AXIS)), NamedSharding(mesh, PartitionSpec())

    def jit_over_lanes(fn: Callable, **options: Any) -> Any:
        each = over_lanes(lambda lane, shared: fn(*lane, shared), strategy=strategy, devices=devices)

        def of_lanes(states: Any, lanes: Any, shared: Any) -> Any:
            return each((states, lanes), shared)

        return jax.jit(of_lanes, in_shardings=(sharded, sharded, replicated), out_shardings=sharded, **options)

    return lambda states: jax.device_put(states, sharded), jit_over_lanes


def _put_on(devices: list[Any], tree: Any) -> Any:
    """Replicate arrays on every device; the devices of one CPU share a single copy of each NumPy array."""
    replicated = NamedSharding(Mesh(devices, (AXIS,)), PartitionSpec())
    if devices[0].platform == "cpu":
        tree = jax.tree.map(lambda x: _copy_aligned(x) if isinstance(x, np.ndarray) else x, tree)
    return put_on(tree, jax.tree.map(lambda _: replicated, tree))


def _copy_aligned(x: np.ndarray) -> np.ndarray:
    """Return a read-only copy whose memory is aligned, so that XLA can use it without a copy of its own."""
    memory = np.empty(x.nbytes + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    copy = memory[start : start + x.nbytes].view(x.dtype).reshape(x.shape)
    copy[...] = x
    copy.flags.writeable = False
    return copy


def _devices_of_lanes(num_lanes: int) -> list[Any]:
    """Return the largest number of devices that divides the number of lanes."""
    devices = jax.local_devices()
    return devices[: next(n for n in range(min(len(devices), num_lanes), 0, -1) if num_lanes % n == 0)]


class LaneInputs(NamedTuple):
    """The inputs of programs by which their runs differ, one per lane."""

    seeds: np.ndarray
    values: dict[str, np.ndarray]  # of the float options, by path
    folds: np.ndarray | None  # None: the data are not divided


def lane_inputs(prepared: PreparedRun, configs: Sequence[Config]) -> LaneInputs:
    """Return the inputs of runs that share programs.

    Args:
        prepared: any of the runs.
        configs: of the run in each lane.
    """
    options = prepared.options
    rows = [float_options(config) for config in configs]
    columns = {path: np.array([row[path] for row in rows], scalar().dtype) for path in options}
    folds = None if prepared.folded is None else np.array([config.data["fold"] for config in configs], np.int32)
    return LaneInputs(np.array([config.seed for config in configs], np.uint32), columns, folds)


def _of_fold(data: Any, fold: Any) -> Dataset:
    return data if fold is None else data.at(fold)


def _empty_lanes(state: TrainState, num_lanes: int) -> TrainState:
    """Return the stacked states of lanes in which no run trains."""
    shapes = jax.eval_shape(unwrap_keys, state)
    empty = jax.tree.map(lambda leaf: np.zeros((num_lanes, *leaf.shape), leaf.dtype), shapes)
    return wrap_keys(empty._replace(status=np.full(num_lanes, Status.MAX_EPOCHS, np.int32)), state)
