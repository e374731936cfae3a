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
from lenet_jax.data.streams import is_streamed
from lenet_jax.errors import InputError, unknown_name
from lenet_jax.evaluation import evaluate_task
from lenet_jax.lanes import AXIS, STRATEGIES, advance, choose_strategy, over_lanes
from lenet_jax.objective import no_examples
from lenet_jax.runs.compilation_cache import use_compilation_cache
from lenet_jax.runs.lane_memory import Needed, check_fits, needed_memory, num_bytes
from lenet_jax.runs.measured import Measured, results_of
from lenet_jax.runs.mesh import over_mesh
from lenet_jax.runs.parts import float_options
from lenet_jax.runs.prepared_run import PreparedRun
from lenet_jax.runs.processes import put
from lenet_jax.runs.streamed_programs import compile_passes
from lenet_jax.traced_numbers import scalar
from lenet_jax.training import Evaluation, TrainState, train_interval
from lenet_jax.types import Dataset, Metrics, Status, Variables
from lenet_jax.weights import unwrap_keys, wrap_keys

MAX_VMAPPED = 64  # default number of vmapped lanes a device; fewer where its memory is too small
_ALIGNMENT = 64  # bytes


class Programs(NamedTuple):
    """Programs for runs with one signature, with their data; every array of `states` has a leading lane axis."""

    states: TrainState  # empty lanes, in which runs can start
    restore: Callable[[TrainState], TrainState]  # copies states of NumPy arrays with unwrapped keys to the devices
    data: Dataset | FoldedData  # on the devices, unless they are streamed
    initial: Any  # initial weights that the seed does not make, on the devices; None: there are none
    start: Callable[..., TrainState]  # (states, (is_new, seeds, values), initial) -> states
    advance: Callable[..., tuple[TrainState, Evaluation]]  # (states, (values, folds), data); `states` are donated
    measure: Callable[..., Measured]  # (states, (finished, values, folds), data)
    compile_seconds: float


def choose_lanes(
    strategy: str,
    num_jobs: int,
    max_parallel: int | None = None,
    *,
    may_divide: bool = False,
    streamed: bool = False,
    is_sharded: bool = False,
) -> tuple[str, int]:
    """Return the strategy and the number of lanes for the jobs of a group.

    "auto" means "vmap" on GPU and TPU. On a CPU it means "devices": a lane on each core, bit-identical to a single run.
    It means "map" where an array may be divided by an option, as by 1 - rate in dropout: of a program over several
    devices XLA makes a product with the reciprocal, which rounds otherwise.

    Args:
        strategy: one of `lenet_jax.lanes.STRATEGIES`, as in `compile_programs`.
        num_jobs: 1 or above.
        max_parallel: maximum number of lanes; None: one per device for "devices", 64 per device for "vmap".
        may_divide: `PreparedRun.may_divide`.
        streamed: whether the data are read as they are needed; by one run at a time, as each has an order of its own.
        is_sharded: whether each job is divided over devices; then they run one after another.

    Returns:
        The strategy, other than "auto", and the number of lanes. If there are more than devices, each device has the
        same number: where all jobs run in parallel, no job runs in the lanes that are left over; else there are fewer
        lanes than the maximum. How many fit into the memory is known once the programs are compiled.

    Raises:
        InputError: if the strategy is unknown, or asks for several lanes on streamed data, or on devices that each
            job needs.
    """
    if strategy not in STRATEGIES:
        raise unknown_name("sweep.strategy", strategy, STRATEGIES)
    if is_sharded and strategy not in ("auto", "map"):
        raise InputError(
            f"`sweep.strategy` must be auto or map where each run takes all devices, by `sharding`; got {strategy}."
        )
    if streamed or is_sharded:
        if strategy not in ("auto", "map"):
            raise InputError(
                "`sweep.strategy` must be auto or map for streamed data, of which each run reads the examples in an "
                f"order of its own; got {strategy}; use data.stream=false for runs in parallel lanes."
            )
        return "map", 1
    devices = jax.local_devices()
    if strategy == "auto":
        strategy = "map" if may_divide and devices[0].platform == "cpu" else choose_strategy(num_jobs, devices)
    default = {"map": 1, "devices": len(devices), "vmap": MAX_VMAPPED * len(devices)}[strategy]
    most = 1 if strategy == "map" else default if max_parallel is None else max_parallel
    num_lanes = min(num_jobs, most)
    if num_lanes > len(devices):
        num_lanes += -num_lanes % len(devices) if num_jobs <= most else -(num_lanes % len(devices))
    return strategy, num_lanes


class Layout(NamedTuple):
    """Where the lanes of a group are."""

    strategy: str
    num_lanes: int
    devices: list[Any]  # with the same number of lanes on each
    put: Callable[[Any], Any]  # copies states to the devices
    jit_over_lanes: "JitOverLanes"


def make_layout(strategy: str, num_lanes: int, prepared: PreparedRun | None = None) -> Layout:
    """Return where the lanes of a group are.

    Args:
        strategy: as in `compile_programs`.
        num_lanes: as in `compile_programs`.
        prepared: any of the runs, which may be divided over devices; None: they are not.
    """
    if prepared is not None and prepared.mesh is not None:
        return Layout(strategy, num_lanes, prepared.mesh.devices, *over_mesh(prepared.mesh, prepared.state))
    devices = jax.local_devices()[:1] if strategy == "map" else _devices_of_lanes(num_lanes)
    functions = _single_run(devices[0]) if strategy == "map" else _in_parallel(devices, strategy)
    return Layout(strategy, num_lanes, devices, *functions)


class Executables(NamedTuple):
    """The compiled programs of `Programs`; no array is on a device yet."""

    start: Any
    advance: Any
    measure: Any
    needed: Needed | None  # of the memory of each device; None: the platform does not say


def compile_programs(prepared: PreparedRun, *, strategy: str = "map", num_lanes: int = 1) -> Programs:
    """Compile the programs for runs with one signature, and copy the data to the devices.

    Args:
        prepared: any of the runs.
        strategy: "map": the runs are sequential, each on the first device. "devices": the lanes are sharded over the
            devices; bit-identical to a single run. "vmap": the lanes are sharded over the devices and vectorized on
            each; equal to a single run within rounding.
        num_lanes: number of runs that are trained in parallel; 1 for "map".

    Raises:
        TooManyLanesError: if the lanes need more memory than the devices have, and fewer would do.
    """
    start_time = time.perf_counter()
    layout = make_layout(strategy, num_lanes, prepared)
    with use_compilation_cache():
        start, advance, measure, needed = compile_executables(prepared, layout)
    compile_seconds = time.perf_counter() - start_time
    check_fits(num_lanes, needed, layout.devices)
    states = empty_lanes(prepared.state, num_lanes)
    return Programs(
        states=layout.put(states),
        restore=lambda values: layout.put(wrap_keys(values, states)),
        data=prepared.data if is_streamed(prepared.data) else put_on(layout.devices, lane_data(prepared)),
        initial=put_on(layout.devices, prepared.initial_tensors),
        start=start,
        advance=advance,
        measure=measure,
        compile_seconds=compile_seconds,
    )


def compile_executables(prepared: PreparedRun, layout: Layout) -> Executables:
    """Compile the programs for runs with one signature, from shapes alone.

    Args:
        prepared: any of the runs.
        layout: where their lanes are.
    """
    trainer = prepared.config.trainer

    def start(state: TrainState, lane: Any, initial: Any) -> TrainState:
        is_new, seed, values = lane
        return lax.cond(is_new, lambda: prepared.at(values).init(jax.random.key(seed), initial), lambda: state)

    def train(state: TrainState, lane: Any, data: Any) -> tuple[TrainState, Evaluation]:
        values, fold = lane
        step = train_interval if layout.strategy == "map" else advance
        return step(*prepared.at(values), state, of_fold(data, fold))

    def measure(state: TrainState, lane: Any, data: Any) -> Measured:
        finished, values, fold = lane
        task, data = prepared.at(values).task, of_fold(data, fold)

        def evaluate(variables: Variables) -> tuple[Metrics, Metrics]:
            train, test = (evaluate_task(task, variables, split) for split in (data.train, data.test))
            return train, test

        nothing = no_examples(task.objective)

        def if_finished(variables: Variables) -> tuple[Metrics, Metrics]:
            return lax.cond(finished, evaluate, lambda _: (nothing, nothing), variables)

        return results_of(trainer, state).measured(if_finished)

    def compiled(fn: Callable, *args: Any, **options: Any) -> Any:
        return layout.jit_over_lanes(fn, **options).lower(*args).compile()

    num_lanes = layout.num_lanes
    states = jax.eval_shape(lambda: empty_lanes(prepared.state, num_lanes))
    none, seeds = np.zeros(num_lanes, bool), np.zeros(num_lanes, np.uint32)
    values = {path: scalar((num_lanes,)) for path in prepared.options}
    folds = None if prepared.folded is None else np.zeros(num_lanes, np.int32)
    tensors = prepared.initial_tensors
    with jax.default_matmul_precision(trainer.matmul_precision):
        start_program = compiled(start, states, (none, seeds, values), jax.eval_shape(lambda tree: tree, tensors))
        if is_streamed(prepared.data):
            passes = compile_passes(prepared, layout.jit_over_lanes, states, values, layout.devices[0])
            return Executables(start_program, *passes, None)
        data, initial = jax.eval_shape(lambda *trees: trees, lane_data(prepared), tensors)
        programs = (
            start_program,
            compiled(train, states, (values, folds), data, donate_argnums=0),
            compiled(measure, states, (none, values, folds), data),
        )
    if prepared.mesh is not None:  # there are no fewer lanes than one
        return Executables(*programs, None)
    bytes_of_states = num_bytes(prepared.state) * num_lanes // len(layout.devices)
    return Executables(*programs, needed_memory(programs, bytes_of_states, num_bytes((data, initial))))


def lane_data(prepared: PreparedRun) -> Dataset | FoldedData:
    """Return the data that all lanes share, of all folds where they are divided."""
    return prepared.data if prepared.folded is None else prepared.folded


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


def put_on(devices: list[Any], tree: Any) -> Any:
    """Replicate arrays on every device; the devices of one CPU share a single copy of each NumPy array."""
    replicated = NamedSharding(Mesh(devices, (AXIS,)), PartitionSpec())
    if devices[0].platform == "cpu":
        tree = jax.tree.map(lambda x: _copy_aligned(x) if isinstance(x, np.ndarray) else x, tree)
    return put(tree, jax.tree.map(lambda _: replicated, tree))


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


def of_fold(data: Any, fold: Any) -> Dataset:
    """Return the data of a lane: its fold of those that all lanes share, which are not divided if it is None."""
    return data if fold is None else data.at(fold)


def empty_lanes(state: TrainState, num_lanes: int) -> TrainState:
    """Return the stacked states of lanes in which no run trains."""
    shapes = jax.eval_shape(unwrap_keys, state)
    empty = jax.tree.map(lambda leaf: np.zeros((num_lanes, *leaf.shape), leaf.dtype), shapes)
    return wrap_keys(empty._replace(status=np.full(num_lanes, Status.MAX_EPOCHS, np.int32)), state)
