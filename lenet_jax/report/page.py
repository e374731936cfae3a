"""A finished run as pictures and one page that needs no network."""

from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from lenet_jax.evaluation import scale_pixels
from lenet_jax.network import activations
from lenet_jax.report import figures
from lenet_jax.report.html import facts_table, page, save_pictures
from lenet_jax.report.text import assessment_table
from lenet_jax.runs.evaluate import Assessment
from lenet_jax.runs.records import Record
from lenet_jax.storage import write_atomically


def write_report(record: Record, assessment: Assessment) -> Path:
    """Write `figures/` and `index.html` into the directory of a run; return the path of the page."""
    pictures = save_pictures(record.directory, draw(record, assessment))
    path = record.directory / "index.html"
    write_atomically(path, _page(record, assessment, pictures).encode())
    return path


def draw(record: Record, assessment: Assessment) -> Iterator[tuple[str, str, Figure]]:
    """Yield name, caption and figure of all that there is to see of a run."""
    columns = {
        name: [np.nan if line[name] is None else line[name] for line in record.metrics]
        for name in ("epoch", "train_loss", "validation_loss", "validation_accuracy")
    }
    if record.metrics:
        yield "learning_curves", "Loss and validation error after each evaluation.", figures.learning_curves(columns)
        if record.config.trainer.batch_size is None:
            yield (
                "likelihood",
                "exp(-mean cross-entropy) of the training set: the geometric mean of the probability that the network "
                "gives to the right class.",
                figures.likelihood_curve(columns["train_loss"]),
            )
    yield (
        "confusion_matrix",
        "Test images: percent of each true class (row) that got each prediction (column).",
        figures.confusion(assessment.confusion),
    )
    yield (
        "misclassified",
        "Test images that the network gets wrong.",
        figures.misclassified(assessment.split.images, assessment.split.labels, assessment.predictions),
    )
    yield from _draw_first_layer(assessment)


def _draw_first_layer(assessment: Assessment) -> Iterator[tuple[str, str, Figure]]:
    """Draw the kernels of the first layer with weights, if it convolves, and the outputs of the layer after it."""
    params, image = assessment.variables.params, assessment.split.images[:1]
    pixels = scale_pixels(jnp.asarray(image), assessment.pixel_divisor)
    outputs = activations(assessment.model, assessment.variables, pixels)
    names = iter(outputs)  # in the order of the layers, which that of the parameters need not be
    found = ((name, _leaves_of(params, name).get("kernel")) for name in names)
    name, kernel = next(((name, kernel) for name, kernel in found if kernel is not None), ("", None))
    if kernel is None or kernel.ndim != 4:
        return
    kernel = np.asarray(kernel)
    yield "filters", f"Kernels of the first layer, `{name}`.", figures.filters(kernel)
    if kernel.shape[2] != 1:
        return
    following = next(names)
    yield (
        "feature_maps",
        f"The first test image, the kernels of `{name}`, and the outputs of `{following}`.",
        figures.feature_maps(image[0, :, :, 0] / 255, kernel[:, :, 0], outputs[following][0]),
    )


def _leaves_of(params: dict[str, Any], layer: str) -> dict[str, Any]:
    """Return the parameters of a layer, whose name has those of the layers that it is in before it: "block.conv"."""
    for name in layer.split("."):
        params = params.get(name, {})
    return params


def _page(record: Record, assessment: Assessment, pictures: str) -> str:
    run, result = record.run, record.result or {}
    facts = {
        "model": record.config.model.name,
        "optimizer": record.config.optimizer.name,
        "data": f"{run['data']['name']}, {run['data']['train']:,} images to train",
        "seed": record.config.seed,
        "test accuracy": f"{assessment.summary['accuracy']:.2%}",
        "validation accuracy": f"{result['validation_accuracy']:.2%}" if result else "the run has not ended",
        "epochs": result.get("epochs", ""),
        "stopped by": result.get("stopped_by", ""),
        "seconds": result.get("seconds", ""),
        "device": run["devices"][0]["kind"],
        "versions": ", ".join(f"{name} {version}" for name, version in run["versions"].items()),
        "code": run["code"]["revision"] or "",
        "parameters, SHA-256": result.get("parameters_sha256", ""),
    }
    title = f"{record.config.model.name} on {run['data']['name']}"
    table = escape("\n".join(assessment_table(assessment)))
    return page(title, f"{facts_table(facts)}\n{pictures}\n<h2>Test images</h2>\n<pre>{table}</pre>")
