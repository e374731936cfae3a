"""Counts of right and wrong answers."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from lenet_jax.errors import InputError
from lenet_jax.losses import cross_entropy
from lenet_jax.types import Metrics


def no_examples() -> Metrics:
    """Return the metrics of an empty split: zeros, to add to."""
    return Metrics(jnp.zeros((), jnp.float32), jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))


def measure(logits: Float[Array, "N classes"], labels: Int[Array, "N"], mask: Bool[Array, "N"]) -> Metrics:  # noqa: F821
    """Sum loss and correct answers over the examples where `mask` is true."""
    losses = cross_entropy(logits.astype(jnp.float32), labels)
    correct = (jnp.argmax(logits, axis=-1) == labels) & mask
    return Metrics(
        jnp.sum(jnp.where(mask, losses, jnp.float32(0))),
        jnp.sum(correct, dtype=jnp.int32),
        jnp.sum(mask, dtype=jnp.int32),
    )


def confusion_matrix(
    labels: Int[Array, "N"],  # noqa: F821
    predictions: Int[Array, "N"],  # noqa: F821
    num_classes: int,
) -> Int[Array, "classes classes"]:
    """Count the examples of each label (row) that got each prediction (column).

    Args:
        labels: true classes, 0 to num_classes - 1.
        predictions: predicted classes, same range and length.
        num_classes: 1 or above.

    Raises:
        InputError: if the lengths differ or `num_classes` is below 1. Values out of range are not counted.

    >>> confusion_matrix(jnp.array([0, 1, 1]), jnp.array([0, 1, 0]), 2)
    Array([[1, 0],
           [1, 1]], dtype=int32)
    """
    if labels.shape != predictions.shape or labels.ndim != 1:
        raise InputError(
            f"confusion_matrix: `labels` and `predictions` must be two lists of one length; "
            f"got shapes {labels.shape} and {predictions.shape}."
        )
    if num_classes < 1:
        raise InputError(f"confusion_matrix: `num_classes` must be 1 or above; got {num_classes!r}.")
    rows, columns = (jax.nn.one_hot(classes, num_classes, dtype=jnp.int32) for classes in (labels, predictions))
    return rows.T @ columns
