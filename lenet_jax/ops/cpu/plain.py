"""Convolution and pooling in JAX by slices and matrix products, where there are no native kernels.

XLA's CPU backend runs the gradients of a convolution inside a loop as nests of loops, 7 to 20 times slower (jax issue
12868), and those of a max-pool on one thread. Here every offset inside the window is a strided slice of the images, and
the windows side by side are a matrix.

Images are (N, *space, C), kernels (*size, C // groups, O).
"""

import functools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from lenet_jax.ops import definitions
from lenet_jax.ops.windows import Window, strided_slices


def convolution(x: Array, kernel: Array, *, window: Window, groups: int) -> Array:
    """Return the convolution of x with a kernel, (N, *output, O)."""
    is_fast = x.dtype == jnp.float32 and set(window.dilation) == {1} and len(window.size) == 2 and groups == 1
    if is_fast or _is_large(window):  # XLA's own is fast, in loops too
        return definitions.conv(x, kernel, window=window, groups=groups)
    y = jnp.einsum("npkgc,kcgo->npgo", _patches(x, window, groups), _split_kernel(kernel, groups))
    return y.reshape(x.shape[0], *window.output, kernel.shape[-1])


def kernel_gradient(x: Array, dy: Array, *, window: Window, groups: int) -> Array:
    """Return the gradient of sum(convolution(x, kernel) * dy) with respect to the kernel."""
    shape = (*window.size, x.shape[-1] // groups, dy.shape[-1])
    if _is_large(window):
        conv = functools.partial(definitions.conv, x, window=window, groups=groups)
        return _transpose(conv, shape, dy)
    gradient = jnp.einsum("npkgc,npgo->kcgo", _patches(x, window, groups), _split_channels(dy, groups))
    return gradient.reshape(shape)


def input_gradient(dy: Array, kernel: Array, *, window: Window, groups: int, space: Sequence[int]) -> Array:
    """Return the gradient of sum(convolution(x, kernel) * dy) with respect to x, whose spatial shape is `space`."""
    if _is_large(window):
        conv = functools.partial(definitions.conv, kernel=kernel, window=window, groups=groups)
        return _transpose(conv, (dy.shape[0], *space, kernel.shape[-2] * groups), dy)
    patches = jnp.einsum("npgo,kcgo->npkgc", _split_channels(dy, groups), _split_kernel(kernel, groups))
    patches = patches.reshape(dy.shape[0], *window.output, patches.shape[2], kernel.shape[-2] * groups)
    return _add_windows([patches[..., k, :] for k in range(patches.shape[-2])], window, space)


def max_pool(x: Array, *, window: Window) -> tuple[Array, Array]:
    """Return the largest value in each window and its position, the first of equal ones; a NaN is the largest."""
    return definitions.max_pool(x, window=window), definitions.argmax_pool(x, window=window)


def scatter(dy: Array, index: Array, *, window: Window, space: Sequence[int]) -> Array:
    """Return images of spatial shape `space` with each value of dy added at its position in its window."""
    if _is_large(window):
        choose = functools.partial(definitions.choose, index=index, window=window)
        return _transpose(choose, (dy.shape[0], *space, dy.shape[-1]), dy)
    parts = [jnp.where(index == k, dy, 0) for k in range(len(window.offsets))]
    return _add_windows(parts, window, space)


def sum_pool(x: Array, *, window: Window) -> Array:
    """Return the sum over each window."""
    if _is_large(window):
        return definitions.sum_pool(x, window=window)
    return functools.reduce(jnp.add, strided_slices(x, window))


def sum_pool_gradient(dy: Array, *, window: Window, space: Sequence[int]) -> Array:
    """Return images of spatial shape `space` with each value of dy added to its window."""
    if _is_large(window):
        return _transpose(
            functools.partial(definitions.sum_pool, window=window), (dy.shape[0], *space, dy.shape[-1]), dy
        )
    return _add_windows([dy] * len(window.offsets), window, space)


def _is_large(window: Window) -> bool:
    return len(window.offsets) > definitions.MAX_OFFSETS


def _transpose(linear: Callable[[Array], Array], shape: Sequence[int], dy: Array) -> Array:
    return jax.linear_transpose(linear, jax.ShapeDtypeStruct(tuple(shape), dy.dtype))(dy)[0]


def _patches(x: Array, window: Window, groups: int) -> Array:
    """Return (N, windows, offsets, groups, C // groups)."""
    patches = jnp.stack(strided_slices(x, window), -2)
    return patches.reshape(x.shape[0], math.prod(window.output), patches.shape[-2], groups, x.shape[-1] // groups)


def _split_channels(y: Array, groups: int) -> Array:
    return y.reshape(y.shape[0], math.prod(y.shape[1:-1]), groups, y.shape[-1] // groups)


def _split_kernel(kernel: Array, groups: int) -> Array:
    """Return (offsets, C // groups, groups, O // groups)."""
    inputs, outputs = kernel.shape[-2:]
    return kernel.reshape(math.prod(kernel.shape[:-2]), inputs, groups, outputs // groups)


def _add_windows(parts: Sequence[Array], window: Window, space: Sequence[int]) -> Array:
    """Return images with the sum of all parts, each (N, *output, C) at its offset in every window: (N, *space, C)."""

    def place(part: Array, offset: tuple[int, ...]) -> Array:
        config = [(0, 0, 0)]
        for n, start, stride, count, (before, _) in zip(
            space, offset, window.strides, window.output, window.pads, strict=True
        ):
            first = start - before
            config.append((first, n - first - ((count - 1) * stride + 1), stride - 1))
        return lax.pad(part, jnp.zeros((), part.dtype), [*config, (0, 0, 0)])

    return functools.reduce(jnp.add, map(place, parts, window.offsets))


# ---- sums over all positions of a channel ---------------------------------------------------------------------------

# XLA's CPU backend computes the sum of an expression one channel at a time, three to ten times slower than memory is
# read. Here blocks of rows are added in a loop whose body works on whole vectors.


def channel_moments(x: Array) -> tuple[Array, Array]:
    """Return the mean and the (biased) variance of each channel of x (*space, C), which has a value at least.

    x is read once: the sums are of x and its square relative to the mean of the first rows. The overall mean differs
    from that mean by at most the standard deviation times the square root of the number of such blocks of rows, so
    cancellation costs at most a rounding error times that number.
    """
    count = x.size // x.shape[-1]
    center = jnp.mean(x.reshape(count, -1)[: _rows_per_block(x)], 0)

    def terms(x: Array) -> tuple[Array, Array]:
        difference = x - definitions.along_channels(center, x)
        return difference, jnp.square(difference)

    shift, square = (total / count for total in _sum_rows(terms, x))
    return center + shift, jnp.maximum(square - jnp.square(shift), 0)


def channel_sums(y: Array, x: Array, center: Array) -> Array:
    """Return the sums of y (*space, C), and of y * (x - center), over space: (2, C)."""
    return jnp.stack(_sum_rows(lambda y, x: (y, y * (x - definitions.along_channels(center, x))), y, x))


_BLOCK_SIZE = 16_384  # numbers added at once: a core's cache holds them and their sums


def _sum_rows(terms: Callable[..., tuple[Array, Array]], *arrays: Array) -> list[Array]:
    channels, length = arrays[0].shape[-1], _rows_per_block(arrays[0])

    def add(totals: list[Array], rows: list[Array]) -> tuple[list[Array], None]:
        return [total + y for total, y in zip(totals, terms(*rows), strict=True)], None

    rows = [x.reshape(-1, length, channels) for x in arrays]
    zeros = [jnp.zeros_like(y) for y in terms(*(x[0] for x in rows))]
    return [jnp.sum(total, 0) for total in lax.scan(add, zeros, rows)[0]]


def _rows_per_block(x: Array) -> int:
    channels = x.shape[-1]
    positions = x.size // channels
    most = min(max(_BLOCK_SIZE // channels, 1), positions)
    return next(n for n in range(most, 0, -1) if positions % n == 0)
