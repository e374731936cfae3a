"""Figures of why a network takes an image for a class: saliency, Grad-CAM and occlusion side by side."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from lenet_jax.errors import InputError
from lenet_jax.explain import grad_cam, occlusion, saliency
from lenet_jax.objective import scale_inputs
from lenet_jax.report.document import Picture
from lenet_jax.report.figures import DIVERGING, DPI, INK, to_pictures
from lenet_jax.runs.evaluate import EvaluationReport

_GREY = 128  # of uint8 pixels that are covered; those of floats get the mean of the test images
_MAX_SQUARES = 32  # along the longer side of an image


class Explanation(NamedTuple):
    """What speaks for a class in an image (H, W, C)."""

    title: str  # the class, and its probability
    saliency: np.ndarray  # (H, W, C)
    grad_cam: np.ndarray | None  # (h, w); None: the network has no feature maps
    occlusion: np.ndarray  # (rows, columns)


def draw_explanations(evaluation: EvaluationReport, number: int, layer: str | None) -> Iterator[Picture]:
    """Draw what speaks for the predicted class of a test image and, where it is another one, for the true one.

    Args:
        evaluation: of a classifier of images.
        number: of the test image.
        layer: of Grad-CAM; see `lenet_jax.explain.grad_cam`.

    Raises:
        InputError: if there is no such layer.
    """
    image, true = evaluation.split.inputs[number], int(evaluation.split.targets[number])
    if image.ndim != 3 or evaluation.predictions is None:
        return
    predicted = int(evaluation.predictions[number])
    rows = [_explain(evaluation, number, label, layer) for label in dict.fromkeys((predicted, true))]
    size = max(1, round(min(image.shape[:2]) * 2 / 9))
    channels = "" if image.shape[-1] == 1 else ", the largest magnitude of a channel"
    maps = "the last feature maps" if layer is None else f"`{layer}`"
    caption = (
        f"Test image {number}, a {true}, taken for a {predicted}. Saliency (Simonyan et al. 2013): the gradient of "
        f"the score of the class with respect to the pixels{channels}. Grad-CAM (Selvaraju et al. 2017) of {maps}. "
        "Occlusion (Zeiler and Fergus 2014): by how much the probability drops when a grey square of "
        f"{size}x{size} pixels covers the place."
    )
    yield Picture("explanations", "Explanations", caption, explanations(to_pictures(image[None])[0], rows))


def _explain(evaluation: EvaluationReport, number: int, label: int, layer: str | None) -> Explanation:
    model, variables, inputs = evaluation.model, evaluation.variables, evaluation.split.inputs
    image: Any = scale_inputs(jnp.asarray(inputs[number]), evaluation.pixel_divisor)
    is_pixels = inputs.dtype == np.uint8
    grey = _GREY / evaluation.pixel_divisor if is_pixels else float(np.mean(inputs))
    stride = -(-max(image.shape[:2]) // _MAX_SQUARES)
    logits = model.apply(variables, image[None], train=False)[0][0]
    try:
        cam = np.asarray(grad_cam(model, variables, image, label, layer=layer))
    except InputError:
        if layer is not None:
            raise
        cam = None
    return Explanation(
        title=f"as a {label}: {float(jax.nn.softmax(logits)[label]):.1%}",
        saliency=np.asarray(saliency(model, variables, image, label)),
        grad_cam=cam,
        occlusion=np.asarray(occlusion(model, variables, image, label, stride=stride, value=grey)),
    )


def explanations(image: ArrayLike, rows: list[Explanation]) -> Figure:
    """Draw explanations in the colours of their own scales, zero in the middle of those that have two signs.

    Args:
        image: (H, W), or (H, W, 3), 0 to 1.
        rows: one a class.
    """
    image = np.asarray(image)
    height, width = image.shape[:2]
    has_cam = any(row.grad_cam is not None for row in rows)
    names = ["image", "saliency", *(["Grad-CAM"] if has_cam else []), "occlusion"]
    cell = 1.9
    size = (len(names) * (cell + 0.5), len(rows) * (cell * height / width + 0.6) + 0.2)
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    axes = figure.subplots(len(rows), len(names), squeeze=False)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_color("#bbbbbb")
    for number, row in enumerate(rows):
        for name, axis in zip(names, axes[number], strict=True):
            axis.set_title(f"{name} {row.title}" if name == "image" else name, fontsize=8, color=INK)
            match name:
                case "image":
                    axis.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="none")
                case "saliency" if row.saliency.shape[-1] == 1:
                    _draw_signed(axis, row.saliency[..., 0], image, "d score / d pixel")
                case "saliency":
                    magnitude = np.abs(row.saliency).max(axis=-1)
                    drawn = axis.imshow(magnitude, cmap="magma", vmin=0, interpolation="none")
                    _draw_scale(axis, drawn, "|d score / d pixel|")
                case "Grad-CAM" if row.grad_cam is not None:
                    _draw_over(axis, row.grad_cam, image)
                case "occlusion":
                    _draw_signed(axis, row.occlusion, image, "drop of the probability")
    return figure


def _draw_signed(axis: Axes, values: np.ndarray, image: np.ndarray, label: str) -> None:
    """Draw values in diverging colours, the zero in the middle, over the place of the image."""
    largest = float(np.abs(values).max()) or 1.0
    height, width = image.shape[:2]
    drawn = axis.imshow(
        values, cmap=DIVERGING, vmin=-largest, vmax=largest, interpolation="none", extent=(0, width, height, 0)
    )
    _draw_scale(axis, drawn, label)


def _draw_over(axis: Axes, maps: np.ndarray, image: np.ndarray) -> None:
    """Draw maps of 0 and above over the image, enlarged to its size."""
    height, width = image.shape[:2]
    grey = image if image.ndim == 2 else image.mean(axis=-1)
    axis.imshow(grey, cmap="gray", vmin=0, vmax=1, interpolation="none")
    enlarged = np.maximum(np.asarray(jax.image.resize(jnp.asarray(maps), (height, width), "linear")), 0)
    drawn = axis.imshow(
        enlarged, cmap="inferno", vmin=0, vmax=float(enlarged.max()) or 1.0, alpha=0.65, interpolation="none"
    )
    _draw_scale(axis, drawn, "weight of the maps")


def _draw_scale(axis: Axes, drawn: Any, label: str) -> None:
    scale = axis.figure.colorbar(drawn, ax=axis, shrink=0.85)
    scale.set_label(label, fontsize=7)
    scale.ax.tick_params(labelsize=7)
    scale.ax.collections[0].set_rasterized(True)
