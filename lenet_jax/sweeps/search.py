"""Pruning: jobs of a sweep are stopped early, based on the evaluations of all jobs; see `halving` for one that does."""

import math
from collections.abc import Container, Sequence
from typing import Protocol, runtime_checkable

from lenet_jax.runs import Evaluated, Event, Failed, Finished, Monitor, Started
from lenet_jax.runs.run_directory import read_record
from lenet_jax.sweeps.groups import SweepJob
from lenet_jax.sweeps.ledger import DONE, ENDED, Entry, Ledger


@runtime_checkable
class Pruner(Protocol):
    """Receives the evaluations of running jobs, and decides which jobs to stop."""

    @property
    def pruned(self) -> Container[int]:
        """Return the numbers of the jobs to stop."""
        ...

    def observe(self, number: int, epoch: float, error: float) -> None:
        """Record an evaluation of a job: its epoch, and what is to be small, as `Monitor.error`."""

    def finish(self, number: int, *, diverged: bool) -> None:
        """Record that a job has finished; `diverged` is true as well for a job that has failed."""


def report(pruner: Pruner, number: int, event: Event, monitor: Monitor) -> None:
    """Report an event of a job to a pruner.

    Args:
        pruner: the pruner.
        number: number of the job.
        event: the event.
        monitor: of the job.
    """
    match event:
        case Started():
            for line in event.previous_evaluations:
                pruner.observe(number, line["epoch"], monitor.error(line))
        case Evaluated():
            pruner.observe(number, event.record["epoch"], monitor.error(event.record))
        case Finished():
            pruner.finish(number, diverged=event.result["stopped_by"] == "diverged")
        case Failed():
            pruner.finish(number, diverged=True)


def replay(pruner: Pruner, jobs: Sequence[SweepJob], ledger: Ledger) -> None:
    """Report the recorded evaluations of the finished jobs to a pruner, when a sweep is resumed.

    Args:
        pruner: the pruner.
        jobs: the jobs of the sweep.
        ledger: the ledger of the sweep.
    """
    for job in jobs:
        entry = ledger.entry(job.number)
        if entry is not None and entry.state in ENDED:
            monitor = Monitor.of(entry.result or {})
            for line in read_record(job.path).metrics if entry.state == DONE else ():
                pruner.observe(job.number, line["epoch"], monitor.error(line))
            pruner.finish(job.number, diverged=entry.state != DONE)


def to_objective(entry: Entry | None) -> float:
    """Return the value that a sweeper minimizes: the job's validation error, or infinity if it has no result.

    Args:
        entry: the job in the ledger; None: it is not there.
    """
    if entry is None or entry.state != DONE or entry.result is None:
        return math.inf
    return Monitor.of(entry.result).error(entry.result)
