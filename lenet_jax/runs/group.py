"""Jobs of one kind that run side by side in slots: a job starts as soon as the one before it in its slot has ended."""

import collections
import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from lenet_jax.config import Config
from lenet_jax.errors import InputError
from lenet_jax.runs.events import Event, Failed, Started
from lenet_jax.runs.programs import Programs, compile_programs, slot_values, to_numbers
from lenet_jax.runs.provenance import reproducibility
from lenet_jax.runs.recorder import Found, Recorder
from lenet_jax.runs.run_directory import RunDirectory
from lenet_jax.training import Plan
from lenet_jax.types import Dataset, Model, Status, TrainState


class Job(NamedTuple):
    """A run to do, and the directory that records it."""

    config: Config
    path: Path
    begin: Callable[[], None] = lambda: None  # called before the first file is written; may raise OSError
    resume: bool = False  # whether the directory may hold the beginning of it, to go on from its newest checkpoint


class Queue(NamedTuple):
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


class Shared(NamedTuple):
    """What the jobs of one kind have in common."""

    data: Dataset
    model: Model
    plan: Plan
    described: dict[str, Any]  # as `describe_run`
    shapes: TrainState  # as `state_shapes`


class Slots:
    """Runs the jobs of a queue in slots; `begin` is when the first of them did."""

    def __init__(self, queue: Queue, shared: Shared, strategy: str, num_slots: int, begin: float) -> None:
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
        iterations = []
        for number in queue.waiting:
            found = self._recorder(number).find_checkpoint(self._shared.shapes) if queue.jobs[number].resume else None
            iterations.append(0 if found is None else found.checkpoint.iteration)
        return min(iterations)

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
        resumed: dict[int, Found] = {}
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
            self._states = self._programs.put(
                _with_rows(
                    jax.device_get(to_numbers(self._states)), {slot: found.state for slot, found in resumed.items()}
                )
            )

    @functools.cached_property
    def _programs(self) -> Programs:
        data, model, plan = self._shared[:3]
        programs = compile_programs(
            self._configs[0], model, plan, data, strategy=self._strategy, num_slots=self._num_slots
        )
        for recorder in self._queue.running.values():
            recorder.compile_seconds += programs.compile_seconds
        return programs

    def _begin_job(self, slot: int, at_most: int | None, resumed: dict[int, Found]) -> Event:
        shared, recorder = self._shared, self._queue.running[slot]
        job, shapes = self._queue.jobs[recorder.number], shared.shapes
        found = recorder.find_checkpoint(shapes, at_most) if job.resume else None
        started = Started(
            job.config,
            len(shared.data.train.labels),
            sum(leaf.size for leaf in jax.tree.leaves(shapes.variables.params)),
            shared.plan.num_intervals,
            jax.devices()[0].device_kind,
        )
        if found is None:
            return recorder.start(started, job.begin)
        job.begin()
        recorder.resume(found)
        resumed[slot] = found
        return started._replace(earlier=tuple(found.earlier))

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
