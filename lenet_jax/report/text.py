"""Tables as plain text."""

from collections.abc import Sequence

import jax.numpy as jnp

from lenet_jax.metrics import to_percent
from lenet_jax.runs.assessment import Assessment
from lenet_jax.summary import Row, inference_bytes, training_bytes


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


def summary_table(rows: Sequence[Row], input_shape: tuple[int, ...]) -> list[str]:
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
