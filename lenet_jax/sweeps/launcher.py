"""What Hydra's launcher `lanes` does: jobs of any sweeper, those of a kind as one compiled program."""

import logging
import math
from collections.abc import Sequence
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus, setup_globals
from hydra.types import HydraContext

from lenet_jax.composition import Composed, JobComposer, to_config, to_sweep_config
from lenet_jax.report.terminal import SweepDisplay, describe, show
from lenet_jax.runs.driver import Failed, Finished
from lenet_jax.sweeps.execution import execute
from lenet_jax.sweeps.jobs import SweepJob, check_jobs, compose_jobs
from lenet_jax.sweeps.ledger import DONE, FAILED, Entry, Ledger


def launch(context: HydraContext, master: Composed, batch: Sequence[Sequence[str]], first: int) -> Sequence[JobReturn]:
    """Run a batch of jobs; a job that its ledger has as ended is not run again.

    Args:
        context: Hydra's.
        master: the composition of the sweep.
        batch: the overrides of each job.
        first: the number of the first one.

    Returns:
        For each job the error of its best validation, a fraction, as its return value; infinity if it has none.

    Raises:
        InputError: if the jobs are not fit to run, or the directory does not hold this sweep.
    """
    setup_globals()
    composer = JobComposer(context.config_loader, master)
    jobs = compose_jobs(composer, batch, first, with_files=True)
    check_jobs(jobs)
    ledger = Ledger(Path(master.hydra.sweep.dir))
    logs: dict[int, logging.Handler] = {}

    def begin(job: SweepJob) -> None:
        if job.files is not None:
            logs[job.number] = job.files.write(job.path)

    common = set.intersection(*(set(job.overrides) for job in jobs)) if len(jobs) > 1 else set()
    with SweepDisplay(len(jobs)) as display:
        for job, event in execute(jobs, ledger, to_sweep_config(master), begin):
            log = logs.setdefault(job.number, logging.NullHandler())  # a job may fail before it begins
            for line in filter(None, describe(event)):
                log.handle(logging.LogRecord(__name__, logging.INFO, __file__, 0, line, None, None))
            if isinstance(event, Finished | Failed):
                logs.pop(job.number).close()
            display.show(job.number, [each for each in job.overrides if each not in common], event)
    return [_to_return(ledger, job) for job in jobs]


def run_alone(composed: Composed) -> float:
    """Run a job of a sweep that another launcher of Hydra has prepared; return what its sweeper is told.

    Raises:
        InputError: as `launch`.
    """
    hydra, options = HydraConfig.get(), to_sweep_config(composed)
    ledger = Ledger(Path(hydra.sweep.dir))
    path = Path(hydra.runtime.output_dir)
    job = SweepJob(hydra.job.num, tuple(hydra.overrides.task), to_config(composed), path)
    stopped = options.on_failure == "stop" and any(entry.state == FAILED for entry in ledger.entries())
    if not stopped:
        show(event for _, event in execute([job], ledger, options, lambda job: None))
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
