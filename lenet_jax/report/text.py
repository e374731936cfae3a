"""Tables in plain text."""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lenet_jax.components import short_name
from lenet_jax.metrics import to_percent
from lenet_jax.runs import FRACTIONS, Monitor
from lenet_jax.runs.average import AverageReport
from lenet_jax.runs.evaluate import EvaluationReport
from lenet_jax.summary import Row, inference_bytes, training_bytes
from lenet_jax.sweeps.ledger import DONE, FAILED, STATES, Entry
from lenet_jax.sweeps.statistics import (
    SeedAggregate,
    Statistics,
    Summary,
    is_complete,
    is_pruned,
    printable,
    rerun_command,
)
from lenet_jax.types import Variables
from lenet_jax.weights import named_leaves


def align(rows: Sequence[Sequence[str]], *, left: int = 1) -> list[str]:
    """Return rows of cells as lines with aligned columns.

    Args:
        rows: cells of each row.
        left: number of columns, counted from the left, that are aligned to the left; the others are to the right.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if number < left else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def layer_table(rows: Sequence[Row], input_shape: tuple[int, ...]) -> list[str]:
    """Return the layers of a network as a table, with totals and the memory of one example's outputs.

    Args:
        rows: the result of `lenet_jax.summary.summarize`.
        input_shape: shape of one example.
    """
    cells: list[tuple[str, ...]] = [
        ("layer", "output", "parameters", "connections", "multiply-adds", "output size", "receptive field")
    ]
    cells.append(("input", "x".join(map(str, input_shape)), "", "", "", "", ""))
    for row in rows:
        cells.append(
            (
                row.layer,
                "x".join(map(str, row.output_shape)),
                f"{row.parameters:,}",
                f"{row.connections:,}",
                f"{row.multiply_adds:,}",
                size(row.bytes),
                "x".join(map(str, row.receptive_field)),
            )
        )
    totals = [f"{sum(values):,}" for values in zip(*(row[2:5] for row in rows), strict=True)]
    cells.append(("total", "", *totals, "", ""))
    lines = align(cells, left=2)
    return [
        *lines[:1],
        "-" * max(map(len, lines)),
        *lines[1:],
        "",
        "outputs of one example, float32: "
        f"{size(inference_bytes(list(rows)))} at a time to apply the network (the two largest neighbours), "
        f"{size(training_bytes(list(rows)))} to train it ({_stored_outputs(rows)}).",
    ]


def parameter_table(variables: Variables, input_shape: tuple[int, ...]) -> list[str]:
    """Return the arrays of a network that records no layers as a table, with the total of its parameters.

    Args:
        variables: of the network, or their shapes and types.
        input_shape: shape of one example.
    """
    cells = [("array", "shape", "parameters"), ("input", "x".join(map(str, input_shape)), "")]
    for name, leaf in named_leaves(variables).items():
        is_trained = name.startswith("params")
        size = f"{leaf.size:,}" if is_trained else "state"
        cells.append((name.removeprefix("params/"), "x".join(map(str, leaf.shape)), size))
    cells.append(("total", "", f"{sum(leaf.size for leaf in jax.tree.leaves(variables.params)):,}"))
    lines = align(cells, left=2)
    return [*lines[:1], "-" * max(map(len, lines)), *lines[1:]]


def _stored_outputs(rows: Sequence[Row]) -> str:
    return "all but those that are computed again" if any(row.recomputed for row in rows) else "all"


def size(count: int) -> str:
    """Return a number of bytes as text."""
    if count < 2**20:
        return f"{count / 2**10:.1f} KiB"
    return f"{count / 2**20:.1f} MiB"


def confusion_table(matrix: Sequence[Sequence[int]]) -> list[str]:
    """Return a confusion matrix with each row in percent of its true class; cells of exactly 0 are empty."""
    percent = to_percent(jnp.asarray(matrix)).tolist()
    names = [str(number) for number in range(len(percent))]
    rows = [
        [name, *(f"{value:.1f}" if value else "" for value in row)] for name, row in zip(names, percent, strict=True)
    ]
    return align([["", *names], *rows])


def evaluation_table(report: EvaluationReport, part: str = "test") -> list[str]:
    """Return the metrics as lines; of classification calibration, precision, recall and the confusion matrix too.

    Args:
        report: the evaluation.
        part: name of the split that was evaluated.
    """
    summary = report.summary
    if report.confusion is None:
        metrics = [name for name in summary if name not in ("examples", "loss")]
        names = [*(f"{part} {spoken(name)}" for name in metrics), "mean loss", "examples"]
        values = [*(show_metric(name, summary[name]) for name in metrics), f"{summary['loss']:.4g}"]
        return align([*zip(names, [*values, f"{summary['examples']:,}"], strict=True)])
    classes = zip(summary["precision"], summary["recall"], summary["confusion_matrix"], strict=True)
    rows = [("class", "precision", "recall", "images")]
    rows += [(str(n), f"{p:.2%}", f"{r:.2%}", f"{sum(counts):,}") for n, (p, r, counts) in enumerate(classes)]
    return [
        f"{f'{part} accuracy':<21}{summary['accuracy']:.2%} of {summary['examples']:,} images",
        f"mean cross-entropy   {summary['loss']:.4f} nats",
        f"calibration error    {summary['expected_calibration_error']:.2%} (expected, 15 bins)",
        "",
        *align(rows),
        "",
        "percent of each class (row) that got each prediction (column):",
        *confusion_table(summary["confusion_matrix"]),
    ]


def average_lines(average: AverageReport, num_views: int, seed: int) -> list[str]:
    """Return what is averaged, and how the single runs do.

    Args:
        average: the evaluation.
        num_views: augmented views of each example.
        seed: of the views.
    """
    accuracies, count = average.accuracies, len(average.accuracies)
    runs = f"{count} runs" if count > 1 else "1 run"
    views = f", on each example and {num_views} augmented views of it (seed {seed})" if num_views else ""
    mean = f"{sum(accuracies) / count:.2%}"
    spread = f", {min(accuracies):.2%} to {max(accuracies):.2%}" if count > 1 else ""
    single = "single runs, mean" if count > 1 else "the run alone"
    return [f"{'mean of':<21}{runs}{views}", f"{single:<21}{mean}{spread}"]


def data_line(node: Mapping[str, Any], report: EvaluationReport) -> str:
    """Return one line about the data of an evaluation: which they are, where they are, and how pixels are scaled.

    Args:
        node: the component that has loaded them.
        report: the evaluation.
    """
    known = [f"{name}={node[name]}" for name in ("directory", "manual_dir", "split") if node.get(name) is not None]
    inputs = jax.tree.leaves(report.split.inputs)
    divided = [f"pixels / {report.pixel_divisor:g}"] if any(x.dtype == np.uint8 for x in inputs) else []
    name = str(node.get("name") or short_name(node))
    return f"{'data':<21}{', '.join([name, *known, f'{report.part} split', *divided])}"


def trained_on_warning(report: EvaluationReport) -> str:
    """Return a warning where a run is evaluated on examples that it was trained on, or that is not known; else ""."""
    examples = f"{report.summary['examples']:,} {report.part} examples"
    if report.trained_on is None:
        return f"note: whether the run was trained on some of these {examples} is not known: its data are not here."
    if not report.trained_on:
        return ""
    return (
        f"warning: the run was trained on {report.trained_on:,} of these {examples}; what it makes of those does not "
        "tell how well it does on others."
    )


def evaluation_notes(report: EvaluationReport) -> list[str]:
    """Return notes on an evaluation: on examples trained on, on data that have changed, on weights not checked."""
    notes = [trained_on_warning(report)]
    if report.has_changed:
        notes.append("warning: the data of the run have changed since it ran; its own results were of others.")
    if not report.is_checked:
        notes.append("note: the run is older and has recorded no digest of these weights: they were not checked.")
    return list(filter(None, notes))


def sweep_table(summary: Summary, monitor: Monitor) -> list[list[str]]:
    """Return a header row, and one row per configuration whose jobs have the metric."""
    groups = [group for group in summary.groups if group.monitor == monitor]
    keys = list(dict.fromkeys(key for group in groups for key in group.varied))
    metric = monitor.metric
    any_pruned = any(group.pruned for group in groups)
    rows = [[*keys, "n", f"validation {spoken(metric)}", f"test {spoken(metric)}", "95 % interval"]]
    rows[0] += ["pruned"] if any_pruned else []
    for group in groups:
        validation, test = (group.measures.get(name) for name in (monitor.key, f"test_{metric}"))
        rows.append(
            [
                *(group.varied.get(key, "") for key in keys),
                f"{group.num_measured} of {group.num_seeds}",
                *(_mean_and_sd(metric, each) for each in (validation, test)),
                _interval(metric, test),
                *([_pruned(metric, group)] if any_pruned else []),
            ]
        )
    return rows


def interval_caption(summary: Summary, monitor: Monitor) -> str:
    """Return what the intervals of `sweep_table` are of; "" if there is none."""
    name = f"test_{monitor.metric}"
    measures = [group.measures[name] for group in summary.groups if group.monitor == monitor and name in group.measures]
    found = [each for each in measures if each.interval is not None]
    on_logit = " on the logit" if is_fraction(monitor.metric) else ""
    parts = []
    if any(each.n > 1 for each in found):
        shared = ", too narrow as folds share training examples" if "folds" in summary.replicates else ""
        parts.append(f"of the mean over the {summary.replicates}, Student's t{on_logit}{shared}")
    if any(each.n == 1 for each in found):
        parts.append("of a single run, Wilson's over its test images")
    return f"95 % interval of the test {spoken(monitor.metric)}: {'; '.join(parts)}" if parts else ""


def sweep_lines(summary: Summary) -> list[str]:
    """Return the summary of a sweep as lines: tables of means over seeds or folds, what is best, and the failures.

    There is a table for each metric by which jobs are judged, which is usually one.
    """
    states = [entry.state for entry in summary.entries]
    counts = {state: f"{states.count(state)} {state}" for state in STATES if state in states}
    if pruned := sum(map(is_pruned, summary.entries)):
        counts[DONE] += f", {pruned} of them pruned"
    lines = ["", f"{len(states)} jobs: {', '.join(counts.values())}", *repeated_lines(summary)]
    for monitor in summary.monitors:
        rows = sweep_table(summary, monitor)
        lines += ["", *align(rows, left=rows[0].index("n"))]
        lines += list(filter(None, [interval_caption(summary, monitor)]))
        if monitor in summary.bests:
            lines += ["", *best_lines(summary, monitor)]
    failed = [entry for entry in summary.entries if entry.state == FAILED]
    lines += [line for entry in failed for line in (f"job {entry.number} failed: {entry.error}", rerun_command(entry))]
    return [printable(line) for line in lines]


def repeated_lines(summary: Summary) -> list[str]:
    """Return a line about the complete jobs that repeat another one, configuration and seed; none if there are none."""
    counted = {number for group in summary.groups for number in group.counted}
    numbers = [entry.number for entry in summary.entries if is_complete(entry) and entry.number not in counted]
    if not numbers:
        return []
    return [f"not counted, as another has the same configuration and seed: jobs {', '.join(map(str, numbers))}"]


def best_lines(summary: Summary, monitor: Monitor) -> list[str]:
    """Return lines about the best configuration by its mean over seeds or folds, and about the best run."""
    best, metric = summary.bests[monitor], monitor.metric
    entry, values = _job(summary, best.job)
    result = entry.result or {}
    run = (
        f"job {entry.number}, validation {show_metric(metric, result[monitor.key])}, "
        f"test {show_metric(metric, result.get(f'test_{metric}'))}  "
        f"{' '.join(f'{key}={value}' for key, value in values.items())}"
    )
    if best.group.num_seeds == 1 and best.group.counted == [best.job]:
        return [f"best: {run}"]
    validation, test = (best.group.measures.get(name) for name in (monitor.key, f"test_{metric}"))
    name = " ".join(f"{key}={value}" for key, value in best.group.varied.items())
    count, total = best.group.num_measured, best.group.num_seeds
    runs = f"{count} of {total} runs" if count < total else f"{total} run{'s' if total > 1 else ''}"
    return [
        f"best: {f'{name}, ' if name else ''}mean of {runs}, "
        f"validation {_mean_and_sd(metric, validation)}, test {_mean_and_sd(metric, test)}",
        f"best run: {run}",
    ]


def _pruned(metric: str, group: SeedAggregate) -> str:
    if group.pruned is None:
        return ""
    epochs, last = group.pruned
    return f"after epoch {epochs:g}, validation {_mean_and_sd(metric, last)}"


def _job(summary: Summary, number: int) -> tuple[Entry, dict[str, str]]:
    return next(
        (entry, values) for entry, values in zip(summary.entries, summary.varied, strict=True) if entry.number == number
    )


def _mean_and_sd(metric: str, measure: Statistics | None) -> str:
    if measure is None:
        return ""
    sd = "" if measure.sd is None else f" ± {show_metric(metric, measure.sd).removesuffix('%')}"
    return show_metric(metric, measure.mean) + sd


def _interval(metric: str, measure: Statistics | None) -> str:
    if measure is None or measure.interval is None:
        return ""
    low, high = measure.interval
    return f"{show_metric(metric, low)} to {show_metric(metric, high)}"


# ---- metrics --------------------------------------------------------------------------------------------------------


def is_fraction(metric: str) -> bool:
    """Return whether a metric is shown in percent."""
    return metric in FRACTIONS


def show_metric(metric: str, value: float | None) -> str:
    """Return the value of a metric as text; None, as files have it, is one that is not finite."""
    value = math.nan if value is None else value
    return f"{value:.2%}" if is_fraction(metric) else f"{value:.4g}"


def counted(result: Mapping[str, Any]) -> str:
    """Return what the examples of a finished run are called: those of classification are images."""
    return "images" if "test_accuracy" in result else "examples"


def spoken(metric: str) -> str:
    """Return the name of a metric in words."""
    return metric.replace("_", " ")


def error_label(metric: str) -> str:
    """Return what a figure shows of a metric: its error where it is a fraction."""
    return "validation error (%)" if is_fraction(metric) else f"validation {spoken(metric)}"


def error_value(metric: str, value: float) -> float:
    """Return what a figure shows of a value of a metric; see `error_label`."""
    return 100 * (1 - value) if is_fraction(metric) else value


def utc(text: object) -> str:
    """Return a recorded time, as ISO 8601 has it, as a date and a time of day in UTC; what is none as it is."""
    try:
        return f"{datetime.fromisoformat(str(text)).astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError):
        return str(text)


def code_text(code: Mapping[str, Any]) -> str:
    """Return the revisions of the code of a run, and whether there were changes, as text."""
    parts = [("lenet_jax", code), ("project", code.get("project") or {})]
    texts = []
    for name, each in parts:
        if each.get("revision"):
            patch = each.get("patch")
            changed = f" with uncommitted changes{', in code.patch' if patch else ''}" if each.get("dirty") else ""
            texts.append(f"{name} {each['revision']}{changed}")
    return "; ".join(texts)
