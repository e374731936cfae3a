"""Max-pooling and sums over windows on a CPU, one spatial axis at a time.

XLA's own gradient of a max-pool (select-and-scatter) runs on one thread on a CPU and has no fast second derivative. A
rule for the tangent, linear in it, gives forward mode, reverse mode and their compositions.

Windows that do not overlap are tiles: the position of the largest value is one number a tile, and the gradient needs no
padding. Where windows overlap, the largest value is taken along the last axis, then along the one before, and so on;
the first of equal values is found in the same way, and one axis at a time needs fewer comparisons.

The arrays are (A, *space, B), where A and B are batch and channels in either order.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from lenet_jax.ops.cpu.unfold import axis_windows, unfold
from lenet_jax.ops.windows import Window, pad_space


def max_pool(x: Array, *, window: Window) -> Array:
    """Return the largest value in each window of x (A, *space, B); its gradient goes to the first of equal values."""
    if _are_tiles(window, x):
        return _max_of_tiles(window, x)
    x = pad_space(x, window.pads, -math.inf)
    for axis in reversed(range(len(window.size))):
        x = _max_of(_entries(x, window, axis))
    return x


def sum_pool(x: Array, *, window: Window) -> Array:
    """Return the sum over each window of x (A, *space, B)."""
    x = pad_space(x, window.pads)
    for axis in reversed(range(len(window.size))):
        x = functools.reduce(jnp.add, _entries(x, window, axis))
    return x


def _entries(x: Array, window: Window, axis: int) -> list[Array]:
    """Return the first entry of every window along one spatial axis, the second, and so on."""
    windows = axis_windows(window, axis, axis + 1, x.shape[axis + 1])
    if windows.stride == windows.size and windows.count * windows.size == windows.length:
        # Tiles: a reshape, whose gradient XLA fuses into the operations that use it.
        tiled = x.reshape(*x.shape[: windows.axis], windows.count, windows.size, *x.shape[windows.axis + 1 :])
        return [lax.index_in_dim(tiled, k, windows.axis + 1, keepdims=False) for k in range(windows.size)]
    return unfold(x, windows)


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


def _are_tiles(window: Window, x: Array) -> bool:
    """Return whether the windows do not overlap and cover x exactly."""
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
    """Return the largest value of each tile and its position in the tile, the first of equal values."""
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
