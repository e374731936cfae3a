"""What the jobs of a sweep came to together: a row a job, and mean and spread over the seeds.

A summary has no times in it, so that an interrupted sweep and an uninterrupted one have the same.
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

from lenet_jax.storage import to_json, write_atomically
from lenet_jax.sweeps.ledger import DONE, FAILED, Entry, Ledger

SCHEMA = 1
MEASURES = ("validation_accuracy", "test_accuracy", "train_accuracy", "test_loss")
_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # as some spreadsheets read them
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|nan)")
_FACTS = ("epochs", "iterations", "best_iteration", "stopped_by", "parameters_sha256")


class Statistics(NamedTuple):
    """A measure over the seeds of a group."""

    n: int
    mean: float
    sd: float | None  # of a single run, from n - 1; None for one run
    interval: tuple[float, float] | None  # 95 %, of the mean (Student's t); None for one run


class Group(NamedTuple):
    """Jobs that differ in their seeds alone."""

    varied: dict[str, str]  # what tells it from other groups: key -> value
    jobs: list[int]
    measures: dict[str, Statistics]  # of those that are done; empty if none is


class Summary(NamedTuple):
    """A sweep as a whole."""

    entries: list[Entry]
    varied: list[dict[str, str]]  # for each job: the overrides that not all jobs have
    groups: list[Group]
    best: int | None  # the job with the highest validation accuracy


def summarize_sweep(entries: Sequence[Entry]) -> Summary:
    """Sum up the jobs of a sweep."""
    overrides = [dict(_split(override) for override in entry.overrides) for entry in entries]
    varying = [key for key in dict.fromkeys(key for job in overrides for key in job) if _varies(key, overrides)]
    varied = [{key: job[key] for key in varying if key in job} for job in overrides]

    groups: dict[tuple[tuple[str, str], ...], list[Entry]] = {}
    for entry, values in zip(entries, varied, strict=True):
        groups.setdefault(tuple((key, value) for key, value in values.items() if key != "seed"), []).append(entry)
    done = [entry for entry in entries if is_complete(entry)]
    best = max(done, key=lambda entry: _measure(entry, "validation_accuracy"), default=None)
    return Summary(
        list(entries),
        varied,
        [Group(dict(key), [entry.number for entry in jobs], _measures(jobs)) for key, jobs in groups.items()],
        None if best is None else best.number,
    )


def is_complete(entry: Entry) -> bool:
    """Tell whether a job has run to its end: a pruned one says nothing about what it would have come to."""
    return entry.state == DONE and entry.result is not None and entry.result["stopped_by"] != "pruned"


def _split(override: str) -> tuple[str, str]:
    key, _, value = override.partition("=")
    return key, value


def _varies(key: str, overrides: Sequence[dict[str, str]]) -> bool:
    return len({job.get(key) for job in overrides}) > 1


def _measure(entry: Entry, name: str) -> float:
    value = (entry.result or {}).get(name)
    return -math.inf if value is None else value


def _measures(jobs: Sequence[Entry]) -> dict[str, Statistics]:
    results = [entry.result for entry in jobs if is_complete(entry) and entry.result]
    columns = {name: [result[name] for result in results if result.get(name) is not None] for name in MEASURES}
    return {name: describe_sample(values) for name, values in columns.items() if values}


def describe_sample(values: Sequence[float]) -> Statistics:
    """Return mean, standard deviation and the 95 % interval of the mean.

    Args:
        values: one or more.
    """
    n, mean = len(values), statistics.fmean(values)
    if n == 1:
        return Statistics(n, mean, None, None)
    sd = statistics.stdev(values)
    margin = float(special.stdtrit(n - 1, 0.975)) * sd / math.sqrt(n)
    return Statistics(n, mean, sd, (mean - margin, mean + margin))


def rerun_command(entry: Entry) -> str:
    """Return the command that runs a job alone."""
    return shlex.join(["lenet-jax", "train", *entry.overrides])


def printable(line: str) -> str:
    """Return a line without the characters that steer a terminal, or end the row of a table."""
    return "".join("?" if unicodedata.category(character) in ("Cc", "Cs") else character for character in line)


def write_summary(ledger: Ledger) -> Summary:
    """Sum up a sweep into `summary.json` and `summary.csv` in its directory, and return it."""
    summary = summarize_sweep(ledger.entries())
    write_atomically(ledger.directory / "summary.json", (to_json(_to_dict(summary), indent=2) + "\n").encode())
    write_atomically(ledger.directory / "summary.csv", _to_csv(summary).encode())
    return summary


def _to_dict(summary: Summary) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "jobs": [_to_row(entry, values) for entry, values in zip(summary.entries, summary.varied, strict=True)],
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


def _to_row(entry: Entry, varied: dict[str, str]) -> dict[str, Any]:
    result = entry.result or {}
    measured = {name: result.get(name) for name in (*MEASURES, *_FACTS)}
    return {"number": entry.number, "directory": entry.directory, "state": entry.state, "varied": varied, **measured}


def _to_csv(summary: Summary) -> str:
    keys = list(dict.fromkeys(key for values in summary.varied for key in values))
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["number", *map(_to_cell, keys), "state", *MEASURES, *_FACTS])
    for entry, values in zip(summary.entries, summary.varied, strict=True):
        row = _to_row(entry, values)
        writer.writerow(
            [entry.number, *(_to_cell(values.get(key, "")) for key in keys), entry.state]
            + ["" if row[name] is None else _to_cell(row[name]) for name in (*MEASURES, *_FACTS)]
        )
    return table.getvalue()


def _to_cell(value: Any) -> Any:
    """Return what a cell holds: a text that spreadsheets would take for a formula begins with an apostrophe."""
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text.startswith(_FORMULA) and not _NUMBER.fullmatch(text) else text
