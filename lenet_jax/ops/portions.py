"""Working on a batch in portions whose activations stay in a processor's cache."""

from collections.abc import Callable

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

PORTION = 100
"""Examples at a time, where a network is only applied."""


def map_portions(fn: Callable[[Array], Array], x: Array, portion: int = PORTION) -> Array:
    """Return fn(x), computed in portions of equal size, at most `portion` examples, one after another.

    Args:
        fn: a function of a batch that treats each example alone.
        x: a batch, at least one example.
        portion: 1 or above.
    """
    num_portions = -(-x.shape[0] // portion)
    if num_portions <= 1:
        return fn(x)
    size = -(-x.shape[0] // num_portions)
    padded = jnp.pad(x, [(0, num_portions * size - x.shape[0]), *[(0, 0)] * (x.ndim - 1)])
    y = lax.map(fn, padded.reshape(num_portions, size, *x.shape[1:]))
    return y.reshape(-1, *y.shape[2:])[: x.shape[0]]
