"""The summary of a sweep: one row per job, and mean, standard deviation and confidence interval over the seeds.

A summary contains no times, so that it is the same for an interrupted and an uninterrupted sweep.
"""

import csv
import io
import math
import re
import shlex
import statistics
import unicodedata
from collections.abc import Sequence
from typing import Any, NamedTuple

from scipy import special

from lenet_jax.runs import Monitor
from lenet_jax.storage import to_json, write_atomically
from lenet_jax.sweeps.ledger import DONE, FAILED, Entry, Ledger

SCHEMA = 1
_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # some spreadsheets read these as formulas
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|nan)")
_METADATA = ("epochs", "iterations", "best_iteration", "stopped_by", "parameters_sha256")


class Statistics(NamedTuple):
    """Statistics of a measure over several seeds."""

    n: int  # number of runs
    mean: float
    sd: float | None  # standard deviation of a run, with n - 1 degrees of freedom; None if n is 1
    interval: tuple[float, float] | None  # 95 % confidence interval of the mean (Student's t); None if n is 1


class SeedAggregate(NamedTuple):
    """Jobs that differ in their seeds only, and statistics over them."""

    varied: dict[str, str]  # key -> value of the overrides that differ from those of other aggregates
    jobs: list[int]  # numbers
    measures: dict[str, Statistics]  # over the complete jobs; empty if there is none


class Summary(NamedTuple):
    """The results of all jobs of a sweep."""

    entries: list[Entry]
    varied: list[dict[str, str]]  # for each job, the overrides that are not common to all jobs
    groups: list[SeedAggregate]
    best: int | None  # number of the complete job with the best monitored metric; None: no job is complete
    monitor: Monitor  # of the jobs


def summarize_sweep(entries: Sequence[Entry]) -> Summary:
    """Summarize the jobs of a sweep.

    Args:
        entries: the jobs in the ledger.
    """
    overrides = [dict(_split(override) for override in entry.overrides) for entry in entries]
    varying = [key for key in dict.fromkeys(key for job in overrides for key in job) if _varies(key, overrides)]
    varied = [{key: job[key] for key in varying if key in job} for job in overrides]

    by_values: dict[tuple[tuple[str, str], ...], list[Entry]] = {}
    for entry, values in zip(entries, varied, strict=True):
        by_values.setdefault(tuple((key, value) for key, value in values.items() if key != "seed"), []).append(entry)
    done = [entry for entry in entries if is_complete(entry)]
    monitor = Monitor.of(next((entry.result for entry in done if entry.result), {}))
    best = min(done, key=lambda entry: monitor.error(entry.result or {}), default=None)
    return Summary(
        list(entries),
        varied,
        [
            SeedAggregate(dict(key), [entry.number for entry in jobs], _measures(jobs, monitor))
            for key, jobs in by_values.items()
        ],
        None if best is None else best.number,
        monitor,
    )


def is_complete(entry: Entry) -> bool:
    """Return whether a job has finished without being pruned; the result of a pruned job is not comparable."""
    return entry.state == DONE and entry.result is not None and entry.result["stopped_by"] != "pruned"


def _split(override: str) -> tuple[str, str]:
    key, _, value = override.partition("=")
    return key.lstrip("+"), value  # +KEY and ++KEY set the same as KEY


def _varies(key: str, overrides: Sequence[dict[str, str]]) -> bool:
    return len({job.get(key) for job in overrides}) > 1


def measure_names(monitor: Monitor) -> tuple[str, ...]:
    """Return the keys of `result.json` that are summed up: the monitored metric of each split, and the test loss."""
    return tuple(dict.fromkeys([monitor.key, f"test_{monitor.metric}", f"train_{monitor.metric}", "test_loss"]))


def _measures(jobs: Sequence[Entry], monitor: Monitor) -> dict[str, Statistics]:
    results = [entry.result for entry in jobs if is_complete(entry) and entry.result]
    columns = {
        name: [result[name] for result in results if result.get(name) is not None] for name in measure_names(monitor)
    }
    return {name: describe_sample(values) for name, values in columns.items() if values}


def describe_sample(values: Sequence[float]) -> Statistics:
    """Return mean, standard deviation and the 95 % confidence interval of the mean.

    Args:
        values: one or more values.
    """
    n, mean = len(values), statistics.fmean(values)
    if n == 1:
        return Statistics(n, mean, None, None)
    sd = statistics.stdev(values)
    margin = float(special.stdtrit(n - 1, 0.975)) * sd / math.sqrt(n)
    return Statistics(n, mean, sd, (mean - margin, mean + margin))


def rerun_command(entry: Entry) -> str:
    """Return the command that repeats a job as a single run."""
    return shlex.join(["lenet-jax", "train", *entry.overrides])


def printable(line: str) -> str:
    """Replace control characters and surrogates in a line by "?", so that it is safe for a terminal and a table."""
    return "".join("?" if unicodedata.category(character) in ("Cc", "Cs") else character for character in line)


def write_summary(ledger: Ledger) -> Summary:
    """Write the summary of a sweep to `summary.json` and `summary.csv` in its directory, and return it.

    Args:
        ledger: the ledger of the sweep.

    Raises:
        InputError: if the ledger is damaged.
        OSError: if a file cannot be written.
    """
    summary = summarize_sweep(ledger.entries())
    write_atomically(ledger.directory / "summary.json", (to_json(_to_dict(summary), indent=2) + "\n").encode())
    write_atomically(ledger.directory / "summary.csv", _to_csv(summary).encode())
    return summary


def _to_dict(summary: Summary) -> dict[str, Any]:
    columns = (*measure_names(summary.monitor), *_METADATA)
    return {
        "schema": SCHEMA,
        "jobs": [
            _to_row(entry, values, columns) for entry, values in zip(summary.entries, summary.varied, strict=True)
        ],
        "groups": [
            {
                "varied": group.varied,
                "jobs": group.jobs,
                "measures": {name: measure._asdict() for name, measure in group.measures.items()},
            }
            for group in summary.groups
        ],
        "best": summary.best,
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
    columns = (*measure_names(summary.monitor), *_METADATA)
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
