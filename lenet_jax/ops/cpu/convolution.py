"""Methods that compute a convolution on a CPU; `lenet_jax.ops.cpu.choose_method` chooses among them.

unfolded: the windows copied out and multiplied by the kernel as a matrix (im2col), in CHWN.
unfolded_max_pool: the same, and max-pooling and bias in the same layout.
pixelwise: a kernel of one pixel, as a matrix product.
direct: value and gradients as convolutions in the layout that XLA's CPU backend has a fast routine for.
space_to_depth: the same for strides, with blocks of `strides` pixels as the channels of one pixel.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from lenet_jax.environment import available_cores
from lenet_jax.ops import definitions
from lenet_jax.ops.cpu.matrix_product import matmul
from lenet_jax.ops.cpu.pooling import max_pool
from lenet_jax.ops.cpu.primitives import Rule, batching_rule, bilinear_primitive, outlined
from lenet_jax.ops.cpu.unfold import copy_windows
from lenet_jax.ops.cpu.window_product import window_product
from lenet_jax.ops.windows import Pads, Window, pad_space, strided_slices

MIN_CHANNELS = 4
"""Fewest channels of a group for which XLA's own convolution computes the input gradient fast."""

_MIN_BLOCK_CHANNELS = 16  # fewest channels of a block of pixels for which it computes the kernel gradient fast
# With more offsets than 16x16 a convolution resembles a dense layer, and slicing out each offset costs more compile
# time than it saves.
_MAX_OFFSETS = 256
# Fewest multiply-adds for which a row of the output gets a matrix product of its own: on a device of one core, and
# where several cores share each product and all but one wait between products.
_MIN_ROW_WORK = 100_000
_MIN_SHARED_ROW_WORK = 16_000_000
_CHWN = {1: "CWN", 2: "CHWN", 3: "CDHWN"}


def trim_kernel_outside_input(x: Array, kernel: Array, window: Window) -> tuple[Array, Window]:
    """Remove the first and last offsets of the kernel that meet padding only, at every position."""
    if set(window.dilation) != {1} or not has_no_window_in_padding(window):
        return kernel, window
    axes = list(zip(x.shape[1:-1], window.size, window.strides, window.pads, window.output, strict=True))
    first = [max(before - (count - 1) * stride, 0) for _, _, stride, (before, _), count in axes]
    stop = [min(before + n, size) for n, size, _, (before, _), _ in axes]
    kept = tuple(map(slice, first, stop))
    pads = tuple(
        (before - a, after - (size - b))
        for (_, size, _, (before, after), _), a, b in zip(axes, first, stop, strict=True)
    )
    return kernel[kept], window._replace(size=tuple(b - a for a, b in zip(first, stop, strict=True)), pads=pads)


def has_no_window_in_padding(window: Window) -> bool:
    """Return whether the padding is smaller than the kernel, so that each window contains pixels of the image."""
    return all(max(pads) < size for pads, size in zip(window.pads, window.size, strict=True))


def pixelwise(x: Array, kernel: Array, *, window: Window) -> Array:
    """Multiply the channels of each pixel by a matrix: a kernel of one pixel."""
    (pixels,) = strided_slices(x, window)
    return matmul(pixels, kernel.reshape(kernel.shape[-2:]))


def unfolded(x: Array, kernel: Array, *, window: Window, groups: int = 1) -> Array:
    """Convolve by products with copied windows."""
    if groups > 1 and kernel.shape[-2] == 1:
        return _depthwise(x, kernel, window=window)
    return _swap_layout(_convolve_chwn(_swap_layout(x), kernel, window=window, groups=groups))


def unfolded_max_pool(
    x: Array, kernel: Array, bias: Array | None, *, window: Window, groups: int, pooling: Window
) -> Array:
    """Convolve, max-pool and add a bias (O,), if given; the arrays in between stay in CHWN."""
    y = max_pool(_convolve_chwn(_swap_layout(x), kernel, window=window, groups=groups), window=pooling)
    if bias is not None:
        y = y + jnp.expand_dims(bias, tuple(range(1, y.ndim)))
    return _swap_layout(y)


def _depthwise(x: Array, kernel: Array, *, window: Window) -> Array:
    """Convolve each channel on its own; only the window is summed over, so a matrix product would gain nothing."""
    slices = strided_slices(x, window)
    weights = kernel.reshape(-1, x.shape[-1], kernel.shape[-1] // x.shape[-1])
    products = (s[..., None] * jnp.expand_dims(w, range(s.ndim - 1)) for s, w in zip(slices, weights, strict=True))
    return functools.reduce(jnp.add, products).reshape(*slices[0].shape[:-1], kernel.shape[-1])


def _swap_layout(x: Array) -> Array:
    """Transpose (N, *space, C) to (C, *space, N), or back."""
    return jnp.swapaxes(x, 0, -1)


def _min_row_work() -> int:
    return _MIN_ROW_WORK if available_cores() <= jax.local_device_count("cpu") else _MIN_SHARED_ROW_WORK


def _convolve_chwn(x: Array, kernel: Array, *, window: Window, groups: int = 1) -> Array:
    """Convolve x (C, *space, N) with a kernel (*size, C // groups, O) by matrix products: (O, *output, N).

    With the batch as the last axis, windows are copied in long runs, elementwise operations work on whole vectors
    whatever the number of kernels, and both products of the gradient have their long axis where XLA's matrix product is
    fast (Krizhevsky's cuda-convnet has the same layout for the same reasons).
    """
    if math.prod(window.size) > _MAX_OFFSETS:
        return definitions.conv(x, kernel, window=window, groups=groups, layout=_CHWN[len(window.size)])
    x = pad_space(x, window.pads)
    row_work = math.prod(kernel.shape) // groups * math.prod(window.output[1:]) * x.shape[-1]
    if window.dilation[0] == 1 and window.output[0] > 1 and row_work >= _min_row_work():
        product = _multiply_rows(x, kernel, window, groups)
    else:
        product = _multiply_all(x, kernel, window, groups)
    return product.reshape(kernel.shape[-1], *window.output, x.shape[-1])


def _multiply_all(x: Array, kernel: Array, window: Window, groups: int) -> Array:
    """Return (1, G, O // G, *output, N), by one product with all windows."""
    windows = copy_windows(x, window).reshape(1, groups, -1, *window.output, x.shape[-1])
    weights = _split_groups(kernel, groups).reshape(groups, -1, 1, windows.shape[2])
    return window_product(weights, windows, stride=1)


def _multiply_rows(x: Array, kernel: Array, window: Window, groups: int) -> Array:
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
    return jnp.moveaxis(window_product(weights, rows, stride=stride), 0, 2)


def _split_groups(kernel: Array, groups: int) -> Array:
    """Return (G, O // G, C // G, *size)."""
    kernel = jnp.moveaxis(kernel, (-1, -2), (0, 1))
    return kernel.reshape(groups, -1, *kernel.shape[1:])


# XLA's CPU backend has a fast routine for convolutions of arrays (N, H, W, C) with kernels (K_h, K_w, C, O), inside
# loops too. With strides of one pixel both gradients are such convolutions of transposed arrays; XLA would convolve
# without transposing them, by naive loops.


def direct(x: Array, kernel: Array, *, window: Window, groups: int) -> Array:
    """Convolve each group of images (N, H, W, C) with strides of one pixel."""
    return _by_groups(_direct, x, kernel, window=window, groups=groups)


def space_to_depth(x: Array, kernel: Array, *, window: Window, groups: int) -> Array:
    """Convolve each group of images (N, H, W, C) with strides of several pixels."""
    return _by_groups(_crop_and_convolve, x, kernel, window=window, groups=groups)


def _by_groups(convolve: Callable[..., Array], x: Array, kernel: Array, *, window: Window, groups: int) -> Array:
    parts = zip(jnp.split(x, groups, -1), jnp.split(kernel, groups, -1), strict=True)
    return jnp.concatenate([convolve(x, kernel, window=window) for x, kernel in parts], -1)


def _convolve_images(x: Array, kernel: Array, pads: Pads) -> Array:
    if any(size >= n for size, n in zip(kernel.shape, x.shape[1:3], strict=False)):
        # The fast routine does not take images that are smaller than the kernel.
        x, pads = lax.optimization_barrier(pad_space(x, pads)), ((0, 0), (0, 0))
    images, kernels = definitions.LAYOUTS[2]
    return lax.conv_general_dilated(x, kernel, (1, 1), pads, dimension_numbers=(images, kernels, images))


def _value(x: Array, kernel: Array, *, window: Window) -> Array:
    return _convolve_images(x, kernel, window.pads)


def _kernel_gradient(x: Array, y: Array, *, window: Window) -> Array:
    x, y = jnp.swapaxes(x, 0, 3), jnp.moveaxis(y, 0, 2)
    return jnp.moveaxis(_convolve_images(x, y, window.pads), 0, 2)


def _input_gradient(y: Array, kernel: Array, *, window: Window) -> Array:
    if kernel.shape[-2] < MIN_CHANNELS:
        return _unfolded_input_gradient(y, kernel, window=window)
    flipped = jnp.swapaxes(jnp.flip(kernel, (0, 1)), 2, 3)
    pads = tuple((k - 1 - before, k - 1 - after) for k, (before, after) in zip(window.size, window.pads, strict=True))
    return _convolve_images(y, flipped, pads)


def _gradients_of(compute: Callable[..., Array]) -> tuple[Callable[..., Array], Callable[..., Array]]:
    """Return the kernel gradient (x, y, window) and the input gradient (y, kernel, window) of a convolution."""

    def kernel_gradient(x: Array, y: Array, *, window: Window) -> Array:
        kernel = jax.ShapeDtypeStruct((*window.size, x.shape[-1], y.shape[-1]), x.dtype)
        return jax.linear_transpose(lambda kernel: compute(x, kernel, window=window), kernel)(y)[0]

    def input_gradient(y: Array, kernel: Array, *, window: Window) -> Array:
        space = (n - before - after for n, (before, after) in zip(_covered_space(window), window.pads, strict=True))
        x = jax.ShapeDtypeStruct((y.shape[0], *space, kernel.shape[2]), y.dtype)
        return jax.linear_transpose(lambda x: compute(x, kernel, window=window), x)(y)[0]

    return kernel_gradient, input_gradient


def _covered_space(window: Window) -> list[int]:
    """Return the spatial shape of the padded input that the windows cover."""
    axes = zip(window.output, window.strides, window.size, strict=True)
    return [(count - 1) * stride + size for count, stride, size in axes]


_unfolded_kernel_gradient, _unfolded_input_gradient = _gradients_of(unfolded)
_direct = bilinear_primitive(
    "convolution",
    Rule(_value, batching_rule(unfolded)),
    Rule(_kernel_gradient, batching_rule(_unfolded_kernel_gradient)),
    Rule(_input_gradient, batching_rule(_unfolded_input_gradient)),
)


# With strides of several pixels, blocks of `strides` pixels become the channels of one pixel: the same convolution with
# strides of one block, whose gradients are as above. The kernel is padded with zeros to whole blocks, which would be
# wasted products in the value; it is computed by its definition.


def _crop_and_convolve(x: Array, kernel: Array, *, window: Window) -> Array:
    space = _covered_space(window)
    x = pad_space(x, window.pads)[:, : space[0], : space[1]]
    return _strided(x, kernel, window=window._replace(pads=((0, 0), (0, 0))))


def _convolve_blocks(x: Array, kernel: Array, *, window: Window) -> Array:
    down, right = window.strides
    blocks = tuple(-(-size // stride) for size, stride in zip(window.size, window.strides, strict=True))
    missing = [n * stride - size for n, stride, size in zip(blocks, window.strides, window.size, strict=True)]
    pads = tuple((0, n) for n in missing)
    x = pad_space(x, pads)
    x = x.reshape(x.shape[0], -1, down, x.shape[2] // right, right, x.shape[3])
    x = jnp.swapaxes(x, 2, 3).reshape(x.shape[0], x.shape[1], x.shape[3], -1)
    kernel = jnp.pad(kernel, [*pads, (0, 0), (0, 0)]).reshape(blocks[0], down, blocks[1], right, *kernel.shape[2:])
    kernel = jnp.swapaxes(kernel, 1, 2).reshape(*blocks, -1, kernel.shape[-1])
    return _direct(x, kernel, window=window._replace(size=blocks, strides=(1, 1)))


_block_kernel_gradient, _block_input_gradient = _gradients_of(_convolve_blocks)


def _strided_kernel_gradient(x: Array, y: Array, *, window: Window) -> Array:
    has_few = x.shape[-1] * math.prod(window.strides) < _MIN_BLOCK_CHANNELS
    return (_unfolded_kernel_gradient if has_few else _block_kernel_gradient)(x, y, window=window)


_strided = bilinear_primitive(
    "strided_convolution",
    Rule(definitions.conv, batching_rule(unfolded)),
    Rule(outlined(_strided_kernel_gradient, ("window",)), batching_rule(_unfolded_kernel_gradient)),
    Rule(_block_input_gradient, batching_rule(_unfolded_input_gradient)),
)
