"""Looking again at a finished run: what its network says of every test image."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lenet_jax.config import DataConfig
from lenet_jax.data import load
from lenet_jax.errors import InputError
from lenet_jax.evaluation import classify
from lenet_jax.losses import cross_entropy
from lenet_jax.metrics import confusion_matrix, expected_calibration_error, precision_and_recall
from lenet_jax.models import build_model
from lenet_jax.precision import in_compute_dtype
from lenet_jax.runs.provenance import digest_parameters
from lenet_jax.runs.records import Record
from lenet_jax.runs.run_directory import BEST
from lenet_jax.types import Model, Split, Variables
from lenet_jax.weights import load_variables


class Assessment(NamedTuple):
    """A trained network, the images that it was shown, and what it said."""

    model: Model
    variables: Variables
    split: Split
    pixel_divisor: float
    predictions: np.ndarray  # (N,)
    confusion: np.ndarray  # (classes, classes), counts; rows are labels
    summary: dict[str, Any]  # accuracy, loss, calibration, precision and recall of each class


def assess(record: Record, data_config: DataConfig | None = None) -> Assessment:
    """Apply the best network of a run to the test images of its data, or of other data of the same shape.

    Raises:
        InputError: if the run left no weights or they are damaged, or data and network do not fit.
    """
    data = load(data_config or record.config.data)
    shape = tuple(record.run["data"]["image_shape"])
    if data.test.images.shape[1:] != shape or data.num_classes != record.run["data"]["num_classes"]:
        raise InputError(
            f"`data` must have images of shape {shape} and {record.run['data']['num_classes']} classes, as those of "
            f"{record.directory}; got {data.test.images.shape[1:]} and {data.num_classes}."
        )
    model = build_model(record.config.model, data.test.images.shape[1:], data.num_classes)
    variables = load_variables(record.directory / BEST, model)
    expected, found = (record.result or {}).get("parameters_sha256"), digest_parameters(variables.params)
    if expected not in (None, found):
        raise InputError(
            f"{record.directory / BEST}: is damaged or of another run; its parameters must have SHA-256 {expected}; "
            f"got {found}."
        )
    labels = jnp.asarray(data.test.labels, jnp.int32)
    measured = in_compute_dtype(model, record.config.trainer.compute_dtype)
    with jax.default_matmul_precision(record.config.trainer.matmul_precision):
        logits = jax.jit(lambda v, x: classify(measured, v, x, data.pixel_divisor))(variables, data.test.images)
    predictions = logits.argmax(axis=-1).astype(jnp.int32)
    matrix = confusion_matrix(labels, predictions, data.num_classes)
    precision, recall = precision_and_recall(matrix)
    num_correct = int(matrix.trace())
    summary = {
        "examples": len(labels),
        "correct": num_correct,
        "accuracy": num_correct / len(labels),
        "loss": float(cross_entropy(logits, labels).mean()),
        "expected_calibration_error": float(expected_calibration_error(logits, labels)),
        "precision": [float(p) for p in precision],
        "recall": [float(r) for r in recall],
        "confusion_matrix": np.asarray(matrix).tolist(),
    }
    return Assessment(
        model, variables, data.test, data.pixel_divisor, np.asarray(predictions), np.asarray(matrix), summary
    )
