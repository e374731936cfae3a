"""How operations are computed on a CPU; the other modules of `lenet_jax.ops` import this module only.

Images are (N, *space, C) in every argument and result here. The layout with the batch as the last axis (CHWN), which
some methods compute in, does not leave this package.
"""

import functools
import math
from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array

from lenet_jax.ops import definitions
from lenet_jax.ops.batches import map_batches
from lenet_jax.ops.cpu import convolution
from lenet_jax.ops.cpu.channel_statistics import channel_sums, channel_sums_adjoint, mean_and_variance
from lenet_jax.ops.cpu.matrix_product import matmul
from lenet_jax.ops.cpu.pooling import max_pool, sum_pool
from lenet_jax.ops.cpu.primitives import inference_only
from lenet_jax.ops.windows import Window

__all__ = [
    "channel_sums",
    "channel_sums_adjoint",
    "choose_method",
    "conv",
    "matmul",
    "max_pool",
    "mean_and_variance",
    "sum_pool",
]

Method = Callable[[Array, Array, Array | None], Array]


def conv(
    x: Array,
    kernel: Array,
    bias: Array | None = None,
    *,
    window: Window,
    groups: int = 1,
    pooling: Window | None = None,
) -> Array:
    """Convolve; then max-pool, if `pooling` is given, and add `bias`, if it is given.

    Args:
        x: (N, *space, C).
        kernel: (*size, C // groups, O).
        bias: (O,), added after the pooling.
        window: the kernel's window over x.
        groups: number of groups of channels and kernels.
        pooling: the pooling's window over the convolution's output.

    Returns:
        (N, *output, O).
    """
    kernel, window = convolution.trim_kernel_outside_input(x, kernel, window)
    return choose_method(x, kernel, window=window, groups=groups, pooling=pooling)(x, kernel, bias)


# The policy: thresholds measured on machines with two and four cores.

_MAX_GRADIENT_WORK = 1.5
"""Computed as a convolution, the input gradient has a product for each pixel of the input instead of the output; with
more than this many times as many pixels, the unfolded form is faster."""
_MIN_KERNELS = 16  # of a group, which make a first layer with fewer than MIN_CHANNELS channels fast
_MAX_EXAMPLES = 128  # and the most examples for which they do
_MAX_GROUPS = 4  # with more, each group is too small to be convolved on its own


def choose_method(x: Array, kernel: Array, *, window: Window, groups: int = 1, pooling: Window | None = None) -> Method:
    """Return the function (x, kernel, bias) -> y that computes `conv` fastest; the only such choice.

    Only shapes and dtypes of `x` and `kernel` are used. XLA's CPU backend has a fast routine for some convolutions but
    computes gradients of convolutions inside loops as naive nests of loops, 7 to 20 times slower (jax issue 12868).
    """
    options = {"window": window, "groups": groups}
    if pooling is not None:
        in_chwn = functools.partial(convolution.unfolded_max_pool, **options, pooling=pooling)
        return inference_only(functools.partial(_pool_in_batches, **options, pooling=pooling), in_chwn)
    if groups == math.prod(window.size) == 1:
        method = functools.partial(convolution.pixelwise, window=window)
    elif _is_fast_forward(x, window) and _is_fast_backward(x, kernel, window, groups):
        method = functools.partial(convolution.direct, **options)
    elif _is_fast_forward(x, window) and _is_fast_space_to_depth(kernel, window, groups):
        method = functools.partial(convolution.space_to_depth, **options)
    else:
        method = functools.partial(convolution.unfolded, **options)
        if groups == 1 and _is_fast_forward(x, window):
            method = inference_only(functools.partial(definitions.conv, **options), method)
    return functools.partial(_then_add_bias, method)


def _then_add_bias(method: Callable[[Array, Array], Array], x: Array, kernel: Array, bias: Array | None) -> Array:
    y = method(x, kernel)
    return y if bias is None else y + definitions.along_channels(bias, y)


def _pool_in_batches(
    x: Array, kernel: Array, bias: Array | None, *, window: Window, groups: int, pooling: Window
) -> Array:
    def apply(x: Array) -> Array:
        y = max_pool(conv(x, kernel, window=window, groups=groups), window=pooling)
        return y if bias is None else y + definitions.along_channels(bias, y)

    return map_batches(apply, x)


def _is_fast_forward(x: Array, window: Window) -> bool:
    """Return whether XLA has a fast routine for the convolution of each group, which it uses inside loops too."""
    return len(window.size) == 2 and x.dtype == jnp.float32 and set(window.dilation) == {1}


def _is_fast_backward(x: Array, kernel: Array, window: Window, groups: int) -> bool:
    """Return whether both gradients are convolutions that XLA computes fast, with about as many products."""
    few_products = math.prod(x.shape[1:-1]) <= _MAX_GRADIENT_WORK * math.prod(window.output)
    enough_channels = kernel.shape[-2] >= convolution.MIN_CHANNELS or (
        kernel.shape[-1] // groups >= _MIN_KERNELS and x.shape[0] <= _MAX_EXAMPLES
    )
    return (
        set(window.strides) == {1}
        and convolution.has_no_window_in_padding(window)
        and few_products
        and enough_channels
        and groups <= _MAX_GROUPS
    )


def _is_fast_space_to_depth(kernel: Array, window: Window, groups: int) -> bool:
    """Return whether both gradients are fast when blocks of `strides` pixels become the channels of one pixel."""
    has_blocks = all(1 < stride <= size for stride, size in zip(window.strides, window.size, strict=True))
    channels = kernel.shape[-2] * math.prod(window.strides)
    return has_blocks and channels >= convolution.MIN_CHANNELS and groups <= _MAX_GROUPS
