"""Running jobs in this process, in groups that share a program, with Hydra's files and callbacks, logs and trackers.

This module uses a private part of Hydra 1.3.8, `Callbacks`, as does `sweep.py`.
"""

import contextlib
import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus, setup_globals
from omegaconf import OmegaConf

from lenet_jax.config import SweepConfig, to_dict
from lenet_jax.hydra_app.composition import SWEEP, Composed
from lenet_jax.hydra_app.hydra_files import EVENTS, configure_terminal, for_job, write_hydra_files
from lenet_jax.hydra_app.recorded_loader import without_interpolations
from lenet_jax.hydra_app.worker import Worker
from lenet_jax.report.terminal import SweepDisplay, describe
from lenet_jax.runs import Event, Failed, Finished, Monitor, Started
from lenet_jax.runs.prepared_run import PreparedRun
from lenet_jax.sweeps.groups import SweepJob, execute, register
from lenet_jax.sweeps.halving import Halving
from lenet_jax.sweeps.ledger import Ledger
from lenet_jax.sweeps.search import Pruner, replay, report, to_objective
from lenet_jax.trackers.delivery import Delivery


def launch_lanes(
    jobs: Sequence[SweepJob],
    ledger: Ledger,
    options: SweepConfig,
    prepared: Mapping[str, PreparedRun],
    hydra: Mapping[str, Any],
    pruner: Pruner | None = None,
    callbacks: Callbacks | None = None,
) -> None:
    """Run the pending jobs in groups that share a program, and show how far they are.

    Args:
        jobs: jobs of the sweep.
        ledger: the ledger of the sweep.
        options: the options of the sweep.
        prepared: prepared runs by their program signatures.
        hydra: Hydra's part of the composed configuration, unresolved; it is written to the directory of each job.
        pruner: decides which jobs stop early; None: no job does.
        callbacks: those of Hydra; None: none.
    """
    if pruner is not None:
        register(jobs, ledger)
        replay(pruner, jobs, ledger)
    monitors: dict[int, Monitor] = {}
    should_prune = None if pruner is None else lambda number: number in pruner.pruned
    in_order = isinstance(pruner, Halving) and pruner.is_asynchronous
    shown = shown_overrides(jobs)
    events = run_lanes(jobs, ledger, options, prepared, hydra, callbacks, should_prune, in_order=in_order)
    with contextlib.closing(events), SweepDisplay(len(jobs)) as display:
        for job, event in events:
            if isinstance(event, Started):
                monitors[job.number] = event.monitor
            if pruner is not None:
                report(pruner, job.number, event, monitors.get(job.number, Monitor()))
            display.show(job.number, shown[job.number], event)


def shown_overrides(jobs: Sequence[SweepJob]) -> dict[int, list[str]]:
    """Return the overrides of each job that the screen shows: those that not all jobs have."""
    common = set.intersection(*(set(job.overrides) for job in jobs)) if len(jobs) > 1 else set()
    return {job.number: [each for each in job.overrides if each not in common] for job in jobs}


def run_lanes(
    jobs: Sequence[SweepJob],
    ledger: Ledger,
    options: SweepConfig,
    prepared: Mapping[str, PreparedRun],
    hydra: Mapping[str, Any],
    callbacks: Callbacks | None = None,
    should_prune: Callable[[int], bool] | None = None,
    *,
    in_order: bool = False,
) -> Generator[tuple[SweepJob, Event]]:
    """Run the pending jobs in groups that share a program; write Hydra's files and the logs, and tell the trackers.

    Args:
        jobs: as in `launch_lanes`, and so are the others that are not named.
        ledger: the ledger of the sweep.
        options: the options of the sweep.
        prepared: as in `lenet_jax.sweeps.groups.execute`.
        hydra: Hydra's part of the composed configuration.
        callbacks: those of Hydra.
        should_prune: as in `lenet_jax.sweeps.groups.execute`.
        in_order: as in `lenet_jax.sweeps.groups.execute`.

    Yields:
        A job, and an event of that job.
    """
    setup_globals()
    configure_terminal(hydra, jobs[0].config)
    hooks = _JobCallbacks(callbacks or Callbacks(), hydra, options)
    logs: dict[int, logging.Handler] = {}

    def on_start(job: SweepJob) -> None:
        logs[job.number] = write_hydra_files(job, hydra, vars(options))
        hooks.start(job)

    with contextlib.ExitStack() as ending, Delivery() as delivery:
        ending.callback(lambda: [log.close() for log in logs.values()])  # of jobs that were interrupted
        for job, event in execute(jobs, ledger, options, prepared, on_start, should_prune, in_order):
            log = logs.setdefault(job.number, logging.NullHandler())  # a job may fail before it starts
            for line in filter(None, describe(event)):
                log.handle(logging.LogRecord(EVENTS, logging.INFO, __file__, 0, line, None, None))
            if isinstance(event, Finished | Failed):
                logs.pop(job.number).close()
            delivery.notify(job.config, job.path, event)
            hooks.end(job, event, ledger)
            yield job, event


def to_return(ledger: Ledger, job: SweepJob) -> JobReturn:
    """Return what a launcher of Hydra returns of a job; its value is the one that a sweeper minimizes."""
    returned = JobReturn(overrides=job.overrides, working_dir=str(job.path), status=JobStatus.COMPLETED)
    returned.return_value = to_objective(ledger.entry(job.number))
    return returned


class _JobCallbacks:
    """Calls Hydra's callbacks for the jobs of a sweep, which share a process here."""

    def __init__(self, callbacks: Callbacks, hydra: Mapping[str, Any], options: SweepConfig) -> None:
        self._callbacks, self._hydra, self._options = callbacks, hydra, options

    def start(self, job: SweepJob) -> None:
        """Tell them that a job starts."""
        if self._callbacks.callbacks:
            self._callbacks.on_job_start(config=self._composed(job), task_function=Worker.of_this_process(()))

    def end(self, job: SweepJob, event: Event, ledger: Ledger) -> None:
        """Tell them of an event if it is the last one of its job."""
        if self._callbacks.callbacks and isinstance(event, Finished | Failed):
            composed = self._composed(job)
            returned = to_return(ledger, job)
            returned.cfg, returned.hydra_cfg = composed, OmegaConf.masked_copy(composed, "hydra")
            returned.task_name = composed.hydra.job.name
            if isinstance(event, Failed):
                returned.status, returned.return_value = JobStatus.FAILED, event.error
            self._callbacks.on_job_end(config=composed, job_return=returned)

    def _composed(self, job: SweepJob) -> Composed:
        content = without_interpolations({**to_dict(job.config), SWEEP: dict(vars(self._options))})
        composed = OmegaConf.create({**content, "hydra": for_job(job, self._hydra)})
        HydraConfig.instance().cfg = composed  # pyright: ignore[reportAttributeAccessIssue]
        return composed
