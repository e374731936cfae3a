"""Objectives: what a run minimizes and the metrics that it reports."""

import functools
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer, Num

from lenet_jax.config.checks import Decay, Weights
from lenet_jax.errors import InputError
from lenet_jax.losses import cross_entropy
from lenet_jax.metrics import is_correct
from lenet_jax.types import LossFn, Objective


def classification(
    *,
    label_smoothing: Decay = 0.0,
    class_weights: Weights | None = None,
    ignore_label: int | None = None,
    monitor: Literal["accuracy", "loss"] = "accuracy",
) -> Objective:
    """Return the objective of one class an example: the cross-entropy, and the accuracy.

    Outputs are logits (N, classes), targets labels (N,), 0 to classes - 1.

    Args:
        label_smoothing: probability that is spread evenly over all classes, in training only; 0.1 for ImageNet.
        class_weights: of the loss of each class, in their order, 0 or above; the mean loss is a weighted one. None: 1.
        ignore_label: examples with this label, as -1, count neither in the loss nor in the metrics; labels are not
            checked then. None: there is none.
        monitor: what decides which weights are best and when to stop.
    """
    smoothed = _ignoring(ignore_label, functools.partial(cross_entropy, label_smoothing=label_smoothing))

    def loss(outputs: Float[Array, "N classes"], targets: Integer[Array, "N"]) -> Float[Array, "N"]:  # noqa: F821
        _check_length(class_weights, outputs)
        return smoothed(outputs, targets)

    has_weights = class_weights is not None or ignore_label is not None
    return Objective(
        loss,
        {"accuracy": is_correct},
        monitor,
        _mode(monitor),
        evaluation_loss=_ignoring(ignore_label, cross_entropy),
        has_labels=ignore_label is None,
        weight=functools.partial(_class_weight, class_weights, ignore_label) if has_weights else None,
    )


def _mode(monitor: str) -> str:
    return "max" if monitor in ("accuracy", "exact_match") else "min"


def _ignoring(ignore_label: int | None, loss: LossFn) -> LossFn:
    """Return a loss that is finite for the label that is ignored."""
    if ignore_label is None:
        return loss
    return lambda outputs, targets: loss(outputs, jnp.where(targets == ignore_label, jnp.zeros_like(targets), targets))


def _check_length(class_weights: Sequence[Any] | None, outputs: Array) -> None:
    """Check that there is a weight for each class.

    Raises:
        InputError: if there is not.
    """
    if class_weights is not None and len(class_weights) != outputs.shape[-1]:
        raise InputError(
            f"objective: `class_weights` must have a weight for each of the {outputs.shape[-1]} classes; "
            f"got {len(class_weights)}."
        )


def _class_weight(class_weights: Sequence[Any] | None, ignore_label: int | None, targets: Array) -> Array:
    """Return the weight of each label."""
    counts = jnp.ones(targets.shape, bool) if ignore_label is None else targets != ignore_label
    if class_weights is None:
        return counts.astype(jnp.float32)
    weights = jnp.array(class_weights, jnp.float32)
    return jnp.where(counts, weights[jnp.where(counts, targets, jnp.zeros_like(targets))], 0.0)


def regression(*, monitor: Literal["mean_squared_error", "mean_absolute_error"] = "mean_squared_error") -> Objective:
    """Return the objective of numbers: the mean squared error of each example; the mean absolute error beside it.

    Outputs and targets are (N,) or (N, ...) of one shape.

    Args:
        monitor: what decides which weights are best and when to stop.
    """

    def squared(outputs: Num[Array, "N ..."], targets: Num[Array, "N ..."]) -> Float[Array, "N"]:  # noqa: F821
        return _mean_per_example(jnp.square(_difference(outputs, targets)))

    def absolute(outputs: Num[Array, "N ..."], targets: Num[Array, "N ..."]) -> Float[Array, "N"]:  # noqa: F821
        return _mean_per_example(jnp.abs(_difference(outputs, targets)))

    metrics = {"mean_squared_error": squared, "mean_absolute_error": absolute}
    return Objective(squared, metrics, monitor, "min")


def multi_label(*, monitor: Literal["accuracy", "exact_match", "loss"] = "accuracy") -> Objective:
    """Return the objective of any number of labels an example: the binary cross-entropy, averaged over the labels.

    Outputs are logits (N, labels), targets 0 or 1 of the same shape. `accuracy` is the fraction of labels that are
    right, `exact_match` that of examples with all labels right.

    Args:
        monitor: what decides which weights are best and when to stop.
    """

    def loss(outputs: Float[Array, "N labels"], targets: Num[Array, "N labels"]) -> Float[Array, "N"]:  # noqa: F821
        check(outputs, targets)
        present = targets.astype(outputs.dtype)
        each = jax.nn.softplus(outputs) - present * outputs
        return jnp.mean(each, axis=-1)

    def right(outputs: Float[Array, "N labels"], targets: Num[Array, "N labels"]) -> Array:
        check(outputs, targets)
        return (outputs > 0) == (targets > 0)

    def check(outputs: Array, targets: Array) -> None:
        if outputs.ndim != 2 or outputs.shape != targets.shape:
            raise InputError(
                f"multi_label: outputs and targets must have the same shape (N, labels); got {outputs.shape} and "
                f"{targets.shape}; the model's number of outputs is `num_classes` of the Dataset."
            )

    metrics = {
        "accuracy": lambda outputs, targets: jnp.mean(right(outputs, targets).astype(jnp.float32), axis=-1),
        "exact_match": lambda outputs, targets: jnp.all(right(outputs, targets), axis=-1),
    }
    return Objective(loss, metrics, monitor, _mode(monitor))


def dense_classification(
    *,
    class_weights: Weights | None = None,
    ignore_label: int | None = None,
    monitor: Literal["accuracy", "loss"] = "accuracy",
) -> Objective:
    """Return the objective of one class a pixel: the cross-entropy and the accuracy, averaged over an example's pixels.

    Outputs are logits (N, *space, classes), targets labels (N, *space), 0 to classes - 1.

    Args:
        class_weights: of the loss of each class, in their order, 0 or above; an example's loss is the weighted mean of
            its pixels. None: 1.
        ignore_label: pixels with this label, as 255, count neither in the loss nor in the accuracy. None: no label.
        monitor: what decides which weights are best and when to stop.
    """

    def loss(outputs: Float[Array, "N *space classes"], targets: Integer[Array, "N *space"]) -> Float[Array, "N"]:  # noqa: F821
        _check_length(class_weights, outputs)
        values = _ignoring(ignore_label, cross_entropy)(outputs, targets)
        return _mean_per_example(values, _class_weight(class_weights, ignore_label, targets))

    def accuracy(outputs: Float[Array, "N *space classes"], targets: Integer[Array, "N *space"]) -> Float[Array, "N"]:  # noqa: F821
        right = jnp.argmax(outputs, axis=-1) == targets.astype(jnp.int32)
        return _mean_per_example(right.astype(jnp.float32), _class_weight(None, ignore_label, targets))

    return Objective(loss, {"accuracy": accuracy}, monitor, _mode(monitor))


def _difference(outputs: Array, targets: Array) -> Array:
    """Return outputs - targets, where one output may stand for one number: (N, 1) beside (N,).

    Raises:
        InputError: if their shapes do not fit.
    """
    if targets.shape not in (outputs.shape, outputs.shape[:-1] if outputs.shape[-1:] == (1,) else None):
        raise InputError(
            f"regression: outputs and targets must have the same shape; got {outputs.shape} and {targets.shape}; "
            "the model's number of outputs is `num_classes` of the Dataset."
        )
    return outputs.reshape(targets.shape) - targets.astype(outputs.dtype)


def _mean_per_example(values: Array, weights: Array | None = None) -> Array:
    axes = tuple(range(1, values.ndim))
    if weights is None:
        return jnp.mean(values, axis=axes)
    total = jnp.sum(weights, axis=axes)
    return jnp.sum(weights.astype(values.dtype) * values, axis=axes) / jnp.where(total > 0, total, 1.0).astype(
        values.dtype
    )
