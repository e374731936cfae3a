"""Evaluation of a finished run: the predictions of its network for every test image."""

import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lenet_jax import components
from lenet_jax.config.catalogue import TARGET
from lenet_jax.data.folds import build_data
from lenet_jax.data.stream_reader import read_split
from lenet_jax.data.tfds import is_prepared
from lenet_jax.errors import InputError
from lenet_jax.evaluation import evaluate_task, predict_task
from lenet_jax.interop.conventions import Example, example_of
from lenet_jax.interop.models import build_model
from lenet_jax.metrics import confusion_matrix, expected_calibration_error, precision_and_recall
from lenet_jax.objective import Task
from lenet_jax.runs.platforms import check_platform
from lenet_jax.runs.provenance import digest_dataset, digest_parameters
from lenet_jax.runs.run_directory import Record, check_file, file_of_result
from lenet_jax.types import Dataset, Metrics, Model, Split, Variables
from lenet_jax.weights import load_variables

_TFDS = "lenet_jax.data.load_tfds"


class EvaluationReport(NamedTuple):
    """A trained network, the examples that it was evaluated on, and its metrics."""

    model: Model
    variables: Variables
    split: Split
    pixel_divisor: float
    summary: dict[str, Any]  # loss and metrics; of classification also calibration, precision and recall of each class
    predictions: np.ndarray | None  # (N,), of classification
    confusion: np.ndarray | None  # (classes, classes), counts; rows are labels
    part: str = "test"  # the split's name
    trained_on: int | None = 0  # how many of its examples the run was trained on; None: that is not known
    has_changed: bool = False  # whether the data are those of the run, but no more what it was trained and tested on
    is_checked: bool = True  # whether the run has recorded a digest of its weights, by which they were checked
    confidences: np.ndarray | None = None  # (N,), of classification: probability of each prediction, 0 to 1


def evaluate_run(
    record: Record,
    data_node: Mapping[str, Any] | None = None,
    *,
    part: Literal["train", "validation", "test"] = "test",
    weights: "Which" = None,
) -> EvaluationReport:
    """Evaluate the network of a run on the test images of its data, or of other data of the same shape.

    Args:
        record: of the run, with a complete configuration, as `read_allowed` returns it.
        data_node: the component that loads other data; None: those of the run.
        part: the split to evaluate on.
        weights: "best" or "last", which a run has if it was trained with `trainer.weights=last` or `both`; None: its
            result.

    Raises:
        InputError: if the run left no such weights or they are damaged, or data and network do not fit.
    """
    check_platform()
    config = record.config
    path = find_weights(record, weights)  # before the data are loaded, or even downloaded
    is_checked = check_file(record, path.relative_to(record.directory).as_posix()) or path == find_weights(record)
    data = load_data(record, data_node)
    model, variables = load_network(record, example_of(data.test.inputs), weights)
    split = read_split(data, part)
    task = Task(model, components.build(config.objective), (), config.trainer.compute_dtype, data.pixel_divisor)
    with jax.default_matmul_precision(config.trainer.matmul_precision):
        metrics = jax.jit(functools.partial(evaluate_task, task))(variables, split)
        outputs = jax.jit(functools.partial(predict_task, task))(variables, split.inputs)
    summary, predictions, confusion = summarize_outputs(metrics, outputs, split, data.num_classes)
    trained_on = count_trained_on(config.data, data_node, data, part)
    is_known = confusion is not None
    confidences = np.asarray(jax.nn.softmax(outputs.astype(jnp.float32)).max(axis=-1)) if is_known else None
    return EvaluationReport(
        model=model,
        variables=variables,
        split=split,
        pixel_divisor=data.pixel_divisor,
        summary=summary,
        predictions=predictions,
        confusion=confusion,
        part=part,
        trained_on=trained_on,
        has_changed=data_node is None and digest_dataset(data) != record.run["data"].get("sha256"),
        is_checked=is_checked,
        confidences=confidences,
    )


def load_data(record: Record, data_node: Mapping[str, Any] | None = None) -> Dataset:
    """Load the data of a run, or other data of the same shape.

    Args:
        record: of the run, with a complete configuration.
        data_node: the component that loads other data; None: those of the run.

    Raises:
        InputError: if data and network do not fit.
    """
    data: Dataset = build_data(record.config.data if data_node is None else components.complete("data", data_node))
    shape, num_classes = tuple(record.run["data"]["image_shape"]), record.run["data"]["num_classes"]
    found_shape = jax.tree.leaves(data.test.inputs)[0].shape[1:]
    if found_shape != shape or data.num_classes != num_classes:
        raise InputError(
            f"`data` must have images of shape {shape} and {num_classes} classes, as those of "
            f"{record.directory}; got {found_shape} and {data.num_classes}."
        )
    return data


def summarize_outputs(
    metrics: Metrics, outputs: Any, split: Split, num_classes: int
) -> tuple[dict[str, Any], np.ndarray | None, np.ndarray | None]:
    """Return the summary of an evaluation, its predictions and its confusion matrix, as `EvaluationReport` has them.

    Args:
        metrics: of the outputs.
        outputs: of the network, for each example of the split.
        split: the examples.
        num_classes: of the data.
    """
    summary = {
        "examples": int(metrics.num_examples),
        **{name: float(total) / int(metrics.num_examples) for name, total in metrics.sums.items()},
        "loss": float(metrics.loss_sum) / int(metrics.num_examples),
    }
    predictions = confusion = None
    if _is_classification(outputs, split.targets, num_classes):
        labels = jnp.asarray(split.targets, jnp.int32)
        predictions = np.asarray(outputs.argmax(axis=-1).astype(jnp.int32))
        confusion = np.asarray(confusion_matrix(labels, jnp.asarray(predictions), num_classes))
        precision, recall = precision_and_recall(jnp.asarray(confusion))
        summary |= {
            "correct": int(confusion.trace()),
            "expected_calibration_error": float(expected_calibration_error(outputs, labels)),
            "precision": [float(p) for p in precision],
            "recall": [float(r) for r in recall],
            "confusion_matrix": confusion.tolist(),
        }
    return summary, predictions, confusion


Which = Literal["best", "last"] | None
"""Which weights of a run, as for `evaluate_run`."""


def find_weights(record: Record, weights: Which = None) -> Path:
    """Return the file with the weights of a run.

    Args:
        record: of the run.
        weights: as for `evaluate_run`.

    Raises:
        InputError: if the run left no such weights.
    """
    name = file_of_result(weights or record.config.trainer.weights)
    path = record.directory / name
    if not path.is_file():
        if record.result is None:
            raise InputError(f"`DIR` must hold a finished run; finish it with lenet-jax resume {record.directory}.")
        raise InputError(f"`DIR` must have the weights of its run, {name}; {record.directory} has none.")
    return path


def load_network(record: Record, example: Example, weights: Which = None) -> tuple[Model, Variables]:
    """Build the network of a run, and read its weights.

    Args:
        record: of the run, with a complete configuration, as `read_allowed` returns it.
        example: of its inputs, as `build_model` takes it.
        weights: as for `evaluate_run`.

    Raises:
        InputError: if the run left no such weights, or they are damaged.
    """
    path = find_weights(record, weights)
    check_file(record, path.relative_to(record.directory).as_posix())
    model = build_model(record.config.model, example, record.run["data"]["num_classes"])
    variables = load_variables(path, model)
    expected, found = (record.result or {}).get("parameters_sha256"), digest_parameters(variables.params)
    is_result = path == find_weights(record)
    if is_result and expected not in (None, found):
        raise InputError(
            f"{path}: is damaged or of another run; its parameters must have SHA-256 {expected}; got {found}."
        )
    return model, variables


def same_examples(one: Split, other: Split) -> bool:
    """Return whether two splits have the same inputs and targets, in the same order."""
    if jax.tree.structure(one) != jax.tree.structure(other):
        return False
    return all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))


def count_trained_on(
    own_node: Mapping[str, Any], data_node: Mapping[str, Any] | None, data: Dataset, part: str
) -> int | None:
    """Return how many examples of a part of the data, which is not meant to be its own training set, a run has seen.

    None if its training set cannot be read here.

    Args:
        own_node: the component that loads the run's data.
        data_node: the one of other data; None: they are the run's.
        data: that were loaded.
        part: of them.
    """
    split = data.splits()[part]
    if part == "train" and data_node is None:
        return 0
    if data_node is not None:
        if own_node[TARGET] == _TFDS and not is_prepared(own_node["name"], own_node["directory"]):
            return None  # it would be downloaded
        try:
            data = build_data(own_node)
        except InputError:
            return None
    trained, tested = data.train.inputs, split.inputs
    if not all(hasattr(each, "tobytes") for each in (trained, tested)) or trained.dtype != tested.dtype:
        return None
    digests = set(map(_digest, np.asarray(trained)))
    return sum(_digest(example) in digests for example in np.asarray(tested))


def _digest(example: np.ndarray) -> bytes:
    return hashlib.blake2b(example.tobytes(), digest_size=16).digest()


def _is_classification(outputs: Any, targets: Any, num_classes: int) -> bool:
    """Return whether the outputs are logits (N, classes) of integer labels (N,)."""
    is_labels = getattr(targets, "ndim", None) == 1 and np.issubdtype(targets.dtype, np.integer)
    return is_labels and getattr(outputs, "shape", ())[1:] == (num_classes,)
