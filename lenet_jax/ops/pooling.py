"""Max-pooling and average-pooling over one, two or three spatial axes."""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from lenet_jax.errors import InputError
from lenet_jax.ops.cpu.unfold import frames_along, split_frames
from lenet_jax.ops.windows import Ints, Padding, Window, make_window, pad_space


def max_pool(
    x: Float[ArrayLike, "..."], window: Ints, *, strides: Ints | None = None, padding: Padding = "VALID"
) -> Float[Array, "..."]:
    """Return the largest value in each window.

    The gradient goes to the first of equal largest values, in row-major order.

    Args:
        x: (N, H, W, C), or (N, W, C) or (N, D, H, W, C).
        window: size in pixels, an int or one a spatial axis.
        strides: steps in pixels; default: the window, so that windows do not overlap.
        padding: "VALID" drops the ragged border (Theano's ignore_border=True), "CEIL" keeps it
            (ignore_border=False), "SAME" as TensorFlow, or (before, after) pairs. Padding never wins.

    Returns:
        (N, *output, C) of the same dtype.

    Raises:
        InputError: if `x` has another rank or is not floating point, or the window does not fit into it.

    >>> max_pool(jnp.arange(16.0).reshape(1, 4, 4, 1), 2)[0, :, :, 0]
    Array([[ 5.,  7.],
           [13., 15.]], dtype=float32)
    """
    x = jnp.asarray(x)
    return _max(x, _pooling_window("max_pool", x, window, strides, padding))


def avg_pool(
    x: Float[ArrayLike, "..."], window: Ints, *, strides: Ints | None = None, padding: Padding = "VALID"
) -> Float[Array, "..."]:
    """Return the mean of each window, over its real pixels only: padding is not counted.

    Arguments, result and errors are those of `max_pool`.
    """
    x = jnp.asarray(x)
    return _mean(x, _pooling_window("avg_pool", x, window, strides, padding))


# Jitted so that a call outside of jit is one compiled program; inlined into programs of callers.
_one_program = functools.partial(jax.jit, static_argnames="window", inline=True)


@_one_program
def _max(x: Array, window: Window) -> Array:
    by_reduction = functools.partial(_max_by_reduction, window=window)
    return lax.platform_dependent(x, cpu=functools.partial(max_along_axes, window=window), default=by_reduction)


@_one_program
def _mean(x: Array, window: Window) -> Array:
    by_reduction = functools.partial(_sum_by_reduction, window=window)
    total = lax.platform_dependent(x, cpu=functools.partial(_sum_along_axes, window=window), default=by_reduction)
    axes = zip(window.pads, window.size, window.strides, window.output, x.shape[1:-1], strict=True)
    area = np.ones((), np.int64)
    for (before, _), size, stride, count, n in axes:
        start = np.arange(count) * stride - before
        area = area[..., None] * (np.minimum(start + size, n) - np.maximum(start, 0))
    area = area[None, ..., None]
    return total / jnp.asarray(area, x.dtype)


def _max_by_reduction(x: Array, *, window: Window) -> Array:
    return _reduce_window(x, -math.inf, lax.max, window)


def _sum_by_reduction(x: Array, *, window: Window) -> Array:
    return _reduce_window(x, 0.0, lax.add, window)


def _reduce_window(x: Array, start: float, operator: Callable[[Array, Array], Array], window: Window) -> Array:
    around = ((0, 0), *window.pads, (0, 0))
    size, strides = (1, *window.size, 1), (1, *window.strides, 1)
    return lax.reduce_window(x, np.asarray(start, x.dtype), operator, size, strides, around)


def _pooling_window(function: str, x: Array, window: Ints, strides: Ints | None, padding: Padding) -> Window:
    if x.ndim not in (3, 4, 5):
        raise InputError(f"{function}: `x` needs 1 to 3 spatial axes, as (N, H, W, C); got shape {x.shape}.")
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise InputError(f"{function}: `x` must be floating point; got {x.dtype}; convert it with x.astype(float).")
    strides = window if strides is None else strides
    return make_window(function, x.shape[1:-1], window, strides, padding, allow_ceil=True)


# XLA's own gradient of a max-pool (select-and-scatter) runs on one thread on CPU and has no fast second derivative. A
# rule for the tangent that is linear in it gives forward and reverse mode and their compositions.
#
# Windows that lie side by side are tiles: which of its values is the largest is one number a tile, and the gradient
# needs no padding. Where windows overlap, the largest value is that along the last axis, then along the one before, and
# so on; the same holds for the first of equal ones, and one axis at a time needs fewer comparisons.


def max_along_axes(x: Array, *, window: Window) -> Array:
    """Max-pool x (A, *space, B)."""
    if _tiles(window, x):
        return _max_of_tiles(window, x)
    x = pad_space(x, window.pads, -math.inf)
    for axis in reversed(range(len(window.size))):
        x = _max_of(_split_axis(x, window, axis))
    return x


def _sum_along_axes(x: Array, *, window: Window) -> Array:
    x = pad_space(x, window.pads)
    for axis in reversed(range(len(window.size))):
        x = functools.reduce(jnp.add, _split_axis(x, window, axis))
    return x


def _split_axis(x: Array, window: Window, axis: int) -> list[Array]:
    frames = frames_along(window, axis, axis + 1, x.shape[axis + 1])
    if frames.stride == frames.size and frames.count * frames.size == frames.length:
        # Side by side: a reshape, with a gradient that XLA fuses into what uses it.
        tiled = x.reshape(*x.shape[: frames.axis], frames.count, frames.size, *x.shape[frames.axis + 1 :])
        return [lax.index_in_dim(tiled, k, frames.axis + 1, keepdims=False) for k in range(frames.size)]
    return split_frames(x, frames)


@jax.custom_jvp
def _max_of(values: list[Array]) -> Array:
    return functools.reduce(jnp.maximum, values)


@_max_of.defjvp
def _(primals: tuple[list[Array]], tangents: tuple[list[Array]]) -> tuple[Array, Array]:
    (values,), (dots,) = primals, tangents
    largest, chosen = values[0], dots[0]
    for value, dot in zip(values[1:], dots[1:], strict=True):
        chosen = jnp.where(largest >= value, chosen, dot)
        largest = jnp.maximum(largest, value)
    return largest, chosen


def _tiles(window: Window, x: Array) -> bool:
    """Return whether the windows lie side by side, cover x, and nothing else."""
    if any(map(any, window.pads)):
        return False
    axes = zip(window.size, window.strides, window.output, x.shape[1:-1], strict=True)
    return all(size == stride and count * size == n for size, stride, count, n in axes)


def _to_tiles(window: Window, x: Array) -> Array:
    """Reshape x (A, *space, B) to (A, output, size, output, size, ..., B)."""
    axes = zip(window.output, window.size, strict=True)
    return x.reshape(x.shape[0], *(n for pair in axes for n in pair), x.shape[-1])


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _max_of_tiles(window: Window, x: Array) -> Array:
    return _largest_and_index(window, x)[0]


def _largest_and_index(window: Window, x: Array) -> tuple[Array, Array]:
    """Return the largest value of each tile, and which of its values it is, the first of equal ones."""
    tiles = _to_tiles(window, x)
    offsets = np.ndindex(*window.size)
    first, *others = (
        tiles[(slice(None), *(entry for k in offset for entry in (slice(None), k)))] for offset in offsets
    )
    largest, index = first, jnp.zeros((), jnp.int32)
    for number, value in enumerate(others, 1):
        index = jnp.where(largest >= value, index, number)
        largest = jnp.maximum(largest, value)
    return largest, jnp.broadcast_to(index, largest.shape)


@_max_of_tiles.defjvp
def _(window: Window, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (dot,) = primals, tangents
    largest, index = _largest_and_index(window, x)
    inside = range(2, 2 * len(window.size) + 1, 2)
    numbers = np.arange(math.prod(window.size), dtype=np.int32).reshape(window.size)
    numbers = np.expand_dims(numbers, [axis for axis in range(2 * len(window.size) + 2) if axis not in inside])
    is_largest = jnp.expand_dims(index, tuple(inside)) == numbers
    return largest, jnp.sum(jnp.where(is_largest, _to_tiles(window, dot), 0), tuple(inside))
