"""What the kernels compute, in NumPy and float64: one window after another."""

import itertools

import numpy as np


def convolution(x, kernel, before, output):
    """Return the convolution of x (N, H, W, C) with kernel (KH, KW, C, O), with zeros around it."""
    height, width = kernel.shape[:2]
    needed = [n + size - 1 for n, size in zip(output, (height, width), strict=True)]
    padded = np.zeros(
        (x.shape[0], *(max(n, b + s) for n, b, s in zip(needed, before, x.shape[1:3], strict=True)), x.shape[3])
    )
    padded[:, before[0] : before[0] + x.shape[1], before[1] : before[1] + x.shape[2]] = x
    y = np.zeros((x.shape[0], *output, kernel.shape[3]))
    for i, j in np.ndindex(height, width):
        y += padded[:, i : i + output[0], j : j + output[1]] @ kernel[i, j].astype(float)
    return y


def convolution_gradients(x, kernel, before, dy):
    """Return the gradients of sum(convolution * dy) with respect to x and kernel."""
    (_, rows, columns, _), (height, width) = dy.shape, kernel.shape[:2]
    sizes = [
        max(n + k - 1, b + s) for n, k, b, s in zip((rows, columns), (height, width), before, x.shape[1:3], strict=True)
    ]
    padded, dpadded = np.zeros((2, x.shape[0], *sizes, x.shape[3]))
    inside = np.s_[:, before[0] : before[0] + x.shape[1], before[1] : before[1] + x.shape[2]]
    padded[inside] = x
    dkernel = np.zeros(kernel.shape)
    for i, j in np.ndindex(height, width):
        patch = np.s_[:, i : i + rows, j : j + columns]
        dkernel[i, j] = np.einsum("nhwc,nhwo->co", padded[patch], dy)
        dpadded[patch] += dy @ kernel[i, j].astype(float).T
    return dpadded[inside], dkernel


def _windows(space, size, strides, before, output):
    """Yield each window's output and the inputs and positions in it, row by row, without those in the padding."""
    for place in np.ndindex(*output):
        axes = []
        for o, n, k, s, b in zip(place, space, size, strides, before, strict=True):
            axes.append([(o * s - b + i, i) for i in range(k) if 0 <= o * s - b + i < n])
        inside = []
        for taps in itertools.product(*axes):
            inside.append((tuple(at for at, _ in taps), np.ravel_multi_index(tuple(i for _, i in taps), size)))
        yield place, inside


def max_pool(x, size, strides, before, output):
    """Return the largest values of x (N, *space, C), NaN before all, and their first positions."""
    y = np.full((x.shape[0], *output, x.shape[-1]), -np.inf)
    index = np.full(y.shape, 255)
    for place, inside in _windows(x.shape[1:-1], size, strides, before, output):
        if inside:
            values = np.stack([x[:, *at] for at, _ in inside])
            first = values.argmax(0)  # NaN counts as the largest, and the first of equal ones is returned
            y[:, *place] = np.take_along_axis(values, first[None], 0)[0]
            index[:, *place] = np.array([position for _, position in inside])[first]
    return y, index


def max_pool_gradient(x_shape, size, strides, before, dy, index):
    """Return the gradient of sum(max_pool * dy) for chosen positions."""
    dx = np.zeros(x_shape)
    for place, inside in _windows(x_shape[1:-1], size, strides, before, dy.shape[1:-1]):
        for at, position in inside:
            dx[:, *at] += np.where(index[:, *place] == position, dy[:, *place], 0)
    return dx


def sum_pool(x, size, strides, before, output):
    """Return the sums over the windows of x (N, *space, C)."""
    y = np.zeros((x.shape[0], *output, x.shape[-1]))
    for place, inside in _windows(x.shape[1:-1], size, strides, before, output):
        for at, _ in inside:
            y[:, *place] += x[:, *at]
    return y


def sum_pool_gradient(x_shape, size, strides, before, dy):
    """Return the gradient of sum(sum_pool * dy)."""
    dx = np.zeros(x_shape)
    for place, inside in _windows(x_shape[1:-1], size, strides, before, dy.shape[1:-1]):
        for at, _ in inside:
            dx[:, *at] += dy[:, *place]
    return dx
