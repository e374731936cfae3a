"""The loop that drives a run from the host: one dispatch a validation, and a log of what came of it.

It computes what the one pure function of `lenet_jax.training.make_train` computes, bit for bit on the same devices, and
yields events, so that whoever runs it can show progress as they like.
"""

import collections
import functools
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from lenet_jax.config import Config, ConstantScheduleConfig, DataConfig, ScaledConjugateGradientConfig
from lenet_jax.data import load
from lenet_jax.data.augment import augmented
from lenet_jax.errors import InputError
from lenet_jax.models import build_model
from lenet_jax.processor import make_deterministic
from lenet_jax.runs.events import Event, Failed, Started
from lenet_jax.runs.programs import Programs, compile_programs, slot_values, state_shapes, to_numbers
from lenet_jax.runs.provenance import describe_run, reproducibility
from lenet_jax.runs.recorder import Recorder
from lenet_jax.runs.run_directory import RunDirectory
from lenet_jax.signals import postponed_signals
from lenet_jax.training import Plan, plan_run
from lenet_jax.types import Dataset, Model, Status, TrainState

_log = logging.getLogger(__name__)


@functools.lru_cache(maxsize=1)
def _load(config: DataConfig) -> Dataset:
    """Load a data set; the jobs of a sweep usually share it."""
    return load(config)


def check_inputs(config: Config) -> None:
    """Find the data and check that data, model and trainer fit together, without writing or compiling anything.

    Raises:
        InputError: if they do not.
    """
    prepare_process([config])
    _prepare(config)


def prepare_process(configs: Iterable[Config]) -> None:
    """Do what must be done before JAX looks for devices."""
    if any(config.trainer.deterministic for config in configs):
        make_deterministic()


def describe(config: Config) -> dict[str, Any]:
    """Return what `run.json` records of a run before it starts.

    Raises:
        InputError: if its data cannot be had.
    """
    prepare_process([config])
    return describe_run(config, _load(config.data))


def _prepare(config: Config) -> tuple[Dataset, Model, Plan]:
    """Load the data and fit model and lengths to them; whatever can be wrong is found here."""
    data = _load(config.data)
    model = build_model(config.model, data.train.images.shape[1:], data.num_classes)
    return data, augmented(model, config.augment), _plan(config, data)


def _plan(config: Config, data: Dataset) -> Plan:
    """Work out the lengths of a run, and check that its optimizer can work with them."""
    plan = plan_run(config.trainer, len(data.train.labels))
    if isinstance(config.optimizer, ScaledConjugateGradientConfig):
        if plan.epoch > 1:  # it needs the same loss in each step
            raise InputError(
                f"`trainer.batch_size` must be null, the whole training set, for {config.optimizer.name}; "
                f"got {plan.batch_size}."
            )
        if not isinstance(config.schedule, ConstantScheduleConfig):
            raise InputError(
                f"`schedule` must be constant for {config.optimizer.name}, which has no learning rate; "
                f"got {config.schedule.name}."
            )
    return plan


class Job(NamedTuple):
    """A run to do, and the directory that records it."""

    config: Config
    path: Path
    begin: Callable[[], None] = lambda: None  # called before the first file is written; may raise OSError
    resume: bool = False  # whether the directory may hold the beginning of it, to go on from its newest checkpoint


def run_experiment(config: Config, path: Path, *, resume: bool = False) -> Iterator[Event]:
    """Run a configuration and record it in a directory; the events are to be consumed to the end.

    Everything that can be wrong with the configuration or the data is found before the first file is written. Asked by
    a signal to end, the run goes on to its next evaluation and saves a checkpoint.

    Args:
        config: of the run.
        path: of the directory.
        resume: whether to go on with what the directory holds of the run, from its newest good checkpoint.

    Raises:
        InputError: if the directory already holds a run, the data cannot be had, or data and configuration do not fit.
        OSError: if the directory cannot be written.
        KeyboardInterrupt: if a signal has asked the run to end.
    """
    directory = RunDirectory(path, resume=resume)
    check_inputs(config)
    with directory.locked():
        for _, event in run_jobs([Job(config, path, resume=resume)]):
            if isinstance(event, Failed):
                raise event.error
            yield event


def run_jobs(
    jobs: Sequence[Job],
    *,
    strategy: str = "map",
    num_slots: int = 1,
    pruned: Callable[[int], bool] | None = None,
) -> Iterator[tuple[int, Event]]:
    """Run jobs of one kind, `num_slots` at a time, each recorded as if it ran alone.

    The programs are compiled once. A job starts as soon as the one before it in its slot has ended. If the memory of
    the device is too small for so many, half as many are tried, and the jobs at work go on from their checkpoints.

    Args:
        jobs: with configurations of one `lenet_jax.runs.programs.kind`.
        strategy: as in `compile_programs`.
        num_slots: as in `compile_programs`.
        pruned: asked after each evaluation whether a job is to end there. As that depends on how far the others are,
            jobs that are resumed go on from the same iteration.

    Yields:
        The number of a job, and what happened to it.

    Raises:
        InputError: as `run_experiment`.
        KeyboardInterrupt: as `run_experiment`.
    """
    begin = time.perf_counter()
    directories = [RunDirectory(job.path, resume=job.resume) for job in jobs]
    queue = _Queue(list(jobs), directories, collections.deque(range(len(jobs))), {})
    shared = _share(jobs[0].config)
    with postponed_signals() as interrupted:
        while queue.waiting:
            try:
                yield from _Slots(queue, shared, strategy, num_slots, begin).run(pruned, interrupted)
            except jax.errors.JaxRuntimeError as error:
                if "RESOURCE_EXHAUSTED" not in str(error) or num_slots == 1:
                    raise
                num_slots //= 2
                reason = str(error).splitlines()[0]
                _log.warning("out of memory; going on with %d runs at a time: %s", num_slots, reason)
                queue.put_back()


class _Queue(NamedTuple):
    """The jobs, by number: which of them wait, and which run in which slot."""

    jobs: list[Job]
    directories: Sequence[RunDirectory]
    waiting: collections.deque[int]
    running: dict[int, Recorder]

    def put_back(self) -> None:
        """Let the jobs that run wait again."""
        numbers = sorted(recorder.number for recorder in self.running.values())
        for number in numbers:
            self.jobs[number] = self.jobs[number]._replace(resume=True)
        self.waiting.extendleft(reversed(numbers))
        self.running.clear()


class _Shared(NamedTuple):
    """What the jobs of one kind have in common."""

    data: Dataset
    model: Model
    plan: Plan
    described: dict[str, Any]  # as `describe_run`
    shapes: TrainState  # as `state_shapes`


def _share(config: Config) -> _Shared:
    data, model, plan = _prepare(config)
    return _Shared(data, model, plan, describe_run(config, data), state_shapes(config, model, plan))


class _Slots:
    """Runs the jobs of a queue in slots; `begin` is when the first of them did."""

    def __init__(self, queue: _Queue, shared: _Shared, strategy: str, num_slots: int, begin: float) -> None:
        self._queue, self._shared, self._strategy, self._num_slots = queue, shared, strategy, num_slots
        self._begin = begin
        self._configs = [queue.jobs[0].config] * num_slots  # of what was last started in each slot
        self._states: Any = None
        self._status: Any = None  # of each slot, and
        self._iterations: Any = None  # how far it is, on the host

    def run(self, pruned: Callable[[int], bool] | None, interrupted: Callable[[], bool]) -> Iterator[tuple[int, Event]]:
        """Run all that waits; see `run_jobs`."""
        running = self._queue.running
        at_most = None if pruned is None else self._common_iteration()
        while self._queue.waiting or running:
            yield from self._fill(at_most)
            if interrupted():  # while it was compiled
                raise KeyboardInterrupt
            if not running:
                continue
            yield from self._advance()
            if pruned is not None:
                self._prune([slot for slot in running if pruned(running[slot].number)])
            yield from self._finish()
            yield from self._save(at_once=interrupted())
            if interrupted():
                raise KeyboardInterrupt

    def _common_iteration(self) -> int:
        """Return the last iteration that all jobs have a checkpoint of, or an earlier one than some."""
        queue = self._queue
        found = []
        for number in queue.waiting:
            checkpoint = (
                self._recorder(number).find_checkpoint(self._shared.shapes) if queue.jobs[number].resume else None
            )
            found.append(0 if checkpoint is None else checkpoint.iteration)
        return min(found)

    def _recorder(self, number: int) -> Recorder:
        queue, shared = self._queue, self._shared
        config = queue.jobs[number].config
        described = {
            **shared.described,
            "execution": {"strategy": self._strategy, "slots": self._num_slots},
            "reproducibility": reproducibility(shared.described, self._strategy),
        }
        return Recorder(number, config, queue.directories[number], shared.plan, described, self._begin)

    def _fill(self, at_most: int | None) -> Iterator[tuple[int, Event]]:
        """Begin jobs that wait in the slots that are free, or go on with them."""
        queue, running = self._queue, self._queue.running
        free = [slot for slot in range(self._num_slots) if slot not in running][: len(queue.waiting)]
        resumed: dict[int, TrainState] = {}
        for slot in free:
            number = queue.waiting.popleft()
            self._configs[slot] = queue.jobs[number].config
            running[slot] = self._recorder(number)
            yield from self._record(slot, functools.partial(self._begin_job, slot, at_most, resumed))
        if not running:
            return
        if self._states is None:
            self._states = self._programs.states
        fresh = _mask([slot for slot in free if slot in running and slot not in resumed], self._num_slots)
        if fresh.any():
            self._states = self._programs.start((self._states, fresh, *slot_values(self._configs)), None)
        if resumed:
            self._states = self._programs.put(_with_rows(jax.device_get(to_numbers(self._states)), resumed))

    @functools.cached_property
    def _programs(self) -> Programs:
        data, model, plan = self._shared[:3]
        programs = compile_programs(
            self._configs[0], model, plan, data, strategy=self._strategy, num_slots=self._num_slots
        )
        for recorder in self._queue.running.values():
            recorder.compile_seconds += programs.compile_seconds
        return programs

    def _begin_job(self, slot: int, at_most: int | None, resumed: dict[int, TrainState]) -> Event:
        shared, recorder = self._shared, self._queue.running[slot]
        job, shapes = self._queue.jobs[recorder.number], shared.shapes
        checkpoint = recorder.find_checkpoint(shapes, at_most) if job.resume else None
        started = Started(
            job.config,
            len(shared.data.train.labels),
            sum(leaf.size for leaf in jax.tree.leaves(shapes.variables.params)),
            shared.plan.num_intervals,
            jax.devices()[0].device_kind,
        )
        if checkpoint is None:
            return recorder.start(started, job.begin)
        job.begin()
        resumed[slot], earlier = recorder.resume(checkpoint, shapes)
        return started._replace(earlier=tuple(earlier))

    def _advance(self) -> Iterator[tuple[int, Event]]:
        """Train all slots up to the next validation."""
        begin = time.perf_counter()
        self._states, evaluations = self._programs.advance(self._states, self._programs.data)
        evaluations, self._status, self._iterations = jax.device_get(
            (evaluations, self._states.status, self._states.iteration)
        )
        seconds = time.perf_counter() - begin
        for slot, recorder in list(self._queue.running.items()):
            yield from self._record(slot, functools.partial(recorder.evaluate, _at(evaluations, slot), seconds))

    def _prune(self, slots: Sequence[int]) -> None:
        """End jobs that have not ended by themselves."""
        halted = _mask(slots, self._num_slots) & (self._status == Status.RUNNING)
        if halted.any():
            self._status = np.where(halted, np.int32(Status.PRUNED), self._status)
            self._states = self._states._replace(status=jax.device_put(self._status, self._states.status.sharding))

    def _finish(self) -> Iterator[tuple[int, Event]]:
        """Measure and record what has ended."""
        running = self._queue.running
        ended = [slot for slot in running if self._status[slot] != Status.RUNNING]
        if not ended:
            return
        measure, data = self._programs.measure, self._programs.data
        measured = measure((self._states.best, _mask(ended, self._num_slots)), data)
        measured, numbers = jax.device_get((measured, to_numbers(self._states)))
        for slot in ended:
            finish = functools.partial(running[slot].finish, _at(numbers, slot), *_at(measured, slot))
            yield from self._record(slot, finish)
            running.pop(slot, None)

    def _save(self, *, at_once: bool) -> Iterator[tuple[int, Event]]:
        """Save checkpoints of the jobs that are due for one, or of all `at_once`."""
        running = self._queue.running
        due = [slot for slot in running if at_once or running[slot].is_due(int(self._iterations[slot]))]
        if due:
            numbers = jax.device_get(to_numbers(self._states))
            for slot in due:
                yield from self._record(slot, functools.partial(running[slot].save, _at(numbers, slot)))

    def _record(self, slot: int, write: Callable[[], Event | None]) -> Iterator[tuple[int, Event]]:
        """Yield what a recorder has written; if it cannot, the job fails and its slot is free for the next."""
        running = self._queue.running
        number = running[slot].number
        try:
            event = write()
        except (OSError, InputError) as error:
            del running[slot]
            event = Failed(error)
        if event is not None:
            yield number, event


def _with_rows(states: TrainState, rows: Mapping[int, TrainState]) -> TrainState:
    """Return states, as NumPy arrays, with those of some slots replaced."""

    def replace(column: np.ndarray, *leaves: np.ndarray) -> np.ndarray:
        column = np.array(column)
        for slot, leaf in zip(rows, leaves, strict=True):
            column[slot] = leaf
        return column

    return jax.tree.map(replace, states, *rows.values())


def _mask(slots: Sequence[int], num_slots: int) -> np.ndarray:
    return np.isin(np.arange(num_slots), slots)


def _at(tree: Any, slot: int) -> Any:
    return jax.tree.map(lambda x: x[slot], tree)
