"""Computing a large batch as smaller ones, whose intermediate arrays stay in a processor's cache."""

from collections.abc import Callable

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

BATCH_SIZE = 100
"""Largest number of examples computed together at inference."""


def map_batches(fn: Callable[[Array], Array], x: Array, batch_size: int = BATCH_SIZE) -> Array:
    """Return fn(x), computed by `lax.map` over batches of equal size.

    Args:
        fn: function of a batch (n, ...) whose output for an example does not depend on the other examples.
        x: (N, ...), at least one example.
        batch_size: largest number of examples in a batch, 1 or more; the last batch is padded with zeros.

    Returns:
        (N, ...), the outputs in the order of the examples.
    """
    num_batches = -(-x.shape[0] // batch_size)
    if num_batches <= 1:
        return fn(x)
    size = -(-x.shape[0] // num_batches)
    padded = jnp.pad(x, [(0, num_batches * size - x.shape[0]), *[(0, 0)] * (x.ndim - 1)])
    y = lax.map(fn, padded.reshape(num_batches, size, *x.shape[1:]))
    return y.reshape(-1, *y.shape[2:])[: x.shape[0]]
