"""The learning-rate range test as a table and a figure."""

import math

import numpy as np
from matplotlib.figure import Figure

from lenet_jax.report.figures import COLOURS, DPI, decorate
from lenet_jax.report.text import align
from lenet_jax.runs.learning_rates import NUM_STEPS, RangeTest


def rate_table(found: RangeTest) -> list[str]:
    """Return the loss at each rate, as lines; the lowest has a star."""
    cells = [("learning rate", "loss", "")]
    for place, (rate, loss) in enumerate(zip(found.rates, found.losses, strict=True)):
        text = "diverged" if math.isnan(loss) else f"{loss:.4f}"
        cells.append((f"{rate:.3g}", text, "*" if place == found.best else ""))
    return align(cells, left=0)


def draw_rates(found: RangeTest, best: int) -> Figure:
    """Draw the loss against the rate; losses far above that at the lowest rate are beyond the frame.

    Args:
        found: rates and losses.
        best: the place of the rate that is marked.
    """
    figure = Figure(figsize=(5.0, 3.4), dpi=DPI, layout="constrained")
    axis = figure.subplots()
    axis.plot(found.rates, found.losses, "o-", color=COLOURS[0], markersize=3)
    axis.plot(found.rates[best], found.losses[best], "o", color=COLOURS[1])
    axis.set_xscale("log")
    usual = found.losses[best] - found.losses[np.isfinite(found.losses)][0]
    if usual < 0:
        axis.set_ylim(found.losses[best] + 0.1 * usual, found.losses[best] - 1.5 * usual)
    decorate(axis, "learning rate", f"training loss after {NUM_STEPS} steps")
    return figure
