"""Classification metrics."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Integer

from lenet_jax.errors import InputError


def is_correct(outputs: Float[Array, "N classes"], targets: Integer[Array, "N"]) -> Bool[Array, "N"]:  # noqa: F821
    """Return for each example whether its largest logit is that of its label."""
    return jnp.argmax(outputs, axis=-1) == targets.astype(jnp.int32)


def confusion_matrix(
    labels: Int[Array, "N"],  # noqa: F821
    predictions: Int[Array, "N"],  # noqa: F821
    num_classes: int,
) -> Int[Array, "classes classes"]:
    """Count the examples of each label (row) by their predicted class (column).

    Args:
        labels: true classes, 0 to num_classes - 1.
        predictions: predicted classes, same range and length. Values out of range are not counted.
        num_classes: 1 or above.

    Raises:
        InputError: if the lengths differ, the classes are no integers, or `num_classes` is below 1.

    >>> confusion_matrix(jnp.array([0, 1, 1]), jnp.array([0, 1, 0]), 2)
    Array([[1, 0],
           [1, 1]], dtype=int32)
    """
    labels, predictions = jnp.asarray(labels), jnp.asarray(predictions)
    if labels.shape != predictions.shape or labels.ndim != 1:
        raise InputError(
            f"confusion_matrix: `labels` and `predictions` must be two lists of one length; "
            f"got shapes {labels.shape} and {predictions.shape}."
        )
    for name, classes in (("labels", labels), ("predictions", predictions)):
        if not jnp.issubdtype(classes.dtype, jnp.integer):
            raise InputError(f"confusion_matrix: `{name}` must be integers; got {classes.dtype}.")
    if not isinstance(num_classes, int | np.integer) or num_classes < 1:
        raise InputError(f"confusion_matrix: `num_classes` must be 1 or above; got {num_classes!r}.")
    rows, columns = (jax.nn.one_hot(classes, num_classes, dtype=jnp.int32) for classes in (labels, predictions))
    return rows.T @ columns


def to_percent(matrix: Int[Array, "classes classes"]) -> Float[Array, "classes classes"]:
    """Return each row of a confusion matrix in percent of its sum; the row of a class without examples is zero.

    >>> to_percent(jnp.array([[0, 0], [1, 3]]))
    Array([[ 0.,  0.],
           [25., 75.]], dtype=float32)
    """
    present = jnp.maximum(matrix.sum(axis=1, keepdims=True), 1)
    return 100 * matrix.astype(jnp.float32) / present.astype(jnp.float32)


def precision_and_recall(
    matrix: Int[Array, "classes classes"],
) -> tuple[Float[Array, "classes"], Float[Array, "classes"]]:  # noqa: F821
    """Return precision and recall of each class.

    Precision is the fraction of the predictions of a class that are correct; recall is the fraction of the examples of
    a class that are predicted correctly. A class without predictions has precision 0, and a class without examples has
    recall 0.

    Args:
        matrix: counts, the result of `confusion_matrix`.

    >>> precision_and_recall(jnp.array([[1, 0], [1, 1]]))
    (Array([0.5, 1. ], dtype=float32), Array([1. , 0.5], dtype=float32))
    """
    correct = jnp.diagonal(matrix).astype(jnp.float32)
    predicted, present = (jnp.maximum(matrix.sum(axis=axis), 1).astype(jnp.float32) for axis in (0, 1))
    return correct / predicted, correct / present


def expected_calibration_error(
    logits: Float[Array, "N classes"],
    labels: Int[Array, "N"],  # noqa: F821
    *,
    num_bins: int = 15,
) -> Float[Array, ""]:
    """Return the expected calibration error: the mean over examples of |accuracy - confidence| of their bin.

    The confidence of an example is its largest softmax probability. The bins have equal width from 0 to 1.

    Args:
        logits: one per class.
        labels: true classes, 0 to classes - 1.
        num_bins: number of bins, 1 or above.

    Source: Guo et al. 2017, "On calibration of modern neural networks", equation 3.

    Raises:
        InputError: if `num_bins` is below 1.
    """
    if num_bins < 1:
        raise InputError(f"expected_calibration_error: `num_bins` must be 1 or above; got {num_bins!r}.")
    confidence = jnp.max(jax.nn.softmax(logits.astype(jnp.float32)), axis=-1)
    correct = (jnp.argmax(logits, axis=-1) == labels).astype(jnp.float32)
    bins = jnp.clip(jnp.ceil(confidence * jnp.float32(num_bins)).astype(jnp.int32) - 1, 0, num_bins - 1)
    # |sum of (correct - confidence)| in a bin is its count times |accuracy - mean confidence|.
    gaps = jnp.abs(jax.ops.segment_sum(correct - confidence, bins, num_bins))
    return jnp.sum(gaps) / jnp.float32(labels.shape[0])
