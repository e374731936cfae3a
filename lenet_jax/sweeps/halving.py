"""Successive halving: all jobs begin, and at each rung only the best share goes on.

Karnin, Koren, Somekh, "Almost Optimal Exploration in Multi-Armed Bandits", ICML 2013; Jamieson, Talwalkar,
"Non-stochastic Best Arm Identification and Hyperparameter Optimization", AISTATS 2016.
"""

import math
from collections.abc import Iterable

from lenet_jax.errors import InputError

_WORST = -1.0  # of a job that has diverged


class Halving:
    """Decides which jobs go on; the order in which it learns of them does not matter."""

    def __init__(self, numbers: Iterable[int], *, max_epochs: int, min_epochs: int = 1, reduction: int = 3) -> None:
        """Begin with all jobs.

        Args:
            numbers: of the jobs.
            max_epochs: of a job that is never pruned.
            min_epochs: the first rung; the others are `reduction` times as high as the one before.
            reduction: of n jobs at a rung, n / reduction go on, rounded up.

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
        self._contenders = list(numbers)
        self._curves: dict[int, list[tuple[float, float]]] = {number: [] for number in self._contenders}
        self._ended: set[int] = set()

    def observe(self, number: int, epoch: float, accuracy: float) -> None:
        """Learn of an evaluation of a job."""
        self._curves[number].append((epoch, accuracy))
        self._decide()

    def end(self, number: int, *, diverged: bool) -> None:
        """Learn that a job has ended, for whatever reason."""
        self._ended.add(number)
        if diverged:
            self._curves[number] = []
        self._decide()

    def _decide(self) -> None:
        while self._rungs:
            values = {number: self._value(number, self._rungs[0]) for number in self._contenders}
            if any(value is None for value in values.values()):
                return
            best_first = sorted(values, key=lambda number: (-(values[number] or 0.0), number))
            self._contenders = best_first[: math.ceil(len(best_first) / self._reduction)]
            self.pruned |= set(best_first) - set(self._contenders)
            self._rungs.pop(0)

    def _value(self, number: int, rung: float) -> float | None:
        """Return the accuracy of a job at a rung; None if it is still to come."""
        curve = self._curves[number]
        at_rung = next((accuracy for epoch, accuracy in curve if epoch >= rung), None)
        if at_rung is None and number in self._ended:
            return curve[-1][1] if curve else _WORST
        return at_rung
