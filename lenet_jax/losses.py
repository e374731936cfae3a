"""Losses, one value an example, so that sums and means are the caller's choice."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def cross_entropy(logits: Float[Array, "*batch classes"], labels: Int[Array, "*batch"]) -> Float[Array, "*batch"]:
    """Return the negative log-likelihood of the labels under the softmax of the logits, in nats.

    loss = log(sum over c of exp(logits[c])) - logits[label]

    >>> cross_entropy(jnp.zeros((1, 10)), jnp.array([3])).round(4)
    Array([2.3026], dtype=float32)
    """
    chosen = jnp.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
    return jax.nn.logsumexp(logits, axis=-1) - chosen
