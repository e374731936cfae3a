"""Convolutions (cross-correlations, as in all of deep learning) over one, two or three spatial axes.

The definition is `lax.conv_general_dilated`; `lenet_jax.ops.cpu` chooses how it is computed on a CPU. A caller sees one
function that can be jitted, vmapped and differentiated any number of times in either mode.
"""

import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from lenet_jax.errors import InputError
from lenet_jax.ops.cpu.convolution import LAYOUTS, convolve
from lenet_jax.ops.windows import Ints, Padding, make_window, to_tuple


def conv1d(
    x: Float[ArrayLike, "..."],
    kernel: Float[ArrayLike, "..."],
    *,
    strides: Ints = 1,
    padding: Padding = "VALID",
    dilation: Ints = 1,
    groups: int = 1,
) -> Float[Array, "N out_w O"]:
    """Convolve sequences x (N, W, C) with a kernel (K_w, C // groups, O); see `conv2d`."""
    return _convolve("conv1d", 1, x, kernel, strides, padding, dilation, groups)


def conv2d(
    x: Float[ArrayLike, "..."],
    kernel: Float[ArrayLike, "..."],
    *,
    strides: Ints = 1,
    padding: Padding = "VALID",
    dilation: Ints = 1,
    groups: int = 1,
) -> Float[Array, "N out_h out_w O"]:
    """Convolve images with a kernel.

    y[n, i, j, o] = sum over a, b, c of x[n, i*s + a*d, j*s + b*d, c] * kernel[a, b, c, o], strides s and dilation d.

    Args:
        x: images (N, H, W, C), floating point.
        kernel: (K_h, K_w, C // groups, O), same dtype.
        strides: steps down and right in pixels, an int or two.
        padding: "VALID" (none), "SAME" (output = ceil(input / stride), as TensorFlow) or
            ((top, bottom), (left, right)) pixels of zeros.
        dilation: pixels from one entry of the kernel to the next, an int or two.
        groups: number of groups that channels and maps are split into; each group of maps sees its channels only.

    Returns:
        (N, out_h, out_w, O).

    Raises:
        InputError: if a rank, dtype, number of channels or option is wrong, or the kernel does not fit into the image.

    >>> conv2d(jnp.ones((1, 3, 3, 1)), jnp.ones((2, 2, 1, 1))).shape
    (1, 2, 2, 1)
    """
    return _convolve("conv2d", 2, x, kernel, strides, padding, dilation, groups)


def conv3d(
    x: Float[ArrayLike, "..."],
    kernel: Float[ArrayLike, "..."],
    *,
    strides: Ints = 1,
    padding: Padding = "VALID",
    dilation: Ints = 1,
    groups: int = 1,
) -> Float[Array, "N out_d out_h out_w O"]:
    """Convolve volumes x (N, D, H, W, C) with a kernel (K_d, K_h, K_w, C // groups, O); see `conv2d`."""
    return _convolve("conv3d", 3, x, kernel, strides, padding, dilation, groups)


def depthwise_conv2d(
    x: Float[ArrayLike, "..."],
    kernel: Float[ArrayLike, "..."],
    *,
    strides: Ints = 1,
    padding: Padding = "VALID",
    dilation: Ints = 1,
) -> Float[Array, "N out_h out_w CM"]:
    """Convolve each channel with kernels of its own, as tf.nn.depthwise_conv2d.

    Args:
        x: images (N, H, W, C).
        kernel: (K_h, K_w, C, M): M kernels a channel.
        strides: as in `conv2d`; so are `padding` and `dilation`.
        padding: see above.
        dilation: see above.

    Returns:
        (N, out_h, out_w, C * M); map c * M + m is channel c convolved with kernel[:, :, c, m].

    Raises:
        InputError: as `conv2d`.
    """
    x, kernel = _check_arrays("depthwise_conv2d", 2, x, kernel, "HWCM")
    k_h, k_w, channels, multiplier = kernel.shape
    if channels != x.shape[-1]:
        raise InputError(
            f"depthwise_conv2d: `kernel` (HWCM) must have the {x.shape[-1]} channels of `x` on its third axis; "
            f"got shape {kernel.shape}."
        )
    kernel = kernel.reshape(k_h, k_w, 1, channels * multiplier)
    return _convolve("depthwise_conv2d", 2, x, kernel, strides, padding, dilation, channels)


def separable_conv2d(
    x: Float[ArrayLike, "..."],
    depthwise_kernel: Float[ArrayLike, "..."],
    pointwise_kernel: Float[ArrayLike, "..."],
    *,
    strides: Ints = 1,
    padding: Padding = "VALID",
    dilation: Ints = 1,
) -> Float[Array, "N out_h out_w O"]:
    """Convolve each channel alone, then mix the maps pixel by pixel, as tf.nn.separable_conv2d.

    Args:
        x: images (N, H, W, C).
        depthwise_kernel: (K_h, K_w, C, M).
        pointwise_kernel: (1, 1, C * M, O).
        strides: of the depthwise convolution; so are `padding` and `dilation`.
        padding: see above.
        dilation: see above.

    Raises:
        InputError: as `conv2d`.
    """
    maps = depthwise_conv2d(x, depthwise_kernel, strides=strides, padding=padding, dilation=dilation)
    pointwise_kernel = jnp.asarray(pointwise_kernel)
    if pointwise_kernel.ndim != 4 or pointwise_kernel.shape[:2] != (1, 1):
        raise InputError(
            f"separable_conv2d: `pointwise_kernel` must have shape (1, 1, C * M, O); got {pointwise_kernel.shape}."
        )
    return _convolve("separable_conv2d", 2, maps, pointwise_kernel, 1, "VALID", 1, 1)


def conv2d_transpose(
    x: Float[ArrayLike, "..."], kernel: Float[ArrayLike, "..."], *, strides: Ints = 1, padding: str = "SAME"
) -> Float[Array, "N out_h out_w O"]:
    """Apply the transpose (the gradient with respect to the input) of `conv2d`, as tf.nn.conv2d_transpose.

    Args:
        x: images (N, H, W, C).
        kernel: (K_h, K_w, O, C): the kernel of the convolution from O to C channels that is transposed.
        strides: of that convolution: the output is larger by this factor.
        padding: of that convolution: "SAME" (output = input * stride) or "VALID"
            (output = input * stride + max(kernel - stride, 0)).

    Raises:
        InputError: if a rank, dtype, number of channels or option is wrong.
    """
    x, kernel = _check_arrays("conv2d_transpose", 2, x, kernel, "HWOC")
    if kernel.shape[3] != x.shape[3]:
        raise InputError(
            f"conv2d_transpose: `kernel` (HWOC) must have the {x.shape[3]} channels of `x` on its last axis; "
            f"got shape {kernel.shape}."
        )
    if padding not in ("SAME", "VALID"):
        raise InputError(f'conv2d_transpose: `padding` must be "SAME" or "VALID"; got {padding!r}.')
    steps = to_tuple("conv2d_transpose", "strides", strides, 2)
    # The transpose spreads the input `stride` pixels apart and convolves it with the kernel turned by 180 degrees.
    spread = [(0, 0, 0)]
    for n, k, s in zip(x.shape[1:3], kernel.shape[:2], steps, strict=True):
        overlap = max(k - s, 0)
        out, cut = (n * s, overlap // 2) if padding == "SAME" else (n * s + overlap, 0)
        before = k - 1 - cut
        spread.append((before, out + k - 1 - before - ((n - 1) * s + 1), s - 1))
    x = lax.pad(x, jnp.zeros((), x.dtype), [*spread, (0, 0, 0)])
    turned = jnp.swapaxes(jnp.flip(kernel, (0, 1)), 2, 3)
    return _convolve("conv2d_transpose", 2, x, turned, 1, "VALID", 1, 1)


def _check_arrays(
    function: str, num_axes: int, x: ArrayLike, kernel: ArrayLike, kernel_layout: str
) -> tuple[Array, Array]:
    x, kernel = jnp.asarray(x), jnp.asarray(kernel)
    layout = LAYOUTS[num_axes][0]
    for name, array, axes in (("x", x, layout), ("kernel", kernel, kernel_layout)):
        if array.ndim != len(axes):
            raise InputError(f"{function}: `{name}` needs {len(axes)} axes ({axes}); got shape {array.shape}.")
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise InputError(
                f"{function}: `{name}` must be floating point; got {array.dtype}; convert it with .astype(float)."
            )
    if x.dtype != kernel.dtype:
        raise InputError(f"{function}: `x` and `kernel` must have one dtype; got {x.dtype} and {kernel.dtype}.")
    return x, kernel


def _convolve(
    function: str,
    num_axes: int,
    x: ArrayLike,
    kernel: ArrayLike,
    strides: Ints,
    padding: Padding,
    dilation: Ints,
    groups: int,
) -> Array:
    x, kernel = _check_arrays(function, num_axes, x, kernel, LAYOUTS[num_axes][1])
    channels, (inputs, maps) = x.shape[-1], kernel.shape[-2:]
    if groups < 1 or channels % groups or maps % groups:
        raise InputError(
            f"{function}: `groups` must divide the {channels} channels of `x` and the {maps} maps of `kernel`; "
            f"got {groups!r}."
        )
    if inputs * groups != channels:
        raise InputError(
            f"{function}: `kernel` must have channels / groups = {channels // groups} inputs on its second to last "
            f"axis; got shape {kernel.shape}."
        )
    window = make_window(function, x.shape[1:-1], kernel.shape[:-2], strides, padding, dilation)
    return convolve(x, kernel, window=window, groups=groups)
