"""Independent implementations to compare with: loops over every output, in float64 NumPy."""

import itertools
import math

import numpy as np


def same_pads(size: int, extent: int, stride: int) -> tuple[int, int]:
    """TensorFlow's SAME: as many outputs as ceil(size / stride), the odd pixel after."""
    total = max((math.ceil(size / stride) - 1) * stride + extent - size, 0)
    return total // 2, total - total // 2


def convolve(x, kernel, strides, pads, dilation, groups):
    """Convolve x (N, *space, C) with kernel (*K, C // groups, O), one output at a time."""
    x, kernel = np.asarray(x, np.float64), np.asarray(kernel, np.float64)
    x = np.pad(x, [(0, 0), *pads, (0, 0)])
    size, maps = kernel.shape[:-2], kernel.shape[-1]
    inputs = kernel.shape[-2]
    out = [(n - ((k - 1) * d + 1)) // s + 1 for n, k, s, d in zip(x.shape[1:-1], size, strides, dilation, strict=True)]
    y = np.zeros((x.shape[0], *out, maps))
    for n, *position, o in np.ndindex(y.shape):
        group = o // (maps // groups)
        for tap in itertools.product(*map(range, size)):
            where = tuple(p * s + t * d for p, s, t, d in zip(position, strides, tap, dilation, strict=True))
            y[(n, *position, o)] += x[(n, *where)][group * inputs : (group + 1) * inputs] @ kernel[tap][:, o]
    return y


def pool(x, window, strides, pads, reduce):
    """Reduce the real pixels (not the padding) of every window of x (N, *space, C)."""
    x = np.asarray(x, np.float64)
    out = [(n + lo + hi - k) // s + 1 for n, (lo, hi), k, s in zip(x.shape[1:-1], pads, window, strides, strict=True)]
    y = np.zeros((x.shape[0], *out, x.shape[-1]))
    for n, *position in np.ndindex((x.shape[0], *out)):
        starts = [p * s - lo for p, s, (lo, _) in zip(position, strides, pads, strict=True)]
        seen = tuple(slice(max(a, 0), a + k) for a, k in zip(starts, window, strict=True))
        y[(n, *position)] = reduce(x[(n, *seen)], axis=tuple(range(len(window))))
    return y
