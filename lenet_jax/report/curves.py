"""The learning curves of a run, from its evaluations."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from lenet_jax.report import figures
from lenet_jax.report.text import error_label, error_value, is_fraction
from lenet_jax.runs import Monitor


def draw_curves(metrics: Sequence[Mapping[str, Any]], monitor: Monitor) -> Figure:
    """Draw losses, and the monitored error or metric, against the epoch.

    Args:
        metrics: lines of `metrics.jsonl`, one or more.
        monitor: of the run.
    """
    columns = {name: column(metrics, name) for name in ("epoch", "train_loss", "validation_loss")}
    columns["monitored"] = [error_value(monitor.metric, value) for value in column(metrics, monitor.key)]
    running = f"running_train_{monitor.metric}"
    if running in metrics[0]:
        columns["train_monitored"] = [error_value(monitor.metric, value) for value in column(metrics, running)]
    unit = " %" if is_fraction(monitor.metric) else ""
    best = int(np.argmin([monitor.error(line) for line in metrics]))
    return figures.learning_curves(columns, label=error_label(monitor.metric), best=best, unit=unit)


def column(metrics: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    """Return the values of a name in lines of `metrics.jsonl`; NaN for null, or where it is missing."""
    return [np.nan if line.get(name) is None else line[name] for line in metrics]
