"""Computing a large batch as smaller ones, whose intermediate arrays stay in a processor's cache."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, PyTree

BATCH_SIZE = 100
"""Largest number of examples computed together at inference."""


def map_batches(fn: Callable[[PyTree], PyTree], x: PyTree, batch_size: int = BATCH_SIZE) -> PyTree:
    """Return fn(x), computed by `lax.map` over batches of equal size.

    Args:
        fn: function of a batch (n, ...) whose output for an example does not depend on the other examples.
        x: (N, ...), at least one example, or a pytree of such arrays.
        batch_size: largest number of examples in a batch, 1 or more; the last batch is padded with zeros.

    Returns:
        (N, ...), the outputs in the order of the examples, or a pytree of such arrays.
    """
    num_examples = jax.tree.leaves(x)[0].shape[0]
    num_batches = -(-num_examples // batch_size)
    if num_batches <= 1:
        return fn(x)
    size = -(-num_examples // num_batches)

    def split(x: Array) -> Array:
        padded = jnp.pad(x, [(0, num_batches * size - num_examples), *[(0, 0)] * (x.ndim - 1)])
        return padded.reshape(num_batches, size, *x.shape[1:])

    batches = lax.map(fn, jax.tree.map(split, x))
    return jax.tree.map(lambda y: y.reshape(-1, *y.shape[2:])[:num_examples], batches)
