"""Max-pooling and average-pooling over one, two or three spatial axes."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from lenet_jax.errors import InputError
from lenet_jax.ops.arguments import check_floating, to_array
from lenet_jax.ops.definitions import widen
from lenet_jax.ops.operation import apply
from lenet_jax.ops.pools import MaxPool, SumPool
from lenet_jax.ops.windows import Ints, Padding, Window, entries, is_fixed, make_window, to_tuple


def max_pool(
    x: Float[ArrayLike, "N *space C"], window: Ints, *, strides: Ints | None = None, padding: Padding = "VALID"
) -> Float[Array, "N *output C"]:
    """Return the largest value in each window.

    The gradient goes to the first of equal largest values, in row-major order. A window of padding only has minus
    infinity.

    Args:
        x: (N, H, W, C), (N, W, C) or (N, D, H, W, C), floating point.
        window: size in pixels, an int or one for each spatial axis. Three axes are sequences; where they may be an
            image without batch axis, such as (28, 28, 1) or (14, 14, 16), or grey ones without channels, such as
            (8, 28, 28), an int is refused: write (3,) for sequences.
        strides: steps in pixels; None takes the window's size, so that windows do not overlap.
        padding: "VALID" drops the ragged border (Theano's ignore_border=True), "CEIL" keeps it
            (ignore_border=False), "SAME" as in TensorFlow, or pixels: an int, one for each spatial axis, or (before,
            after) pairs. Padding counts as minus infinity.

    Returns:
        (N, *output, C) of the same dtype.

    Raises:
        InputError: if `x` has another rank, is not floating point, or may be an image without batch axis; if an option
            is not made of integers, or the window does not fit into `x`.

    >>> max_pool(jnp.arange(16.0).reshape(1, 4, 4, 1), 2)[0, :, :, 0]
    Array([[ 5.,  7.],
           [13., 15.]], dtype=float32)
    """
    x = to_array("max_pool", "x", x)
    return apply(MaxPool(_pooling_window("max_pool", x, window, strides, padding)), x)[0]


def avg_pool(
    x: Float[ArrayLike, "N *space C"], window: Ints, *, strides: Ints | None = None, padding: Padding = "VALID"
) -> Float[Array, "N *output C"]:
    """Return the mean of each window over its pixels inside the image: padding is not counted.

    A window of padding only has 0.

    Args:
        x: (N, H, W, C), (N, W, C) or (N, D, H, W, C), floating point.
        window: size in pixels, as in `max_pool`.
        strides: steps in pixels; None takes the window's size.
        padding: "VALID", "CEIL", "SAME" or pixels, as in `max_pool`.

    Returns:
        (N, *output, C) of the same dtype.

    Raises:
        InputError: as `max_pool`.
    """
    x = to_array("avg_pool", "x", x)
    checked = _pooling_window("avg_pool", x, window, strides, padding)
    (total,) = apply(SumPool(checked, x.shape[1:-1]), widen(x))
    return (total / jnp.asarray(_counts(checked, x.shape[1:-1]), total.dtype)).astype(x.dtype)


def _counts(window: Window, space: Sequence[int]) -> np.ndarray | Array:
    """Return the number of pixels of the image in each window, (1, *output, 1)."""
    array = np if is_fixed(space) else jnp
    rank = len(space) + 2
    counts = array.ones((1,) * rank, np.int32)
    axes = zip(window.pads, window.size, window.strides, window.output, space, strict=True)
    for axis, ((before, _), size, stride, count, n) in enumerate(axes, 1):
        start = array.arange(count, dtype=np.int32) * stride - before
        inside = array.maximum(array.minimum(start + size, n) - array.maximum(start, 0), 0)
        counts = counts * inside.reshape([count if each == axis else 1 for each in range(rank)])
    return array.maximum(counts, 1)  # windows of padding only have a sum of 0


def _pooling_window(function: str, x: Array, window: Ints, strides: Ints | None, padding: Padding) -> Window:
    num_axes = x.ndim - 2
    if num_axes not in (1, 2, 3):
        raise InputError(f"{function}: `x` needs 1 to 3 spatial axes, as (N, H, W, C); got shape {x.shape}.")
    check_floating(function, "x", x)
    if num_axes == 1 and _may_be_an_image(function, x, window, strides, padding):
        raise InputError(
            f"{function}: `x` of shape {x.shape} may be sequences (N, W, C) or an image without batch axis; for an "
            "image add the axis, x[None], for grey ones x[..., None]; for sequences give a window of one entry: (2,)."
        )
    strides = window if strides is None else strides
    return make_window(function, x.shape[1:-1], window, strides, padding, allow_ceil=True)


_SMALLEST_SIDE, _LONGEST_SIDE, _MOST_CHANNELS = 8, 2, 4
"""Of what is likely an image: pixels, times the other side, and channels; a square one may have any number of them."""


def _may_be_an_image(function: str, x: Array, window: Ints, strides: Ints | None, padding: Padding) -> bool:
    """Return whether the options, or the shape, suit an image (H, W, C) or (N, H, W) better than sequences."""
    num_entries = {len(entries(option)) for option in (window, strides, padding)} - {0}
    if num_entries:
        return num_entries == {2}
    (size,) = to_tuple(function, "window", window, 1)
    first, width, channels = x.shape
    if size == 1 or not isinstance(first, int):  # a number of sequences may be symbolic
        return False
    short, long = sorted((first, width))
    is_image = long == short or (1 <= channels <= _MOST_CHANNELS and long <= _LONGEST_SIDE * short)
    return (is_image and short >= max(size, _SMALLEST_SIDE)) or width == channels >= _SMALLEST_SIDE
