"""Pruning: jobs of a sweep are stopped early, based on the evaluations of all jobs."""

import math
from collections.abc import Container, Iterable, Sequence
from typing import Protocol, runtime_checkable

from lenet_jax.config import to_dict
from lenet_jax.errors import InputError
from lenet_jax.runs import Evaluated, Event, Failed, Finished, Monitor, Started
from lenet_jax.runs.run_directory import read_record
from lenet_jax.sweeps.configurations import group_by_configuration
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


def configurations(jobs: Sequence[SweepJob]) -> list[list[int]]:
    """Return the numbers of the jobs of each configuration: those that differ in their seeds only."""
    groups = group_by_configuration([to_dict(job.config) for job in jobs])
    return [[jobs[index].number for index in group] for group in groups]


class Halving:
    """Successive halving: all jobs start, and at each rung only the best fraction of configurations continues.

    Jobs that differ in their seeds only are one configuration: they are judged by the mean of their errors, and
    continue or stop together. The decisions do not depend on the order in which evaluations are reported.

    Sources: Karnin, Koren, Somekh, "Almost Optimal Exploration in Multi-Armed Bandits", ICML 2013; Jamieson, Talwalkar,
    "Non-stochastic Best Arm Identification and Hyperparameter Optimization", AISTATS 2016.
    """

    def __init__(
        self, configurations: Iterable[Sequence[int]], *, max_epochs: int, min_epochs: int = 1, reduction: int = 3
    ) -> None:
        """Start with all configurations as contenders.

        Args:
            configurations: the numbers of the jobs of each.
            max_epochs: length of a job that is never pruned.
            min_epochs: epochs of the first rung, 1 or above; each further rung has `reduction` times as many.
            reduction: of n configurations at a rung, n / reduction continue, rounded up; 2 or above.

        Raises:
            InputError: if `min_epochs` is below 1 or `reduction` below 2.
        """
        if min_epochs < 1:
            raise InputError(f"`hydra.sweeper.min_epochs` must be an integer, 1 or above; got {min_epochs}.")
        if reduction < 2:
            raise InputError(f"`hydra.sweeper.reduction` must be an integer, 2 or above; got {reduction}.")
        self.pruned: set[int] = set()
        self._reduction = reduction
        self._rungs = []
        while min_epochs < max_epochs:
            self._rungs.append(min_epochs)
            min_epochs *= reduction
        self._contenders = [tuple(numbers) for numbers in configurations]
        self._curves: dict[int, list[tuple[float, float]]] = {
            number: [] for numbers in self._contenders for number in numbers
        }
        self._finished: set[int] = set()

    def observe(self, number: int, epoch: float, error: float) -> None:
        """Record an evaluation of a job: its epoch, and what is to be small, as `Monitor.error`."""
        self._curves[number].append((epoch, error))
        self._decide()

    def finish(self, number: int, *, diverged: bool) -> None:
        """Record that a job has finished; `diverged` is true as well for a job that has failed."""
        self._finished.add(number)
        if diverged:
            self._curves[number] = []
        self._decide()

    def _decide(self) -> None:
        while self._rungs:
            errors: dict[tuple[int, ...], float] = {}
            for numbers in self._contenders:
                values = [self._value(number, self._rungs[0]) for number in numbers]
                known = [value for value in values if value is not None]
                if len(known) < len(values):
                    return
                errors[numbers] = math.fsum(known) / len(known)
            best_first = sorted(errors, key=lambda numbers: (errors[numbers], numbers))
            self._contenders = best_first[: math.ceil(len(best_first) / self._reduction)]
            self.pruned |= {number for numbers in best_first[len(self._contenders) :] for number in numbers}
            self._rungs.pop(0)

    def _value(self, number: int, rung: float) -> float | None:
        """Return the error of a job at a rung; None if the job has not reached the rung."""
        curve = self._curves[number]
        at_rung = next((error for epoch, error in curve if epoch >= rung), None)
        if at_rung is None and number in self._finished:
            return curve[-1][1] if curve else math.inf
        return at_rung
