"""Figures of the effects of hyperparameters: one against the error, two as a map, several as parallel coordinates."""

import math
import re
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, NullFormatter
from numpy.typing import ArrayLike

from lenet_jax.report.figures import COLOURS, DPI, INK, ON_LIGHT, PRUNED, decorate

_MAX_CHARACTERS = 120  # of a label; a label wider than the figure would leave no room for the curves
_DECIMAL = re.compile(r"[+-]?(\d*\.\d+|\d+(?:\.\d*)?(?=[eE]))(?:[eE][+-]?\d+)?", re.ASCII)
_MAX_TICK = 24  # characters of the name of a category
_MAX_NAME = 28  # of that of a key below its own axis
_MARKERS = ("o", "s", "^", "D", "v", "P")
_MIN_GAP = 0.12  # of the axis, between ticks that all have labels
_BEST_TO_WORST = LinearSegmentedColormap.from_list("errors", COLOURS[:2])  # to see on a light and on a dark page


def numbers(values: Sequence[str | None]) -> np.ndarray | None:
    """Return the values of a key as numbers; None if one of them is no finite number, or is missing."""
    try:
        found = np.array([float(value or "nan") for value in values])
    except ValueError:
        return None
    return found if np.isfinite(found).all() else None


def four_digits(text: str) -> str:
    """Return a number with at most four significant digits; a text that is no number, or an integer, as it is."""
    found = _DECIMAL.fullmatch(text)
    is_long = found is not None and len(found[1].replace(".", "").lstrip("0")) > 4
    return f"{float(text):.4g}" if is_long else text


def is_logarithmic(values: ArrayLike) -> bool:
    """Return whether values are spaced, or sampled, more evenly on a logarithmic axis than on a linear one."""
    distinct = np.unique(np.asarray(values, np.float64))
    if distinct[0] <= 0 or distinct[-1] <= 2 * distinct[0]:
        return False
    if len(distinct) == 2:
        return bool(distinct[1] >= 10 * distinct[0])
    linear, logarithmic = np.diff(distinct), np.diff(np.log(distinct))
    return bool(logarithmic.std() / logarithmic.mean() < linear.std() / linear.mean())


def hyperparameter_effect(
    name: str,
    values: Sequence[str | None],
    errors: ArrayLike,
    *,
    other: tuple[str, Sequence[str | None]] | None = None,
    pruned: tuple[Sequence[str | None], Sequence[float]] = ((), ()),
    label: str = "validation error (%)",
) -> Figure:
    """Draw the error of each run against a hyperparameter, and the mean error of each value that several runs have.

    Args:
        name: name of the hyperparameter.
        values: one value per run (N,); numbers are drawn on an axis, which is logarithmic where they are spaced or
            sampled so, and others as categories.
        errors: validation errors in percent, or another metric (N,).
        other: name and values (N,) of another hyperparameter, of which each value is a line; None: one line.
        pruned: values and last errors of the runs that were stopped because others were better.
        label: what the errors are.
    """
    every = [*values, *pruned[0]]
    x, y = numbers(every), np.asarray(errors, np.float64)
    shown = [literal("(not set)" if value is None else four_digits(value)) for value in every]
    figure = Figure(figsize=(5.7, 3.6), dpi=DPI, layout="constrained")
    axis = figure.subplots()
    if x is None:
        names = list(dict.fromkeys(shown))
        place = np.array([names.index(each) for each in shown], np.float64)
    else:
        place = x
        _scale(axis, x)
    groups = ["runs"] * len(y) if other is None else ["(not set)" if v is None else four_digits(v) for v in other[1]]
    for number, group in enumerate(dict.fromkeys(groups)):
        of_group = np.array([each == group for each in groups])
        title = literal(group if other is None else f"{other[0]}={group}")
        colour, marker = COLOURS[number % len(COLOURS)], _MARKERS[number % len(_MARKERS)]
        _draw_group(axis, place[: len(y)][of_group], y[of_group], colour, marker, title, joined=x is not None)
    if pruned[0]:
        title = f"pruned ({len(pruned[0])}), where they stopped"
        axis.plot(place[len(y) :], pruned[1], "x", color=PRUNED, ms=4, label=title)
    if x is None:
        _name_categories(axis, names)
    decorate(axis, literal(name), label)
    if other is not None or pruned[0]:
        figure.legend(loc="outside lower center", frameon=False, fontsize=8)
    return figure


def _draw_group(
    axis: Axes, x: np.ndarray, y: np.ndarray, colour: str, marker: str, label: str, *, joined: bool
) -> None:
    """Draw runs as dots, and the means of the values of x, which a line joins where they are numbers."""
    axis.plot(x, y, marker, color=colour, alpha=0.7, ms=5, label=label)
    distinct = np.unique(x)
    means = [y[x == value].mean() for value in distinct]
    if len(distinct) > 8 and len(distinct) == len(x):  # a line through single runs shows their noise
        return
    axis.plot(distinct, means, f"{'-' if joined else ''}_", color=colour, ms=14, lw=1.2)


def _scale(axis: Axes, x: np.ndarray) -> None:
    """Set the scale of the horizontal axis and its ticks: the values themselves if they are few and far apart."""
    distinct = np.unique(x)
    on_log = is_logarithmic(x)
    if on_log:
        axis.set_xscale("log")
        decades = math.log10(distinct[-1] / distinct[0])
        axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if decades < 2 else (1.0,)))
        axis.xaxis.set_minor_formatter(NullFormatter())
    axis.xaxis.set_major_formatter("{x:.4g}")
    places = np.log(distinct) if on_log else distinct
    gaps = np.diff(places) / (places[-1] - places[0] or 1)
    if len(distinct) <= 8 and (len(gaps) == 0 or gaps.min() > _MIN_GAP):
        axis.xaxis.set_major_locator(FixedLocator(distinct.tolist()))
        axis.minorticks_off()


def _name_categories(axis: Axes, names: Sequence[str]) -> None:
    shortened = [name if len(name) <= _MAX_TICK else f"{name[:_MAX_TICK]}..." for name in names]
    is_crowded = sum(map(len, shortened)) > 60
    rotation = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if is_crowded else {}
    axis.set_xticks(range(len(names)), shortened, fontsize=8 if is_crowded else 10, **rotation)
    axis.set_xlim(-0.5, len(names) - 0.5)


def heat_map(
    names: tuple[str, str], x: ArrayLike, y: ArrayLike, errors: ArrayLike, *, label: str = "validation error (%)"
) -> Figure:
    """Draw the mean error of each pair of values of two hyperparameters as a colour, with its number.

    Args:
        names: names of the hyperparameters.
        x: values of the first one (N,).
        y: values of the second one (N,).
        errors: validation errors in percent, or another metric (N,).
        label: what the errors are.
    """
    columns, column = np.unique(np.asarray(x, np.float64), return_inverse=True)
    rows, row = np.unique(np.asarray(y, np.float64), return_inverse=True)
    sums, counts = np.zeros((2, len(rows), len(columns)))
    np.add.at(sums, (row, column), np.asarray(errors, np.float64))
    np.add.at(counts, (row, column), 1)
    means = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
    figure = Figure(figsize=(0.62 * len(columns) + 2.4, 0.42 * len(rows) + 1.6), dpi=DPI, layout="constrained")
    axis = figure.subplots()
    drawn = axis.imshow(means, cmap="viridis_r", aspect="auto", origin="lower", interpolation="none")
    middle = (np.nanmin(means) + np.nanmax(means)) / 2
    for (i, j), mean in np.ndenumerate(means):
        if np.isfinite(mean):
            colour = "white" if mean > middle else ON_LIGHT
            axis.text(j, i, f"{mean:#.3g}".rstrip("."), ha="center", va="center", fontsize=7, color=colour)
    axis.set_xticks(range(len(columns)), [f"{value:.4g}" for value in columns], fontsize=8)
    axis.set_yticks(range(len(rows)), [f"{value:.4g}" for value in rows], fontsize=8)
    axis.set_xlabel(literal(names[0]))
    axis.set_ylabel(literal(names[1]))
    figure.colorbar(drawn, ax=axis, label=label).ax.collections[0].set_rasterized(True)
    return figure


def is_grid(x: ArrayLike, y: ArrayLike) -> bool:
    """Return whether pairs of values fill most of a grid that is small enough for a heat map."""
    pairs = np.unique(np.stack([np.asarray(x, np.float64), np.asarray(y, np.float64)]), axis=1).shape[1]
    columns, rows = len(np.unique(x)), len(np.unique(y))
    return max(columns, rows) <= 12 and pairs > columns * rows / 2


def parallel_coordinates(
    values: Mapping[str, ArrayLike], errors: ArrayLike, *, label: str = "validation error (%)"
) -> Figure:
    """Draw each run as a line through its hyperparameters, coloured by its error; the best are drawn last.

    Args:
        values: name of each hyperparameter -> its values (N,); an axis is logarithmic as in `hyperparameter_effect`.
        errors: validation errors in percent, or another metric (N,).
        label: what the errors are.
    """
    y = np.asarray(errors, np.float64)
    figure = Figure(figsize=(1.8 * len(values) + 1.6, 4.2), dpi=DPI, layout="constrained")
    axis = figure.subplots()
    heights = []
    for place, each in enumerate(values.values()):
        x = np.asarray(each, np.float64)
        scaled = np.log(x) if is_logarithmic(x) else x
        heights.append((scaled - scaled.min()) / (np.ptp(scaled) or 1))
        axis.axvline(place, color="#999999", lw=0.8)
        axis.text(place, 1.03, f"{x.max():.4g}", ha="center", va="bottom", fontsize=8, color=INK)
        axis.text(place, -0.03, f"{x.min():.4g}", ha="center", va="top", fontsize=8, color=INK)
    lines = np.array(heights)
    norm = LogNorm() if y.min() > 0 and y.max() > 4 * y.min() else None  # else the good ones would look alike
    drawn = axis.scatter(np.zeros(len(y)), lines[0], c=y, cmap=_BEST_TO_WORST, norm=norm, s=0)
    for run in np.argsort(-y, kind="stable"):
        axis.plot(lines[:, run], color=drawn.to_rgba(y[run : run + 1])[0], lw=1.2, alpha=0.8)
    names = [literal(name) for name in values]
    is_crowded = max(map(len, names)) > _MAX_NAME
    rotation = {"rotation": 20, "ha": "right", "rotation_mode": "anchor"} if is_crowded else {}
    axis.set_xticks(range(len(names)), names, fontsize=8, **rotation)
    axis.tick_params(length=0)
    axis.set(yticks=[], ylim=(-0.12, 1.12), xlim=(-0.5, len(names) - 0.5))
    axis.spines[:].set_visible(False)
    scale = figure.colorbar(drawn, ax=axis, label=label)
    scale.ax.collections[0].set_rasterized(True)
    if norm is not None:
        scale.ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        scale.ax.yaxis.set_major_formatter("{x:g}")
        scale.ax.yaxis.set_minor_formatter(NullFormatter())
    return figure


def literal(text: str) -> str:
    """Escape and shorten a text for matplotlib, which would read formulas between dollar signs."""
    label = "".join(character if character.isprintable() else "?" for character in text)
    label = label if len(label) <= _MAX_CHARACTERS else f"{label[:_MAX_CHARACTERS]}..."
    label = f" {label}" if label.startswith("_") else label  # matplotlib omits labels that start with "_"
    return label.replace("$", r"\$")
