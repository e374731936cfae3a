"""The HTML page of a finished run, with its figures."""

from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from lenet_jax.components import short_name
from lenet_jax.objective import scale_inputs
from lenet_jax.report import figures
from lenet_jax.report.html import metadata_table, page, save_pictures
from lenet_jax.report.text import error_label, error_value, evaluation_table, is_fraction, show_metric, spoken
from lenet_jax.runs import Monitor
from lenet_jax.runs.evaluate import EvaluationReport
from lenet_jax.runs.run_directory import Record
from lenet_jax.storage import write_atomically
from lenet_jax.summary import activations


def write_report(record: Record, evaluation: EvaluationReport) -> Path:
    """Write `figures/` and `index.html` in the directory of a run; return the path of the page.

    Args:
        record: the record of the run.
        evaluation: the evaluation of its best weights.
    """
    pictures = save_pictures(record.directory, draw(record, evaluation))
    path = record.directory / "index.html"
    write_atomically(path, _page(record, evaluation, pictures).encode())
    return path


def draw(record: Record, evaluation: EvaluationReport) -> Iterator[tuple[str, str, Figure]]:
    """Yield name, caption and figure of each picture of a run.

    Args:
        record: the record of the run.
        evaluation: the evaluation of its best weights.
    """
    monitor = Monitor.of(record.result or {})
    columns = {
        name: [np.nan if line[name] is None else line[name] for line in record.metrics]
        for name in ("epoch", "train_loss", "validation_loss", monitor.key)
    }
    if record.metrics:
        monitored = {"monitored": [error_value(monitor.metric, value) for value in columns[monitor.key]]}
        label, unit = error_label(monitor.metric), " %" if is_fraction(monitor.metric) else ""
        best = int(np.argmin([monitor.error(line) for line in record.metrics]))
        figure = figures.learning_curves({**columns, **monitored}, label=label, best=best, unit=unit)
        yield "learning_curves", f"Loss and {label.removesuffix(' (%)')} after each evaluation.", figure
        if record.config.trainer.batch_size is None and evaluation.confusion is not None:
            yield (
                "likelihood",
                "exp(-mean cross-entropy) of the training set: the geometric mean of the probability that the network "
                "gives to the right class.",
                figures.likelihood_curve(columns["train_loss"]),
            )
    if evaluation.confusion is None or evaluation.predictions is None:
        return
    yield (
        "confusion_matrix",
        "Test images: percent of each true class (row) that got each prediction (column).",
        figures.confusion(evaluation.confusion),
    )
    yield (
        "misclassified",
        "Test images that the network gets wrong.",
        figures.misclassified(evaluation.split.inputs, evaluation.split.targets, evaluation.predictions),
    )
    if evaluation.model.trace is not None:
        yield from _draw_first_layer(evaluation)


def _draw_first_layer(evaluation: EvaluationReport) -> Iterator[tuple[str, str, Figure]]:
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
    """Return the parameters of a layer by its full name, such as "block.conv" for the layer "conv" inside "block"."""
    for name in layer.split("."):
        params = params.get(name, {})
    return params


def _page(record: Record, evaluation: EvaluationReport, pictures: str) -> str:
    run, result = record.run, record.result or {}
    monitor = Monitor.of(result)
    metric, examples = monitor.metric, "images" if evaluation.confusion is not None else "examples"
    validation = show_metric(metric, result[monitor.key]) if result else "the run has not finished"
    metadata = {
        "model": short_name(record.config.model),
        "optimizer": short_name(record.config.optimizer),
        "data": f"{run['data']['name']}, {run['data']['train']:,} {examples} to train",
        "seed": record.config.seed,
        f"test {spoken(metric)}": show_metric(metric, evaluation.summary[metric]),
        f"validation {spoken(metric)}": validation,
        "epochs": result.get("epochs", ""),
        "stopped by": result.get("stopped_by", ""),
        "seconds": result.get("seconds", ""),
        "device": run["devices"][0]["kind"],
        "versions": ", ".join(f"{name} {version}" for name, version in run["versions"].items()),
        "code": run["code"]["revision"] or "",
        "parameters, SHA-256": result.get("parameters_sha256", ""),
    }
    title = f"{short_name(record.config.model)} on {run['data']['name']}"
    table = escape("\n".join(evaluation_table(evaluation)))
    return page(title, f"{metadata_table(metadata)}\n{pictures}\n<h2>Test {examples}</h2>\n<pre>{table}</pre>")
