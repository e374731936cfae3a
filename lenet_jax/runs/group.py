"""A group of runs that share compiled programs and are trained in parallel, one run per lane.

When the run in a lane finishes, the next pending run starts in that lane.
"""

import collections
import functools
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from lenet_jax.config import Config
from lenet_jax.errors import InputError
from lenet_jax.evaluation import count_examples
from lenet_jax.runs import Event, Failed, Monitor, Started
from lenet_jax.runs.follower import Follower
from lenet_jax.runs.lane_memory import TooManyLanesError, fewer_lanes
from lenet_jax.runs.prepared_run import PreparedRun
from lenet_jax.runs.processes import agreed, check_same, fetch, is_writer
from lenet_jax.runs.programs import LaneInputs, Programs, compile_programs, lane_inputs, make_layout
from lenet_jax.runs.provenance import reproducibility
from lenet_jax.runs.recorder import Recorder, RestoredRun
from lenet_jax.runs.run_directory import RunDirectory
from lenet_jax.runs.signals import postponed_signals
from lenet_jax.types import Status
from lenet_jax.weights import unwrap_keys

_log = logging.getLogger(__name__)


class Job(NamedTuple):
    """A run to train, and its directory."""

    config: Config  # complete
    path: Path
    on_start: Callable[[], None] = lambda: None  # called before the first file is written; may raise OSError
    resume: bool = False  # whether to resume from a checkpoint in the directory, if it has one


def run_jobs(
    jobs: Sequence[Job],
    prepared: PreparedRun,
    *,
    strategy: str = "map",
    num_lanes: int = 1,
    should_prune: Callable[[int], bool] | None = None,
    in_order: bool = False,
) -> Iterator[tuple[int, Event]]:
    """Run the jobs of a group, `num_lanes` in parallel, each recorded like a single run.

    The programs are compiled once. If they need more memory than the devices have, they are compiled again with as many
    lanes as fit. If a device runs out of memory nevertheless, with half as many, and the running jobs resume from their
    checkpoints.

    Args:
        jobs: jobs whose configurations have the same `program_signature`.
        prepared: the prepared run of any of these configurations.
        strategy: as in `compile_programs`.
        num_lanes: as in `compile_programs`.
        should_prune: called with the number of a job after each of its evaluations; returns whether to stop the job.
            Because this depends on the progress of the other jobs, all resumed jobs start from the same iteration.
            None: no job is stopped.
        in_order: whether it depends on the jobs that come before only; then a resumed job starts from no later
            iteration than they.

    Yields:
        The number of a job, and an event of that job.

    Raises:
        InputError: if a directory holds a run that is not to be resumed.
        OSError: if a directory cannot be written.
        KeyboardInterrupt: if a signal has interrupted the runs.
    """
    directories = [RunDirectory(job.path, resume=job.resume) for job in jobs]
    queue = Queue(list(jobs), directories, collections.deque(range(len(jobs))), {})
    with postponed_signals() as own_interrupted:
        interrupted = agreed(own_interrupted)
        while queue.pending:
            try:
                runner = GroupRunner(queue, prepared, strategy, num_lanes)
                yield from runner.run(should_prune, interrupted, in_order=in_order)
            except (jax.errors.JaxRuntimeError, TooManyLanesError) as error:
                fewer = fewer_lanes(error, num_lanes, len(make_layout(strategy, num_lanes).devices))
                if fewer is None:
                    raise
                num_lanes, reason = fewer, str(error).splitlines()[0]
                _log.warning("out of memory; continuing with %d runs in parallel: %s", num_lanes, reason)
                queue.requeue()


class Queue(NamedTuple):
    """The jobs of a group: those that are pending, and those that are running in a lane."""

    jobs: list[Job]
    directories: Sequence[RunDirectory]  # one per job
    pending: collections.deque[int]  # numbers of jobs
    running: dict[int, Recorder]  # by lane

    def requeue(self) -> None:
        """Move the running jobs to the front of the pending jobs, in their order, to be resumed."""
        numbers = sorted(recorder.number for recorder in self.running.values())
        for number in numbers:
            self.jobs[number] = self.jobs[number]._replace(resume=True)
        self.pending.extendleft(reversed(numbers))
        self.running.clear()


class GroupRunner:
    """Runs the jobs of a queue in lanes."""

    def __init__(self, queue: Queue, prepared: PreparedRun, strategy: str, num_lanes: int) -> None:
        """Prepare to run the pending jobs of a queue; the programs are compiled when the first job starts.

        Args:
            queue: the jobs of the group.
            prepared: as in `run_jobs`.
            strategy: as in `compile_programs`.
            num_lanes: as in `compile_programs`.
        """
        self._queue, self._prepared, self._strategy, self._num_lanes = queue, prepared, strategy, num_lanes
        self._objective = prepared.task.objective
        self._description, self._patch = prepared.describe(), prepared.uncommitted_changes()
        self._expected = jax.eval_shape(unwrap_keys, prepared.state)
        self._configs = [queue.jobs[0].config] * num_lanes  # of the last job in each lane
        self._states: Any = None
        self._status: Any = None  # of each lane, on the host
        self._iterations: Any = None  # iterations done in each lane, on the host

    def run(
        self, should_prune: Callable[[int], bool] | None, interrupted: Callable[[], bool], *, in_order: bool = False
    ) -> Iterator[tuple[int, Event]]:
        """Run all pending jobs; see `run_jobs`."""
        running = self._queue.running
        limits = {} if should_prune is None else self._limits(in_order)
        while self._queue.pending or running:
            yield from self._fill(limits)
            if interrupted():  # by a signal during compilation
                raise KeyboardInterrupt
            if not running:
                continue
            yield from self._advance()
            if should_prune is not None:
                self._prune([lane for lane in running if should_prune(running[lane].number)])
            yield from self._finish()
            yield from self._save(at_once=interrupted())
            if interrupted():
                raise KeyboardInterrupt

    def _limits(self, in_order: bool) -> dict[int, int]:
        """Return the iteration after which each pending job must not resume.

        It is the smallest of the iterations of the newest checkpoints, of all pending jobs or, `in_order`, of those
        that come before and of the job itself.
        """
        queue = self._queue
        iterations: dict[int, int] = {}
        for number in queue.pending:
            limit = min(iterations.values()) if in_order and iterations else None
            recorder = self._recorder(number) if queue.jobs[number].resume else None
            found = None if recorder is None else recorder.find_checkpoint(self._expected, limit)
            iterations[number] = 0 if found is None else found.checkpoint.iteration
        return iterations if in_order else dict.fromkeys(iterations, min(iterations.values()))

    def _recorder(self, number: int) -> Recorder:
        queue = self._queue
        config = queue.jobs[number].config
        description = {
            **self._description,
            "execution": {"strategy": self._strategy, "lanes": self._num_lanes},
            "reproducibility": reproducibility(self._description, self._strategy),
        }
        return (Recorder if is_writer() else Follower)(
            number,
            config,
            queue.directories[number],
            self._prepared.plan,
            self._objective,
            description,
            time.perf_counter(),
            patch=self._patch,
        )

    def _fill(self, limits: Mapping[int, int]) -> Iterator[tuple[int, Event]]:
        """Start or resume pending jobs in the free lanes."""
        queue, running = self._queue, self._queue.running
        free = [lane for lane in range(self._num_lanes) if lane not in running][: len(queue.pending)]
        resumed: dict[int, RestoredRun] = {}
        for lane in free:
            number = queue.pending.popleft()
            self._configs[lane] = queue.jobs[number].config
            running[lane] = self._recorder(number)
            yield from self._record(lane, functools.partial(self._start_job, lane, limits.get(number), resumed))
        if not running:
            return
        if self._states is None:
            self._states = self._programs.states
        is_new = _mask([lane for lane in free if lane in running and lane not in resumed], self._num_lanes)
        if is_new.any():
            inputs = self._lane_inputs()
            lane = (is_new, inputs.seeds, inputs.values)
            self._states = self._programs.start(self._states, lane, self._programs.initial)
        if resumed:
            self._states = self._programs.restore(
                _with_rows(fetch(unwrap_keys(self._states)), {lane: found.state for lane, found in resumed.items()})
            )

    @functools.cached_property
    def _programs(self) -> Programs:
        programs = compile_programs(self._prepared, strategy=self._strategy, num_lanes=self._num_lanes)
        for recorder in self._queue.running.values():
            recorder.compile_seconds += programs.compile_seconds
        return programs

    def _lane_inputs(self) -> LaneInputs:
        return lane_inputs(self._prepared, self._configs)

    def _start_job(self, lane: int, max_iteration: int | None, resumed: dict[int, RestoredRun]) -> Event:
        recorder, prepared = self._queue.running[lane], self._prepared
        job = self._queue.jobs[recorder.number]
        found = recorder.find_checkpoint(self._expected, max_iteration) if job.resume else None
        check_same(f"{job.path}: the newest checkpoint", -1 if found is None else found.checkpoint.iteration)
        started = Started(
            job.config,
            count_examples(prepared.data.train),
            sum(leaf.size for leaf in jax.tree.leaves(prepared.state.variables.params)),
            prepared.plan.num_intervals,
            jax.devices()[0].device_kind,
            Monitor(self._objective.monitor, self._objective.mode),
            compiles=self._states is None,
        )
        if found is None:
            return recorder.start(started, job.on_start)
        job.on_start()
        recorder.resume(found)
        resumed[lane] = found
        return started._replace(previous_evaluations=tuple(found.previous_evaluations))

    def _advance(self) -> Iterator[tuple[int, Event]]:
        """Train all lanes up to the next validation."""
        start_time = time.perf_counter()
        _, *inputs = self._lane_inputs()
        self._states, evaluations = self._programs.advance(self._states, tuple(inputs), self._programs.data)
        evaluations, self._status, self._iterations = jax.device_get(
            (evaluations, self._states.status, self._states.iteration)
        )
        seconds = time.perf_counter() - start_time
        for lane, recorder in list(self._queue.running.items()):
            yield from self._record(lane, functools.partial(recorder.evaluate, _at(evaluations, lane), seconds))

    def _prune(self, lanes: Sequence[int]) -> None:
        """Stop the jobs in some lanes, unless they have already stopped by themselves."""
        pruned = _mask(lanes, self._num_lanes) & (self._status == Status.RUNNING)
        if pruned.any():
            self._status = np.where(pruned, np.int32(Status.PRUNED), self._status)
            self._states = self._states._replace(status=jax.device_put(self._status, self._states.status.sharding))

    def _finish(self) -> Iterator[tuple[int, Event]]:
        """Evaluate the resulting weights of the jobs that have finished, and record their results."""
        running = self._queue.running
        finished = [lane for lane in running if self._status[lane] != Status.RUNNING]
        if not finished:
            return
        measure, data = self._programs.measure, self._programs.data
        _, *inputs = self._lane_inputs()
        measured = measure(self._states, (_mask(finished, self._num_lanes), *inputs), data)
        measured, states = fetch((measured, unwrap_keys(self._states)))
        for lane in finished:
            finish = functools.partial(running[lane].finish, _at(states, lane), _at(measured, lane))
            yield from self._record(lane, finish)
            running.pop(lane, None)

    def _save(self, *, at_once: bool) -> Iterator[tuple[int, Event]]:
        """Save checkpoints of the jobs for which one is due; of all running jobs if `at_once`."""
        running = self._queue.running
        due = [lane for lane in running if at_once or running[lane].is_due(int(self._iterations[lane]))]
        if due:
            states = fetch(unwrap_keys(self._states))
            for lane in due:
                yield from self._record(lane, functools.partial(running[lane].save, _at(states, lane)))

    def _record(self, lane: int, write: Callable[[], Event | None]) -> Iterator[tuple[int, Event]]:
        """Call a method of a recorder and yield its event; if it cannot write, the job fails and its lane is free."""
        running = self._queue.running
        number = running[lane].number
        try:
            event = write()
        except (OSError, InputError) as error:
            del running[lane]
            event = Failed(error)
        if event is not None:
            yield number, event


def _with_rows(states: Any, rows: Mapping[int, Any]) -> Any:
    """Return states of NumPy arrays in which the states of some lanes are replaced."""

    def replace(column: np.ndarray, *leaves: np.ndarray) -> np.ndarray:
        column = np.array(column)
        for lane, leaf in zip(rows, leaves, strict=True):
            column[lane] = leaf
        return column

    return jax.tree.map(replace, states, *rows.values())


def _mask(lanes: Sequence[int], num_lanes: int) -> np.ndarray:
    return np.isin(np.arange(num_lanes), lanes)


def _at(tree: Any, lane: int) -> Any:
    return jax.tree.map(lambda x: x[lane], tree)
