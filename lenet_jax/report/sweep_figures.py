"""Pictures of a sweep: learning curves over the seeds, results over a hyperparameter."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from lenet_jax.report.figures import COLOURS, DPI, INK, decorate

_MOST_CHARACTERS = 120  # of a label; one that is wider than the figure leaves no room for the curves
_STYLES = ("-", "--", "-.", ":")


def group_curves(
    groups: Mapping[str, Sequence[tuple[ArrayLike, ArrayLike]]], *, title: str = "Validation error over the seeds"
) -> Figure:
    """Draw the validation error of groups of runs: the mean over the seeds, and a band from the best to the worst.

    Args:
        groups: name -> for each run its epochs and its validation accuracies; runs may end at different epochs.
        title: of the figure.
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
    decorate(axis, "epoch", "validation error (%)")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_ylim(bottom=0, top=min(1.05 * highest, 4 * max(medians)) + 0.1)
    axis.legend(frameon=False, fontsize=8)
    axis.set_title(title, fontsize=10, color=INK)
    return figure


def _align(runs: Sequence[tuple[ArrayLike, ArrayLike]]) -> tuple[np.ndarray, np.ndarray]:
    """Return the epochs of any run, and the errors in percent (runs, epochs); NaN where a run has no evaluation."""
    columns = [dict(zip(np.asarray(x).tolist(), np.asarray(y).tolist(), strict=True)) for x, y in runs]
    epochs = sorted(set().union(*columns))
    return np.array(epochs), np.array([[100 * (1 - run.get(epoch, np.nan)) for epoch in epochs] for run in columns])


def hyperparameter_effect(name: str, values: ArrayLike, errors: ArrayLike) -> Figure:
    """Draw each run's validation error against a hyperparameter, and the mean of each value.

    Args:
        name: of the hyperparameter.
        values: (N,), one a run; on a logarithmic axis where they are positive and span more than a factor of 10.
        errors: (N,), in percent.
    """
    x, y = np.asarray(values, np.float64), np.asarray(errors, np.float64)
    figure = Figure(figsize=(5.0, 3.4), dpi=DPI, layout="constrained")
    axis = figure.subplots()
    axis.plot(x, y, "o", color=COLOURS[0], alpha=0.5, label="a run")
    places = np.unique(x)
    axis.plot(places, [y[x == place].mean() for place in places], "-_", color=COLOURS[1], ms=14, label="mean")
    if x.min() > 0 and x.max() > 10 * x.min():
        axis.set_xscale("log")
    if len(places) <= 8:
        axis.set_xticks(places, [f"{place:g}" for place in places])
        axis.minorticks_off()
    decorate(axis, _literal(name), "validation error (%)")
    axis.legend(frameon=False, fontsize=8)
    return figure


def _literal(text: str) -> str:
    """Return what matplotlib shows as this text, in which it reads formulas between dollar signs; not too long."""
    shown = "".join(character if character.isprintable() else "?" for character in text)
    shown = shown if len(shown) <= _MOST_CHARACTERS else f"{shown[:_MOST_CHARACTERS]}..."
    shown = f" {shown}" if shown.startswith("_") else shown  # matplotlib leaves a name like that out
    return shown.replace("$", r"\$")
