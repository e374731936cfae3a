"""Running a task, a group of jobs or a part of one, in the process that an engine has chosen."""

import contextlib
import logging
from pathlib import Path

from lenet_jax.config import SweepConfig, from_dict
from lenet_jax.hydra_app.group_worker import GroupTask, Launch
from lenet_jax.hydra_app.lanes import run_lanes
from lenet_jax.runs import Event
from lenet_jax.runs.run_directory import RunDirectory
from lenet_jax.runs.trust import complete_allowed
from lenet_jax.sweeps.groups import SweepJob, mark_pending
from lenet_jax.sweeps.journal import JournalWriter
from lenet_jax.sweeps.ledger import Ledger

_log = logging.getLogger(__name__)


def run_group(task: GroupTask, launch: Launch) -> None:
    """Run the pending jobs of a task, once no other process works on any of its jobs.

    While it holds the locks of their directories, this process alone writes their entries in the ledger.

    Args:
        task: the task.
        launch: what all tasks of the sweep have in common.

    Raises:
        InputError: if the ledger is damaged, or names code that is not allowed.
        KeyboardInterrupt: if a signal has interrupted the jobs; those that have not ended are pending then.
    """
    ledger = Ledger(Path(launch.directory))
    entries = [entry for number in task.jobs if (entry := ledger.entry(number)) is not None]
    jobs = []
    for entry in entries:
        origin = f"{ledger.directory}, job {entry.number}"
        config = complete_allowed(from_dict(entry.config), launch.allowed, origin, ledger.directory)
        jobs.append(SweepJob(entry.number, tuple(entry.overrides), config, ledger.run_directory(entry)))
    with contextlib.ExitStack() as opened:
        for job in jobs:
            opened.enter_context(RunDirectory(job.path, resume=True).locked(wait=True))
        journal = opened.enter_context(JournalWriter(Path(launch.folder, task.journal)))
        options = SweepConfig(**launch.options)
        events = opened.enter_context(
            contextlib.closing(run_lanes(jobs, ledger, options, {}, launch.hydra, launch.callbacks))
        )
        try:
            for job, event in events:
                _write(journal, job, event)
        except KeyboardInterrupt:
            mark_pending(task.jobs, ledger)
            raise


def _write(journal: JournalWriter, job: SweepJob, event: Event) -> None:
    try:
        journal.write(job.number, event)
    except OSError as error:  # the screen lacks a line; the run itself is recorded elsewhere
        _log.warning("job %d: its journal cannot be written: %s", job.number, error.strerror)
