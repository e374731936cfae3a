"""Running the groups of a sweep as tasks of an engine: dividing them, following them, having lost ones go on.

While a task runs, its process alone writes the ledger entries of its jobs; this process writes them before and after.
"""

import collections
import contextlib
import logging
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import setup_globals

from lenet_jax.config import SweepConfig
from lenet_jax.engines import End, Engine, Running
from lenet_jax.errors import InputError, describe_error
from lenet_jax.hydra_app.group_worker import GroupTask, GroupWorker, Launch
from lenet_jax.hydra_app.hydra_files import configure_terminal
from lenet_jax.hydra_app.lanes import shown_overrides
from lenet_jax.report.terminal import SweepDisplay
from lenet_jax.runs import Event, Failed
from lenet_jax.sweeps.groups import SweepJob, by_signature, mark_pending, record_failure, register
from lenet_jax.sweeps.journal import JournalReader, Line
from lenet_jax.sweeps.ledger import ENDED, LAUNCHES, Ledger

MAX_JOBS = 500  # of a task: so many directories it locks, and so many jobs a lost process holds up at most
MAX_LOSSES = 3  # in a row without an evaluation more, after which the jobs of a task fail
_SECONDS = 0.2  # between looks at the tasks
_log = logging.getLogger(__name__)


def launch_groups(
    jobs: Sequence[SweepJob],
    ledger: Ledger,
    options: SweepConfig,
    hydra: Mapping[str, Any],
    engine: Engine,
    callbacks: Any,
    allowed: Sequence[str],
) -> None:
    """Run the pending jobs as tasks of an engine, and show how far they are.

    Args:
        jobs: jobs of the sweep.
        ledger: the ledger of the sweep.
        options: the options of the sweep.
        hydra: as in `launch_lanes`.
        engine: carries the tasks.
        callbacks: those of Hydra.
        allowed: packages that recorded configurations may name; "*": all.

    Raises:
        KeyboardInterrupt: if the sweep was asked to stop; the tasks have saved the states of their jobs.
    """
    setup_globals()
    configure_terminal(hydra, jobs[0].config)
    pending = register(jobs, ledger)
    if not pending:
        return
    with _folder(ledger.directory) as folder, SweepDisplay(len(jobs)) as display:
        tasks = [task for task in divide(jobs, options, engine.num_workers) if not pending.isdisjoint(task.jobs)]
        directory = str(ledger.directory.absolute())
        launch = Launch(directory, str(folder.absolute()), dict(vars(options)), hydra, callbacks, tuple(allowed))
        show = _shower(jobs, display)
        _Sweeping(launch, ledger, engine, show, stops=options.on_failure == "stop").run(tasks)


def divide(jobs: Sequence[SweepJob], options: SweepConfig, num_workers: int | None) -> list[GroupTask]:
    """Return the tasks of some jobs: groups that share a program, or equal parts of such.

    A part has `options.max_parallel` jobs. Where that is null, each process of the engine gets a part of a group; an
    engine with a queue of its own gets whole groups. What has ended is not left out, so that resuming changes no part.

    Args:
        jobs: jobs of the sweep.
        options: the options of the sweep.
        num_workers: as in `Engine`.
    """
    tasks = []
    for group in by_signature(jobs).values():
        size = options.max_parallel or -(-len(group) // (num_workers or 1))
        numbers = [job.number for job in group]
        size = min(size, MAX_JOBS)
        tasks += [GroupTask(tuple(numbers[start : start + size])) for start in range(0, len(numbers), size)]
    return tasks


@contextlib.contextmanager
def _folder(directory: Path) -> Iterator[Path]:
    """Create the folder of a launch; the folders of earlier ones are removed, so that what goes on there stops."""
    shutil.rmtree(directory / LAUNCHES, ignore_errors=True)
    folder = directory / LAUNCHES / secrets.token_hex(4)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(directory / LAUNCHES, ignore_errors=True)


def _shower(jobs: Sequence[SweepJob], display: SweepDisplay) -> Callable[[int, Line | Failed], Event]:
    """Return a function that shows what a journal says of a job, and returns it as an event."""
    by_number, shown = {job.number: job for job in jobs}, shown_overrides(jobs)

    def show(number: int, what: Line | Failed) -> Event:
        job = by_number[number]
        event = what.to_event(job.config, job.path) if isinstance(what, Line) else what
        display.show(number, shown[number], event)
        return event

    return show


class _Followed:
    """What is known of a task: its journal, how far its jobs are, and how often it was lost."""

    def __init__(self, journal: Path) -> None:
        self.journal = JournalReader(journal)
        self.iterations: dict[int, int] = {}  # of the last evaluation of each job
        self.num_losses = 0  # since the last evaluation that was new

    def note(self, line: Line) -> None:
        """Take note of a line of its journal; an evaluation that was lost and is made again is none that is new."""
        if line.iteration is not None and line.iteration > self.iterations.get(line.number, 0):
            self.iterations[line.number] = line.iteration
            self.num_losses = 0


class _Sweeping:
    """Runs tasks until all have ended, or the sweep stops."""

    def __init__(
        self,
        launch: Launch,
        ledger: Ledger,
        engine: Engine,
        show: Callable[[int, Line | Failed], Event],
        *,
        stops: bool,
    ) -> None:
        self._launch, self._ledger, self._show, self._stops_at_failure = launch, ledger, show, stops
        self._running = Running(engine, GroupWorker.of_this_process(launch))
        self._followed: dict[GroupTask, _Followed] = {}
        self._waiting: collections.deque[GroupTask] = collections.deque()
        self._stops = False  # whether all tasks are to stop

    def run(self, tasks: Sequence[GroupTask]) -> None:
        self._waiting.extend(tasks)
        self._launch.mark.touch()
        try:
            while self._running or (self._waiting and not self._stops):
                self._start()
                self._look()
                time.sleep(_SECONDS)
        except BaseException:
            self._stop()
            while self._running:
                self._look()
                time.sleep(_SECONDS)
            raise
        finally:
            for followed in self._followed.values():
                followed.journal.close()
        if self._stops:
            mark_pending([number for task in self._followed for number in task.jobs], self._ledger)

    def _start(self) -> None:
        """Hand as many waiting tasks to the engine as it takes."""
        room = 0 if self._stops else self._running.room
        tasks = [self._waiting.popleft() for _ in range(len(self._waiting) if room is None else room) if self._waiting]
        for task in tasks:
            self._followed.setdefault(task, _Followed(Path(self._launch.folder, task.journal)))
        self._running.start(tasks)

    def _stop(self) -> None:
        """Have all tasks save the states of their jobs and end; those that have not begun are taken back."""
        self._stops = True
        self._launch.mark.unlink(missing_ok=True)
        self._running.cancel([task for task, followed in self._followed.items() if not followed.journal.has_begun])

    def _look(self) -> None:
        """Show what is new in the journals, and see to the tasks that have ended."""
        ends = self._running.ended()  # before the journals are read, so that those of ended tasks are complete
        for followed in list(self._followed.values()):
            for line in followed.journal.read():
                followed.note(line)
                event = self._show(line.number, line)
                if isinstance(event, Failed) and self._stops_at_failure and not self._stops:
                    self._stop()
        for end in ends:
            self._see_to(end)

    def _see_to(self, end: End) -> None:
        task, followed = end.task, self._followed[end.task]
        if end.error is None and end.value:
            followed.journal.close()
            del self._followed[task]
        elif not self._stops:
            if end.error is not None and not end.lost:
                self._fail(task, end.error)
                return
            reason = "was stopped" if end.error is None else f"is gone ({describe_error(end.error)})"
            followed.num_losses += 1
            if followed.num_losses < MAX_LOSSES:
                _log.warning("the process of %s %s; they go on in another one", task, reason)
                self._waiting.append(task)
            else:
                what = f"the process {reason}, {MAX_LOSSES} times in a row without an evaluation more"
                self._fail(task, InputError(f"{what}; see its log, then resume with --retry-failed."))

    def _fail(self, task: GroupTask, error: Exception) -> None:
        """Record that the jobs of a task have failed that have not ended."""
        for number in task.jobs:
            entry = self._ledger.entry(number)
            if entry is not None and entry.state not in ENDED:
                record_failure(self._ledger, number, error)
                self._show(number, Failed(error))
        self._followed.pop(task).journal.close()
        if self._stops_at_failure and not self._stops:
            self._stop()
