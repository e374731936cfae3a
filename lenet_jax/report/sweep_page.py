"""The report of a sweep: means over seeds or folds, learning curves, effects of hyperparameters, and all jobs."""

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from lenet_jax.components import short_name
from lenet_jax.config.catalogue import TARGET
from lenet_jax.errors import InputError
from lenet_jax.report.document import Cell, Code, Document, Facts, Link, Links, Part, Picture, Stacked, Table
from lenet_jax.report.effects import (
    four_digits,
    heat_map,
    hyperparameter_effect,
    is_grid,
    literal,
    numbers,
    parallel_coordinates,
)
from lenet_jax.report.figures import COLOURS, DPI, INK, PRUNED, count_epochs, decorate
from lenet_jax.report.formats import write_document
from lenet_jax.report.text import (
    best_lines,
    code_text,
    error_label,
    error_value,
    interval_caption,
    repeated_lines,
    show_metric,
    sweep_table,
    utc,
)
from lenet_jax.runs import Monitor
from lenet_jax.runs.run_directory import RUN, check_log, read_record
from lenet_jax.sweeps.ledger import FAILED, Entry, Ledger
from lenet_jax.sweeps.statistics import SeedAggregate, Summary, is_pruned, printable, rerun_command

_MAX_CURVES = 8
_MAX_CATEGORIES = 24  # of a key whose values are no numbers
_MAX_LINES = 6  # of a figure of an effect, one for each value of another key
_MAX_AXES = 10  # of parallel coordinates
_STYLES = ("-", "--", "-.", ":")
_FILES = ("summary.csv", "summary.json", "sweep.json", "plan.json", "code.patch")
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


def write_page(ledger: Ledger, summary: Summary, *, format: str = "html") -> Path:
    """Write the report of a sweep into its directory; return the path of what was written.

    Args:
        ledger: the ledger of the sweep.
        summary: the result of `lenet_jax.sweeps.statistics.summarize_sweep`.
        format: as in `lenet_jax.report.formats.write_document`.

    Raises:
        InputError: if the format is unknown.
    """
    return write_document(_document(ledger, summary, _draw(ledger, summary)), ledger.directory, format)


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

    best, is_single = sorted(groups, key=error)[:_MAX_CURVES], all(len(group.counted) == 1 for group in groups)
    curves = {}
    for group in best:
        name = " ".join(f"{key}={four_digits(value)}" for key, value in group.varied.items()) or "all jobs"
        jobs = [entries[number] for number in group.counted if number in entries]
        if lines := _curves(ledger, jobs, monitor):
            curves[name if is_single else f"{name} ({len(lines)})"] = lines
    stopped = [entry for entry in summary.entries if is_pruned(entry) and Monitor.of(entry.result or {}) == monitor]
    what = f"Mean over the {summary.replicates}, and a band from the best to the worst; the number of runs in brackets"
    what = f"{label.capitalize()} of each run" if is_single else what
    which = "" if len(best) == len(groups) else f" The {len(best)} best of {len(groups)}, the best first."
    if curves:
        yield Picture(
            "learning_curves",
            "Learning curves",
            f"{what}.{which}",
            group_curves(
                curves,
                pruned=_curves(ledger, stopped, monitor),
                label=label,
                title=label.capitalize() if is_single else f"{label.capitalize()} over the {summary.replicates}",
            ),
        )
    varied = dict(zip((entry.number for entry in summary.entries), summary.varied, strict=True))
    keys = list(dict.fromkeys(key for group in groups for key in group.varied))
    errors = [error_value(metric, (entry.result or {})[monitor.key]) for entry in entries.values()]
    columns = {key: [varied[number].get(key) for number in entries] for key in keys}
    last = [(varied[entry.number], monitor.last(entry.result or {})) for entry in stopped]
    known = [(values, error_value(metric, value)) for values, value in last if value is not None]
    pruned = {key: [values.get(key) for values, _ in known] for key in columns}, [error for _, error in known]
    several = {key: each for key, each in columns.items() if len({*each, *pruned[0][key]}) > 1}
    yield from _draw_effects(several, errors, label, pruned=pruned)


Curve = tuple[Sequence[float], Sequence[float]]


def _curves(ledger: Ledger, jobs: Sequence[Entry], monitor: Monitor) -> list[Curve]:
    """Return the epochs and what is drawn of the monitored metric for each job that has evaluations."""
    curves = []
    for entry in jobs:
        run = [line for line in _evaluations(ledger.run_directory(entry)) if line[monitor.key] is not None]
        if run:
            values = [error_value(monitor.metric, line[monitor.key]) for line in run]
            curves.append(([line["epoch"] for line in run], values))
    return curves


def _draw_effects(
    columns: Mapping[str, Sequence[str | None]],
    errors: Sequence[float],
    label: str,
    *,
    pruned: tuple[Mapping[str, Sequence[str | None]], Sequence[float]] = ({}, ()),
) -> Iterator[Picture]:
    """Draw the effect of each key, and of the numeric ones together.

    Args:
        columns: value of each key in each run.
        errors: what is drawn of each run.
        label: what they are.
        pruned: value of each key in each run that was pruned, and what is drawn of its last validation.
    """
    what = label.removesuffix(" (%)").capitalize()
    for key, values in columns.items():
        stopped = list(pruned[0].get(key, ()))
        if numbers([*values, *stopped]) is None and len({*values, *stopped}) > _MAX_CATEGORIES:
            continue
        other = next(((name, each) for name, each in columns.items() if name != key and _is_few(each)), None)
        with_pruned = (stopped, pruned[1]) if stopped else ((), ())
        figure = hyperparameter_effect(key, values, errors, other=other, pruned=with_pruned, label=label)
        by = "" if other is None else f", by {other[0]}"
        caption = f"{what} of each run against {key}{by}."
        yield Picture(f"effect_of_{_NOT_IN_FILE_NAMES.sub('_', key)[:100]}", f"Effect of {key}", caption, figure)
    numeric = {key: found for key, values in columns.items() if (found := numbers(values)) is not None}
    if len(numeric) == 2 and is_grid(*numeric.values()):
        first, second = numeric
        figure = heat_map((first, second), numeric[first], numeric[second], errors, label=label)
        caption = f"Mean {label.removesuffix(' (%)')} of the runs by {first} and {second}."
        yield Picture("two_hyperparameters", "Two hyperparameters", caption, figure)
    elif len(numeric) > 1:
        few = dict(list(numeric.items())[:_MAX_AXES])
        caption = f"{what} of each run, a line through the values of its {len(few)} numeric hyperparameters."
        figure = parallel_coordinates(few, errors, label=label)
        yield Picture("parallel_coordinates", "Hyperparameters together", caption, figure)


def _is_few(values: Sequence[str | None]) -> bool:
    return len(set(values)) <= _MAX_LINES < len(values)


def _document(ledger: Ledger, summary: Summary, pictures: Iterable[Picture]) -> Document:
    model = ledger.identity["base"].get("model") or {}
    of = f" of {short_name(model)}" if TARGET in model else ""
    return Document(f"Sweep{of}", _parts(ledger, summary, pictures))


def _shortened(line: str) -> str:
    """Return a line about what is best without its name, and with numbers of four digits."""
    words = (word.partition("=") for word in line.removeprefix("best: ").split(" "))
    return " ".join(f"{name}{sign}{four_digits(value)}" for name, sign, value in words)


def _parts(ledger: Ledger, summary: Summary, pictures: Iterable[Picture]) -> Iterator[Part]:
    states = [entry.state for entry in summary.entries]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    pruned = sum(map(is_pruned, summary.entries))
    of_them = [f"{pruned} of them pruned"] if pruned else []
    metadata = {
        "jobs": "; ".join([counts, *of_them, *repeated_lines(summary)]),
        "command": Code(shlex.join(["lenet-jax", "train", "-m", *ledger.identity["arguments"]])),
        "best": Stacked(tuple(_shortened(line) for each in summary.bests for line in best_lines(summary, each))),
        "data": ", ".join(f"{data['name']}, SHA-256 {data['sha256']}" for data in ledger.identity["data"]),
        "versions": ", ".join(f"{name} {version}" for name, version in ledger.identity["versions"].items() if version),
        "code": code_text(ledger.identity["code"]),
        **{name: utc(ledger.identity[name]) for name in ("host", "started") if name in ledger.identity},
    }
    keys = list(dict.fromkeys(key for values in summary.varied for key in values))
    jobs = [
        [
            _linked(ledger, entry),
            _folder(ledger, entry),
            *(four_digits(values.get(key, "")) for key in keys),
            entry.state,
            *_result_cells(entry),
        ]
        for entry, values in zip(summary.entries, summary.varied, strict=True)
    ]
    failed = [entry for entry in summary.entries if entry.state == FAILED]
    failures = [[entry.number, entry.error, Code(rerun_command(entry))] for entry in failed]
    is_single = all(group.num_seeds == 1 for group in summary.groups)
    yield Facts({name: value for name, value in metadata.items() if value not in ("", Stacked(()))})
    for place, monitor in enumerate(summary.monitors):
        head, *rows = sweep_table(summary, monitor)
        shown = [[four_digits(cell) for cell in row[: head.index("n")]] + row[head.index("n") :] for row in rows]
        heading = ("Results" if is_single else f"Results over the {summary.replicates}") if place == 0 else ""
        yield Table(heading, head, shown, interval_caption(summary, monitor), is_sortable=True)
    yield from pictures
    head = ["job", "directory", *keys, "state", "validation", "test", "epochs", "stopped by"]
    yield Table("Jobs", head, jobs, is_sortable=True)
    if failures:
        yield Table("Failures", ["job", "error", "command"], failures)
    yield Links("Files", [Link(name, name) for name in _FILES if (ledger.directory / name).is_file()])


def _linked(ledger: Ledger, entry: Entry) -> Cell:
    """Return the number of a job, linked to the page of its run if there is one."""
    exists = (ledger.run_directory(entry) / "index.html").is_file() and entry.directory.isprintable()
    return Link(f"{entry.directory}/index.html", str(entry.number)) if exists else entry.number


def _folder(ledger: Ledger, entry: Entry) -> Cell:
    """Return the directory of a job, linked if it is there."""
    exists = ledger.run_directory(entry).is_dir() and entry.directory.isprintable()
    return Link(f"{entry.directory}/", entry.directory) if exists else printable(entry.directory)


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
    pruned: Sequence[tuple[ArrayLike, ArrayLike]] = (),
    label: str = "validation error (%)",
    title: str = "Validation error over the seeds",
) -> Figure:
    """Draw validation errors over seeds or folds: the mean, and a band from the lowest to the highest error.

    Args:
        groups: name of each set of runs of one configuration -> the epochs and the errors of each run, in
            percent, or another metric; runs may stop at different epochs.
        pruned: epochs and errors of each run that was stopped because others were better.
        label: what is drawn.
        title: title of the figure.
    """
    figure = Figure(figsize=(8.4, 3.8 + 0.2 * len(groups)), dpi=DPI, layout="constrained")
    axis = figure.subplots()
    medians, highest = [], 0.0
    for index, (name, runs) in enumerate(groups.items()):
        epochs, errors = _align(runs)
        colour, line = COLOURS[index % len(COLOURS)], _STYLES[index // len(COLOURS) % len(_STYLES)]
        marker = "o" if len(epochs) < 2 else None
        axis.plot(epochs, np.nanmean(errors, 0), linestyle=line, color=colour, marker=marker, label=literal(name))
        axis.fill_between(epochs, np.nanmin(errors, 0), np.nanmax(errors, 0), color=colour, alpha=0.15, lw=0)
        medians.append(float(np.nanmedian(errors)))
        highest = max(highest, float(np.nanmax(errors)))
    for number, (epochs, errors) in enumerate(pruned):
        name = f"pruned ({len(pruned)})" if number == 0 else None
        axis.plot(epochs, errors, ":", color=PRUNED, lw=1, marker="x", markevery=[-1], ms=4, label=name)
        medians.append(float(np.nanmedian(np.asarray(errors, np.float64))))
        highest = max(highest, float(np.nanmax(np.asarray(errors, np.float64))))
    decorate(axis, "epoch", label)
    count_epochs(axis)
    axis.set_ylim(bottom=0, top=min(1.05 * highest, 4 * max(medians)) + 0.1)
    figure.legend(loc="outside lower left", frameon=False, fontsize=8)
    axis.set_title(title, fontsize=10, color=INK)
    return figure


def _align(runs: Sequence[tuple[ArrayLike, ArrayLike]]) -> tuple[np.ndarray, np.ndarray]:
    """Return the union of the epochs, and the values (runs, epochs), NaN where a run has no evaluation."""
    columns = [dict(zip(np.asarray(x).tolist(), np.asarray(y).tolist(), strict=True)) for x, y in runs]
    epochs = sorted(set().union(*columns))
    return np.array(epochs), np.array([[run.get(epoch, np.nan) for epoch in epochs] for run in columns])
