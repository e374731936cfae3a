"""Convolutions (cross-correlations, as in all of deep learning) over one, two or three spatial axes.

The definition is `lax.conv_general_dilated`. On CPU the same sums are computed as patches times a matrix, because XLA's
CPU backend runs convolutions and their gradients inside loops (`lax.scan`, `lax.while_loop`) as naive nests of loops,
7 to 20 times slower (jax issue 12868); or, where there are many channels, as convolutions of arrays laid out as that
backend has a fast routine for. `lax.platform_dependent` chooses when the program is compiled, so a caller sees
one function that can be jitted, vmapped and differentiated any number of times in either mode.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from lenet_jax.errors import InputError
from lenet_jax.ops.forward_only import forward_only
from lenet_jax.ops.frames import copy_windows
from lenet_jax.ops.sliding_product import sliding_product
from lenet_jax.ops.trilinear import Form, trilinear
from lenet_jax.ops.windows import Ints, Padding, Window, make_window, pad_space, taps, to_tuple
from lenet_jax.processor import available_cores

# Above this many offsets a kernel is as good as a dense layer, and slicing out each offset costs more compile time than
# it saves: 16x16.
_MAX_TAPS = 256
# Multiply-adds that make a row of the output worth a product of its own: on a device of one core, and where several
# cores share each product and what is between the products keeps all but one waiting.
_MIN_ROW_WORK = 100_000
_MIN_SHARED_ROW_WORK = 16_000_000

# The gradient of the input, computed as a convolution, has a product for each pixel of the input, not of the output:
# above this many times as many the patches are faster.
_MOST_GRADIENT_WORK = 1.5
_FEWEST_CHANNELS = 4  # of a group: with fewer the patches are faster
_MOST_SINGLE_GROUPS = 4  # more become too small to be convolved one after another

_LAYOUTS = {1: ("NWC", "WIO"), 2: ("NHWC", "HWIO"), 3: ("NDHWC", "DHWIO")}
_LAYOUTS_BATCH_LAST = {1: "CWN", 2: "CHWN", 3: "CDHWN"}


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
    layout = _LAYOUTS[num_axes][0]
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
    x, kernel = _check_arrays(function, num_axes, x, kernel, _LAYOUTS[num_axes][1])
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
    return _lower(x, kernel, window=window, groups=groups)


# Jitted so that a call outside of jit is one compiled program, not one for each tap; inlined into programs of callers.
@functools.partial(jax.jit, static_argnames=("window", "groups"), inline=True)
def _lower(x: Array, kernel: Array, *, window: Window, groups: int) -> Array:
    by_definition = functools.partial(_by_definition, window=window, groups=groups)
    if groups == math.prod(window.size) == 1:
        on_cpu = functools.partial(_by_product, window=window)
    elif is_fast_forward(x, window) and _is_fast_backward(x, window, groups):
        on_cpu = functools.partial(_by_groups, window=window, groups=groups)
    else:
        on_cpu = functools.partial(_by_patches, window=window, groups=groups)
        if is_fast_forward(x, window, groups):
            on_cpu = forward_only(by_definition, on_cpu)
    return lax.platform_dependent(x, kernel, cpu=on_cpu, default=by_definition)


def is_fast_forward(x: Array, window: Window, groups: int = 1) -> bool:
    """Return whether XLA's CPU backend computes the definition fast, inside loops too; its gradients never are."""
    return groups == 1 and len(window.size) == 2 and x.dtype == jnp.float32 and set(window.dilation) == {1}


def _is_fast_backward(x: Array, window: Window, groups: int) -> bool:
    """Return whether both gradients are convolutions that XLA's CPU backend computes fast, and as little work."""
    inside = all(max(pads) < size for pads, size in zip(window.pads, window.size, strict=True))
    little = math.prod(x.shape[1:-1]) <= _MOST_GRADIENT_WORK * math.prod(window.output)
    wide = groups <= _MOST_SINGLE_GROUPS and x.shape[-1] // groups >= _FEWEST_CHANNELS
    return set(window.strides) == {1} and inside and little and wide


def _by_definition(x: Array, kernel: Array, *, window: Window, groups: int = 1, layout: str | None = None) -> Array:
    batch_first, kernel_layout = _LAYOUTS[len(window.size)]
    layout = layout or batch_first
    return lax.conv_general_dilated(
        x,
        kernel,
        window.strides,
        window.pads,
        rhs_dilation=window.dilation,
        dimension_numbers=(layout, kernel_layout, layout),
        feature_group_count=groups,
    )


def _by_groups(x: Array, kernel: Array, *, window: Window, groups: int) -> Array:
    parts = zip(jnp.split(x, groups, -1), jnp.split(kernel, groups, -1), strict=True)
    return jnp.concatenate([_directly(x, kernel, window=window) for x, kernel in parts], -1)


def _by_patches(x: Array, kernel: Array, *, window: Window, groups: int = 1) -> Array:
    if groups > 1 and kernel.shape[-2] == 1:
        return _depthwise(x, kernel, window=window)
    return swap_batch(convolve_batch_last(swap_batch(x), kernel, window=window, groups=groups))


def _by_product(x: Array, kernel: Array, *, window: Window) -> Array:
    """Mix the channels of each pixel: a kernel of one pixel."""
    (seen,) = taps(x, window)
    return seen @ kernel.reshape(kernel.shape[-2:])


def _depthwise(x: Array, kernel: Array, *, window: Window) -> Array:
    """There is nothing to contract but the window itself, so a matrix product would gain nothing."""
    seen = taps(x, window)
    weights = kernel.reshape(-1, x.shape[-1], kernel.shape[-1] // x.shape[-1])
    products = (t[..., None] * jnp.expand_dims(w, range(t.ndim - 1)) for t, w in zip(seen, weights, strict=True))
    return functools.reduce(jnp.add, products).reshape(*seen[0].shape[:-1], kernel.shape[-1])


def swap_batch(x: Array) -> Array:
    """Transpose (N, *space, C) to (C, *space, N), or back."""
    return jnp.swapaxes(x, 0, -1)


def _min_row_work() -> int:
    return _MIN_ROW_WORK if available_cores() <= jax.local_device_count("cpu") else _MIN_SHARED_ROW_WORK


def convolve_batch_last(x: Array, kernel: Array, *, window: Window, groups: int = 1) -> Array:
    """Convolve x (C, *space, N) with a kernel (*size, C // groups, O) by one matrix product: (O, *output, N).

    With the batch as the last axis, patches are copied in long runs, the activations that follow work on whole vectors
    whatever the number of maps, and both products of the gradient have their long axis where XLA's matrix product wants
    it (Krizhevsky's cuda-convnet has the same layout for the same reasons).
    """
    if math.prod(window.size) > _MAX_TAPS:
        layout = _LAYOUTS_BATCH_LAST[len(window.size)]
        return _by_definition(x, kernel, window=window, groups=groups, layout=layout)
    x = pad_space(x, window.pads)
    row_work = math.prod(kernel.shape) // groups * math.prod(window.output[1:]) * x.shape[-1]
    if window.dilation[0] == 1 and window.output[0] > 1 and row_work >= _min_row_work():
        product = _convolve_rows(x, kernel, window, groups)
    else:
        product = _convolve_at_once(x, kernel, window, groups)
    return product.reshape(kernel.shape[-1], *window.output, x.shape[-1])


def _convolve_at_once(x: Array, kernel: Array, window: Window, groups: int) -> Array:
    """Return (1, G, O // G, *output, N), by one product with all windows."""
    windows = copy_windows(x, window).reshape(1, groups, -1, *window.output, x.shape[-1])
    weights = _split_groups(kernel, groups).reshape(groups, -1, 1, windows.shape[2])
    return sliding_product(weights, windows, stride=1)


def _convolve_rows(x: Array, kernel: Array, window: Window, groups: int) -> Array:
    """Return (O, *output, N), by a product for each row of the output."""
    size, stride = window.size[0], window.strides[0]
    num_rows = (window.output[0] - 1) * stride + size
    x = jnp.swapaxes(x, 0, 1)[:num_rows]
    along_rows = Window(
        window.size[1:], window.strides[1:], window.dilation[1:], window.pads[1:], output=window.output[1:]
    )
    rows = copy_windows(x.reshape(-1, *x.shape[2:]), along_rows)
    rows = rows.reshape(num_rows, groups, -1, *along_rows.output, x.shape[-1])
    weights = jnp.moveaxis(_split_groups(kernel, groups), 3, 2).reshape(groups, -1, size, rows.shape[2])
    return jnp.moveaxis(sliding_product(weights, rows, stride=stride), 0, 2)


def _split_groups(kernel: Array, groups: int) -> Array:
    """Return (G, O // G, C // G, *size)."""
    kernel = jnp.moveaxis(kernel, (-1, -2), (0, 1))
    return kernel.reshape(groups, -1, *kernel.shape[1:])


# XLA's CPU backend has a fast routine for convolutions of arrays (N, H, W, C) with kernels (K_h, K_w, C, O), inside
# loops too. With steps of one pixel both gradients are such convolutions of transposed arrays, which XLA would compute
# as they are, by naive loops.


_LAYOUT_2D = (_LAYOUTS[2][0], _LAYOUTS[2][1], _LAYOUTS[2][0])


def _kernel_gradient(x: Array, y: Array, *, window: Window) -> Array:
    x, y = jnp.swapaxes(x, 0, 3), jnp.moveaxis(y, 0, 2)
    return jnp.moveaxis(lax.conv_general_dilated(x, y, (1, 1), window.pads, dimension_numbers=_LAYOUT_2D), 0, 2)


def _input_gradient(y: Array, kernel: Array, *, window: Window) -> Array:
    turned = jnp.swapaxes(jnp.flip(kernel, (0, 1)), 2, 3)
    around = [(k - 1 - before, k - 1 - after) for k, (before, after) in zip(window.size, window.pads, strict=True)]
    return lax.conv_general_dilated(y, turned, (1, 1), around, dimension_numbers=_LAYOUT_2D)


def _kernel_gradient_of_patches(x: Array, y: Array, *, window: Window) -> Array:
    kernel = jax.ShapeDtypeStruct((*window.size, x.shape[-1], y.shape[-1]), x.dtype)
    return jax.linear_transpose(lambda kernel: _by_patches(x, kernel, window=window), kernel)(y)[0]


def _input_gradient_of_patches(y: Array, kernel: Array, *, window: Window) -> Array:
    axes = zip(window.output, window.size, window.pads, strict=True)
    space = (count + size - 1 - before - after for count, size, (before, after) in axes)
    x = jax.ShapeDtypeStruct((y.shape[0], *space, kernel.shape[2]), y.dtype)
    return jax.linear_transpose(lambda x: _by_patches(x, kernel, window=window), x)(y)[0]


def _mapped_as(general: Callable[..., Array]) -> Callable[..., tuple[Array, int]]:
    def batch(bind: Callable, arrays: Any, axes: Any, *, window: Window) -> tuple[Array, int]:
        return jax.vmap(functools.partial(general, window=window), axes)(*arrays), 0

    return batch


_directly = trilinear(
    "convolution",
    Form(_by_definition, _mapped_as(_by_patches)),
    Form(_kernel_gradient, _mapped_as(_kernel_gradient_of_patches)),
    Form(_input_gradient, _mapped_as(_input_gradient_of_patches)),
)
