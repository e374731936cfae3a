"""The definitions of convolution and pooling in `jax.lax`: what the operations mean, on every platform.

On a GPU or TPU they are also how the operations are computed; `lenet_jax.ops.cpu` computes the same values on a CPU.
"""

import math
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from lenet_jax.ops.windows import Window

LAYOUTS = {1: ("NWC", "WIO"), 2: ("NHWC", "HWIO"), 3: ("NDHWC", "DHWIO")}
"""Number of spatial axes -> the order of the axes of images and of kernels."""


def conv(x: Array, kernel: Array, *, window: Window, groups: int = 1, layout: str | None = None) -> Array:
    """Convolve x (N, *space, C) with a kernel (*size, C // groups, O); `layout` is another order of the axes of x."""
    images, kernels = LAYOUTS[len(window.size)]
    layout = layout or images
    return lax.conv_general_dilated(
        x,
        kernel,
        window.strides,
        window.pads,
        rhs_dilation=window.dilation,
        dimension_numbers=(layout, kernels, layout),
        feature_group_count=groups,
    )


def max_pool(x: Array, *, window: Window) -> Array:
    """Return the largest value in each window of x (N, *space, C); padding counts as minus infinity."""
    return _reduce_window(x, -math.inf, lax.max, window)


def sum_pool(x: Array, *, window: Window) -> Array:
    """Return the sum over each window of x (N, *space, C); padding counts as 0."""
    return _reduce_window(x, 0.0, lax.add, window)


def along_channels(a: Array, x: Array) -> Array:
    """Reshape a (C,), one value per channel, so that it broadcasts against x (..., C)."""
    return jnp.expand_dims(a, tuple(range(x.ndim - 1)))


def _reduce_window(x: Array, start: float, operator: Callable[[Array, Array], Array], window: Window) -> Array:
    padding = ((0, 0), *window.pads, (0, 0))
    size, strides = (1, *window.size, 1), (1, *window.strides, 1)
    return lax.reduce_window(x, np.asarray(start, x.dtype), operator, size, strides, padding)
