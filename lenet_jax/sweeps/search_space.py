"""Search spaces: the overrides of a sweep, the keys of them that vary, and the configurations of a grid or at random.

The words are Hydra's: a key is swept over a list or over an interval. Keys that go together, such as a learning rate
with its batch size, are one axis.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from lenet_jax.errors import InputError
from lenet_jax.sweeps.replicates import is_replicate

METHODS = ("random", "sobol", "halton")
_MOST_POINTS = 2**20  # that are drawn in search of distinct configurations


class Interval(NamedTuple):
    """Numbers from `low` to `high`, both included, uniform or, if `log`, with a uniform logarithm."""

    low: float
    high: float
    log: bool = False
    is_integer: bool = False

    def at(self, place: float) -> tuple[str]:
        """Return the number at a place, 0 to 1, of the interval; a float has six significant digits."""
        low, high = (self.low - 0.5, self.high + 0.5) if self.is_integer else (self.low, self.high)
        value = math.exp(math.log(low) + place * math.log(high / low)) if self.log else low + place * (high - low)
        value = math.floor(value + 0.5) if self.is_integer else float(f"{value:.6g}")
        return (str(min(max(value, self.low), self.high)),)

    def __str__(self) -> str:
        """Return it in Hydra's words."""
        text = f"interval({self.low:g},{self.high:g})"
        text = f"int({text})" if self.is_integer else text
        return f"tag(log,{text})" if self.log else text

    @property
    def size(self) -> float:
        """Return the number of values; infinity of floats."""
        return self.high - self.low + 1 if self.is_integer else math.inf


class Choice(NamedTuple):
    """A list of values, as the texts of overrides; each has one for every key of its axis."""

    values: tuple[tuple[str, ...], ...]

    def at(self, place: float) -> tuple[str, ...]:
        """Return the value at a place, 0 to 1, of the list."""
        return self.values[min(int(place * len(self.values)), len(self.values) - 1)]

    @property
    def size(self) -> int:
        """Return the number of values."""
        return len(self.values)


class Axis(NamedTuple):
    """A key that varies, or several that go together."""

    keys: tuple[str, ...]
    places: tuple[int, ...]  # of their overrides in those of the space
    domain: Interval | Choice

    @property
    def repeats(self) -> bool:
        """Return whether the values repeat a configuration: a list of seeds, or of folds."""
        return isinstance(self.domain, Choice) and all(map(is_replicate, self.keys))


class SearchSpace(NamedTuple):
    """The overrides of a sweep; in the place of one that varies there is its key."""

    overrides: tuple[str, ...]
    axes: tuple[Axis, ...]

    def job(self, values: Sequence[tuple[str, ...]]) -> list[str]:
        """Return the overrides of a job.

        Args:
            values: one for each axis.
        """
        overrides = list(self.overrides)
        for axis, texts in zip(self.axes, values, strict=True):
            for place, key, text in zip(axis.places, axis.keys, texts, strict=True):
                overrides[place] = f"{key}={text}"
        return overrides

    def crossed(self, drawn: Sequence[tuple[str, ...]]) -> list[list[str]]:
        """Return the jobs of a configuration: its own values, with each combination of seeds and folds.

        Args:
            drawn: a value for each axis that is searched.
        """
        values = iter(drawn)
        searched = self.searched
        choices = [(next(values),) if axis in searched else _listed(axis) for axis in self.axes]
        return [self.job(each) for each in itertools.product(*choices)]

    @property
    def num_crossed(self) -> int:
        """Return the number of jobs of a configuration."""
        searched = self.searched
        return math.prod(len(_listed(axis)) for axis in self.axes if axis not in searched)

    @property
    def searched(self) -> list[Axis]:
        """Return the axes from which values are chosen: all but lists of seeds and folds, unless nothing else varies.

        With each of these every configuration runs.
        """
        return [axis for axis in self.axes if not axis.repeats] or list(self.axes)


def grid(space: SearchSpace) -> list[list[str]]:
    """Return the jobs of a grid; the last axis changes first, as in Hydra.

    Raises:
        InputError: if an axis is an interval, or a list is empty.
    """
    for axis in space.axes:
        if isinstance(axis.domain, Interval):
            raise InputError(
                f"`{axis.keys[0]}` must be swept over a list or a range in a grid; got {axis.domain}; to draw from it, "
                "use hydra/sweeper=random, or give halving, asha or hyperband a number, hydra.sweeper.num_trials=16."
            )
    jobs = [space.job(values) for values in itertools.product(*map(_listed, space.axes))]
    if not jobs:
        raise InputError(f"the sweep must have a job; {' '.join(space.overrides)} has none.")
    return jobs


def _listed(axis: Axis) -> tuple[tuple[str, ...], ...]:
    """Return the values of an axis; none of an interval."""
    return axis.domain.values if isinstance(axis.domain, Choice) else ()


def draw(space: SearchSpace, *, num_trials: int, method: str, seed: int) -> list[list[str]]:
    """Return the jobs of distinct configurations at random or of a sequence of low discrepancy.

    More trials begin with those of fewer. Lists of seeds and of folds are not drawn from if anything else varies: each
    configuration runs with all of them.

    Args:
        space: the search space.
        num_trials: number of configurations.
        method: "random", "sobol" or "halton"; the last two are scrambled.
        seed: of the numbers.

    Raises:
        InputError: if there is nothing to draw from, or there are fewer configurations.

    Sources: Bergstra and Bengio, "Random Search for Hyper-Parameter Optimization", JMLR 2012; Sobol, "On the
    distribution of points in a cube", 1967; Halton, "On the efficiency of certain quasi-random sequences of points",
    Numerische Mathematik 1960; Owen's scrambling, as in `scipy.stats.qmc`.
    """
    domains = [axis.domain for axis in space.searched]
    if not domains:
        raise InputError("`hydra/sweeper` must have a key to draw, as KEY=interval(a,b); got none.")
    size = math.prod(domain.size for domain in domains)
    if num_trials > size:
        raise InputError(
            f"`hydra.sweeper.num_trials` must be at most {size:.0f}, the number of different configurations; "
            f"got {num_trials}; hydra/sweeper=grid runs all of lists."
        )
    found: dict[tuple[tuple[str, ...], ...], None] = {}
    for point in _points(len(domains), num_trials, method, seed):
        found[tuple(domain.at(float(place)) for domain, place in zip(domains, point, strict=True))] = None
        if len(found) == num_trials:
            return [job for values in found for job in space.crossed(values)]
    raise InputError(
        f"`hydra.sweeper.num_trials` must be at most {len(found)}, the different configurations among the first "
        f"{_MOST_POINTS} that are drawn; got {num_trials}."
    )


def _points(dimensions: int, at_first: int, method: str, seed: int) -> Iterator[np.ndarray]:
    """Yield points of the unit cube."""
    if method == "random":
        rng = np.random.default_rng(seed)
        yield from (rng.random(dimensions) for _ in range(_MOST_POINTS))
        return
    from scipy.stats import qmc

    engine = {"sobol": qmc.Sobol, "halton": qmc.Halton}[method](dimensions, scramble=True, seed=seed)
    done = 0
    while done < _MOST_POINTS:  # Sobol's points are balanced if their number is a power of two
        number = max(done, 2 ** math.ceil(math.log2(at_first)))
        yield from engine.random(number)
        done += number
