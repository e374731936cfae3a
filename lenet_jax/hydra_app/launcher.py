"""What Hydra's launcher `lanes` does: jobs of any sweeper, those of a kind as one compiled program."""

import logging
import math
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus, setup_globals
from hydra.types import HydraContext

from lenet_jax.config import SweepConfig
from lenet_jax.hydra_app.composition import Composed, JobComposer, to_config, to_sweep_config
from lenet_jax.hydra_app.sweep_jobs import SweepJob, check_jobs, compose_jobs
from lenet_jax.report.terminal import SweepDisplay, describe, show, show_end
from lenet_jax.runs.events import Evaluated, Event, Failed, Finished, Started
from lenet_jax.runs.records import read_record
from lenet_jax.sweeps.groups import enter, execute, side_by_side
from lenet_jax.sweeps.halving import Halving
from lenet_jax.sweeps.ledger import DONE, ENDED, FAILED, Entry, Ledger


@runtime_checkable
class Pruner(Protocol):
    """Learns of the jobs as they run, and says which of them are to end."""

    @property
    def pruned(self) -> Container[int]:
        """Return the numbers of the jobs that are to end."""
        ...

    def observe(self, number: int, epoch: float, accuracy: float) -> None:
        """Learn of an evaluation."""

    def end(self, number: int, *, diverged: bool) -> None:
        """Learn that a job has ended."""


def launch(
    context: HydraContext,
    master: Composed,
    batch: Sequence[Sequence[str]],
    first: int,
    pruner: Pruner | None = None,
    halving: Mapping[str, int] | None = None,
) -> Sequence[JobReturn]:
    """Run a batch of jobs; a job that its ledger has as ended is not run again.

    Args:
        context: Hydra's.
        master: the composition of the sweep.
        batch: the overrides of each job.
        first: the number of the first one.
        pruner: says which jobs end early; None: none.
        halving: options of `Halving`, which then says it, of jobs of one kind that all run side by side.

    Returns:
        For each job the error of its best validation, a fraction, as its return value; infinity if it has none.

    Raises:
        InputError: if the jobs are not fit to run, or the directory does not hold this sweep.
    """
    setup_globals()
    jobs = compose_jobs(JobComposer(context.config_loader, master), batch, first, with_files=True)
    check_jobs(jobs)
    options = to_sweep_config(master)
    if halving is not None:
        numbers, max_epochs = [job.number for job in jobs], jobs[0].config.trainer.max_epochs
        pruner = Halving(numbers, max_epochs=max_epochs, **halving)
        options = side_by_side(options, len(jobs))
    return _launch(jobs, master, options, pruner)


def _launch(
    jobs: Sequence[SweepJob], master: Composed, options: SweepConfig, pruner: Pruner | None = None
) -> Sequence[JobReturn]:
    ledger = Ledger(Path(master.hydra.sweep.dir))
    if pruner is not None:
        enter(jobs, ledger)
        _recall(pruner, jobs, ledger)
    logs: dict[int, logging.Handler] = {}

    def begin(job: SweepJob) -> None:
        if job.files is not None:
            logs[job.number] = job.files.write(job.path)

    pruned = None if pruner is None else lambda number: number in pruner.pruned
    common = set.intersection(*(set(job.overrides) for job in jobs)) if len(jobs) > 1 else set()
    with SweepDisplay(len(jobs)) as display:
        for job, event in execute(jobs, ledger, options, begin, pruned):
            log = logs.setdefault(job.number, logging.NullHandler())  # a job may fail before it begins
            for line in filter(None, describe(event)):
                log.handle(logging.LogRecord(__name__, logging.INFO, __file__, 0, line, None, None))
            if isinstance(event, Finished | Failed):
                logs.pop(job.number).close()
            if pruner is not None:
                _tell(pruner, job.number, event)
            display.show(job.number, [each for each in job.overrides if each not in common], event)
    return [_to_return(ledger, job) for job in jobs]


def _tell(pruner: Pruner, number: int, event: Event) -> None:
    match event:
        case Started():
            for line in event.earlier:
                pruner.observe(number, line["epoch"], line["validation_accuracy"])
        case Evaluated():
            pruner.observe(number, event.record["epoch"], event.record["validation_accuracy"])
        case Finished():
            pruner.end(number, diverged=event.result["stopped_by"] == "diverged")
        case Failed():
            pruner.end(number, diverged=True)


def _recall(pruner: Pruner, jobs: Sequence[SweepJob], ledger: Ledger) -> None:
    """Tell what is recorded of the jobs that have ended."""
    for job in jobs:
        entry = ledger.entry(job.number)
        if entry is not None and entry.state in ENDED:
            for line in read_record(job.path).metrics if entry.state == DONE else ():
                pruner.observe(job.number, line["epoch"], line["validation_accuracy"])
            pruner.end(job.number, diverged=entry.state != DONE)


def run_alone(composed: Composed, *, apart: bool) -> float:
    """Run a job of a sweep that another launcher of Hydra has prepared; return what its sweeper is told.

    Args:
        composed: its composition.
        apart: whether other jobs run at the same time in other processes.

    Raises:
        InputError: as `launch`.
    """
    hydra, options = HydraConfig.get(), to_sweep_config(composed)
    ledger = Ledger(Path(hydra.sweep.dir))
    path = Path(hydra.runtime.output_dir)
    job = SweepJob(hydra.job.num, tuple(hydra.overrides.task), to_config(composed), path)
    stopped = options.on_failure == "stop" and any(entry.state == FAILED for entry in ledger.entries())
    if not stopped:
        events = (event for _, event in execute([job], ledger, options))
        show_end(job.number, job.overrides, events) if apart else show(events)
    return to_objective(ledger.entry(job.number))


def to_objective(entry: Entry | None) -> float:
    """Return what a sweeper is told of a job, for it to minimize."""
    if entry is None or entry.state != DONE or entry.result is None:
        return math.inf
    return 1 - entry.result["validation_accuracy"]


def _to_return(ledger: Ledger, job: SweepJob) -> JobReturn:
    returned = JobReturn(overrides=job.overrides, working_dir=str(job.path), status=JobStatus.COMPLETED)
    returned.return_value = to_objective(ledger.entry(job.number))
    return returned
