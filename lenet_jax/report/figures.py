"""Figures of networks and of their results: functions from arrays to matplotlib figures.

Images are grey, with a fixed range, so that a constant image has the grey level of its value; weights and outputs,
which have two signs, are blue below 0, white at 0 and red above. The colours are distinguishable in print and by
colour-blind readers. Images have no interpolation, so that a vector format embeds their own pixels.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from lenet_jax.metrics import to_percent

INK = "#222222"  # of axes and text; light on a dark page
ON_LIGHT = "#111111"  # of text on a light colour, on any page
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe and Ito 2008
PRUNED = "#888888"
DIVERGING = "RdBu_r"  # colours of values of two signs, white in the middle
DPI = 120


def to_pictures(images: ArrayLike) -> np.ndarray:
    """Return images as values from 0 to 1 that can be drawn: (N, H, W) in grey, or (N, H, W, 3) in colours.

    Args:
        images: (N, H, W, C): uint8, or floats, of which the smallest becomes 0 and the largest 1. Of other numbers of
            channels than 1 and 3 the mean is drawn.
    """
    images = np.asarray(images)
    if images.dtype == np.uint8:
        drawn = images / 255
    else:
        low, high = float(images.min()), float(images.max())
        drawn = (images.astype(np.float64) - low) / ((high - low) or 1.0)
    return drawn if images.shape[-1] == 3 else drawn.mean(axis=-1)


def image_grid(
    images: ArrayLike,
    *,
    value_range: tuple[float, float],
    titles: Sequence[str] | None = None,
    num_columns: int | None = None,
    title: str | None = None,
    label: str | None = None,
    cmap: str = "gray",
) -> Figure:
    """Draw a grid of grey images with a common range of values.

    Args:
        images: (N, H, W), or (N, H, W, 3) with colours from 0 to 1.
        value_range: the values that are drawn black and white, or in the first and the last colour.
        titles: one per image; None: no titles.
        num_columns: number of images in a row; None: the grid is about square.
        title: title of the figure.
        label: label of the scale; None: no scale is drawn.
        cmap: colours of the values, by matplotlib's name.
    """
    images = np.asarray(images)
    num_columns = num_columns or math.ceil(math.sqrt(len(images)))
    num_rows = math.ceil(len(images) / num_columns)
    aspect = images.shape[1] / images.shape[2]
    cell = max(0.62, 4.2 / num_columns)
    head = 0.28 + 0.11 * titles[0].count("\n") if titles else 0.0
    figure = Figure(
        figsize=(num_columns * cell + 1.0, num_rows * (cell * aspect + head) + 0.5), dpi=DPI, layout="constrained"
    )
    axes = figure.subplots(num_rows, num_columns, squeeze=False)
    drawn = None
    for index, axis in enumerate(axes.flat):
        axis.set(xticks=[], yticks=[], frame_on=index < len(images))
        axis.spines[:].set_color("#bbbbbb")  # shows the edge of a white image on a white page
        if index < len(images):
            low, high = value_range
            drawn = axis.imshow(images[index], cmap=cmap, vmin=low, vmax=high, interpolation="none")
            if titles:
                axis.set_title(titles[index], fontsize=7, color=INK, pad=2)
    if label and drawn is not None:
        _draw_scale(figure, drawn, axes, label)
    if title:
        figure.suptitle(title, fontsize=10, color=INK)
    return figure


def filters(kernel: ArrayLike, *, title: str = "Filters") -> Figure:
    """Draw the kernels of a convolution; the scale is symmetric, so that a weight of 0 is white.

    Args:
        kernel: (Kh, Kw, I, O); one image per pair of input and output channel, in the order of the output channels.
        title: title of the figure.
    """
    kernel = np.asarray(kernel)
    height, width, num_inputs, num_outputs = kernel.shape
    images = kernel.transpose(3, 2, 0, 1).reshape(-1, height, width)
    names = [str(number) for number in range(num_outputs)] if num_inputs == 1 else None
    columns = None if num_inputs == 1 else num_inputs
    return image_grid(
        images,
        value_range=_symmetric(kernel),
        titles=names,
        num_columns=columns,
        title=title,
        label="weight",
        cmap=DIVERGING,
    )


def maps(outputs: ArrayLike, *, title: str) -> Figure:
    """Draw the feature maps of a layer; the scale is symmetric, so that an output of 0 is white.

    Args:
        outputs: (maps, H, W).
        title: title of the figure.
    """
    outputs = np.asarray(outputs)
    names = [str(number) for number in range(len(outputs))]
    return image_grid(
        outputs, value_range=_symmetric(outputs), titles=names, title=title, label="output", cmap=DIVERGING
    )


def units(outputs: ArrayLike, *, title: str) -> Figure:
    """Draw the outputs of a layer of units as bars.

    Args:
        outputs: (units,).
        title: title of the figure.
    """
    outputs = np.asarray(outputs, np.float64)
    figure = Figure(figsize=(8.4, 2.2), dpi=DPI, layout="constrained")
    axis = figure.subplots()
    axis.bar(np.arange(len(outputs)), outputs, color=COLOURS[0])
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    decorate(axis, "unit", "output")
    axis.set_title(title, fontsize=10, color=INK)
    return figure


def feature_maps(
    image: ArrayLike, kernel: ArrayLike, maps: ArrayLike, *, title: str = "Filters and their outputs"
) -> Figure:
    """Draw each filter of a first layer beside its feature map of an image.

    Args:
        image: (H, W), from 0 (black) to 1 (white).
        kernel: (Kh, Kw, O).
        maps: (h, w, O), the outputs; their scale is symmetric about 0.
        title: title of the figure.
    """
    image, kernel, maps = np.asarray(image), np.asarray(kernel), np.asarray(maps)
    num_maps = maps.shape[-1]
    columns = min(5, num_maps)
    rows = math.ceil(num_maps / columns)
    figure = Figure(figsize=(1.7 * columns + 2.0, 0.95 * rows + 0.5), dpi=DPI, layout="constrained")
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=[1.2, 1.7 * columns]).flat
    axis = left.subplots()
    axis.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="none")
    axis.set_title("image", fontsize=8)
    axis.set_axis_off()
    axes = right.subplots(rows, 2 * columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    weights, values = _symmetric(kernel), _symmetric(maps)
    for number in range(num_maps):
        row, column = divmod(number, columns)
        pair = axes[row, 2 * column], axes[row, 2 * column + 1]
        pair[0].imshow(kernel[..., number], cmap=DIVERGING, vmin=weights[0], vmax=weights[1], interpolation="none")
        pair[0].set_title(str(number), fontsize=7, pad=2)
        drawn = pair[1].imshow(maps[..., number], cmap=DIVERGING, vmin=values[0], vmax=values[1], interpolation="none")
    _draw_scale(figure, drawn, axes, "output")
    figure.suptitle(title, fontsize=10, color=INK)
    return figure


def confusion(
    matrix: ArrayLike, *, class_names: Sequence[str] | None = None, title: str = "Confusion matrix"
) -> Figure:
    """Draw a confusion matrix with each row in percent of its true class.

    Args:
        matrix: counts (classes, classes); rows are true classes, columns predicted classes.
        class_names: names of the classes; None: 0, 1, ...
        title: title of the figure.
    """
    percent = np.asarray(to_percent(jnp.asarray(matrix)))
    num_classes = len(percent)
    names = [str(n) for n in range(num_classes)] if class_names is None else list(class_names)
    size = 0.42 * num_classes + 1.4
    figure = Figure(figsize=(size + 0.5, size), dpi=DPI, layout="constrained")
    axis = figure.subplots()
    # On a linear colour scale the errors would be invisible beside the diagonal, so the scale is a square root.
    drawn = axis.imshow(np.sqrt(percent), cmap="Blues", vmin=0, vmax=10)
    for row in range(num_classes):
        for column in range(num_classes):
            value = percent[row, column]
            if value > 0:
                colour = "white" if value > 30 else ON_LIGHT
                axis.text(column, row, f"{value:.1f}", ha="center", va="center", fontsize=7, color=colour)
    axis.set_xticks(range(num_classes), names)
    axis.set_yticks(range(num_classes), names)
    axis.set_xlabel("predicted class")
    axis.set_ylabel("true class")
    scale = _draw_scale(figure, drawn, axis, "percent of the true class")
    scale.set_ticks(np.sqrt([0, 1, 5, 20, 50, 100]).tolist(), labels=["0", "1", "5", "20", "50", "100"])
    axis.set_title(title, fontsize=10, color=INK)
    return figure


def learning_curves(
    metrics: Mapping[str, ArrayLike],
    *,
    label: str = "validation error (%)",
    best: int | None = None,
    unit: str = " %",
    title: str = "Learning curves",
) -> Figure:
    """Draw losses, and the validation error or another monitored metric, against the epoch.

    Args:
        metrics: columns `epoch`, `train_loss`, `validation_loss`, and `monitored`: an error in percent or another
            metric; `train_monitored` may have the same of the minibatches while they were trained on.
        label: what `monitored` is.
        best: index of its best value.
        unit: of that value, in its label.
        title: title of the figure.
    """
    epoch = np.asarray(metrics["epoch"], np.float64)
    figure = Figure(figsize=(8.4, 3.4), dpi=DPI, layout="constrained")
    left, right = figure.subplots(1, 2)
    marker = "o" if len(epoch) < 2 else None
    for name, style, colour in (("train", "-", COLOURS[0]), ("validation", "--", COLOURS[1])):
        loss = np.asarray(metrics[f"{name}_loss"], np.float64)
        left.plot(epoch, loss, style, color=colour, label=name, marker=marker)
    count_epochs(left, right)
    decorate(left, "epoch", "mean cross-entropy (nats)" if unit else "mean loss")
    left.set_yscale("log", subs=[2, 5])
    left.yaxis.set_major_formatter("{x:g}")
    left.yaxis.set_minor_formatter("{x:g}")
    left.legend(frameon=False)
    error = np.asarray(metrics["monitored"], np.float64)
    if "train_monitored" in metrics:
        running = np.asarray(metrics["train_monitored"], np.float64)
        right.plot(epoch, running, "-", color=COLOURS[0], marker=marker, label="train, while training")
    right.plot(epoch, error, "--", color=COLOURS[1], marker=marker, label="validation")
    right.legend(frameon=False)
    best = int(np.argmin(error)) if best is None else best
    right.plot(epoch[best], error[best], "o", color=COLOURS[1])
    text = f"{error[best]:.2f} %" if unit else f"{error[best]:.4g}"
    right.annotate(text, (epoch[best], error[best]), textcoords="offset points", xytext=(0, -14), ha="center")
    decorate(right, "epoch", label)
    if unit:
        right.set_ylim(bottom=0, top=min(100, 4 * float(np.median(error)) + 0.1))
    figure.suptitle(title, fontsize=10, color=INK)
    return figure


def likelihood_curve(train_loss: ArrayLike, *, title: str = "exp(-error)") -> Figure:
    """Draw exp(-loss) against the iteration: the geometric mean of the predicted probability of the true class.

    Args:
        train_loss: mean cross-entropy before each iteration, and after the last one if it is known, in nats.
        title: title of the figure.
    """
    loss = np.asarray(train_loss, np.float64)
    figure = Figure(figsize=(5.0, 3.4), dpi=DPI, layout="constrained")
    axis = figure.subplots()
    axis.plot(np.arange(len(loss)), np.exp(-loss), color=COLOURS[0])
    axis.set_ylim(0, 1.02)
    decorate(axis, "iterations done", "exp(-mean cross-entropy), training set")
    axis.set_title(title, fontsize=10, color=INK)
    return figure


def learning_rate(epochs: ArrayLike, rates: ArrayLike, *, label: str = "learning rate") -> Figure:
    """Draw the learning rate against the epoch.

    Args:
        epochs: passes over the training set before each step that is drawn (N,).
        rates: learning rates, or factors on them (N,).
        label: which of them they are.
    """
    figure = Figure(figsize=(5.0, 3.0), dpi=DPI, layout="constrained")
    axis = figure.subplots()
    axis.plot(np.asarray(epochs), np.asarray(rates), color=COLOURS[0])
    axis.set_ylim(bottom=0)
    count_epochs(axis)
    decorate(axis, "epoch", label)
    return figure


def calibration(confidences: ArrayLike, correct: ArrayLike, *, num_bins: int = 15) -> Figure:
    """Draw the accuracy of predictions against their confidence, and how many have which confidence.

    Args:
        confidences: probabilities of the predictions (N,), 0 to 1.
        correct: whether each prediction is right (N,).
        num_bins: number of bins of equal width from 0 to 1, as those of the expected calibration error.

    Source: Guo et al. 2017, "On calibration of modern neural networks", figure 1.
    """
    confidences, correct = np.asarray(confidences, np.float64), np.asarray(correct, np.float64)
    bins = np.clip(np.ceil(confidences * num_bins).astype(int) - 1, 0, num_bins - 1)
    counts = np.bincount(bins, minlength=num_bins)
    found = counts > 0
    mean_confidence, accuracy = (
        np.bincount(bins, each, num_bins)[found] / counts[found] for each in (confidences, correct)
    )
    figure = Figure(figsize=(5.0, 4.6), dpi=DPI, layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    top.plot([0, 100], [0, 100], ":", color=INK, label="calibrated")
    top.plot(100 * mean_confidence, 100 * accuracy, "o-", color=COLOURS[0], label="network")
    top.set_ylim(0, 102)
    top.legend(frameon=False)
    decorate(top, "", "accuracy (%)")
    bottom.bar((np.arange(num_bins) + 0.5) * 100 / num_bins, counts, width=90 / num_bins, color=COLOURS[0])
    decorate(bottom, "confidence (%)", "images")
    return figure


def misclassified(
    images: ArrayLike,
    labels: ArrayLike,
    predictions: ArrayLike,
    *,
    confidences: ArrayLike | None = None,
    num_examples: int = 40,
    title: str | None = None,
) -> Figure:
    """Draw the first misclassified examples, each with the title "label > prediction".

    Args:
        images: (N, H, W, C), as `to_pictures` takes them.
        labels: true classes (N,).
        predictions: predicted classes (N,).
        confidences: probabilities of the predictions (N,), 0 to 1, which are then shown with the numbers of the
            examples; None: neither.
        num_examples: maximum number of examples.
        title: title of the figure; None: the number of misclassified examples.
    """
    images, labels, predictions = np.asarray(images), np.asarray(labels), np.asarray(predictions)
    wrong = np.flatnonzero(labels != predictions)
    title = title or f"{len(wrong)} of {len(labels):,} classified wrongly: label > prediction"
    if len(wrong) == 0:
        figure = Figure(figsize=(4, 1), dpi=DPI, layout="constrained")
        figure.suptitle(title, fontsize=10, color=INK)
        return figure
    shown = wrong[:num_examples]
    pictures = to_pictures(images[shown])
    titles = [f"{labels[n]} > {predictions[n]}" for n in shown]
    if confidences is not None:
        below = [f"#{n}, {confidence:.0%}" for n, confidence in zip(shown, np.asarray(confidences)[shown], strict=True)]
        titles = [f"{first}\n{second}" for first, second in zip(titles, below, strict=True)]
    return image_grid(
        pictures,
        value_range=(0.0, 1.0),
        titles=titles,
        num_columns=min(10, len(shown)),
        title=title,
    )


def patches(windows: ArrayLike, *, value_range: tuple[float, float] = (0.0, 1.0), title: str | None = None) -> Figure:
    """Draw the windows of an image at their positions in the image.

    Args:
        windows: (rows, columns, H, W), the result of `sliding_windows` for one channel.
        value_range: the values that are drawn black and white in all windows.
        title: title of the figure.
    """
    windows = np.asarray(windows)
    rows, columns, height, width = windows.shape
    return image_grid(
        windows.reshape(rows * columns, height, width), value_range=value_range, num_columns=columns, title=title
    )


def _draw_scale(figure: Figure, image: ScalarMappable, axes: Any, label: str) -> Colorbar:
    """Draw the colour scale of an image beside its axes, in pixels: as a vector it would be a path for each colour."""
    scale = figure.colorbar(image, ax=axes, label=label, shrink=0.8)
    scale.ax.collections[0].set_rasterized(True)
    return scale


def _symmetric(values: np.ndarray) -> tuple[float, float]:
    largest = float(np.max(np.abs(values))) or 1.0
    return -largest, largest


def count_epochs(*axes: Axes) -> None:
    """Put the ticks of an axis of epochs at whole numbers."""
    for axis in axes:
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))


def decorate(axis: Axes, x: str, y: str) -> None:
    """Label the axes of a plot, and draw a light grid."""
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
