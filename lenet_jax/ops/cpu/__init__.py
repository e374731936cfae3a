"""How operations are computed on a CPU, in one place: by slices and matrix products.

Images are (N, *space, C), kernels (*size, C // groups, O). Half-precision arrays are computed in float32 and rounded
once. Where `chosen` is given, maps have one value for each window of a pooling, that at a position in the window.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from lenet_jax.ops import definitions
from lenet_jax.ops.cpu import plain
from lenet_jax.ops.windows import Window

__all__ = [
    "Chosen",
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


@_in_float32
def convolution(x: Array, kernel: Array, *, window: Window, groups: int, chosen: Chosen | None = None) -> Array:
    """Return the convolution of x with a kernel, or its values at the chosen positions."""
    y = plain.convolution(x, kernel, window=window, groups=groups)
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
        dy = scatter(dy, chosen.index, window=chosen.pooling, space=window.output)
    return plain.input_gradient(dy, kernel, window=window, groups=groups, space=space)


@_in_float32
def kernel_gradient(x: Array, dy: Array, *, window: Window, groups: int, chosen: Chosen | None = None) -> Array:
    """Return the gradient of the sum of `convolution` times dy with respect to the kernel."""
    if chosen is not None:
        dy = scatter(dy, chosen.index, window=chosen.pooling, space=window.output)
    return plain.kernel_gradient(x, dy, window=window, groups=groups)


@_in_float32
def pooled_convolution(
    x: Array, kernel: Array, bias: Array, *, window: Window, groups: int, pooling: Window
) -> tuple[Array, Array]:
    """Return max_pool(convolution) + bias, and the position of the largest value in each window."""
    y, index = max_pool(convolution(x, kernel, window=window, groups=groups), window=pooling)
    return y + definitions.along_channels(bias, y), index


@_in_float32
def max_pool(x: Array, *, window: Window) -> tuple[Array, Array]:
    """Return the largest value in each window of x, and its position, the first of equal ones."""
    return plain.max_pool(x, window=window)


@_in_float32
def scatter(dy: Array, index: Array, *, window: Window, space: Sequence[int]) -> Array:
    """Return images of spatial shape `space` with each value of dy added at its position: `choose`, transposed."""
    return plain.scatter(dy, index, window=window, space=space)


@_in_float32
def sum_pool(x: Array, *, window: Window) -> Array:
    """Return the sum over each window of x."""
    return plain.sum_pool(x, window=window)


@_in_float32
def sum_pool_gradient(dy: Array, *, window: Window, space: Sequence[int]) -> Array:
    """Return images of spatial shape `space` with each value of dy added to its window: the transpose of `sum_pool`."""
    return plain.sum_pool_gradient(dy, window=window, space=space)
