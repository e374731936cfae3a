"""Losses, one value an example, so that sums and means are the caller's choice."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from lenet_jax.types import Key, Loss, Model, Variables


def cross_entropy(
    logits: Float[Array, "*batch classes"], labels: Int[Array, "*batch"], *, label_smoothing: float = 0.0
) -> Float[Array, "*batch"]:
    """Return the negative log-likelihood of the labels under the softmax of the logits, in nats.

    loss = log(sum over c of exp(logits[c])) - logits[label]

    With label smoothing s, the labels have a probability of 1 - s, and s is shared by all classes alike (Szegedy et al.
    2016, "Rethinking the Inception architecture", section 7):

    loss = log(sum over c of exp(logits[c])) - (1 - s) * logits[label] - s * mean over c of logits[c]

    Args:
        logits: of each class.
        labels: 0 to classes - 1.
        label_smoothing: 0 to 1.

    >>> cross_entropy(jnp.zeros((1, 10)), jnp.array([3])).round(4)
    Array([2.3026], dtype=float32)
    """
    chosen = jnp.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
    if label_smoothing:
        chosen = (1 - label_smoothing) * chosen + label_smoothing * jnp.mean(logits, axis=-1)
    return jax.nn.logsumexp(logits, axis=-1) - chosen


def training_losses(model: Model) -> Callable[..., tuple[Array, PyTree]]:
    """Return `model.losses`, or what it is where the model has none: the loss of its logits."""
    if model.losses is not None:
        return model.losses

    def losses(
        loss_fn: Loss, variables: Variables, images: Array, labels: Array, *, key: Key | None = None
    ) -> tuple[Array, PyTree]:
        logits, state = model.apply(variables, images, train=True, key=key)
        return loss_fn(logits, labels), state

    return losses
