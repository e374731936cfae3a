"""Max-pooling and average-pooling over one, two or three spatial axes."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from lenet_jax.errors import InputError
from lenet_jax.ops.windows import Ints, Padding, Window, make_window, taps


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


# Jitted so that a call outside of jit is one compiled program, not one for each tap; inlined into programs of callers.
_one_program = functools.partial(jax.jit, static_argnames="window", inline=True)


@_one_program
def _max(x: Array, window: Window) -> Array:
    if _tiles(window, x.shape[1:-1]):
        return _max_of_tiles(x, window.size)
    return _max_of_taps(taps(x, window, -math.inf))


@_one_program
def _mean(x: Array, window: Window) -> Array:
    total = functools.reduce(jnp.add, taps(x, window))
    ones = jnp.ones((1, *x.shape[1:-1], 1), x.dtype)
    return total / functools.reduce(jnp.add, taps(ones, window))


def _pooling_window(function: str, x: Array, window: Ints, strides: Ints | None, padding: Padding) -> Window:
    if x.ndim not in (3, 4, 5):
        raise InputError(f"{function}: `x` needs 1 to 3 spatial axes, as (N, H, W, C); got shape {x.shape}.")
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise InputError(f"{function}: `x` must be floating point; got {x.dtype}; convert it with x.astype(float).")
    strides = window if strides is None else strides
    return make_window(function, x.shape[1:-1], window, strides, padding, allow_ceil=True)


def _tiles(window: Window, space: tuple[int, ...]) -> bool:
    """Tell whether the windows cover the array side by side without overlap, gap or padding."""
    covered = tuple(n * k for n, k in zip(window.output, window.size, strict=True))
    return window.strides == window.size and covered == space and not any(map(any, window.pads))


def _first(values: list[Array], largest: Array) -> list[Array]:
    """For each of `values` tell where it is the first that equals `largest`."""
    taken = jnp.zeros(largest.shape, bool)
    firsts = []
    for value in values:
        equal = value == largest
        firsts.append(equal & ~taken)
        taken = taken | equal
    return firsts


# XLA's own gradient of a max-pool (select-and-scatter) runs on one thread on CPU and has no fast second derivative.
# A rule for the tangent, linear in it, gives forward and reverse mode and their compositions.


@jax.custom_jvp
def _max_of_taps(values: list[Array]) -> Array:
    return functools.reduce(jnp.maximum, values)


@_max_of_taps.defjvp
def _(primals: tuple[list[Array]], tangents: tuple[list[Array]]) -> tuple[Array, Array]:
    (values,), (dots,) = primals, tangents
    largest = _max_of_taps(values)
    zero = jnp.zeros((), largest.dtype)
    chosen = [jnp.where(m, dot, zero) for m, dot in zip(_first(values, largest), dots, strict=True)]
    return largest, functools.reduce(jnp.add, chosen)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _max_of_tiles(x: Array, size: tuple[int, ...]) -> Array:
    """Max-pool windows that tile the array: a reshape is cheaper than strided slices."""
    return jnp.max(_tile(x, size), axis=_pixel_axes(size))


@_max_of_tiles.defjvp
def _(size: tuple[int, ...], primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    tiles, dots, axes = _tile(primals[0], size), _tile(tangents[0], size), _pixel_axes(size)
    largest = jnp.max(tiles, axis=axes, keepdims=True)
    area = math.prod(size)
    rank = np.arange(area, dtype=np.int32).reshape([1, *(n for k in size for n in (1, k)), 1])
    first = jnp.min(jnp.where(tiles == largest, rank, area), axis=axes, keepdims=True)
    chosen = jnp.where(rank == first, dots, jnp.zeros((), dots.dtype))
    return jnp.squeeze(largest, axes), jnp.sum(chosen, axis=axes)


def _tile(x: Array, size: tuple[int, ...]) -> Array:
    """Split each spatial axis n into (n // k, k)."""
    axes = zip(x.shape[1:-1], size, strict=True)
    return x.reshape(x.shape[0], *(part for n, k in axes for part in (n // k, k)), x.shape[-1])


def _pixel_axes(size: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(range(2, 2 * len(size) + 1, 2))
