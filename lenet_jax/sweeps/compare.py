"""Comparison of runs: differences of their test metrics with intervals, and what differs in their configurations."""

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
from lenet_jax.sweeps.configurations import complete_recorded, group_by_configuration
from lenet_jax.sweeps.ledger import IDENTITY, Entry, Ledger
from lenet_jax.sweeps.replicates import (
    REPLICATES,
    replicate_in_words,
    replicate_of,
    replicates_in_words,
    without_replicate,
)
from lenet_jax.sweeps.statistics import is_complete, is_pruned

ABSENT: Any = type("Absent", (), {"__repr__": lambda self: "absent"})()
"""The value of a key that a configuration does not have."""


class Run(NamedTuple):
    """A run, or a job of a sweep."""

    directory: Path
    config: dict[str, Any]  # complete, as `complete_recorded` returns it
    result: dict[str, Any]
    job: int | None = None  # its number; None: a single run
    flaw: str = ""  # why it cannot be compared with others, as "diverged"; "": it can

    @property
    def name(self) -> str:
        """Return what it is called in a message."""
        return str(self.directory) if self.job is None else f"job {self.job} of {self.directory.parent}"

    @property
    def replicate(self) -> tuple[Any, Any]:
        """Return seed and fold."""
        return replicate_of(self.config)

    @property
    def test_metric(self) -> float | None:
        """Return the test metric; None if it is not finite."""
        value = self.result.get(f"test_{Monitor.of(self.result).metric}")
        return value if value is not None and math.isfinite(value) else None


class Side(NamedTuple):
    """Runs of one configuration, usually with several seeds or folds."""

    name: str  # of the directory they come from
    runs: list[Run]  # one a seed and fold
    left_out: Sequence[Run] = ()  # those with a flaw

    @property
    def monitor(self) -> Monitor:
        """Return the metric by which the runs are judged."""
        return Monitor.of(self.runs[0].result)

    @property
    def values(self) -> dict[tuple[Any, Any], float]:
        """Return the test metric of each seed and fold that has a finite one."""
        return {run.replicate: run.test_metric for run in self.runs if run.test_metric is not None}

    @property
    def replicates(self) -> str:
        """Return by what the runs differ: "seeds", "folds" or "seeds and folds"."""
        found = [run.replicate for run in (*self.runs, *self.left_out)]
        varied = {key: len(set(each)) > 1 for key, each in zip(REPLICATES, zip(*found, strict=True), strict=True)}
        return replicates_in_words(key for key, varies in varied.items() if varies)


class Comparison(NamedTuple):
    """The difference between two sides."""

    one: Side
    other: Side
    difference: float  # of the means of the test metric, other minus one
    interval: tuple[float, float] | None  # 95 %; None: too few runs, or all are alike
    method: str  # how it was computed, in words
    changed: list[tuple[str, Any, Any]]  # key, value of one and of the other, `ABSENT` where it has no such key
    unpaired: Sequence[str] = ()  # seeds that have no pair, and why, in words


class McNemar(NamedTuple):
    """Two classifiers on the same images."""

    examples: int
    only_one: int  # images that the first classifies rightly and the second does not
    only_other: int
    p: float  # of McNemar's exact test, two-sided
    interval: tuple[float, float]  # 95 %, of the difference of the accuracies, other minus one


def read_sides(directories: Sequence[Path]) -> tuple[list[Side], list[Run]]:
    """Read finished runs and sweeps, and put together what differs in seed and fold only.

    The configurations of a sweep are sides of their own. Single runs of one configuration are one side, unless no other
    side would be left to compare them with.

    Returns:
        The sides, and all runs that are left out of them; a single run with a flaw is a side if no other has its
        configuration.

    Raises:
        InputError: if a directory holds no finished run, or fewer than two sides are found.
    """
    sides: dict[int, list[Side]] = {}  # by the place of their directory
    runs: dict[int, Run] = {}  # the single ones
    for place, directory in enumerate(directories):
        if (directory / IDENTITY).is_file():
            sides[place] = _sides_of_sweep(directory)
        else:
            runs[place] = _read_run(directory)
    places, configs = list(runs), [run.config for run in runs.values()]
    groups = [[places[index] for index in group] for group in group_by_configuration(configs)]
    if len(groups) + sum(bool(side.runs) for found in sides.values() for side in found) < 2:
        groups = [[place] for place in places]
    for group in groups:
        sides[group[0]] = [_side_of_runs([runs[place] for place in group])]
    every = [side for place in sorted(sides) for side in sides[place]]
    found = [side for side in every if side.runs]
    if len(found) < 2:
        raise InputError(
            f"compare: there must be two configurations or runs to compare; got {len(found)}; name more directories."
        )
    monitors = dict.fromkeys(side.monitor for side in found)
    if len(monitors) > 1:
        names = ", ".join(f"{monitor.metric} ({monitor.mode})" for monitor in monitors)
        raise InputError(f"compare: all runs must be judged by one metric; got {names}.")
    return found, [run for side in every for run in side.left_out]


def _side_of_runs(runs: Sequence[Run]) -> Side:
    side = _to_side(str(runs[0].directory), runs)
    return side if side.runs else side._replace(runs=[*side.left_out[:1]], left_out=side.left_out[1:])


def _to_side(name: str, runs: Iterable[Run]) -> Side:
    """Return the side of the runs of one configuration; of those with the same seed and fold the first one counts."""
    kept: dict[tuple[Any, Any], Run] = {}
    left_out = []
    for run in runs:
        if run.flaw or run.replicate in kept:
            left_out.append(run._replace(flaw=run.flaw or "repeated"))
        else:
            kept[run.replicate] = run
    return Side(name, [*kept.values()], left_out)


def _sides_of_sweep(directory: Path) -> list[Side]:
    """Return a side for each configuration of a sweep, without runs if none of its jobs is complete."""
    ledger = Ledger(directory)
    runs = [_read_job(ledger, entry) for entry in ledger.known_entries()]
    if all(run.flaw for run in runs):
        raise InputError(f"compare: {directory} must have finished jobs; it has none; lenet-jax resume {directory}.")
    groups = [[runs[index] for index in group] for group in group_by_configuration([run.config for run in runs])]
    names = _names([without_replicate(group[0].config) for group in groups])
    return [_to_side(" ".join([str(directory), *name]), group) for name, group in zip(names, groups, strict=True)]


def _read_job(ledger: Ledger, entry: Entry) -> Run:
    config = complete_recorded(entry.config)
    run = Run(ledger.run_directory(entry), config, entry.result or {}, entry.number)
    if not is_complete(entry):
        return run._replace(flaw="pruned" if is_pruned(entry) else entry.state)
    return run if run.test_metric is not None else run._replace(flaw="without a finite test metric")


def _names(configs: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Return a name for each configuration of a sweep: the values by which they differ, as KEY=VALUE."""
    keys = dict.fromkeys(key for config in configs for key, _, _ in differences(configs[0], config, absent=ABSENT))
    values = [{key: _at(config, key) for key in keys} for config in configs]
    return [[f"{key}={value}" for key, value in each.items() if value is not ABSENT] for each in values]


def _at(config: Any, key: str) -> Any:
    for name in key.split("."):
        config = config.get(name, ABSENT) if isinstance(config, Mapping) else ABSENT
    return config


def _read_run(directory: Path) -> Run:
    record = read_record(directory)
    if record.result is None:
        raise InputError(f"compare: {directory} must hold a finished run; lenet-jax resume {directory}.")
    check_log(record)
    stopped_by = record.result["stopped_by"]
    flaw = stopped_by if stopped_by in ("diverged", "pruned") else ""
    return Run(directory, complete_recorded(to_dict(record.config)), record.result, flaw=flaw)


def compare(one: Side, other: Side) -> Comparison:
    """Compare two sides: paired over the seeds and folds that both have, if there are two or more; else by their means.

    Sources: Student's t of the differences; Welch, "The generalization of Student's problem when several different
    population variances are involved", Biometrika 1947, with Satterthwaite's degrees of freedom.
    """
    old, new = one.runs[0].config, other.runs[0].config
    if len(one.runs) > 1 or len(other.runs) > 1:
        old, new = without_replicate(old), without_replicate(new)
    changed, unpaired = list(differences(old, new, absent=ABSENT)), _unpaired(one, other)
    first, second = one.values, other.values
    if not first or not second:
        raise InputError(f"compare: {(one if not first else other).name} must have a finite test metric; it has none.")
    shared = [replicate for replicate in first if replicate in second]
    if len(shared) > 1:
        pairs = [second[replicate] - first[replicate] for replicate in shared]
        difference = statistics.fmean(pairs)
        margin = _t(len(pairs) - 1) * statistics.stdev(pairs) / math.sqrt(len(pairs))
        method = f"paired over {len(pairs)} {one.replicates}, Student's t"
    else:
        a, b = [*first.values()], [*second.values()]
        difference = statistics.fmean(b) - statistics.fmean(a)
        if len(a) < 2 or len(b) < 2:
            method = f"{len(a)} and {len(b)} runs: too few for an interval over {one.replicates}"
            return Comparison(one, other, difference, None, method, changed, unpaired)
        u, v = statistics.variance(a) / len(a), statistics.variance(b) / len(b)
        freedom = (u + v) ** 2 / (u**2 / (len(a) - 1) + v**2 / (len(b) - 1)) if u + v else len(a) + len(b) - 2
        margin = _t(freedom) * math.sqrt(u + v)
        method = f"{len(a)} and {len(b)} runs that share no two {one.replicates}, Welch's t"
    if margin < 1e-12:  # differences of equal floats may be rounded otherwise
        method = f"{method}: equal values tell nothing of an interval"
        return Comparison(one, other, difference, None, method, changed, unpaired)
    interval = difference - margin, difference + margin
    if one.monitor.metric in FRACTIONS:
        interval = max(interval[0], -1.0), min(interval[1], 1.0)
    return Comparison(one, other, difference, interval, method, changed, unpaired)


def _unpaired(one: Side, other: Side) -> list[str]:
    """Return the seeds and folds of one side that the other lacks, in words.

    They are named if the sides are paired, or if the other side has such a run with a flaw.
    """
    found = []
    is_paired = len(one.values.keys() & other.values.keys()) > 1
    for side, opposite in ((one, other), (other, one)):
        flaws = {run.replicate: f"{run.name}: {run.flaw}" for run in opposite.left_out}
        for each in (each for each in side.values if each not in opposite.values):
            if is_paired or each in flaws:
                why = flaws.get(each, f"{opposite.name} has none")
                found.append(f"{replicate_in_words(each)} of {side.name} ({why})")
    return found


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
