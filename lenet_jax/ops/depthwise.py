"""Depthwise convolutions, of each channel by itself, and separable ones, over one, two or three spatial axes.

The kernels of all channels are those of one convolution in as many groups as there are channels.
"""

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from lenet_jax.errors import InputError
from lenet_jax.ops.arguments import to_array
from lenet_jax.ops.convolution import check_arrays, convolve
from lenet_jax.ops.definitions import LAYOUTS
from lenet_jax.ops.windows import Ints, Padding


def depthwise_conv1d(
    x: Float[ArrayLike, "N W C"],
    kernel: Float[ArrayLike, "Kw I M"],
    *,
    strides: Ints = 1,
    padding: Padding = "VALID",
    dilation: Ints = 1,
) -> Float[Array, "N out_w CM"]:
    """Convolve each channel of sequences with its own kernels (K_w, C, M); all else as `depthwise_conv2d`."""
    return _depthwise("depthwise_conv1d", 1, x, kernel, strides, padding, dilation)


def depthwise_conv2d(
    x: Float[ArrayLike, "N H W C"],
    kernel: Float[ArrayLike, "Kh Kw I M"],
    *,
    strides: Ints = 1,
    padding: Padding = "VALID",
    dilation: Ints = 1,
) -> Float[Array, "N out_h out_w CM"]:
    """Convolve each channel with its own kernels, as tf.nn.depthwise_conv2d.

    Args:
        x: images (N, H, W, C).
        kernel: (K_h, K_w, C, M), M kernels for each channel, of the same dtype.
        strides: steps in pixels, as in `conv2d`.
        padding: as in `conv2d`.
        dilation: as in `conv2d`.

    Returns:
        (N, out_h, out_w, C * M); channel c * M + m is channel c of `x` convolved with kernel[:, :, c, m].

    Raises:
        InputError: as `conv2d`.
    """
    return _depthwise("depthwise_conv2d", 2, x, kernel, strides, padding, dilation)


def depthwise_conv3d(
    x: Float[ArrayLike, "N D H W C"],
    kernel: Float[ArrayLike, "Kd Kh Kw I M"],
    *,
    strides: Ints = 1,
    padding: Padding = "VALID",
    dilation: Ints = 1,
) -> Float[Array, "N out_d out_h out_w CM"]:
    """Convolve each channel of volumes with its own kernels (K_d, K_h, K_w, C, M); all else as `depthwise_conv2d`."""
    return _depthwise("depthwise_conv3d", 3, x, kernel, strides, padding, dilation)


def separable_conv1d(
    x: Float[ArrayLike, "N W C"],
    depthwise_kernel: Float[ArrayLike, "Kw I M"],
    pointwise_kernel: Float[ArrayLike, "_ IM O"],
    *,
    strides: Ints = 1,
    padding: Padding = "VALID",
    dilation: Ints = 1,
) -> Float[Array, "N out_w O"]:
    """Convolve sequences x (N, W, C) with kernels (K_w, C, M) and (1, C * M, O); all else as `separable_conv2d`."""
    return _separable("separable_conv1d", 1, x, depthwise_kernel, pointwise_kernel, strides, padding, dilation)


def separable_conv2d(
    x: Float[ArrayLike, "N H W C"],
    depthwise_kernel: Float[ArrayLike, "Kh Kw I M"],
    pointwise_kernel: Float[ArrayLike, "_ _ IM O"],
    *,
    strides: Ints = 1,
    padding: Padding = "VALID",
    dilation: Ints = 1,
) -> Float[Array, "N out_h out_w O"]:
    """Apply a depthwise convolution, then a convolution with kernels of one pixel, as tf.nn.separable_conv2d.

    Args:
        x: images (N, H, W, C).
        depthwise_kernel: (K_h, K_w, C, M), of the same dtype.
        pointwise_kernel: (1, 1, C * M, O), of the same dtype.
        strides: steps of the depthwise convolution in pixels, as in `conv2d`.
        padding: of the depthwise convolution, as in `conv2d`.
        dilation: of the depthwise convolution, as in `conv2d`.

    Returns:
        (N, out_h, out_w, O).

    Raises:
        InputError: as `conv2d`; if `pointwise_kernel` is not one of a single pixel.
    """
    return _separable("separable_conv2d", 2, x, depthwise_kernel, pointwise_kernel, strides, padding, dilation)


def separable_conv3d(
    x: Float[ArrayLike, "N D H W C"],
    depthwise_kernel: Float[ArrayLike, "Kd Kh Kw I M"],
    pointwise_kernel: Float[ArrayLike, "_ _ _ IM O"],
    *,
    strides: Ints = 1,
    padding: Padding = "VALID",
    dilation: Ints = 1,
) -> Float[Array, "N out_d out_h out_w O"]:
    """Convolve volumes with kernels (K_d, K_h, K_w, C, M) and (1, 1, 1, C * M, O); all else as `separable_conv2d`."""
    return _separable("separable_conv3d", 3, x, depthwise_kernel, pointwise_kernel, strides, padding, dilation)


def _depthwise(
    function: str,
    num_axes: int,
    x: ArrayLike,
    kernel: ArrayLike,
    strides: Ints,
    padding: Padding,
    dilation: Ints,
    argument: str = "kernel",
) -> Array:
    layout = f"{LAYOUTS[num_axes][1][:-2]}CM"
    x, kernel = check_arrays(function, num_axes, x, kernel, layout, argument)
    *size, channels, multiplier = kernel.shape
    if channels != x.shape[-1]:
        raise InputError(
            f"{function}: `{argument}` ({layout}) must have the {x.shape[-1]} channels of `x` on its second to last "
            f"axis; got shape {kernel.shape}."
        )
    if channels == 0:  # there are no groups of none
        kernel, groups = jnp.zeros((*size, 0, 0), kernel.dtype), 1
    else:
        kernel, groups = kernel.reshape(*size, 1, channels * multiplier), channels
    return convolve(function, num_axes, x, kernel, strides, padding, dilation, groups, argument)


def _separable(
    function: str,
    num_axes: int,
    x: ArrayLike,
    depthwise_kernel: ArrayLike,
    pointwise_kernel: ArrayLike,
    strides: Ints,
    padding: Padding,
    dilation: Ints,
) -> Array:
    y = _depthwise(function, num_axes, x, depthwise_kernel, strides, padding, dilation, "depthwise_kernel")
    pointwise, ones = to_array(function, "pointwise_kernel", pointwise_kernel), (1,) * num_axes
    if pointwise.ndim != num_axes + 2 or pointwise.shape[:-1] != (*ones, y.shape[-1]):
        shape = ", ".join(map(str, (*ones, y.shape[-1], "O")))
        raise InputError(
            f"{function}: `pointwise_kernel` must have shape ({shape}), for the {y.shape[-1]} channels that "
            f"`depthwise_kernel` makes; got {pointwise.shape}."
        )
    return convolve(function, num_axes, y, pointwise, 1, "VALID", 1, 1, "pointwise_kernel")
