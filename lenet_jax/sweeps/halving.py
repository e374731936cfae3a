"""Successive halving, its asynchronous form and Hyperband: of the configurations that reach a rung, the best continue.

A configuration is a set of jobs that differ in seed and fold only: it is judged by the mean of their errors, and they
continue or stop together. The decisions follow from the recorded evaluations, whatever their order, so that an
interrupted sweep decides as an uninterrupted one.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from lenet_jax.errors import InputError

Configuration = tuple[int, ...]  # the numbers of its jobs


@dataclass
class _Bracket:
    """Configurations that are compared with each other."""

    rungs: list[float]  # epochs
    queues: list[list[Configuration]]  # those that reach each rung, in their order, and those that reach the end
    errors: list[list[float]] = field(default_factory=list)  # of those that are judged, at each rung


class Halving:
    """Decides which jobs stop at a rung.

    Successive halving judges the configurations of a rung when all of them have reached it, so that all must run in
    parallel; the best of n continue, n / reduction of them, rounded up.

    Asynchronously, a configuration is judged as soon as it and all that come before it are at the rung or stopped: it
    continues if it is among the best n / reduction of these n, rounded down, or the best. So the jobs need not run in
    parallel nor share a program, and the first ones continue more easily than the last ones. In the paper a
    configuration waits at a rung until it is among the best; here it stops for good if it is not.

    Hyperband divides the configurations among brackets. The first rung of a bracket is the second one of the bracket
    before, and the last bracket has none. Their sizes are in the proportion of the paper, so that all have about the
    same number of epochs; of n configurations n / reduction continue, rounded down, but at least one.

    Sources: Karnin, Koren, Somekh, "Almost Optimal Exploration in Multi-Armed Bandits", ICML 2013; Jamieson, Talwalkar,
    "Non-stochastic Best Arm Identification and Hyperparameter Optimization", AISTATS 2016; Li, Jamieson, DeSalvo,
    Rostamizadeh, Talwalkar, "Hyperband", JMLR 2018, algorithm 1; Li, Jamieson, Rostamizadeh, Gonina, Ben-tzur, Hardt,
    Recht, Talwalkar, "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020, algorithm 2.
    """

    def __init__(
        self,
        configurations: Iterable[Sequence[int]],
        *,
        max_epochs: int,
        min_epochs: int = 1,
        reduction: int = 3,
        brackets: int | None = 1,
        asynchronous: bool = False,
    ) -> None:
        """Start with all configurations at the first rung of their bracket.

        Args:
            configurations: the numbers of the jobs of each, in the order in which they start.
            max_epochs: length of a job that is never pruned.
            min_epochs: epochs of the first rung, 1 or above; each further rung has `reduction` times as many.
            reduction: 2 or above.
            brackets: 1 for successive halving; None for as many as there are rungs, and one without a rung.
            asynchronous: whether a configuration is judged without waiting for those that come after it.

        Raises:
            InputError: if `min_epochs` is below 1, `reduction` below 2, or there are too many brackets.
        """
        if min_epochs < 1:
            raise InputError(f"`hydra.sweeper.min_epochs` must be an integer, 1 or above; got {min_epochs}.")
        if reduction < 2:
            raise InputError(f"`hydra.sweeper.reduction` must be an integer, 2 or above; got {reduction}.")
        rungs = []
        while min_epochs < max_epochs:
            rungs.append(min_epochs)
            min_epochs *= reduction
        found = [tuple(numbers) for numbers in configurations]
        count = len(rungs) + 1 if brackets is None else brackets
        if not 1 <= count <= len(rungs) + 1:
            raise InputError(
                f"`hydra.sweeper.brackets` must be 1 to {len(rungs) + 1}, as the rungs are at {rungs} of {max_epochs} "
                f"epochs; got {count}."
            )
        if count > 1 and count > len(found):
            raise InputError(
                f"`hydra.sweeper.brackets` must be at most the number of configurations, {len(found)}; got {count}."
            )
        self.is_asynchronous = asynchronous
        self._reduction, self._rounds_up = reduction, brackets == 1
        shares = [reduction**left / (left + 1) for left in range(len(rungs), len(rungs) - count, -1)]
        self._brackets = [
            _Bracket(rungs[first:], [members, *([] for _ in rungs[first:])], [[] for _ in rungs[first:]])
            for first, members in enumerate(_deal(found, shares))
        ]
        self._curves: dict[int, list[tuple[float, float]]] = {number: [] for numbers in found for number in numbers}
        self._finished: set[int] = set()
        self.pruned: set[int] = set()

    @property
    def sizes(self) -> list[int]:
        """Return the number of configurations in each bracket."""
        return [len(bracket.queues[0]) for bracket in self._brackets]

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
        judge = self._judge_each if self.is_asynchronous else self._judge_all
        for bracket in self._brackets:
            for index in range(len(bracket.rungs)):
                judge(bracket, index)

    def _judge_each(self, bracket: _Bracket, index: int) -> None:
        """Judge the configurations at a rung in their order, as far as they have reached it."""
        errors, here = bracket.errors[index], bracket.queues[index]
        for numbers in here[len(errors) :]:
            error = self._mean(numbers, bracket.rungs[index])
            if error is None:
                return
            better = sum(other <= error for other in errors)
            errors.append(error)
            if better < max(1, len(errors) // self._reduction):
                bracket.queues[index + 1].append(numbers)
            else:
                self.pruned |= {*numbers}

    def _judge_all(self, bracket: _Bracket, index: int) -> None:
        """Judge the configurations at a rung once all of them have reached it."""
        here = bracket.queues[index]
        if not here or bracket.errors[index]:
            return
        errors = {}
        for numbers in here:
            error = self._mean(numbers, bracket.rungs[index])
            if error is None:
                return
            errors[numbers] = error
        bracket.errors[index] = list(errors.values())
        best_first = sorted(here, key=lambda numbers: (errors[numbers], numbers))
        kept = -(-len(here) // self._reduction) if self._rounds_up else max(1, len(here) // self._reduction)
        bracket.queues[index + 1] = best_first[:kept]
        self.pruned |= {number for numbers in best_first[kept:] for number in numbers}

    def _mean(self, numbers: Configuration, rung: float) -> float | None:
        """Return the error of a configuration at a rung; None if not all of its jobs have reached the rung."""
        values = [self._value(number, rung) for number in numbers]
        known = [value for value in values if value is not None]
        return math.fsum(known) / len(known) if len(known) == len(values) else None

    def _value(self, number: int, rung: float) -> float | None:
        """Return the error of a job at a rung; None if the job has not reached the rung."""
        curve = self._curves[number]
        at_rung = next((error for epoch, error in curve if epoch >= rung), None)
        if at_rung is None and number in self._finished:
            return curve[-1][1] if curve else math.inf
        return at_rung


def _deal(configurations: Sequence[Configuration], shares: Sequence[float]) -> list[list[Configuration]]:
    """Divide configurations in proportion to shares, by largest remainders, but at least one each.

    Each part is spread evenly over their order, which in a grid is no random one.
    """
    total, whole = len(configurations), math.fsum(shares)
    exact = [max(1.0, total * share / whole) for share in shares]
    sizes = [math.floor(each) for each in exact]
    by_remainder = sorted(range(len(shares)), key=lambda part: (sizes[part] - exact[part], part))
    for part in by_remainder[: max(0, total - sum(sizes))]:
        sizes[part] += 1
    while sum(sizes) > total:  # where some have more than their share
        sizes[sizes.index(max(sizes))] -= 1
    parts: list[list[Configuration]] = [[] for _ in shares]
    for done, configuration in enumerate(configurations, start=1):
        behind = [done * size / total - len(part) for size, part in zip(sizes, parts, strict=True)]
        parts[behind.index(max(behind))].append(configuration)
    return parts
