"""Random convolutions: the native kernels against a definition by NumPy in float64."""

import ctypes
import itertools
import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Geometry:
    batch: int
    space: tuple[int, ...]
    channels: int
    groups: int
    kernels: int
    size: tuple[int, ...]
    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    before: tuple[int, ...]
    output: tuple[int, ...]

    def numbers(self):
        """The ints that driver.cc reads: three spatial axes, of which the first may be of length 1."""
        lead = 3 - len(self.space)
        ones = (1,) * lead
        axes = (self.size, self.strides, self.dilation, (0,) * lead + self.before, self.output)
        parts = [part if len(part) == 3 else ones + part for part in axes]
        numbers = [self.batch, *ones, *self.space, self.channels, self.groups, self.kernels, *itertools.chain(*parts)]
        return np.asarray(numbers, np.intc)


def random_geometry(random):
    """Draws a geometry with every option: one to three axes, windows in padding, outputs and batches of size 0."""
    num_axes = random.choice([1, 2, 2, 2, 3])
    draw = lambda *values: tuple(int(v) for v in random.choice(values, num_axes))  # noqa: E731
    longest = {1: 40, 2: 20, 3: 8}[num_axes]
    space = tuple(int(v) for v in random.integers(1, longest, num_axes))
    size, strides, dilation = draw(1, 2, 3, 4, 5, 7), draw(1, 1, 2, 3, 4), draw(1, 1, 1, 2, 3, 6)
    before = draw(0, 0, 1, 2, 3, 6, 9)
    after = draw(0, 0, 1, 2, 3, 6, 9)
    output = tuple(
        max(0, (n + b + a - (k - 1) * d - 1) // s + 1)
        for n, b, a, k, d, s in zip(space, before, after, size, dilation, strides, strict=True)
    )
    groups = int(random.choice([1, 1, 1, 2, 3, 8]))
    channels = int(random.choice([1, 1, 2, 3, 5, 16, 17, 40])) * groups
    if random.random() < 0.2:  # depthwise
        groups = channels
    kernels = groups * int(random.choice([1, 2, 3, 8, 16, 20, 33, 64, 70] if groups <= 8 else [1, 1, 2, 3]))
    batch = int(random.choice([0, 1, 2, 3, 5, 17]))
    return Geometry(batch, space, channels, groups, kernels, size, strides, dilation, before, output)


def _overlaps(g):
    """For each tap, its index, the outputs where it meets the image, and the inputs that it meets there."""
    for tap in itertools.product(*map(range, g.size)):
        outputs, inputs = [], []
        for t, n, o, s, d, b in zip(tap, g.space, g.output, g.strides, g.dilation, g.before, strict=True):
            inside = [i for i in range(o) if 0 <= i * s + t * d - b < n]
            outputs.append(inside)
            inputs.append([i * s + t * d - b for i in inside])
        if all(outputs):
            yield tap, outputs, inputs


def define(g, x, kernel, dy):
    """y, dx and dkernel in float64, tap by tap."""
    by_group = lambda a: a.astype(np.float64).reshape(*a.shape[:-1], g.groups, a.shape[-1] // g.groups)  # noqa: E731
    x, dy = by_group(x), by_group(dy)
    kernel = by_group(kernel)  # (*size, C / groups, groups, O / groups)
    y, dx, dkernel = np.zeros_like(dy), np.zeros_like(x), np.zeros_like(kernel)
    images = range(g.batch)
    for tap, outputs, inputs in _overlaps(g):
        to, source = np.ix_(images, *outputs), np.ix_(images, *inputs)
        y[to] += np.einsum("...gc,cgo->...go", x[source], kernel[tap])
        dx[source] += np.einsum("...go,cgo->...gc", dy[to], kernel[tap])
        dkernel[tap] = np.einsum(
            "bgc,bgo->cgo",
            x[source].reshape(math.prod(x[source].shape[:-2]), *x.shape[-2:]),
            dy[to].reshape(math.prod(dy[to].shape[:-2]), *dy.shape[-2:]),
        )
    flat = lambda a: a.reshape(*a.shape[:-2], a.shape[-2] * a.shape[-1])  # noqa: E731
    return flat(y), flat(dx), flat(dkernel)


def compute(library, g, x, kernel, dy, threads):
    """y, dx and dkernel by the native kernels; nothing of what was there before may remain."""
    results = []
    shape = g.numbers()
    for name, a, b, like in (
        ("convolution", x, kernel, dy),
        ("input_gradient", dy, kernel, x),
        ("kernel_gradient", x, dy, kernel),
    ):
        out = np.full_like(like, np.nan)
        pointers = [array.ctypes.data_as(ctypes.c_void_p) for array in (shape, a, b, out)]
        getattr(library, name)(ctypes.c_int(threads), *pointers)
        results.append(out)
    return results


def check(library, g, random, threads=1):
    """Raises AssertionError where a result differs from its definition; returns the results."""
    x = random.standard_normal((g.batch, *g.space, g.channels)).astype(np.float32)
    kernel = random.standard_normal((*g.size, g.channels // g.groups, g.kernels)).astype(np.float32)
    dy = random.standard_normal((g.batch, *g.output, g.kernels)).astype(np.float32)
    got = compute(library, g, x, kernel, dy, threads)
    products = (math.prod(kernel.shape[:-1]), math.prod(g.size) * g.kernels // g.groups, g.batch * math.prod(g.output))
    for name, a, b, n in zip(("y", "dx", "dkernel"), got, define(g, x, kernel, dy), products, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=3e-6 * math.sqrt(n + 1), err_msg=f"{name} of {g}")
    again = compute(library, g, x, kernel, dy, 3)
    for a, b in zip(got, again, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=f"threads change {g}")
