"""Comparison of runs: differences of their test metrics with intervals, and what differs in their configurations."""

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import special

from lenet_jax.config import to_dict
from lenet_jax.errors import InputError
from lenet_jax.runs import FRACTIONS, Monitor
from lenet_jax.runs.provenance import differences
from lenet_jax.runs.run_directory import check_log, read_record
from lenet_jax.sweeps.ledger import IDENTITY, Ledger
from lenet_jax.sweeps.replicates import configuration_of, is_replicate, replicates_in_words
from lenet_jax.sweeps.statistics import is_complete


class Run(NamedTuple):
    """A finished run."""

    directory: Path
    config: dict[str, Any]
    result: dict[str, Any]


class Side(NamedTuple):
    """Finished runs of one configuration, usually with several seeds or folds."""

    name: str  # of the directory they come from
    runs: list[Run]

    @property
    def monitor(self) -> Monitor:
        """Return the metric by which the runs are judged."""
        return Monitor.of(self.runs[0].result)

    @property
    def values(self) -> list[tuple[tuple[int, int | None], float]]:
        """Return seed and fold, and the test metric, of each run that has one."""
        key = f"test_{self.monitor.metric}"
        found = (
            ((run.config.get("seed", 0), run.config.get("data", {}).get("fold")), run.result.get(key))
            for run in self.runs
        )
        return [(replicate, value) for replicate, value in found if value is not None]

    @property
    def replicates(self) -> str:
        """Return by what the runs differ: "seeds", "folds" or "seeds and folds"."""
        seeds, folds = (set(each) for each in zip(*(replicate for replicate, _ in self.values), strict=True))
        varied = {"seed": seeds, "data.fold": folds}
        return replicates_in_words(key for key, found in varied.items() if len(found) > 1)


class Comparison(NamedTuple):
    """The difference between two sides."""

    one: Side
    other: Side
    difference: float  # of the means of the test metric, other minus one
    interval: tuple[float, float] | None  # 95 %; None: too few runs
    method: str  # how it was computed, in words
    changed: list[tuple[str, Any, Any]]  # key, value of one and of the other


class McNemar(NamedTuple):
    """Two classifiers on the same images."""

    examples: int
    only_one: int  # images that the first classifies rightly and the second does not
    only_other: int
    p: float  # of McNemar's exact test, two-sided
    interval: tuple[float, float]  # 95 %, of the difference of the accuracies, other minus one


def read_sides(directories: Sequence[Path]) -> list[Side]:
    """Read finished runs and sweeps, and put together what differs in seed and fold only.

    The configurations of a sweep are sides of their own. Single runs of one configuration are one side, unless no other
    side would be left to compare them with.

    Raises:
        InputError: if a directory holds no finished run, or fewer than two sides are found.
    """
    sides, singles = [], []
    for directory in directories:
        if (directory / IDENTITY).is_file():
            sides += _sides_of_sweep(directory)
        else:
            run = _read_run(directory)
            singles.append(Side(str(directory), [run]))
            sides.append(singles[-1])
    merged: dict[str, Side] = {}
    for side in sides:
        key = configuration_of(side.runs[0].config) if side in singles else f"sweep {side.name}"
        merged[key] = merged[key]._replace(runs=[*merged[key].runs, *side.runs]) if key in merged else side
    found = list(merged.values()) if len(merged) > 1 else sides
    if len(found) < 2:
        raise InputError(
            f"compare: there must be two configurations or runs to compare; got {len(found)}; name more directories."
        )
    metrics = dict.fromkeys(side.monitor.metric for side in found)
    if len(metrics) > 1:
        raise InputError(f"compare: all runs must be judged by one metric; got {', '.join(metrics)}.")
    return found


def _sides_of_sweep(directory: Path) -> list[Side]:
    ledger = Ledger(directory)
    groups: dict[str, list[Run]] = {}
    for entry in filter(is_complete, ledger.entries()):
        run = Run(ledger.run_directory(entry), entry.config, entry.result or {})
        groups.setdefault(configuration_of(entry.config), []).append(run)
    if not groups:
        raise InputError(f"compare: {directory} must have finished jobs; it has none; lenet-jax resume {directory}.")
    if len(groups) == 1:
        return [Side(str(directory), runs) for runs in groups.values()]
    first = next(iter(groups.values()))[0].config
    return [Side(_named(directory, runs[0].config, first, groups), runs) for runs in groups.values()]


def _named(directory: Path, config: Mapping[str, Any], first: Mapping[str, Any], groups: Iterable[str]) -> str:
    """Return a name for a configuration of a sweep: the values by which the configurations differ."""
    keys = dict.fromkeys(
        key for group in groups for key, _, _ in differences(json.loads(configuration_of(first)), json.loads(group))
    )
    values = {key: _at(config, key) for key in keys}
    return " ".join([str(directory), *(f"{key}={value}" for key, value in values.items())])


def _at(config: Any, key: str) -> Any:
    for name in key.split("."):
        config = config.get(name) if isinstance(config, Mapping) else None
    return config


def _read_run(directory: Path) -> Run:
    record = read_record(directory)
    if record.result is None:
        raise InputError(f"compare: {directory} must hold a finished run; lenet-jax resume {directory}.")
    check_log(record)
    return Run(directory, to_dict(record.config), record.result)


def compare(one: Side, other: Side) -> Comparison:
    """Compare two sides: paired over the seeds and folds that both have, if there are two or more; else by their means.

    Sources: Student's t of the differences; Welch, "The generalization of Student's problem when several different
    population variances are involved", Biometrika 1947, with Satterthwaite's degrees of freedom.
    """
    changed = list(differences({**one.runs[0].config}, {**other.runs[0].config}))
    if len(one.runs) > 1 or len(other.runs) > 1:
        changed = [each for each in changed if not is_replicate(each[0])]
    first, second = one.values, other.values
    if not first or not second:
        raise InputError(f"compare: {(one if not first else other).name} must have a finite test metric; it has none.")
    found = dict(second)
    pairs = [found[replicate] - value for replicate, value in dict(first).items() if replicate in found]
    if len(pairs) > 1:
        difference = statistics.fmean(pairs)
        margin = _t(len(pairs) - 1) * statistics.stdev(pairs) / math.sqrt(len(pairs))
        method = f"paired over {len(pairs)} {one.replicates}, Student's t"
    else:
        a, b = ([value for _, value in side] for side in (first, second))
        difference = statistics.fmean(b) - statistics.fmean(a)
        if len(a) < 2 or len(b) < 2:
            method = f"{len(a)} and {len(b)} runs: too few for an interval over {one.replicates}"
            return Comparison(one, other, difference, None, method, changed)
        u, v = statistics.variance(a) / len(a), statistics.variance(b) / len(b)
        freedom = (u + v) ** 2 / (u**2 / (len(a) - 1) + v**2 / (len(b) - 1)) if u + v else len(a) + len(b) - 2
        margin = _t(freedom) * math.sqrt(u + v)
        method = f"{len(a)} and {len(b)} runs that share no two {one.replicates}, Welch's t"
    interval = difference - margin, difference + margin
    if one.monitor.metric in FRACTIONS:
        interval = max(interval[0], -1.0), min(interval[1], 1.0)
    return Comparison(one, other, difference, interval, method, changed)


def _t(freedom: float) -> float:
    return float(special.stdtrit(freedom, 0.975))


def mcnemar(labels: np.ndarray, one: np.ndarray, other: np.ndarray) -> McNemar:
    """Return McNemar's test of two classifiers, from their predictions for the same images.

    Args:
        labels: of the images, integers (N,).
        one: predictions of the first classifier (N,).
        other: predictions of the second one (N,).

    Sources: McNemar, "Note on the sampling error of the difference between correlated proportions", Psychometrika 1947,
    exact by the binomial distribution; the interval is that of Agresti and Min, "Simple improved confidence intervals
    for comparing matched proportions", Statistics in Medicine 2005: one half is added to each of the four counts.
    """
    right, also = one == labels, other == labels
    b, c, n = int((right & ~also).sum()), int((~right & also).sum()), len(labels)
    p = min(1.0, 2 * float(special.bdtr(min(b, c), b + c, 0.5))) if b + c else 1.0
    difference = (c - b) / (n + 2)
    variance = ((b + c + 1) / (n + 2) - difference**2) / (n + 2)
    margin = float(special.ndtri(0.975)) * math.sqrt(variance)
    return McNemar(n, b, c, p, (max(difference - margin, -1.0), min(difference + margin, 1.0)))
