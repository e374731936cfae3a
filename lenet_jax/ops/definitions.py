"""The definitions of convolution and pooling in `jax.lax`: what the operations mean, on every platform.

On a GPU or TPU they are also how the operations are computed; `lenet_jax.ops.cpu` computes the same values on a CPU.
"""

import functools
import itertools
import math
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from lenet_jax.ops.windows import Window, is_fixed, pad_space, strided_slices

LAYOUTS = {1: ("NWC", "WIO"), 2: ("NHWC", "HWIO"), 3: ("NDHWC", "DHWIO")}
"""Number of spatial axes -> the order of the axes of images and of kernels."""


def conv(x: Array, kernel: Array, *, window: Window, groups: int = 1) -> Array:
    """Convolve x (N, *space, C) with a kernel (*size, C // groups, O)."""
    images, kernels = LAYOUTS[len(window.size)]
    pads = window.pads
    if not is_fixed(itertools.chain(*pads)):  # "SAME" of a symbolic size, which `lax` takes of a pad alone
        x, pads = pad_space(x, pads), ((0, 0),) * len(pads)
    return lax.conv_general_dilated(
        x,
        kernel,
        window.strides,
        pads,
        rhs_dilation=window.dilation,
        dimension_numbers=(images, kernels, images),
        feature_group_count=groups,
    )


def max_pool(x: Array, *, window: Window) -> Array:
    """Return the largest value in each window of x (N, *space, C); padding counts as minus infinity."""
    return _reduce_window(x, -math.inf, lax.max, window)


MAX_OFFSETS = 255
"""With more offsets inside a window, slicing out each of them costs more compile time than it saves."""


def index_dtype(window: Window) -> type[np.integer]:
    """Return the type of the positions in a window: a byte where it has as many values."""
    return np.uint8 if len(window.offsets) <= MAX_OFFSETS else np.int32


def argmax_pool(x: Array, *, window: Window) -> Array:
    """Return the position of the largest value in each window, the first of equal ones in row-major order.

    A NaN is larger than every number. Where padding is all that is as large, the position is 0.
    """
    if len(window.offsets) > MAX_OFFSETS:
        return _argmax_pool_of_large(x, window)
    first, *others = strided_slices(x, window, -math.inf)
    index, largest = jnp.zeros(first.shape, index_dtype(window)), first
    for number, value in enumerate(others, 1):
        larger = ~(value <= largest) & ~jnp.isnan(largest)
        largest, index = jnp.where(larger, value, largest), jnp.where(larger, index.dtype.type(number), index)
    return index


def choose(x: Array, index: Array, *, window: Window) -> Array:
    """Return the value at the position `index` (N, *output, C) in each window of x; padding counts as 0."""
    if len(window.offsets) > MAX_OFFSETS:
        return _choose_in_large(x, index, window)
    values = strided_slices(x, window)
    return functools.reduce(jnp.add, (jnp.where(index == k, value, 0) for k, value in enumerate(values)))


def _argmax_pool_of_large(x: Array, window: Window) -> Array:
    space = x.shape[1:-1]
    pixels = jnp.arange(math.prod(space), dtype=jnp.int32).reshape(1, *space, 1)

    def larger(a: tuple[Array, Array], b: tuple[Array, Array]) -> tuple[Array, Array]:
        (x, i), (y, j) = a, b
        take_first = (jnp.isnan(x) & ~jnp.isnan(y)) | (x > y) | (((x == y) | (jnp.isnan(x) & jnp.isnan(y))) & (i < j))
        return jnp.where(take_first, x, y), jnp.where(take_first, i, j)

    start = np.asarray(-math.inf, x.dtype), np.asarray(pixels.size, np.int32)
    size, strides, padding = (1, *window.size, 1), (1, *window.strides, 1), ((0, 0), *window.pads, (0, 0))
    operands = x, jnp.broadcast_to(pixels, x.shape)
    _, pixel = lax.reduce_window(operands, start, larger, size, strides, padding)
    index = jnp.zeros_like(pixel)
    for axis, coordinate in enumerate(jnp.unravel_index(pixel, space)):
        offset = coordinate - _window_starts(window, axis, x.ndim)
        index = index * window.size[axis] + offset.astype(jnp.int32)
    return jnp.where(pixel < pixels.size, index, 0)


def _choose_in_large(x: Array, index: Array, window: Window) -> Array:
    offsets = jnp.unravel_index(index, window.size)
    pixels = [offset + _window_starts(window, axis, x.ndim) for axis, offset in enumerate(offsets)]
    inside = functools.reduce(jnp.logical_and, ((p >= 0) & (p < n) for p, n in zip(pixels, x.shape[1:-1], strict=True)))
    examples, channels = jnp.arange(x.shape[0]), jnp.arange(x.shape[-1])
    examples = jnp.expand_dims(examples, tuple(range(1, x.ndim)))
    channels = jnp.expand_dims(channels, tuple(range(x.ndim - 1)))
    clipped = [jnp.clip(p, 0, n - 1) for p, n in zip(pixels, x.shape[1:-1], strict=True)]
    return jnp.where(inside, x[examples, *clipped, channels], 0)


def _window_starts(window: Window, axis: int, ndim: int) -> np.ndarray:
    """Return the first pixel of each window along a spatial axis, as an array of `ndim` axes."""
    starts = np.arange(window.output[axis], dtype=np.int32) * window.strides[axis] - window.pads[axis][0]
    return np.expand_dims(starts, [i for i in range(ndim) if i != axis + 1])


def sum_pool(x: Array, *, window: Window) -> Array:
    """Return the sum over each window of x (N, *space, C); padding counts as 0."""
    return _reduce_window(x, 0.0, lax.add, window)


def widen(x: Array) -> Array:
    """Convert half precision to float32, the least that sums are taken in."""
    return x.astype(jnp.float32) if x.dtype.itemsize < 4 else x


def along_channels(a: Array, x: Array) -> Array:
    """Reshape a (C,), one value per channel, so that it broadcasts against x (..., C)."""
    return jnp.expand_dims(a, tuple(range(x.ndim - 1)))


def add_to_channels(x: Array, bias: Array) -> Array:
    """Return x (..., C) plus a value for each channel (C,), of the dtype of x.

    It is computed in float32 at least, so that the gradient of the bias, a sum over all positions, is too.
    """
    wide = widen(x)
    return (wide + along_channels(bias.astype(wide.dtype), x)).astype(x.dtype)


def scale_channels(x: Array, scale: Array, bias: Array) -> Array:
    """Return x (..., C) times a value for each channel (C,) plus another, computed as in `add_to_channels`."""
    wide = widen(x)
    scale, bias = (along_channels(a.astype(wide.dtype), x) for a in (scale, bias))
    return (wide * scale + bias).astype(x.dtype)


def _reduce_window(x: Array, start: float, operator: Callable[[Array, Array], Array], window: Window) -> Array:
    padding = ((0, 0), *window.pads, (0, 0))
    size, strides = (1, *window.size, 1), (1, *window.strides, 1)
    return lax.reduce_window(x, np.asarray(start, x.dtype), operator, size, strides, padding)
