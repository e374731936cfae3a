"""Convolutions (cross-correlations, as usual in deep learning) over one, two or three spatial axes.

The definition is `lax.conv_general_dilated`, which is also how they are computed on a GPU or TPU; `lenet_jax.ops.cpu`
computes them on a CPU. They can be jitted, vmapped and differentiated any number of times in either mode.
"""

import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from lenet_jax.errors import InputError
from lenet_jax.ops.definitions import LAYOUTS
from lenet_jax.ops.operation import apply
from lenet_jax.ops.products import PooledConvolution, Product, Y
from lenet_jax.ops.windows import Ints, Padding, Window, make_window, to_tuple


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
        kernel: (K_h, K_w, C // groups, O), of the same dtype.
        strides: steps down and right in pixels, an int or two, each 1 or more.
        padding: "VALID" (none), "SAME" (output = ceil(input / stride), as in TensorFlow) or
            ((top, bottom), (left, right)) pixels of zeros.
        dilation: pixels from one entry of the kernel to the next, an int or two, each 1 or more.
        groups: number of groups that channels and kernels are split into; a kernel is applied to the channels of its
            group only.

    Returns:
        (N, out_h, out_w, O).

    Raises:
        InputError: if a rank, dtype, number of channels or option is wrong, or the kernel does not fit into the image.

    >>> conv2d(jnp.ones((1, 3, 3, 1)), jnp.ones((2, 2, 1, 1))).shape
    (1, 2, 2, 1)
    """
    return _convolve("conv2d", 2, x, kernel, strides, padding, dilation, groups)


def conv2d_max_pool(
    x: Float[ArrayLike, "..."],
    kernel: Float[ArrayLike, "..."],
    bias: Float[ArrayLike, "..."] | None = None,
    *,
    pool_size: Ints,
    strides: Ints = 1,
    padding: Padding = "VALID",
    groups: int = 1,
) -> Float[Array, "N out_h out_w O"]:
    """Convolve, take the largest value of each pooling window, and add a bias to each channel.

    y = max_pool(conv2d(x, kernel), pool_size) + bias, computed in fewer passes over memory on a CPU. Pooling windows do
    not overlap, and incomplete ones at the border are dropped. The gradient goes to the first of equal largest values.

    Args:
        x: images (N, H, W, C), floating point.
        kernel: (K_h, K_w, C // groups, O), of the same dtype.
        bias: (O,), of the same dtype; None adds nothing.
        pool_size: height and width of the pooling windows in pixels of the convolution's output, an int or two.
        strides: steps of the convolution in pixels, an int or two, each 1 or more.
        padding: of the convolution: "VALID", "SAME" or ((top, bottom), (left, right)) pixels of zeros.
        groups: number of groups that channels and kernels are split into.

    Returns:
        (N, out_h, out_w, O).

    Raises:
        InputError: if a rank, dtype, number of channels or option is wrong, or a window does not fit into its input.

    >>> conv2d_max_pool(jnp.ones((1, 4, 4, 1)), jnp.ones((3, 3, 1, 1)), jnp.ones(1), pool_size=2)[0, :, :, 0]
    Array([[10.]], dtype=float32)
    """
    function = "conv2d_max_pool"
    x, kernel = _check_arrays(function, 2, x, kernel, LAYOUTS[2][1])
    window = _check_convolution(function, x, kernel, strides, padding, 1, groups)
    pooling = make_window(function, window.output, pool_size, pool_size, "VALID", argument="pool_size")
    if bias is not None:
        bias = jnp.asarray(bias)
        if bias.shape != kernel.shape[-1:] or bias.dtype != x.dtype:
            raise InputError(
                f"{function}: `bias` needs shape {kernel.shape[-1:]}, one value per kernel, and the dtype {x.dtype} of "
                f"`x`; got {bias.shape} and {bias.dtype}."
            )
    bias = jnp.zeros(kernel.shape[-1], x.dtype) if bias is None else bias
    return apply(PooledConvolution(window, groups, pooling), x, kernel, bias)[0]


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
        InputError: as `conv2d`.
    """
    y = depthwise_conv2d(x, depthwise_kernel, strides=strides, padding=padding, dilation=dilation)
    pointwise_kernel = jnp.asarray(pointwise_kernel)
    if pointwise_kernel.ndim != 4 or pointwise_kernel.shape[:2] != (1, 1):
        raise InputError(
            f"separable_conv2d: `pointwise_kernel` must have shape (1, 1, C * M, O); got {pointwise_kernel.shape}."
        )
    return _convolve("separable_conv2d", 2, y, pointwise_kernel, 1, "VALID", 1, 1)


def conv2d_transpose(
    x: Float[ArrayLike, "..."], kernel: Float[ArrayLike, "..."], *, strides: Ints = 1, padding: str = "SAME"
) -> Float[Array, "N out_h out_w O"]:
    """Apply the transpose (the gradient with respect to the input) of `conv2d`, as tf.nn.conv2d_transpose.

    Args:
        x: images (N, H, W, C).
        kernel: (K_h, K_w, O, C), of the same dtype: the kernel of the transposed convolution, from O to C channels.
        strides: steps of that convolution in pixels, an int or two: the output is larger than `x` by this factor.
        padding: of that convolution: "SAME" (output = input * stride) or "VALID"
            (output = input * stride + max(kernel - stride, 0)).

    Returns:
        (N, out_h, out_w, O).

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
    # Pad `stride - 1` zeros between the pixels of the input, and convolve it with the flipped kernel.
    padding_config = [(0, 0, 0)]
    for n, k, s in zip(x.shape[1:3], kernel.shape[:2], steps, strict=True):
        overlap = max(k - s, 0)
        out, cut = (n * s, overlap // 2) if padding == "SAME" else (n * s + overlap, 0)
        before = k - 1 - cut
        padding_config.append((before, out + k - 1 - before - ((n - 1) * s + 1), s - 1))
    x = lax.pad(x, jnp.zeros((), x.dtype), [*padding_config, (0, 0, 0)])
    flipped = jnp.swapaxes(jnp.flip(kernel, (0, 1)), 2, 3)
    return _convolve("conv2d_transpose", 2, x, flipped, 1, "VALID", 1, 1)


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
    window = _check_convolution(function, x, kernel, strides, padding, dilation, groups)
    return apply(Product(window, groups, x.shape[1:-1], Y), x, kernel)[0]


def _check_convolution(
    function: str, x: Array, kernel: Array, strides: Ints, padding: Padding, dilation: Ints, groups: int
) -> Window:
    channels, (inputs, num_kernels) = x.shape[-1], kernel.shape[-2:]
    if groups < 1 or channels % groups or num_kernels % groups:
        raise InputError(
            f"{function}: `groups` must divide the {channels} channels of `x` and the {num_kernels} maps of `kernel`; "
            f"got {groups!r}."
        )
    if inputs * groups != channels:
        raise InputError(
            f"{function}: `kernel` must have channels / groups = {channels // groups} inputs on its second to last "
            f"axis; got shape {kernel.shape}."
        )
    return make_window(function, x.shape[1:-1], kernel.shape[:-2], strides, padding, dilation)
