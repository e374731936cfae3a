"""The report of a finished run, with its figures."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from lenet_jax.components import build, short_name
from lenet_jax.errors import InputError
from lenet_jax.objective import scale_inputs
from lenet_jax.report import figures
from lenet_jax.report.curves import column, draw_curves
from lenet_jax.report.description import confusion_counts, facts, files, settings
from lenet_jax.report.document import Document, Part, Picture, Text
from lenet_jax.report.explanation import draw_explanations
from lenet_jax.report.formats import write_document
from lenet_jax.report.text import (
    error_label,
    evaluation_table,
)
from lenet_jax.runs import Monitor
from lenet_jax.runs.evaluate import EvaluationReport
from lenet_jax.runs.run_directory import Record
from lenet_jax.summary import activations
from lenet_jax.train_plan import plan_run


def write_report(
    record: Record,
    evaluation: EvaluationReport,
    *,
    image: int | None = None,
    layer: str | None = None,
    format: str = "html",
) -> Path:
    """Write the report of a run into its directory; return the path of what was written.

    Args:
        record: the record of the run.
        evaluation: the evaluation of its weights.
        image: number of a test image for which all layers are drawn, and what speaks for its class; None: the first
            layer, for the first image.
        layer: of Grad-CAM; see `lenet_jax.explain.grad_cam`.
        format: as in `lenet_jax.report.formats.write_document`.

    Raises:
        InputError: if there is no such image, layer or format, or the network is no classifier of images.
    """
    if image is not None:
        _check_image(evaluation, image)
    pictures = draw(record, evaluation, image=image, layer=layer)
    return write_document(_document(record, evaluation, pictures), record.directory, format)


def _check_image(evaluation: EvaluationReport, number: int) -> None:
    count = evaluation.summary["examples"]
    if number >= count:
        raise InputError(f"report: `--image` must be below {count}, the number of test images; got {number}.")
    if evaluation.confusion is None or np.ndim(evaluation.split.inputs) != 4:
        raise InputError("report: `--image` is for a classifier of images (N, H, W, C); leave it out for others.")


def draw(
    record: Record, evaluation: EvaluationReport, *, image: int | None = None, layer: str | None = None
) -> Iterator[Picture]:
    """Yield each picture of a run.

    Args:
        record: the record of the run.
        evaluation: the evaluation of its weights.
        image: as in `write_report`.
        layer: as in `write_report`.
    """
    monitor = Monitor.of(record.result or {})
    if record.metrics:
        label = error_label(monitor.metric).removesuffix(" (%)")
        caption = f"Loss and {label} after each evaluation."
        yield Picture("learning_curves", "Learning curves", caption, draw_curves(record.metrics, monitor))
        if record.config.trainer.batch_size is None and evaluation.confusion is not None:
            yield Picture(
                "likelihood",
                "Likelihood",
                "exp(-mean cross-entropy) of the training set, before each iteration and after the last one: the "
                "geometric mean of the probability that the network gives to the right class.",
                figures.likelihood_curve([*column(record.metrics, "train_loss"), *_loss_after_training(record)]),
            )
        yield from _draw_learning_rate(record)
    if evaluation.confusion is None or evaluation.predictions is None:
        return
    if evaluation.confidences is not None:
        yield Picture(
            "calibration",
            "Calibration",
            "Test images in 15 bins by the probability of their prediction: how many of a bin are right, and its size.",
            figures.calibration(evaluation.confidences, evaluation.predictions == evaluation.split.targets),
        )
    yield Picture(
        "confusion_matrix",
        "Confusion matrix",
        "Test images: percent of each true class (row) that got each prediction (column).",
        figures.confusion(evaluation.confusion),
    )
    if np.ndim(evaluation.split.inputs) == 4:
        yield from _draw_images(evaluation, image, layer)


def _draw_images(evaluation: EvaluationReport, image: int | None, layer: str | None) -> Iterator[Picture]:
    """Draw what a classifier of images takes them for, and why."""
    if evaluation.predictions is None:
        return
    yield Picture(
        "misclassified",
        "Misclassified",
        "Test images that the network gets wrong, with their numbers and the probability of the prediction.",
        figures.misclassified(
            evaluation.split.inputs,
            evaluation.split.targets,
            evaluation.predictions,
            confidences=evaluation.confidences,
        ),
    )
    if image is not None:
        yield from draw_explanations(evaluation, image, layer)
        yield from _draw_all_layers(evaluation, image)
    elif evaluation.model.trace is not None:
        yield from _draw_first_layer(evaluation)


def _draw_learning_rate(record: Record) -> Iterator[Picture]:
    """Draw the learning rate of each step of a run where it varies by a function of the step."""
    config = record.config
    plan = plan_run(config.trainer, record.run["data"]["train"])
    lengths = {"num_steps": plan.epoch * config.trainer.max_epochs, "steps_per_epoch": plan.epoch}
    factor = build(config.schedule, **lengths)
    if not callable(factor):
        return
    done = int((record.result or {}).get("iterations") or record.metrics[-1]["iteration"])
    steps = np.unique(np.linspace(0, max(done - 1, 0), _MAX_STEPS).round().astype(int))
    rates = np.array([factor(jnp.asarray(step, jnp.int32)) for step in steps], np.float64)
    rate: Any = config.optimizer.get("learning_rate")
    is_rate = isinstance(rate, int | float)
    label = "learning rate" if is_rate else "factor on the learning rate"
    figure = figures.learning_rate(steps / plan.epoch, rates * rate if is_rate else rates, label=label)
    yield Picture("learning_rate", "Learning rate", f"The {label} by schedule={short_name(config.schedule)}.", figure)


def _draw_first_layer(evaluation: EvaluationReport) -> Iterator[Picture]:
    """Draw the kernels of the first layer with weights, if it is a convolution, and the outputs of the next layer."""
    params, image = evaluation.variables.params, evaluation.split.inputs[:1]
    pixels = scale_inputs(jnp.asarray(image), evaluation.pixel_divisor)
    outputs = activations(evaluation.model, evaluation.variables, pixels)
    names = iter(outputs)  # in the order of the layers, from which the order of the parameters may differ
    found = ((name, _leaves_of(params, name).get("kernel")) for name in names)
    name, kernel = next(((name, kernel) for name, kernel in found if kernel is not None), ("", None))
    if kernel is None or kernel.ndim != 4:
        return
    kernel = np.asarray(kernel)
    caption = f"Kernels of the first layer, `{name}`; {_scale_of(kernel)}."
    yield Picture("filters", "Filters", caption, figures.filters(kernel))
    if kernel.shape[2] != 1:
        return
    following = next(names)
    yield Picture(
        "feature_maps",
        "Feature maps",
        f"The first test image, the kernels of `{name}`, and the outputs of `{following}`.",
        figures.feature_maps(figures.to_pictures(image)[0], kernel[:, :, 0], outputs[following][0]),
    )


def _loss_after_training(record: Record) -> list[float]:
    """Return the loss of the last weights on the training set, where the run recorded it."""
    result, is_last = record.result or {}, record.config.trainer.weights == "last"
    return [result["train_loss"]] if is_last and "train_loss" in result else []


_MAX_STEPS = 200  # of which the learning rate is drawn
_MAX_MAPS, _MAX_INPUTS, _MAX_OUTPUTS = 64, 10, 20  # that are drawn of a layer


def _draw_all_layers(evaluation: EvaluationReport, number: int) -> Iterator[Picture]:
    """Draw a test image, the kernels of each convolution, and the output of each layer that the network records."""
    params, images = evaluation.variables.params, evaluation.split.inputs[number : number + 1]
    label = f"test image {number}, a {evaluation.split.targets[number]}"
    figure = figures.image_grid(figures.to_pictures(images), value_range=(0, 1), title=label)
    yield Picture("image", "Image", f"The {label}.", figure)
    if evaluation.model.trace is None:
        return
    outputs = activations(
        evaluation.model, evaluation.variables, scale_inputs(jnp.asarray(images), evaluation.pixel_divisor)
    )
    for place, (name, output) in enumerate(outputs.items(), 1):
        file = f"{place:02}_{re.sub(r'[^A-Za-z0-9_-]', '_', name)}"
        kernel = _leaves_of(params, name).get("kernel")
        if kernel is not None and kernel.ndim == 4:
            few = np.asarray(kernel)[:, :, :_MAX_INPUTS, :_MAX_OUTPUTS]
            of = f"{few.shape[2]} of {kernel.shape[2]} inputs (columns), {few.shape[3]} of {kernel.shape[3]} kernels"
            figure = figures.filters(few, title=f"Kernels of {name}")
            caption = f"Kernels of `{name}`: {of}; {_scale_of(kernel)}."
            yield Picture(f"{file}_kernels", f"Kernels of {name}", caption, figure)
        values = np.asarray(output[0], np.float32)
        if values.ndim == 3:
            maps = values.transpose(2, 0, 1)[:_MAX_MAPS]
            caption = f"Outputs of `{name}` for the {label}: {len(maps)} of {values.shape[2]} maps."
            figure = figures.maps(maps, title=f"Outputs of {name}")
            yield Picture(f"{file}_maps", f"Maps of {name}", caption, figure)
        elif values.ndim == 1 and not name.split(".")[-1].startswith("flatten"):
            figure = figures.units(values, title=name)
            yield Picture(f"{file}_units", f"Units of {name}", f"Outputs of `{name}` for the {label}.", figure)


def _scale_of(kernel: ArrayLike) -> str:
    """Return the range of weights in numbers, and their root mean square."""
    weights = np.asarray(kernel, np.float64)
    size = float(np.sqrt(np.mean(weights**2)))
    return f"weights from {weights.min():.3g} to {weights.max():.3g}, root mean square {size:.3g}"


def _leaves_of(params: dict[str, Any], layer: str) -> dict[str, Any]:
    """Return the parameters of a layer by its full name, such as "block.conv" for the layer "conv" inside "block"."""
    for name in layer.split("."):
        params = params.get(name, {})
    return params


def _document(record: Record, evaluation: EvaluationReport, pictures: Iterable[Picture]) -> Document:
    examples = "images" if evaluation.confusion is not None else "examples"

    def parts() -> Iterator[Part]:
        yield facts(record, evaluation)
        yield from pictures
        yield Text(f"Test {examples}", evaluation_table(evaluation))
        yield from confusion_counts(evaluation)
        yield settings(record.config)
        yield files(record.directory)

    return Document(f"{short_name(record.config.model)} on {record.run['data']['name']}", parts())
