"""Objectives: what a run minimizes and the metrics that it reports."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer, Num

from lenet_jax.config.checks import Decay
from lenet_jax.errors import InputError
from lenet_jax.losses import cross_entropy
from lenet_jax.metrics import is_correct
from lenet_jax.types import Objective


def classification(*, label_smoothing: Decay = 0.0) -> Objective:
    """Return the objective of one class an example: the cross-entropy, and the accuracy.

    Outputs are logits (N, classes), targets labels (N,), 0 to classes - 1.

    Args:
        label_smoothing: probability that is spread evenly over all classes, in training only; 0.1 for ImageNet.
    """
    return Objective(
        functools.partial(cross_entropy, label_smoothing=label_smoothing),
        {"accuracy": is_correct},
        evaluation_loss=cross_entropy,
        has_labels=True,
    )


def regression() -> Objective:
    """Return the objective of numbers: the mean squared error of each example; the mean absolute error beside it.

    Outputs and targets are (N,) or (N, ...) of one shape.
    """

    def squared(outputs: Num[Array, "N ..."], targets: Num[Array, "N ..."]) -> Float[Array, "N"]:  # noqa: F821
        return _mean_per_example(jnp.square(_difference(outputs, targets)))

    def absolute(outputs: Num[Array, "N ..."], targets: Num[Array, "N ..."]) -> Float[Array, "N"]:  # noqa: F821
        return _mean_per_example(jnp.abs(_difference(outputs, targets)))

    metrics = {"mean_squared_error": squared, "mean_absolute_error": absolute}
    return Objective(squared, metrics, monitor="mean_squared_error", mode="min")


def multi_label() -> Objective:
    """Return the objective of any number of labels an example: the binary cross-entropy, averaged over the labels.

    Outputs are logits (N, labels), targets 0 or 1 of the same shape. `accuracy` is the fraction of labels that are
    right, `exact_match` that of examples with all labels right.
    """

    def loss(outputs: Float[Array, "N labels"], targets: Num[Array, "N labels"]) -> Float[Array, "N"]:  # noqa: F821
        present = targets.astype(outputs.dtype)
        each = jax.nn.softplus(outputs) - present * outputs
        return jnp.mean(each, axis=-1)

    def right(outputs: Float[Array, "N labels"], targets: Num[Array, "N labels"]) -> Array:
        return (outputs > 0) == (targets > 0)

    metrics = {
        "accuracy": lambda outputs, targets: jnp.mean(right(outputs, targets).astype(jnp.float32), axis=-1),
        "exact_match": lambda outputs, targets: jnp.all(right(outputs, targets), axis=-1),
    }
    return Objective(loss, metrics)


def dense_classification() -> Objective:
    """Return the objective of one class a pixel: the cross-entropy and the accuracy, averaged over an example's pixels.

    Outputs are logits (N, *space, classes), targets labels (N, *space), 0 to classes - 1.
    """

    def loss(outputs: Float[Array, "N *space classes"], targets: Integer[Array, "N *space"]) -> Float[Array, "N"]:  # noqa: F821
        return _mean_per_example(cross_entropy(outputs, targets))

    def accuracy(outputs: Float[Array, "N *space classes"], targets: Integer[Array, "N *space"]) -> Float[Array, "N"]:  # noqa: F821
        right = jnp.argmax(outputs, axis=-1) == targets.astype(jnp.int32)
        return _mean_per_example(right.astype(jnp.float32))

    return Objective(loss, {"accuracy": accuracy})


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


def _mean_per_example(values: Array) -> Array:
    return jnp.mean(values, axis=tuple(range(1, values.ndim)))
