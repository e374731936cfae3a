"""What each operation means, written with `jax.lax` and `jax.numpy` alone, as plainly as possible.

The contract test computes these in float64. They share no code with `lenet_jax.ops`.
"""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

LAYOUTS = {3: ("NWC", "WIO", "NWC"), 4: ("NHWC", "HWIO", "NHWC"), 5: ("NDHWC", "DHWIO", "NDHWC")}


def conv(x, kernel, *, strides=1, padding="VALID", dilation=1, groups=1):
    """Convolve x (N, *space, C) with a kernel (*K, C // groups, O)."""
    space = x.ndim - 2
    return lax.conv_general_dilated(
        x,
        kernel,
        _each(strides, space),
        padding,
        rhs_dilation=_each(dilation, space),
        dimension_numbers=LAYOUTS[x.ndim],
        feature_group_count=groups,
    )


def conv_max_pool(x, kernel, bias=None, *, pool_size, **options):
    y = max_pool(conv(x, kernel, **options), pool_size)
    return y if bias is None else y + bias.reshape((1,) * (y.ndim - 1) + (-1,))


def conv_transpose(x, kernel, *, strides=1, padding="SAME", dilation=1, output_shape=None):
    """Return the transpose of the linear map images -> conv(images, kernel (*K, O, C))."""
    steps, rates = (_each(option, x.ndim - 2) for option in (strides, dilation))
    extents = [(k - 1) * d + 1 for k, d in zip(kernel.shape, rates, strict=False)]
    extra = [0 if padding == "SAME" else max(k - s, 0) for k, s in zip(extents, steps, strict=True)]
    space = output_shape or [n * s + e for n, s, e in zip(x.shape[1:-1], steps, extra, strict=True)]
    images = jax.ShapeDtypeStruct((x.shape[0], *space, kernel.shape[-2]), x.dtype)
    options = {"strides": strides, "padding": padding, "dilation": dilation}
    return jax.linear_transpose(lambda images: conv(images, kernel, **options), images)(x)[0]


def depthwise(x, kernel, **options):
    *size, channels, multiplier = kernel.shape
    return conv(x, kernel.reshape(*size, 1, channels * multiplier), groups=channels, **options)


def separable(x, depthwise_kernel, pointwise_kernel, **options):
    return conv(depthwise(x, depthwise_kernel, **options), pointwise_kernel)


def max_pool(x, window, *, strides=None, padding="VALID"):
    """Return the largest value in each window, the first of equal ones in row-major order."""
    values = windows(x, window, strides, padding, -math.inf)
    first = jnp.argmax(values, axis=0, keepdims=True)
    return jnp.take_along_axis(values, first, axis=0)[0]


def avg_pool(x, window, *, strides=None, padding="VALID"):
    """Return the mean over the pixels of each window that are inside the image."""
    sums, counts = (windows(a, window, strides, padding, 0).sum(0) for a in (x, np.ones((1, *x.shape[1:-1], 1))))
    return sums / counts


def dense(x, kernel, bias=None):
    y = lax.dot_general(x, kernel, (((x.ndim - 1,), (0,)), ((), ())))
    return y if bias is None else y + bias.reshape((1,) * (y.ndim - 1) + (-1,))


def batch_norm(x, mean, variance, scale, bias, *, epsilon=1e-5):
    mean, variance, scale, bias = (a.reshape((1,) * (x.ndim - 1) + (-1,)) for a in (mean, variance, scale, bias))
    return (x - mean) / jnp.sqrt(variance + epsilon) * scale + bias


def normalize_batch(x, scale, bias, epsilon=1e-5):
    axes = tuple(range(x.ndim - 1))
    mean = jnp.mean(x, axes)
    variance = jnp.mean(jnp.square(x - mean.reshape((1,) * (x.ndim - 1) + (-1,))), axes)
    return batch_norm(x, mean, variance, scale, bias, epsilon=epsilon), mean, variance


def local_response_norm(x, *, depth_radius=2, bias=1.0, alpha=2e-5, beta=0.75):
    channels = x.shape[-1]
    near = np.abs(np.subtract.outer(np.arange(channels), np.arange(channels))) <= depth_radius
    return x / (bias + alpha * jnp.square(x) @ near.astype(x.dtype)) ** beta


def extract_patches(x, window, *, strides=1, padding="VALID"):
    return jnp.concatenate([*windows(x, window, strides, padding, 0)], axis=-1)


def windows(x, window, strides, padding, fill):
    """Return the entries at each offset of the window, in row-major order: (offsets, N, *output, C)."""
    space = x.shape[1:-1]
    size = _each(window, len(space))
    steps = size if strides is None else _each(strides, len(space))
    pads = [(0, 0)] * len(space) if padding == "VALID" else padding
    if padding == "SAME":
        total = [max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zip(space, size, steps, strict=True)]
        pads = [(t // 2, t - t // 2) for t in total]
    if padding == "CEIL":  # windows that begin inside the image, until one reaches its end
        starts = [
            next(a for a in itertools.count(0, s) if a + k >= n or a + s >= n)
            for n, k, s in zip(space, size, steps, strict=True)
        ]
        pads = [(0, max(a + k - n, 0)) for a, n, k in zip(starts, space, size, strict=True)]
    x = jnp.pad(jnp.asarray(x), [(0, 0), *pads, (0, 0)], constant_values=fill)
    output = [(n - k) // s + 1 for n, k, s in zip(x.shape[1:-1], size, steps, strict=True)]
    entries = []
    for offset in itertools.product(*map(range, size)):
        along = [slice(o, o + (n - 1) * s + 1, s) for o, n, s in zip(offset, output, steps, strict=True)]
        entries.append(x[(slice(None), *along)])
    return jnp.stack(entries)


def _each(value, count):
    return (value,) * count if isinstance(value, int) else tuple(value)


def subsampling(x, bias, coefficient, *, size):
    means = avg_pool(x, size)
    return means * coefficient.reshape(1, 1, 1, -1) + bias.reshape(1, 1, 1, -1)


def radial_basis(x, *, centres, scale):
    return -scale * jnp.square(x[:, None] - centres.astype(x.dtype)[None]).sum(-1)


def running_batch_norm(x, bias, scale, mean, variance, *, momentum=0.9, epsilon=1e-5):
    """Return the batch normalized by its own statistics, and the new running averages."""
    count = math.prod(x.shape[:-1])
    y, *batch = normalize_batch(x, scale, bias, epsilon)
    batch[1] *= count / (count - 1)
    return y, *(momentum * old + (1 - momentum) * new for old, new in zip((mean, variance), batch, strict=True))


def resize(x, *, size):
    """Interpolate linearly, with antialiasing: a matrix for each of the two axes, each row of sum 1."""
    down, right = (_interpolation(n, size) for n in x.shape[1:3])
    return jnp.einsum("yh,xw,nhwc->nyxc", down.astype(x.dtype), right.astype(x.dtype), x)


@functools.cache
def _interpolation(n, size):
    scale = max(n / size, 1.0)
    centres = (np.arange(size) + 0.5) * n / size - 0.5
    weights = np.maximum(0, 1 - np.abs(np.subtract.outer(centres, np.arange(n))) / scale)
    return weights / weights.sum(1, keepdims=True)
