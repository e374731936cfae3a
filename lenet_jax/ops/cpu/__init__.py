"""How operations are computed on a CPU, in one place: by native kernels, or without them by slices and products.

Images are (N, *space, C), kernels (*size, C // groups, O). Half-precision arrays are computed in float32 and rounded
once. Where `chosen` is given, maps have one value for each window of a pooling, that at a position in the window.
"""

import functools
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from lenet_jax.ops import definitions
from lenet_jax.ops.cpu import native, plain
from lenet_jax.ops.windows import Window

__all__ = [
    "Chosen",
    "channel_moments",
    "channel_sums",
    "convolution",
    "input_gradient",
    "kernel_gradient",
    "max_pool",
    "pooled_convolution",
    "scatter",
    "sum_pool",
    "sum_pool_gradient",
]


class Chosen(NamedTuple):
    """The position of the largest value in each window of a pooling."""

    pooling: Window
    index: Array  # (N, *output, O)


def _in_float32(compute: Callable) -> Callable:
    """Compute with half-precision arrays converted to float32, and round the results."""

    @functools.wraps(compute)
    def converted(*arrays: Array, **options: object) -> Array | tuple[Array, ...]:
        dtype = arrays[0].dtype
        if dtype.itemsize >= 4:
            return compute(*arrays, **options)
        wide = [x.astype(jnp.float32) if jnp.issubdtype(x.dtype, jnp.floating) else x for x in arrays]
        results = compute(*wide, **options)
        return jax.tree.map(lambda y: y.astype(dtype) if jnp.issubdtype(y.dtype, jnp.floating) else y, results)

    return converted


def _best(x: Array) -> ModuleType:
    """Return the module with the functions that compute with arrays like x."""
    return native if native.computes(x) else plain


def _best_pool(x: Array, window: Window) -> ModuleType:
    return native if native.computes(x) and len(window.offsets) <= native.MAX_POSITIONS else plain


@_in_float32
def convolution(x: Array, kernel: Array, *, window: Window, groups: int, chosen: Chosen | None = None) -> Array:
    """Return the convolution of x with a kernel, or its values at the chosen positions."""
    y = _best(x).convolution(x, kernel, window=window, groups=groups)
    return y if chosen is None else definitions.choose(y, chosen.index, window=chosen.pooling)


@_in_float32
def input_gradient(
    dy: Array,
    kernel: Array,
    *,
    window: Window,
    groups: int,
    space: Sequence[int],
    chosen: Chosen | None = None,
) -> Array:
    """Return the gradient of the sum of `convolution` times dy with respect to x, whose spatial shape is `space`."""
    if chosen is not None:
        pooling, index = chosen
        if native.computes_pooled(dy, window, groups, pooling):
            return native.pooled_input_gradient(dy, index, kernel, window=window, pooling=pooling, space=space)
        dy = scatter(dy, index, window=pooling, space=window.output)
    return _best(dy).input_gradient(dy, kernel, window=window, groups=groups, space=space)


@_in_float32
def kernel_gradient(x: Array, dy: Array, *, window: Window, groups: int, chosen: Chosen | None = None) -> Array:
    """Return the gradient of the sum of `convolution` times dy with respect to the kernel."""
    if chosen is not None:
        pooling, index = chosen
        if native.computes_pooled(x, window, groups, pooling):
            return native.pooled_kernel_gradient(x, dy, index, window=window, pooling=pooling)
        dy = scatter(dy, index, window=pooling, space=window.output)
    return _best(x).kernel_gradient(x, dy, window=window, groups=groups)


@_in_float32
def pooled_convolution(
    x: Array, kernel: Array, bias: Array, *, window: Window, groups: int, pooling: Window, activation: str | None
) -> tuple[Array, Array]:
    """Return activation(max_pool(convolution) + bias), and the position of the largest value in each window."""
    if native.computes_pooled(x, window, groups, pooling):
        return native.pooled_convolution(x, kernel, bias, window=window, pooling=pooling, activation=activation)
    y, index = max_pool(convolution(x, kernel, window=window, groups=groups), window=pooling)
    y = y + definitions.along_channels(bias, y)
    return {None: lambda y: y, "relu": jax.nn.relu, "tanh": jnp.tanh}[activation](y), index


@_in_float32
def max_pool(x: Array, *, window: Window) -> tuple[Array, Array]:
    """Return the largest value in each window of x, and its position, the first of equal ones."""
    return _best_pool(x, window).max_pool(x, window=window)


@_in_float32
def scatter(dy: Array, index: Array, *, window: Window, space: Sequence[int]) -> Array:
    """Return images of spatial shape `space` with each value of dy added at its position: `choose`, transposed."""
    return _best_pool(dy, window).scatter(dy, index, window=window, space=space)


@_in_float32
def sum_pool(x: Array, *, window: Window) -> Array:
    """Return the sum over each window of x."""
    return _best(x).sum_pool(x, window=window)


@_in_float32
def sum_pool_gradient(dy: Array, *, window: Window, space: Sequence[int]) -> Array:
    """Return images of spatial shape `space` with each value of dy added to its window: the transpose of `sum_pool`."""
    return _best(dy).sum_pool_gradient(dy, window=window, space=space)


def channel_moments(x: Array) -> tuple[Array, Array]:
    """Return the mean and the (biased) variance of each channel of x (*space, C), of float32 at least."""
    return _best(x).channel_moments(x)


def channel_sums(y: Array, x: Array, center: Array) -> Array:
    """Return the sums of y (*space, C), and of y * (x - center), over space: (2, C); all of float32 at least."""
    return _best(x).channel_sums(y, x, center)
