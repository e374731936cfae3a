"""The page of a sweep: its groups, their learning curves, its hyperparameters, its jobs."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from lenet_jax.report.html import facts_table, page, save_pictures, table
from lenet_jax.report.sweep_figures import group_curves, hyperparameter_effect
from lenet_jax.report.text import sweep_table
from lenet_jax.runs.records import read_record
from lenet_jax.storage import write_atomically
from lenet_jax.sweeps.ledger import FAILED, Ledger
from lenet_jax.sweeps.statistics import Summary, is_complete, rerun_command

_MOST_CURVES = 8
_NO_NAME = re.compile(r"[^\w.-]", re.ASCII)  # what is not put into the name of a picture, which is part of an address


def write_page(ledger: Ledger, summary: Summary) -> Path:
    """Write `figures/` and `index.html` into the directory of a sweep; return the path of the page."""
    pictures = save_pictures(ledger.directory, _draw(ledger, summary))
    path = ledger.directory / "index.html"
    write_atomically(path, _page(ledger, summary, pictures).encode())
    return path


def _draw(ledger: Ledger, summary: Summary) -> Iterator[tuple[str, str, Figure]]:
    """Yield name, caption and figure of what there is to see of the jobs that are done."""
    entries = {entry.number: entry for entry in summary.entries if is_complete(entry)}
    groups = [group for group in summary.groups if group.measures]
    if not groups:
        return
    best = sorted(groups, key=lambda group: -group.measures["validation_accuracy"].mean)[:_MOST_CURVES]
    curves = {}
    for group in (group for group in groups if group in best):
        name = " ".join(f"{key}={value}" for key, value in group.varied.items()) or "all jobs"
        jobs = [entries[number] for number in group.jobs if number in entries]
        lines = [read_record(ledger.run_directory(entry)).metrics for entry in jobs]
        curves[f"{name} ({len(jobs)})"] = [
            ([line["epoch"] for line in run], [line["validation_accuracy"] for line in run]) for run in lines
        ]
    which = "" if len(best) == len(groups) else f" The {len(best)} best of {len(groups)} groups."
    yield (
        "learning_curves",
        f"Mean over the seeds, and a band from the best to the worst; the number of runs in brackets.{which}",
        group_curves(curves),
    )
    jobs = [(entry, values) for entry, values in zip(summary.entries, summary.varied, strict=True)]
    for key in dict.fromkeys(key for group in summary.groups for key in group.varied):
        pairs = [
            (_number(values.get(key)), 100 * (1 - (entry.result or {})["validation_accuracy"]))
            for entry, values in jobs
            if is_complete(entry)
        ]
        if len({value for value, _ in pairs}) > 1 and not any(np.isnan(value) for value, _ in pairs):
            name = f"effect_of_{_NO_NAME.sub('_', key)[:100]}"
            yield name, f"Validation error of each run against {key}.", hyperparameter_effect(key, *np.array(pairs).T)


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return np.nan


def _page(ledger: Ledger, summary: Summary, pictures: str) -> str:
    states = [entry.state for entry in summary.entries]
    facts = {
        "jobs": ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states)),
        "command": " ".join(["lenet-jax train -m", *ledger.identity["arguments"]]),
        "best": "" if summary.best is None else f"job {summary.best}",
        "data": ", ".join(f"{data['name']}, SHA-256 {data['sha256']}" for data in ledger.identity["data"]),
        "versions": ", ".join(f"{name} {version}" for name, version in ledger.identity["versions"].items()),
        "code": ledger.identity["code"]["revision"] or "",
    }
    head, *rows = sweep_table(summary)
    jobs = [
        [
            entry.number,
            " ".join(f"{key}={value}" for key, value in values.items()),
            entry.state,
            *_accuracies(entry.result),
        ]
        for entry, values in zip(summary.entries, summary.varied, strict=True)
    ]
    failures = [[entry.number, entry.error, rerun_command(entry)] for entry in summary.entries if entry.state == FAILED]
    parts = [facts_table(facts), "<h2>Groups</h2>", table(head, rows), pictures]
    parts += ["<h2>Jobs</h2>", table(["job", "overrides", "state", "validation", "test", "epochs", "stopped by"], jobs)]
    if failures:
        parts += ["<h2>Failures</h2>", table(["job", "error", "command"], failures)]
    return page("Sweep", "\n".join(parts))


def _accuracies(result: dict | None) -> list[str]:
    if result is None:
        return ["", "", "", ""]
    values = [f"{result[name]:.2%}" for name in ("validation_accuracy", "test_accuracy")]
    return [*values, str(result["epochs"]), result["stopped_by"]]
