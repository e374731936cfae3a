"""Tables as plain text."""

from collections.abc import Sequence

import jax.numpy as jnp

from lenet_jax.metrics import to_percent
from lenet_jax.runs.evaluate import Assessment
from lenet_jax.summary import Row, inference_bytes, training_bytes
from lenet_jax.sweeps.ledger import DONE, FAILED, STATES, Entry
from lenet_jax.sweeps.statistics import Statistics, Summary, is_complete, printable, rerun_command


def align(rows: Sequence[Sequence[str]], *, left: int = 1) -> list[str]:
    """Return rows of cells as lines with aligned columns, the first `left` to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if number < left else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def layer_table(rows: Sequence[Row], input_shape: tuple[int, ...]) -> list[str]:
    """Return the table of `summarize`, its totals, and what the outputs of an example take."""
    cells: list[tuple[str, ...]] = [
        ("layer", "output", "parameters", "connections", "multiply-adds", "output size", "sees")
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
                _size(row.bytes),
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
        f"{_size(inference_bytes(list(rows)))} at a time to apply the network (the two largest neighbours), "
        f"{_size(training_bytes(list(rows)))} to train it ({_kept(rows)}).",
    ]


def _kept(rows: Sequence[Row]) -> str:
    return "all but those that are computed again" if any(row.recomputed for row in rows) else "all"


def _size(count: int) -> str:
    if count < 2**20:
        return f"{count / 2**10:.1f} KiB"
    return f"{count / 2**20:.1f} MiB"


def confusion_table(matrix: Sequence[Sequence[int]]) -> list[str]:
    """Return a confusion matrix with each row in percent of its class; empty cells are exactly 0."""
    percent = to_percent(jnp.asarray(matrix)).tolist()
    names = [str(number) for number in range(len(percent))]
    rows = [
        [name, *(f"{value:.1f}" if value else "" for value in row)] for name, row in zip(names, percent, strict=True)
    ]
    return align([["", *names], *rows])


def assessment_table(assessment: Assessment) -> list[str]:
    """Return accuracy, calibration, the measures of each class and the confusion matrix."""
    summary = assessment.summary
    classes = zip(summary["precision"], summary["recall"], summary["confusion_matrix"], strict=True)
    rows = [("class", "precision", "recall", "images")]
    rows += [(str(n), f"{p:.2%}", f"{r:.2%}", f"{sum(counts):,}") for n, (p, r, counts) in enumerate(classes)]
    return [
        f"test accuracy        {summary['accuracy']:.2%} of {summary['examples']:,} images",
        f"mean cross-entropy   {summary['loss']:.4f} nats",
        f"calibration error    {summary['expected_calibration_error']:.2%} (expected, 15 bins)",
        "",
        *align(rows),
        "",
        "percent of each class (row) that got each prediction (column):",
        *confusion_table(summary["confusion_matrix"]),
    ]


def sweep_table(summary: Summary) -> list[list[str]]:
    """Return a row of names, and a row for each group."""
    keys = list(dict.fromkeys(key for group in summary.groups for key in group.varied))
    rows = [[*keys, "n", "validation accuracy", "test accuracy", "95 % interval"]]
    for group in summary.groups:
        validation, test = (group.measures.get(name) for name in ("validation_accuracy", "test_accuracy"))
        count = f"{validation.n if validation else 0} of {len(group.jobs)}"
        rows.append([*(group.varied.get(key, "") for key in keys), count, *map(_spread, (validation, test)), _ci(test)])
    return rows


def sweep_lines(summary: Summary) -> list[str]:
    """Return the summary as text: a row a group, the best job, what failed."""
    states = [entry.state for entry in summary.entries]
    counts = ", ".join(f"{states.count(state)} {state}" for state in STATES if state in states)
    pruned = sum(entry.state == DONE and not is_complete(entry) for entry in summary.entries)
    counts += f", {pruned} of them pruned" if pruned else ""
    rows = sweep_table(summary)
    lines = ["", f"{len(states)} jobs: {counts}", "", *align(rows, left=len(rows[0]) - 4)]
    if summary.best is not None:
        entry, values = _job(summary, summary.best)
        result = entry.result or {}
        lines += [
            "",
            f"best: job {entry.number}, validation {result['validation_accuracy']:.2%}, "
            f"test {result['test_accuracy']:.2%}  {' '.join(f'{key}={value}' for key, value in values.items())}",
        ]
    failed = [entry for entry in summary.entries if entry.state == FAILED]
    lines += [line for entry in failed for line in (f"job {entry.number} failed: {entry.error}", rerun_command(entry))]
    return [printable(line) for line in lines]


def _job(summary: Summary, number: int) -> tuple[Entry, dict[str, str]]:
    return next(
        (entry, values) for entry, values in zip(summary.entries, summary.varied, strict=True) if entry.number == number
    )


def _spread(measure: Statistics | None) -> str:
    if measure is None:
        return ""
    return f"{measure.mean:.2%}" + ("" if measure.sd is None else f" ± {100 * measure.sd:.2f}")


def _ci(measure: Statistics | None) -> str:
    if measure is None or measure.interval is None:
        return ""
    low, high = measure.interval
    return f"{low:.2%} to {min(high, 1):.2%}"
