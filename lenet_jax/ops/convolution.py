"""Convolutions over one, two or three spatial axes: cross-correlations, as in TensorFlow and PyTorch.

Kernels are not flipped. Theano flips them: a kernel from there is turned, kernel[::-1, ::-1], before it is used here.
The definition is `lax.conv_general_dilated`, which is also how they are computed on a GPU or TPU; `lenet_jax.ops.cpu`
computes them on a CPU. They can be jitted, vmapped and differentiated any number of times in either mode.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from lenet_jax.errors import InputError
from lenet_jax.ops.arguments import check_floating, to_array
from lenet_jax.ops.definitions import LAYOUTS
from lenet_jax.ops.operation import apply
from lenet_jax.ops.products import FUSED_ACTIVATIONS, Activation, PooledConvolution, Product, Y
from lenet_jax.ops.windows import (
    Int,
    Ints,
    Padding,
    Window,
    entries,
    make_window,
    missing_batch_axis,
    to_int,
    to_tuple,
)


def conv1d(
    x: Float[ArrayLike, "N W C"],
    kernel: Float[ArrayLike, "Kw I O"],
    *,
    strides: Ints = 1,
    padding: Padding = "VALID",
    dilation: Ints = 1,
    groups: Int = 1,
) -> Float[Array, "N out_w O"]:
    """Convolve sequences x (N, W, C) with a kernel (K_w, C // groups, O); all else as `conv2d`."""
    return convolve("conv1d", 1, x, kernel, strides, padding, dilation, groups)


def conv2d(
    x: Float[ArrayLike, "N H W C"],
    kernel: Float[ArrayLike, "Kh Kw I O"],
    *,
    strides: Ints = 1,
    padding: Padding = "VALID",
    dilation: Ints = 1,
    groups: Int = 1,
) -> Float[Array, "N out_h out_w O"]:
    """Convolve images with a kernel.

    y[n, i, j, o] = sum over a, b, c of x[n, i*s + a*d, j*s + b*d, c] * kernel[a, b, c, o], strides s and dilation d.
    The kernel is not flipped, as in TensorFlow and PyTorch; Theano flips it.

    Args:
        x: images (N, H, W, C), floating point.
        kernel: (K_h, K_w, C // groups, O), of the same dtype.
        strides: steps down and right in pixels, an int or two, each 1 or more.
        padding: "VALID" (none), "SAME" (output = ceil(input / stride), as in TensorFlow) or pixels of zeros: an int for
            all sides, two for rows and columns, or ((top, bottom), (left, right)).
        dilation: pixels from one entry of the kernel to the next, an int or two, each 1 or more.
        groups: number of groups that channels and kernels are split into; a kernel is applied to the channels of its
            group only.

    Returns:
        (N, out_h, out_w, O).

    Raises:
        InputError: if an array has another rank, is not floating point or they differ in dtype; if the numbers of
            channels do not fit each other and `groups`; if an option is not made of integers, 1 or above (of a padding
            0), or the kernel does not fit into the padded image.

    >>> conv2d(jnp.ones((1, 3, 3, 1)), jnp.ones((2, 2, 1, 1))).shape
    (1, 2, 2, 1)
    """
    return convolve("conv2d", 2, x, kernel, strides, padding, dilation, groups)


def conv2d_max_pool(
    x: Float[ArrayLike, "N H W C"],
    kernel: Float[ArrayLike, "Kh Kw I O"],
    bias: Float[ArrayLike, " _"] | None = None,
    *,
    pool_size: Ints,
    strides: Ints = 1,
    padding: Padding = "VALID",
    groups: Int = 1,
    activation: Activation | None = None,
) -> Float[Array, "N out_h out_w O"]:
    """Convolve, take the largest value of each pooling window, add a bias to each channel, and apply an activation.

    y = activation(max_pool(conv2d(x, kernel), pool_size) + bias), computed in one pass over memory on a CPU, where
    gradients visit the largest values only. Pooling windows do not overlap, and incomplete ones at the border are
    dropped. The gradient goes to the first of equal largest values. `lenet_jax.layers.serial` finds these layers.

    Args:
        x: images (N, H, W, C), floating point.
        kernel: (K_h, K_w, C // groups, O), of the same dtype.
        bias: (O,), of the same dtype; None adds nothing.
        pool_size: height and width of the pooling windows in pixels of the convolution's output, an int or two.
        strides: steps of the convolution in pixels, an int or two, each 1 or more.
        padding: of the convolution, as in `conv2d`.
        groups: number of groups that channels and kernels are split into.
        activation: "relu", "tanh" or None.

    Returns:
        (N, out_h, out_w, O).

    Raises:
        InputError: as `conv2d`; if `bias` does not fit, the pooling window is larger than the convolution's output, or
            there is no activation of that name.

    >>> conv2d_max_pool(jnp.ones((1, 4, 4, 1)), jnp.ones((3, 3, 1, 1)), jnp.ones(1), pool_size=2)[0, :, :, 0]
    Array([[10.]], dtype=float32)
    """
    function = "conv2d_max_pool"
    x, kernel = check_arrays(function, 2, x, kernel, LAYOUTS[2][1])
    groups = to_int(function, "groups", groups)
    window = _check_convolution(function, x, kernel, strides, padding, 1, groups)
    pooling = make_window(function, window.output, pool_size, pool_size, "VALID", argument="pool_size")
    if bias is not None:
        bias = to_array(function, "bias", bias)
        if bias.shape != kernel.shape[-1:] or bias.dtype != x.dtype:
            raise InputError(
                f"{function}: `bias` needs shape {kernel.shape[-1:]}, one value per kernel, and the dtype {x.dtype} of "
                f"`x`; got {bias.shape} and {bias.dtype}."
            )
    if activation is not None and not (isinstance(activation, str) and activation in FUSED_ACTIVATIONS):
        raise InputError(f"{function}: `activation` must be one of {FUSED_ACTIVATIONS}, or None; got {activation!r}.")
    bias = jnp.zeros(kernel.shape[-1], x.dtype) if bias is None else bias
    return apply(PooledConvolution(window, groups, pooling, activation), x, kernel, bias)[0]


def conv3d(
    x: Float[ArrayLike, "N D H W C"],
    kernel: Float[ArrayLike, "Kd Kh Kw I O"],
    *,
    strides: Ints = 1,
    padding: Padding = "VALID",
    dilation: Ints = 1,
    groups: Int = 1,
) -> Float[Array, "N out_d out_h out_w O"]:
    """Convolve volumes x (N, D, H, W, C) with a kernel (K_d, K_h, K_w, C // groups, O); all else as `conv2d`."""
    return convolve("conv3d", 3, x, kernel, strides, padding, dilation, groups)


def conv1d_transpose(
    x: Float[ArrayLike, "N W C"],
    kernel: Float[ArrayLike, "Kw O I"],
    *,
    strides: Ints = 1,
    padding: Padding = "SAME",
    output_shape: Ints | None = None,
    dilation: Ints = 1,
) -> Float[Array, "N out_w O"]:
    """Apply the transpose of `conv1d` to x (N, W, C), with a kernel (K_w, O, C); all else as `conv2d_transpose`."""
    return convolve_transposed("conv1d_transpose", 1, x, kernel, strides, padding, output_shape, dilation)


def conv2d_transpose(
    x: Float[ArrayLike, "N H W C"],
    kernel: Float[ArrayLike, "Kh Kw O I"],
    *,
    strides: Ints = 1,
    padding: Padding = "SAME",
    output_shape: Ints | None = None,
    dilation: Ints = 1,
) -> Float[Array, "N out_h out_w O"]:
    """Apply the transpose (the gradient with respect to the input) of `conv2d`, as tf.nn.conv2d_transpose.

    Args:
        x: images (N, H, W, C).
        kernel: (K_h, K_w, O, C), of the same dtype: the kernel of the transposed convolution, from O to C channels.
        strides: steps of that convolution in pixels, an int or two: the output is larger than `x` by this factor.
        padding: of that convolution, as in `conv2d`.
        output_shape: (out_h, out_w), or (N, out_h, out_w, O) as TensorFlow has it: a size of images of which that
            convolution makes images of the size of `x`; with strides s there are s of them. None: input * stride for
            "SAME", input * stride + max(extent - stride, 0) for "VALID", extent = (kernel - 1) * dilation + 1, and for
            pixels the smallest one, as in PyTorch.
        dilation: of that convolution, an int or two.

    Returns:
        (N, out_h, out_w, O).

    Raises:
        InputError: if an array, an option or the numbers of channels are wrong, as in `conv2d`; if the convolution does
            not make images of the size of `x` of images of `output_shape`.
    """
    return convolve_transposed("conv2d_transpose", 2, x, kernel, strides, padding, output_shape, dilation)


def conv3d_transpose(
    x: Float[ArrayLike, "N D H W C"],
    kernel: Float[ArrayLike, "Kd Kh Kw O I"],
    *,
    strides: Ints = 1,
    padding: Padding = "SAME",
    output_shape: Ints | None = None,
    dilation: Ints = 1,
) -> Float[Array, "N out_d out_h out_w O"]:
    """Apply the transpose of `conv3d` with a kernel (K_d, K_h, K_w, O, C); all else as `conv2d_transpose`."""
    return convolve_transposed("conv3d_transpose", 3, x, kernel, strides, padding, output_shape, dilation)


def convolve_transposed(
    function: str,
    num_axes: int,
    x: ArrayLike,
    kernel: ArrayLike,
    strides: Ints,
    padding: Padding,
    output_shape: Ints | None,
    dilation: Ints,
) -> Array:
    """Apply a transposed convolution, with options as of `conv2d_transpose`; messages speak of `function`."""
    layout = f"{LAYOUTS[num_axes][1][:-2]}OC"
    x, kernel = check_arrays(function, num_axes, x, kernel, layout)
    if kernel.shape[-1] != x.shape[-1]:
        raise InputError(
            f"{function}: `kernel` ({layout}) must have the {x.shape[-1]} channels of `x` on its last axis; "
            f"got shape {kernel.shape}."
        )
    if isinstance(padding, str) and padding not in ("SAME", "VALID"):
        raise InputError(
            f'{function}: `padding` must be "SAME" or "VALID"; got {padding!r}; pixels are given as {num_axes} '
            "(before, after) pairs."
        )
    steps, rates = (
        to_tuple(function, name, value, num_axes) for name, value in (("strides", strides), ("dilation", dilation))
    )
    space, size = x.shape[1:-1], kernel.shape[:-2]
    least, default = _transposed_sizes(function, space, size, steps, padding, rates)
    output = default if output_shape is None else _to_space(function, output_shape, x, kernel)
    if any(not low <= out < low + step for out, low, step in zip(output, least, steps, strict=True)):
        most = [low + step - 1 for low, step in zip(least, steps, strict=True)]
        made, low, high, got = ("x".join(map(str, sizes)) for sizes in (space, least, most, output))
        raise InputError(
            f"{function}: `output_shape` must be a size of which the convolution makes {made}, from {low} to {high}; "
            f"got {got}."
        )
    pads = make_window(function, output, size, steps, padding, rates).pads
    # Put `stride - 1` zeros between the pixels of the input, and convolve it with the flipped kernel.
    extents = [(k - 1) * d + 1 for k, d in zip(size, rates, strict=True)]
    config = [
        (extent - 1 - before, out - 1 - (n - 1) * step + before, step - 1)
        for n, extent, step, out, (before, _) in zip(space, extents, steps, output, pads, strict=True)
    ]
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *config, (0, 0, 0)])
    flipped = jnp.swapaxes(jnp.flip(kernel, tuple(range(num_axes))), -2, -1)
    return convolve(function, num_axes, x, flipped, 1, "VALID", rates, 1)


def _transposed_sizes(
    function: str,
    space: Sequence[int],
    size: Sequence[int],
    strides: Sequence[int],
    padding: Padding,
    dilation: Sequence[int],
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the smallest size of images of which a convolution makes images of size `space`, and the default one."""
    extents = [(k - 1) * d + 1 for k, d in zip(size, dilation, strict=True)]
    axes = list(zip(space, extents, strides, strict=True))
    if isinstance(padding, str) and padding == "SAME":
        return tuple((n - 1) * s + 1 for n, _, s in axes), tuple(n * s for n, _, s in axes)
    whole = tuple((n - 1) * s + k for n, k, s in axes)
    if isinstance(padding, str):
        return whole, tuple(n * s + max(k - s, 0) for n, k, s in axes)
    pads = make_window(function, whole, size, strides, padding, dilation).pads
    least = tuple(n - before - after for n, (before, after) in zip(whole, pads, strict=True))
    if min(least) < 1:
        raise InputError(
            f"{function}: `padding` must leave at least one pixel of the output; got {padding!r}, of which "
            f"{'x'.join(map(str, least))} pixels are left; use less padding."
        )
    return least, least


def _to_space(function: str, output_shape: Ints, x: Array, kernel: Array) -> tuple[int, ...]:
    """Return the spatial part of an `output_shape`, which may be that of the whole output."""
    num_axes, given = x.ndim - 2, entries(output_shape)
    if len(given) != num_axes + 2:
        return to_tuple(function, "output_shape", output_shape, num_axes)
    if given[0] != x.shape[0] or given[-1] != kernel.shape[-2]:
        raise InputError(
            f"{function}: `output_shape` must begin with the {x.shape[0]} examples of `x` and end with the "
            f"{kernel.shape[-2]} channels that `kernel` makes; got {output_shape!r}."
        )
    return to_tuple(function, "output_shape", given[1:-1], num_axes)


def check_arrays(
    function: str, num_axes: int, x: ArrayLike, kernel: ArrayLike, kernel_layout: str, argument: str = "kernel"
) -> tuple[Array, Array]:
    """Return images and a kernel, which is the `argument` of `function`, as arrays, checked.

    Raises:
        InputError: if one has not the axes that its layout names, or is not floating point, or their dtypes differ, or
            the kernel has no pixels.
    """
    x, kernel = to_array(function, "x", x), to_array(function, argument, kernel)
    layout = LAYOUTS[num_axes][0]
    for name, array, axes in (("x", x, layout), (argument, kernel, kernel_layout)):
        if array.ndim != len(axes):
            remedy = missing_batch_axis(x, len(axes)) if name == "x" else ""
            raise InputError(f"{function}: `{name}` needs {len(axes)} axes ({axes}); got shape {array.shape}{remedy}.")
        check_floating(function, name, array)
    if x.dtype != kernel.dtype:
        raise InputError(f"{function}: `x` and `{argument}` must have one dtype; got {x.dtype} and {kernel.dtype}.")
    if 0 in kernel.shape[:num_axes]:
        raise InputError(f"{function}: `{argument}` must have 1 pixel or more along each axis; got {kernel.shape}.")
    return x, kernel


def convolve(
    function: str,
    num_axes: int,
    x: ArrayLike,
    kernel: ArrayLike,
    strides: Ints,
    padding: Padding,
    dilation: Ints,
    groups: Int,
    argument: str = "kernel",
) -> Array:
    """Convolve over `num_axes` spatial axes, with options as of `conv2d`.

    Messages speak of `function`, and of the kernel as its `argument`.
    """
    x, kernel = check_arrays(function, num_axes, x, kernel, LAYOUTS[num_axes][1], argument)
    groups = to_int(function, "groups", groups)
    window = _check_convolution(function, x, kernel, strides, padding, dilation, groups, argument)
    return apply(Product(window, groups, x.shape[1:-1], Y), x, kernel)[0]


def _check_convolution(
    function: str,
    x: Array,
    kernel: Array,
    strides: Ints,
    padding: Padding,
    dilation: Ints,
    groups: int,
    argument: str = "kernel",
) -> Window:
    channels, (inputs, num_kernels) = x.shape[-1], kernel.shape[-2:]
    if channels % groups or num_kernels % groups:
        raise InputError(
            f"{function}: `groups` must divide the {channels} channels of `x` and the {num_kernels} maps of "
            f"`{argument}`; got {groups!r}."
        )
    if inputs * groups != channels:
        raise InputError(
            f"{function}: `{argument}` must have channels / groups = {channels // groups} inputs on its second to last "
            f"axis; got shape {kernel.shape}."
        )
    return make_window(function, x.shape[1:-1], kernel.shape[:-2], strides, padding, dilation, argument=argument)
