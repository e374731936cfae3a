"""Max-pooling and average-pooling over one, two or three spatial axes."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from lenet_jax.errors import InputError
from lenet_jax.ops.definitions import widen
from lenet_jax.ops.operation import apply
from lenet_jax.ops.pools import MaxPool, SumPool
from lenet_jax.ops.windows import Ints, Padding, Window, make_window


def max_pool(
    x: Float[ArrayLike, "..."], window: Ints, *, strides: Ints | None = None, padding: Padding = "VALID"
) -> Float[Array, "..."]:
    """Return the largest value in each window.

    The gradient goes to the first of equal largest values, in row-major order.

    Args:
        x: (N, H, W, C), (N, W, C) or (N, D, H, W, C).
        window: size in pixels, an int or one for each spatial axis.
        strides: steps in pixels; None takes the window's size, so that windows do not overlap.
        padding: "VALID" drops the ragged border (Theano's ignore_border=True), "CEIL" keeps it
            (ignore_border=False), "SAME" as in TensorFlow, or (before, after) pairs in pixels. Padding counts as minus
            infinity.

    Returns:
        (N, *output, C) of the same dtype.

    Raises:
        InputError: if `x` has another rank or is not floating point, or the window does not fit into it.

    >>> max_pool(jnp.arange(16.0).reshape(1, 4, 4, 1), 2)[0, :, :, 0]
    Array([[ 5.,  7.],
           [13., 15.]], dtype=float32)
    """
    x = jnp.asarray(x)
    return apply(MaxPool(_pooling_window("max_pool", x, window, strides, padding)), x)[0]


def avg_pool(
    x: Float[ArrayLike, "..."], window: Ints, *, strides: Ints | None = None, padding: Padding = "VALID"
) -> Float[Array, "..."]:
    """Return the mean of each window over its pixels inside the image: padding is not counted.

    Args:
        x: (N, H, W, C), (N, W, C) or (N, D, H, W, C).
        window: size in pixels, an int or one for each spatial axis.
        strides: steps in pixels; None takes the window's size.
        padding: "VALID", "CEIL", "SAME" or (before, after) pairs in pixels, as in `max_pool`.

    Returns:
        (N, *output, C) of the same dtype.

    Raises:
        InputError: as `max_pool`.
    """
    x = jnp.asarray(x)
    checked = _pooling_window("avg_pool", x, window, strides, padding)
    (total,) = apply(SumPool(checked, x.shape[1:-1]), widen(x))
    return (total / jnp.asarray(_counts(checked, x.shape[1:-1]), total.dtype)).astype(x.dtype)


def _counts(window: Window, space: Sequence[int]) -> np.ndarray:
    """Return the number of pixels of the image in each window, (1, *output, 1)."""
    counts = np.ones((), np.int64)
    for (before, _), size, stride, count, n in zip(
        window.pads, window.size, window.strides, window.output, space, strict=True
    ):
        start = np.arange(count) * stride - before
        counts = counts[..., None] * (np.minimum(start + size, n) - np.maximum(start, 0))
    return counts[None, ..., None]


def _pooling_window(function: str, x: Array, window: Ints, strides: Ints | None, padding: Padding) -> Window:
    if x.ndim not in (3, 4, 5):
        raise InputError(f"{function}: `x` needs 1 to 3 spatial axes, as (N, H, W, C); got shape {x.shape}.")
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise InputError(f"{function}: `x` must be floating point; got {x.dtype}; convert it with x.astype(float).")
    strides = window if strides is None else strides
    return make_window(function, x.shape[1:-1], window, strides, padding, allow_ceil=True)
