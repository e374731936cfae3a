"""Loss functions: they return one value per example, so that the caller chooses between sums and means."""

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float, Integer

from lenet_jax.errors import InputError
from lenet_jax.ops.arguments import to_number
from lenet_jax.types import is_concrete


def cross_entropy(
    logits: Float[Array, "*batch classes"], labels: Integer[Array, "*batch"], *, label_smoothing: float = 0.0
) -> Float[Array, "*batch"]:
    """Return the negative log-likelihood of the labels under the softmax of the logits, in nats.

    loss = log(sum over c of exp(logits[c])) - logits[label]

    With label smoothing s, the target is 1 - s at the label plus s distributed evenly over all classes (Szegedy et al.
    2016, "Rethinking the Inception architecture", section 7):

    loss = log(sum over c of exp(logits[c])) - (1 - s) * logits[label] - s * mean over c of logits[c]

    Args:
        logits: one per class.
        labels: true classes, 0 to classes - 1.
        label_smoothing: s, 0 to 1.

    Raises:
        InputError: if labels are no integers of the shape of the logits without the last axis; if they are known, as
            outside of `jax.jit`, and out of range; if `label_smoothing` is out of its range. For labels that are not
            known, JAX gives NaN, or for a negative label that of another class.

    >>> cross_entropy(jnp.zeros((1, 10)), jnp.array([3])).round(4)
    Array([2.3026], dtype=float32)
    """
    label_smoothing = to_number(
        "cross_entropy", "label_smoothing", label_smoothing, "from 0 to 1", lambda number: 0 <= number <= 1
    )
    logits, labels = jnp.asarray(logits), jnp.asarray(labels)
    if labels.shape != logits.shape[:-1] or not jnp.issubdtype(labels.dtype, jnp.integer):
        raise InputError(
            f"cross_entropy: `labels` must be integers of shape {logits.shape[:-1]}, one for each example; "
            f"got {labels.dtype}{labels.shape}."
        )
    if is_concrete(labels) and labels.size:
        known = jax.device_get(labels)  # of NumPy: inside `jit` even a known array's smallest entry is traced
        low, high = int(known.min()), int(known.max())
        if low < 0 or high >= logits.shape[-1]:
            raise InputError(
                f"cross_entropy: `labels` must be 0 to {logits.shape[-1] - 1}, as there are {logits.shape[-1]} logits; "
                f"got {low} to {high}."
            )
    chosen = jnp.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
    if isinstance(label_smoothing, Tracer) or label_smoothing:
        chosen = (1 - label_smoothing) * chosen + label_smoothing * jnp.mean(logits, axis=-1)
    return jax.nn.logsumexp(logits, axis=-1) - chosen
