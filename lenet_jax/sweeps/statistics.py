"""The summary of a sweep: one row per job, and mean, standard deviation and confidence interval over seeds and folds.

A summary contains no times, so that it is the same for an interrupted and an uninterrupted sweep.
"""

import csv
import io
import math
import re
import shlex
import statistics
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from scipy import special

from lenet_jax.config import RUN_KEYS
from lenet_jax.runs import FRACTIONS, Monitor
from lenet_jax.storage import to_json, write_atomically
from lenet_jax.sweeps.configurations import complete_recorded, group_by_configuration
from lenet_jax.sweeps.ledger import DONE, FAILED, Entry, Ledger
from lenet_jax.sweeps.replicates import is_replicate, replicate_of, replicates_in_words

SCHEMA = 1
_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # some spreadsheets read these as formulas
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|nan)")
_METADATA = ("epochs", "iterations", "best_iteration", "stopped_by", "parameters_sha256")


class Statistics(NamedTuple):
    """Statistics of a measure over several seeds or folds."""

    n: int  # number of runs
    mean: float
    sd: float | None  # standard deviation of a run, with n - 1 degrees of freedom; None if n is 1
    interval: tuple[float, float] | None  # 95 % confidence interval, see `describe_sample`; None: there is none


class SeedAggregate(NamedTuple):
    """Jobs of one configuration, and statistics over its seeds and folds."""

    varied: dict[str, str]  # key -> value of the overrides that differ from those of other aggregates
    jobs: list[int]  # numbers
    num_seeds: int
    counted: list[int]  # numbers of the complete jobs, one a seed: a job that repeats another counts once
    measures: dict[str, Statistics]  # over the counted jobs; empty if there is none
    monitor: Monitor  # of the jobs
    pruned: tuple[float, Statistics] | None = None  # epochs, and the last validation, of the jobs that were pruned

    @property
    def num_measured(self) -> int:
        """Return the number of seeds of which the monitored metric is known."""
        return self.measures[self.monitor.key].n if self.monitor.key in self.measures else 0


class Best(NamedTuple):
    """What is best by a metric on the validation set."""

    group: SeedAggregate  # by its mean; those of which a job failed or is missing come after all others
    job: int  # number of the complete run that is the best, in whatever group


class Summary(NamedTuple):
    """The results of all jobs of a sweep."""

    entries: list[Entry]
    varied: list[dict[str, str]]  # for each job, the overrides that are not common to all jobs
    groups: list[SeedAggregate]
    bests: dict[Monitor, Best]  # by the metric that judges the jobs; without those of which no job is complete

    @property
    def monitors(self) -> list[Monitor]:
        """Return the metrics that judge jobs: one, unless their objectives differ."""
        return list(dict.fromkeys(group.monitor for group in self.groups))

    @property
    def replicates(self) -> str:
        """Return over what the means are: "seeds", "folds" or "seeds and folds"."""
        return replicates_in_words(key for values in self.varied for key in values)

    @property
    def best(self) -> int | None:
        """Return the number of the best run; None if no job is complete, or they cannot be compared by one metric."""
        return next(iter(self.bests.values())).job if len(self.monitors) == 1 and self.bests else None


def summarize_sweep(entries: Sequence[Entry]) -> Summary:
    """Summarize the jobs of a sweep.

    Args:
        entries: the jobs in the ledger.
    """
    overrides = [dict(_split(override) for override in entry.overrides) for entry in entries]
    varying = [key for key in dict.fromkeys(key for job in overrides for key in job) if _varies(key, overrides)]
    varied = [{key: job[key] for key in varying if key in job} for job in overrides]

    monitors, groups = _monitors(entries), []
    for indices in group_by_configuration([complete_recorded(entry.config) for entry in entries]):
        jobs = [entries[index] for index in indices]
        values = {key: value for key, value in varied[indices[0]].items() if not _is_of_run(key)}
        groups.append(_aggregate(values, jobs, monitors[jobs[0].number]))
    bests = {}
    for monitor in dict.fromkeys(group.monitor for group in groups):
        candidates = [group for group in groups if group.monitor == monitor and group.num_measured]
        if candidates:
            numbers = {number for group in candidates for number in group.counted}
            counted = [entry for entry in entries if entry.number in numbers]
            run = min(counted, key=lambda entry: monitor.error(entry.result or {}))
            bests[monitor] = Best(min(candidates, key=_rank), run.number)
    return Summary(list(entries), varied, groups, bests)


def _rank(group: SeedAggregate) -> tuple[bool, float]:
    """Return what is small of a good configuration."""
    key = group.monitor.key
    return group.num_measured < group.num_seeds, group.monitor.error({key: group.measures[key].mean})


def _monitors(entries: Sequence[Entry]) -> dict[int, Monitor]:
    """Return the monitor of each job; of one without a result it is that of a job with the same objective, if any."""
    known = {entry.number: Monitor.of(entry.result) for entry in entries if entry.result}
    first = next(iter(known.values()), Monitor())
    by_objective: dict[str, Monitor] = {}
    for entry in entries:
        if entry.number in known:
            by_objective.setdefault(to_json(entry.config.get("objective")), known[entry.number])
    return {
        entry.number: known.get(entry.number, by_objective.get(to_json(entry.config.get("objective")), first))
        for entry in entries
    }


def _aggregate(varied: dict[str, str], jobs: Sequence[Entry], monitor: Monitor) -> SeedAggregate:
    numbers, counted = [entry.number for entry in jobs], _one_a_seed(filter(is_complete, jobs))
    pruned = None
    found = [entry.result or {} for entry in _one_a_seed(filter(is_pruned, jobs))]
    if last := _finite(map(monitor.last, found)):
        pruned = float(max(result.get("epochs") or 0 for result in found)), describe_sample(last)
    return SeedAggregate(
        varied,
        numbers,
        len(_one_a_seed(jobs)),
        [entry.number for entry in counted],
        _measures([entry.result or {} for entry in counted], monitor),
        monitor,
        pruned,
    )


def _one_a_seed(jobs: Iterable[Entry]) -> list[Entry]:
    """Return the first job of each seed and fold; a sweeper that searches may repeat a job, with the same result."""
    first: dict[Any, Entry] = {}
    for entry in jobs:
        first.setdefault(replicate_of(entry.config), entry)
    return list(first.values())


def _finite(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None and math.isfinite(value)]


def is_complete(entry: Entry) -> bool:
    """Return whether a job has finished without being pruned; the result of a pruned job is not comparable."""
    return entry.state == DONE and entry.result is not None and not is_pruned(entry)


def is_pruned(entry: Entry) -> bool:
    """Return whether a job was stopped by its sweep, because others were better."""
    return entry.state == DONE and entry.result is not None and entry.result.get("stopped_by") == "pruned"


def _split(override: str) -> tuple[str, str]:
    key, _, value = override.partition("=")
    name = key.lstrip("+")  # ++seed=1 sets the seed too
    return (name if _is_of_run(name) else key), value


def _is_of_run(key: str) -> bool:
    """Tell whether jobs of one configuration may differ in the value of a key."""
    return is_replicate(key) or key in RUN_KEYS


def _varies(key: str, overrides: Sequence[dict[str, str]]) -> bool:
    return len({job.get(key) for job in overrides}) > 1


def measure_names(monitor: Monitor) -> tuple[str, ...]:
    """Return the keys of `result.json` that are summed up: the monitored metric of each split, and the test loss."""
    return tuple(dict.fromkeys([monitor.key, f"test_{monitor.metric}", f"train_{monitor.metric}", "test_loss"]))


def _measures(results: Sequence[Mapping[str, Any]], monitor: Monitor) -> dict[str, Statistics]:
    columns = {name: _finite(result.get(name) for result in results) for name in measure_names(monitor)}
    examples = results[0].get("test_examples") if results else None
    return {
        name: describe_sample(
            values,
            is_fraction=name.endswith(f"_{monitor.metric}") and monitor.metric in FRACTIONS,
            examples=examples if name.startswith("test_") else None,
        )
        for name, values in columns.items()
        if values
    }


def describe_sample(values: Sequence[float], *, is_fraction: bool = False, examples: int | None = None) -> Statistics:
    """Return mean, standard deviation and a 95 % confidence interval.

    The interval is of the mean over the values, by Student's t. Of a fraction it is computed for the logit of the mean,
    whose standard error is that of the mean divided by mean * (1 - mean), and so stays within 0 and 1. Of a single run
    it is Wilson's, of the fraction of all images of which the test images are a sample. Several equal values have none:
    they tell nothing of how far another one would lie from them.

    Args:
        values: one or more values.
        is_fraction: whether they are fractions of examples, 0 to 1.
        examples: the number of examples that each is a fraction of; None: it is not known.

    Sources: Wilson, "Probable inference, the law of succession, and statistical inference", JASA 1927, equation of
    page 209; the delta method for the logit.
    """
    n, mean = len(values), statistics.fmean(values)
    if n == 1:
        return Statistics(n, mean, None, wilson_interval(mean, examples) if is_fraction and examples else None)
    sd = statistics.stdev(values)
    if sd == 0 or (is_fraction and not 0 < mean < 1):  # or so near to 0 or 1 that it is rounded to it
        return Statistics(n, mean, sd, None)
    margin = float(special.stdtrit(n - 1, 0.975)) * sd / math.sqrt(n)
    if not is_fraction:
        return Statistics(n, mean, sd, (mean - margin, mean + margin))
    logit, on_logit = special.logit(mean), margin / (mean * (1 - mean))
    return Statistics(n, mean, sd, (float(special.expit(logit - on_logit)), float(special.expit(logit + on_logit))))


def wilson_interval(fraction: float, examples: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval for a fraction, 0 to 1, of a number of examples."""
    z2 = float(special.ndtri(0.975)) ** 2 / examples
    centre = (fraction + z2 / 2) / (1 + z2)
    margin = math.sqrt(z2 * fraction * (1 - fraction) + z2**2 / 4) / (1 + z2)
    return max(centre - margin, 0.0), min(centre + margin, 1.0)


def rerun_command(entry: Entry) -> str:
    """Return the command that repeats a job as a single run."""
    return shlex.join(["lenet-jax", "train", *entry.overrides])


def printable(line: str) -> str:
    """Replace control characters and surrogates in a line by "?", so that it is safe for a terminal and a table."""
    return "".join("?" if unicodedata.category(character) in ("Cc", "Cs") else character for character in line)


def write_summary(ledger: Ledger, summary: Summary | None = None) -> Summary:
    """Write the summary of a sweep to `summary.json` and `summary.csv` in its directory, and return it.

    Args:
        ledger: the ledger of the sweep.
        summary: of its jobs; None: it is made here.

    Raises:
        InputError: if the ledger is damaged.
        OSError: if a file cannot be written.
    """
    summary = summarize_sweep(ledger.entries()) if summary is None else summary
    write_atomically(ledger.directory / "summary.json", (to_json(summary_to_dict(summary), indent=2) + "\n").encode())
    write_atomically(ledger.directory / "summary.csv", _to_csv(summary).encode())
    return summary


def _columns(summary: Summary) -> list[str]:
    """Return the keys of results in the tables: those of each metric that judges jobs, and the rest."""
    monitors = summary.monitors or [Monitor()]
    measures = [name for monitor in monitors for name in measure_names(monitor)]
    last = [f"last_{monitor.key}" for monitor in monitors if any(map(is_pruned, summary.entries))]
    return list(dict.fromkeys([*measures, *last, *_METADATA]))


def summary_to_dict(summary: Summary) -> dict[str, Any]:
    """Return what `summary.json` has of a summary."""
    columns = _columns(summary)
    return {
        "schema": SCHEMA,
        "jobs": [
            _to_row(entry, values, columns) for entry, values in zip(summary.entries, summary.varied, strict=True)
        ],
        "groups": [
            {
                "varied": group.varied,
                "jobs": group.jobs,
                "num_seeds": group.num_seeds,
                "counted": group.counted,
                "monitor": group.monitor.metric,
                "measures": {name: measure._asdict() for name, measure in group.measures.items()},
                "pruned": group.pruned and {"epochs": group.pruned[0], "last": group.pruned[1]._asdict()},
            }
            for group in summary.groups
        ],
        "best": summary.best,
        "best_groups": [
            {**monitor._asdict(), "varied": best.group.varied, "jobs": best.group.jobs, "best_job": best.job}
            for monitor, best in summary.bests.items()
        ],
        "failures": [
            {"number": entry.number, "error": entry.error, "command": rerun_command(entry)}
            for entry in summary.entries
            if entry.state == FAILED
        ],
    }


def _to_row(entry: Entry, varied: dict[str, str], columns: Sequence[str]) -> dict[str, Any]:
    result = entry.result or {}
    values = {name: result.get(name) for name in columns}
    return {"number": entry.number, "directory": entry.directory, "state": entry.state, "varied": varied, **values}


def _to_csv(summary: Summary) -> str:
    keys = list(dict.fromkeys(key for values in summary.varied for key in values))
    columns = _columns(summary)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["number", *map(_to_cell, keys), "state", *columns])
    for entry, values in zip(summary.entries, summary.varied, strict=True):
        row = _to_row(entry, values, columns)
        writer.writerow(
            [entry.number, *(_to_cell(values.get(key, "")) for key in keys), entry.state]
            + ["" if row[name] is None else _to_cell(row[name]) for name in columns]
        )
    return table.getvalue()


def _to_cell(value: Any) -> Any:
    """Return the value of a cell; text that a spreadsheet would read as a formula gets an apostrophe in front."""
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text.startswith(_FORMULA) and not _NUMBER.fullmatch(text) else text
