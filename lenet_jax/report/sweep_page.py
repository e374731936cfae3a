"""The HTML page of a sweep: means over the seeds, learning curves, effects of hyperparameters, and all jobs."""

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from lenet_jax.errors import InputError
from lenet_jax.report.figures import COLOURS, DPI, INK, decorate
from lenet_jax.report.html import Picture, metadata_table, page, save_pictures, table
from lenet_jax.report.text import (
    best_lines,
    code_text,
    error_label,
    error_value,
    interval_caption,
    repeated_lines,
    show_metric,
    sweep_table,
)
from lenet_jax.runs import Monitor
from lenet_jax.runs.run_directory import RUN, check_log, read_record
from lenet_jax.storage import write_atomically
from lenet_jax.sweeps.ledger import FAILED, Entry, Ledger
from lenet_jax.sweeps.statistics import SeedAggregate, Summary, is_pruned, rerun_command

_MAX_CURVES = 8
_MAX_CHARACTERS = 120  # of a label; a label wider than the figure would leave no room for the curves
_STYLES = ("-", "--", "-.", ":")
_NOT_IN_FILE_NAMES = re.compile(r"[^\w.-]", re.ASCII)  # file names of figures are parts of URLs


def is_gone(path: Path) -> bool:
    """Tell whether the directory of a job that has ended was removed; its result is in the ledger."""
    return not (path / RUN).is_file()


def _evaluations(path: Path) -> list[dict[str, Any]]:
    """Return the evaluations of a run; none if its directory was removed."""
    try:
        record = read_record(path)
        check_log(record)
        return record.metrics
    except InputError:
        if is_gone(path):
            return []
        raise


def write_page(ledger: Ledger, summary: Summary) -> Path:
    """Write `figures/` and `index.html` in the directory of a sweep; return the path of the page.

    Args:
        ledger: the ledger of the sweep.
        summary: the result of `lenet_jax.sweeps.statistics.summarize_sweep`.
    """
    pictures = save_pictures(ledger.directory, _draw(ledger, summary))
    path = ledger.directory / "index.html"
    write_atomically(path, _page(ledger, summary, pictures).encode())
    return path


def _draw(ledger: Ledger, summary: Summary) -> Iterator[Picture]:
    """Yield each picture of the complete jobs, of each metric that judges them."""
    for monitor in summary.monitors:
        suffix = "" if len(summary.monitors) == 1 else f"_{_NOT_IN_FILE_NAMES.sub('_', monitor.metric)[:100]}"
        for picture in _draw_metric(ledger, summary, monitor):
            yield picture._replace(name=f"{picture.name}{suffix}")


def _draw_metric(ledger: Ledger, summary: Summary, monitor: Monitor) -> Iterator[Picture]:
    groups = [group for group in summary.groups if group.monitor == monitor and group.num_measured]
    if not groups:
        return
    counted = {number for group in groups for number in group.counted}
    entries = {
        entry.number: entry
        for entry in summary.entries
        if entry.number in counted and (entry.result or {}).get(monitor.key) is not None
    }
    metric, label = monitor.metric, error_label(monitor.metric)

    def error(group: SeedAggregate) -> float:
        return monitor.error({monitor.key: group.measures[monitor.key].mean})

    best = sorted(groups, key=error)[:_MAX_CURVES]
    curves = {}
    for group in (group for group in groups if group in best):
        name = " ".join(f"{key}={value}" for key, value in group.varied.items()) or "all jobs"
        jobs = [entries[number] for number in group.counted if number in entries]
        runs = [_evaluations(ledger.run_directory(entry)) for entry in jobs]
        lines = list(filter(None, ([line for line in run if line[monitor.key] is not None] for run in runs)))
        if lines:
            curves[f"{name} ({len(lines)})"] = [
                tuple(zip(*((line["epoch"], error_value(metric, line[monitor.key])) for line in run), strict=True))
                for run in lines
            ]
    which = "" if len(best) == len(groups) else f" The {len(best)} best of {len(groups)} groups."
    if curves:
        yield Picture(
            "learning_curves",
            "Learning curves",
            f"Mean over the seeds, and a band from the best to the worst; the number of runs in brackets.{which}",
            group_curves(curves, label=label, title=f"{label.capitalize()} over the seeds"),
        )
    jobs = [(entry, values) for entry, values in zip(summary.entries, summary.varied, strict=True)]
    for key in dict.fromkeys(key for group in summary.groups for key in group.varied):
        pairs = [
            (_number(values.get(key)), error_value(metric, (entry.result or {})[monitor.key]))
            for entry, values in jobs
            if entry.number in entries
        ]
        if len({value for value, _ in pairs}) > 1 and not any(np.isnan(value) for value, _ in pairs):
            name = f"effect_of_{_NOT_IN_FILE_NAMES.sub('_', key)[:100]}"
            figure = hyperparameter_effect(key, *np.array(pairs).T, label=label)
            caption = f"{label.removesuffix(' (%)').capitalize()} of each run against {key}."
            yield Picture(name, f"Effect of {key}", caption, figure)


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return np.nan


def _page(ledger: Ledger, summary: Summary, pictures: str) -> str:
    states = [entry.state for entry in summary.entries]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    metadata = {
        "jobs": "; ".join([counts, *repeated_lines(summary)]),
        "command": shlex.join(["lenet-jax", "train", "-m", *ledger.identity["arguments"]]),
        "best": "; ".join(line for monitor in summary.bests for line in best_lines(summary, monitor)),
        "data": ", ".join(f"{data['name']}, SHA-256 {data['sha256']}" for data in ledger.identity["data"]),
        "versions": ", ".join(f"{name} {version}" for name, version in ledger.identity["versions"].items()),
        "code": code_text(ledger.identity["code"]),
        **{name: ledger.identity[name] for name in ("host", "started") if name in ledger.identity},
    }
    jobs = [
        [
            entry.number,
            " ".join(f"{key}={value}" for key, value in values.items()),
            entry.state,
            *_result_cells(entry),
        ]
        for entry, values in zip(summary.entries, summary.varied, strict=True)
    ]
    failures = [[entry.number, entry.error, rerun_command(entry)] for entry in summary.entries if entry.state == FAILED]
    parts = [metadata_table(metadata), "<h2>Results over the seeds</h2>"]
    for monitor in summary.monitors:
        head, *rows = sweep_table(summary, monitor)
        parts += [table(head, rows), f"<p>{escape(interval_caption(summary, monitor))}</p>"]
    parts.append(pictures)
    parts += ["<h2>Jobs</h2>", table(["job", "overrides", "state", "validation", "test", "epochs", "stopped by"], jobs)]
    if failures:
        parts += ["<h2>Failures</h2>", table(["job", "error", "command"], failures)]
    return page("Sweep", "\n".join(parts))


def _result_cells(entry: Entry) -> list[str]:
    result = entry.result
    if result is None:
        return ["", "", "", ""]
    monitor, test = Monitor.of(result), ""
    validation = monitor.last(result) if is_pruned(entry) else result.get(monitor.key)
    if not is_pruned(entry):  # the result of a pruned job is of its best weights, not of those where it stood
        test = show_metric(monitor.metric, result.get(f"test_{monitor.metric}"))
    return [show_metric(monitor.metric, validation), test, str(result["epochs"]), str(result["stopped_by"])]


# ---- figures --------------------------------------------------------------------------------------------------------


def group_curves(
    groups: Mapping[str, Sequence[tuple[ArrayLike, ArrayLike]]],
    *,
    label: str = "validation error (%)",
    title: str = "Validation error over the seeds",
) -> Figure:
    """Draw validation errors over seeds: the mean, and a band from the lowest to the highest error.

    Args:
        groups: name of each set of runs that differ in their seeds only -> the epochs and the errors of each run, in
            percent, or another metric; runs may stop at different epochs.
        label: what is drawn.
        title: title of the figure.
    """
    figure = Figure(figsize=(8.4, 4.2), dpi=DPI, layout="constrained")
    axis = figure.subplots()
    medians, highest = [], 0.0
    for index, (name, runs) in enumerate(groups.items()):
        epochs, errors = _align(runs)
        colour, line = COLOURS[index % len(COLOURS)], _STYLES[index // len(COLOURS) % len(_STYLES)]
        marker = "o" if len(epochs) < 2 else None
        axis.plot(epochs, np.nanmean(errors, 0), linestyle=line, color=colour, marker=marker, label=_literal(name))
        axis.fill_between(epochs, np.nanmin(errors, 0), np.nanmax(errors, 0), color=colour, alpha=0.15, lw=0)
        medians.append(float(np.nanmedian(errors)))
        highest = max(highest, float(np.nanmax(errors)))
    decorate(axis, "epoch", label)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_ylim(bottom=0, top=min(1.05 * highest, 4 * max(medians)) + 0.1)
    axis.legend(frameon=False, fontsize=8)
    axis.set_title(title, fontsize=10, color=INK)
    return figure


def _align(runs: Sequence[tuple[ArrayLike, ArrayLike]]) -> tuple[np.ndarray, np.ndarray]:
    """Return the union of the epochs, and the values (runs, epochs), NaN where a run has no evaluation."""
    columns = [dict(zip(np.asarray(x).tolist(), np.asarray(y).tolist(), strict=True)) for x, y in runs]
    epochs = sorted(set().union(*columns))
    return np.array(epochs), np.array([[run.get(epoch, np.nan) for epoch in epochs] for run in columns])


def hyperparameter_effect(
    name: str, values: ArrayLike, errors: ArrayLike, *, label: str = "validation error (%)"
) -> Figure:
    """Draw the validation error of each run against a hyperparameter, and the mean error of each value.

    Args:
        name: name of the hyperparameter.
        values: one value per run (N,); the axis is logarithmic if they are positive and span a factor above 10.
        errors: validation errors in percent, or another metric (N,).
        label: what they are.
    """
    x, y = np.asarray(values, np.float64), np.asarray(errors, np.float64)
    figure = Figure(figsize=(5.0, 3.4), dpi=DPI, layout="constrained")
    axis = figure.subplots()
    axis.plot(x, y, "o", color=COLOURS[0], alpha=0.5, label="a run")
    distinct = np.unique(x)
    axis.plot(distinct, [y[x == value].mean() for value in distinct], "-_", color=COLOURS[1], ms=14, label="mean")
    if x.min() > 0 and x.max() > 10 * x.min():
        axis.set_xscale("log")
    if len(distinct) <= 8:
        axis.set_xticks(distinct, [f"{value:g}" for value in distinct])
        axis.minorticks_off()
    decorate(axis, _literal(name), label)
    axis.legend(frameon=False, fontsize=8)
    return figure


def _literal(text: str) -> str:
    """Escape and shorten a text for matplotlib, which would read formulas between dollar signs."""
    label = "".join(character if character.isprintable() else "?" for character in text)
    label = label if len(label) <= _MAX_CHARACTERS else f"{label[:_MAX_CHARACTERS]}..."
    label = f" {label}" if label.startswith("_") else label  # matplotlib omits labels that start with "_"
    return label.replace("$", r"\$")
