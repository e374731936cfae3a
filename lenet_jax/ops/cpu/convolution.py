"""How convolutions are computed: by XLA on GPU and TPU, by products or by XLA's fast routine on CPU.

The definition is `lax.conv_general_dilated`. XLA's CPU backend runs gradients of convolutions inside loops (`lax.scan`,
`lax.while_loop`) as naive nests of loops, 7 to 20 times slower (jax issue 12868). There the same sums are computed as
patches times a matrix or, where there are many channels, as convolutions of arrays laid out as that backend has a fast
routine for. `lax.platform_dependent` chooses when the program is compiled.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from lenet_jax.environment import available_cores
from lenet_jax.ops.cpu.inference_only import forward_only
from lenet_jax.ops.cpu.matmul import mix
from lenet_jax.ops.cpu.primitives import Form, apart, mapped_as, trilinear
from lenet_jax.ops.cpu.sliding_product import sliding_product
from lenet_jax.ops.cpu.unfold import copy_windows
from lenet_jax.ops.windows import Pads, Window, pad_space, taps

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
_FEWEST_CHANNELS = 4  # of a group: with fewer the gradient of the input is faster by patches,
_FEWEST_KERNELS = 16  # and all else too, unless there are as many kernels
_FEWEST_BLOCK_CHANNELS = 16  # of a block of pixels: with fewer the gradient of the kernel is faster by patches
_MOST_EXAMPLES = 128  # and no more examples
_MOST_SINGLE_GROUPS = 4  # more become too small to be convolved one after another

LAYOUTS = {1: ("NWC", "WIO"), 2: ("NHWC", "HWIO"), 3: ("NDHWC", "DHWIO")}
_LAYOUTS_BATCH_LAST = {1: "CWN", 2: "CHWN", 3: "CDHWN"}


# Jitted so that a call outside of jit is one compiled program, not one for each tap; inlined into programs of callers.
@functools.partial(jax.jit, static_argnames=("window", "groups"), inline=True)
def convolve(x: Array, kernel: Array, *, window: Window, groups: int) -> Array:
    """Convolve x (N, *space, C) with a kernel (*size, C // groups, O): (N, *output, O)."""
    kernel, window = _drop_unseeing(x, kernel, window)
    by_definition = functools.partial(_by_definition, window=window, groups=groups)
    if groups == math.prod(window.size) == 1:
        on_cpu = functools.partial(_by_product, window=window)
    elif _is_fast_forward(x, window) and _is_fast_backward(x, kernel, window, groups):
        on_cpu = functools.partial(_by_groups, _directly, window=window, groups=groups)
    elif _is_fast_forward(x, window) and _is_fast_in_blocks(x, kernel, window, groups):
        on_cpu = functools.partial(_by_groups, _in_steps, window=window, groups=groups)
    else:
        on_cpu = functools.partial(_by_patches, window=window, groups=groups)
        if _is_fast_forward(x, window, groups):
            on_cpu = forward_only(by_definition, on_cpu)
    return lax.platform_dependent(x, kernel, cpu=on_cpu, default=by_definition)


def _drop_unseeing(x: Array, kernel: Array, window: Window) -> tuple[Array, Window]:
    """Leave out the first and last offsets of the kernel that see nothing but padding."""
    if set(window.dilation) != {1} or not _begins_inside(window):
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


def _begins_inside(window: Window) -> bool:
    """Return whether there is less padding than kernel, so that each window sees the image."""
    return all(max(pads) < size for pads, size in zip(window.pads, window.size, strict=True))


def _is_fast_forward(x: Array, window: Window, groups: int = 1) -> bool:
    """Return whether XLA's CPU backend computes the definition fast, inside loops too; its gradients never are."""
    return groups == 1 and len(window.size) == 2 and x.dtype == jnp.float32 and set(window.dilation) == {1}


def _is_fast_backward(x: Array, kernel: Array, window: Window, groups: int) -> bool:
    """Return whether both gradients are convolutions that XLA's CPU backend computes fast, and as little work."""
    little = math.prod(x.shape[1:-1]) <= _MOST_GRADIENT_WORK * math.prod(window.output)
    wide = kernel.shape[-2] >= _FEWEST_CHANNELS or (
        kernel.shape[-1] // groups >= _FEWEST_KERNELS and x.shape[0] <= _MOST_EXAMPLES
    )
    return set(window.strides) == {1} and _begins_inside(window) and little and wide and groups <= _MOST_SINGLE_GROUPS


def _is_fast_in_blocks(x: Array, kernel: Array, window: Window, groups: int) -> bool:
    """Return whether both gradients are fast with blocks of pixels as pixels."""
    in_blocks = all(1 < stride <= size for stride, size in zip(window.strides, window.size, strict=True))
    channels = kernel.shape[-2] * math.prod(window.strides)
    return in_blocks and channels >= _FEWEST_CHANNELS and groups <= _MOST_SINGLE_GROUPS


def _by_definition(x: Array, kernel: Array, *, window: Window, groups: int = 1, layout: str | None = None) -> Array:
    batch_first, kernel_layout = LAYOUTS[len(window.size)]
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


def _by_groups(of_group: Callable[..., Array], x: Array, kernel: Array, *, window: Window, groups: int) -> Array:
    parts = zip(jnp.split(x, groups, -1), jnp.split(kernel, groups, -1), strict=True)
    return jnp.concatenate([of_group(x, kernel, window=window) for x, kernel in parts], -1)


def _by_patches(x: Array, kernel: Array, *, window: Window, groups: int = 1) -> Array:
    if groups > 1 and kernel.shape[-2] == 1:
        return _depthwise(x, kernel, window=window)
    return swap_batch(convolve_batch_last(swap_batch(x), kernel, window=window, groups=groups))


def _by_product(x: Array, kernel: Array, *, window: Window) -> Array:
    """Mix the channels of each pixel: a kernel of one pixel."""
    (seen,) = taps(x, window)
    return mix(seen, kernel.reshape(kernel.shape[-2:]))


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
    """Convolve x (C, *space, N) with a kernel (*size, C // groups, O) by matrix products: (O, *output, N).

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


_LAYOUT_2D = (LAYOUTS[2][0], LAYOUTS[2][1], LAYOUTS[2][0])


def _convolve_images(x: Array, kernel: Array, pads: Pads) -> Array:
    if any(size >= n for size, n in zip(kernel.shape, x.shape[1:3], strict=False)):
        # The fast routine is not for images that are smaller than the kernel.
        x, pads = lax.optimization_barrier(pad_space(x, pads)), ((0, 0), (0, 0))
    return lax.conv_general_dilated(x, kernel, (1, 1), pads, dimension_numbers=_LAYOUT_2D)


def _value(x: Array, kernel: Array, *, window: Window) -> Array:
    return _convolve_images(x, kernel, window.pads)


def _kernel_gradient(x: Array, y: Array, *, window: Window) -> Array:
    x, y = jnp.swapaxes(x, 0, 3), jnp.moveaxis(y, 0, 2)
    return jnp.moveaxis(_convolve_images(x, y, window.pads), 0, 2)


def _input_gradient(y: Array, kernel: Array, *, window: Window) -> Array:
    if kernel.shape[-2] < _FEWEST_CHANNELS:
        return _input_gradient_of_patches(y, kernel, window=window)
    turned = jnp.swapaxes(jnp.flip(kernel, (0, 1)), 2, 3)
    around = tuple((k - 1 - before, k - 1 - after) for k, (before, after) in zip(window.size, window.pads, strict=True))
    return _convolve_images(y, turned, around)


def _gradients_of(compute: Callable[..., Array]) -> tuple[Callable[..., Array], Callable[..., Array]]:
    """Return the gradients of a convolution by its kernel, (x, y, window), and by its input, (y, kernel, window)."""

    def by_kernel(x: Array, y: Array, *, window: Window) -> Array:
        kernel = jax.ShapeDtypeStruct((*window.size, x.shape[-1], y.shape[-1]), x.dtype)
        return jax.linear_transpose(lambda kernel: compute(x, kernel, window=window), kernel)(y)[0]

    def by_input(y: Array, kernel: Array, *, window: Window) -> Array:
        space = (n - before - after for n, (before, after) in zip(_seen_space(window), window.pads, strict=True))
        x = jax.ShapeDtypeStruct((y.shape[0], *space, kernel.shape[2]), y.dtype)
        return jax.linear_transpose(lambda x: compute(x, kernel, window=window), x)(y)[0]

    return by_kernel, by_input


def _seen_space(window: Window) -> list[int]:
    axes = zip(window.output, window.strides, window.size, strict=True)
    return [(count - 1) * stride + size for count, stride, size in axes]


_kernel_gradient_of_patches, _input_gradient_of_patches = _gradients_of(_by_patches)
_directly = trilinear(
    "convolution",
    Form(_value, mapped_as(_by_patches)),
    Form(_kernel_gradient, mapped_as(_kernel_gradient_of_patches)),
    Form(_input_gradient, mapped_as(_input_gradient_of_patches)),
)


# With steps of several pixels the images are cut into blocks of as many, whose pixels become channels: the same
# convolution with steps of one block, and gradients as above. The kernel is filled up with zeros to whole blocks, so
# the value itself is computed as it is defined.


def _in_steps(x: Array, kernel: Array, *, window: Window) -> Array:
    space = _seen_space(window)
    x = pad_space(x, window.pads)[:, : space[0], : space[1]]
    return _strided(x, kernel, window=window._replace(pads=((0, 0), (0, 0))))


def _by_blocks(x: Array, kernel: Array, *, window: Window) -> Array:
    down, right = window.strides
    blocks = tuple(-(-size // stride) for size, stride in zip(window.size, window.strides, strict=True))
    missing = [n * stride - size for n, stride, size in zip(blocks, window.strides, window.size, strict=True)]
    around = tuple((0, n) for n in missing)
    x = pad_space(x, around)
    x = x.reshape(x.shape[0], -1, down, x.shape[2] // right, right, x.shape[3])
    x = jnp.swapaxes(x, 2, 3).reshape(x.shape[0], x.shape[1], x.shape[3], -1)
    kernel = jnp.pad(kernel, [*around, (0, 0), (0, 0)]).reshape(blocks[0], down, blocks[1], right, *kernel.shape[2:])
    kernel = jnp.swapaxes(kernel, 1, 2).reshape(*blocks, -1, kernel.shape[-1])
    return _directly(x, kernel, window=window._replace(size=blocks, strides=(1, 1)))


_kernel_gradient_of_wide_blocks, _input_gradient_of_blocks = _gradients_of(_by_blocks)


def _kernel_gradient_of_blocks(x: Array, y: Array, *, window: Window) -> Array:
    few = x.shape[-1] * math.prod(window.strides) < _FEWEST_BLOCK_CHANNELS
    return (_kernel_gradient_of_patches if few else _kernel_gradient_of_wide_blocks)(x, y, window=window)


_strided = trilinear(
    "strided_convolution",
    Form(_by_definition, mapped_as(_by_patches)),
    Form(apart(_kernel_gradient_of_blocks, ("window",)), mapped_as(_kernel_gradient_of_patches)),
    Form(_input_gradient_of_blocks, mapped_as(_input_gradient_of_patches)),
)
