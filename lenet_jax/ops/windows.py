"""Geometry of sliding windows, shared by convolution, patches and pooling.

A window slides over the spatial axes of an array (N, *space, C). Each of its positions is a *tap*: the strided slice of
the padded array that one offset inside the window sees.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import jax
from jax import lax
from jaxtyping import Array

from lenet_jax.errors import InputError

Ints = int | Sequence[int]
Padding = str | Sequence[tuple[int, int]]
Pads = tuple[tuple[int, int], ...]


class Window(NamedTuple):
    """A checked window: one entry a spatial axis."""

    size: tuple[int, ...]  # pixels
    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    pads: Pads  # pixels before and after each axis
    output: tuple[int, ...]  # positions along each axis

    @property
    def offsets(self) -> list[tuple[int, ...]]:
        """Offsets of the taps, in row-major order."""
        axes = zip(self.size, self.dilation, strict=True)
        return list(itertools.product(*(range(0, k * d, d) for k, d in axes)))


def to_tuple(function: str, argument: str, value: Ints, length: int) -> tuple[int, ...]:
    """Return an int or a sequence of ints as a tuple with one entry, 1 or above, an axis."""
    values = (value,) * length if isinstance(value, int) else tuple(value)
    if len(values) != length or not all(isinstance(v, int) and v >= 1 for v in values):
        raise InputError(
            f"{function}: `{argument}` must be an integer, 1 or above, or {length} of them, one a spatial axis; "
            f"got {value!r}."
        )
    return values


def make_window(
    function: str,
    space: Sequence[int],
    size: Ints,
    strides: Ints,
    padding: Padding,
    dilation: Ints = 1,
    *,
    allow_ceil: bool = False,
) -> Window:
    """Check the arguments of `function` and work out the window over an array with spatial shape `space`.

    Raises:
        InputError: if a number is not positive, the padding is unknown or the window is larger than the padded array.
    """
    size, strides, dilation = (
        to_tuple(function, name, value, len(space))
        for name, value in (("window", size), ("strides", strides), ("dilation", dilation))
    )
    extent = [(k - 1) * d + 1 for k, d in zip(size, dilation, strict=True)]
    pads = _resolve_padding(function, space, extent, strides, padding, allow_ceil)
    room = [n + lo + hi for n, (lo, hi) in zip(space, pads, strict=True)]
    if any(k > n for k, n in zip(extent, room, strict=True)):
        raise InputError(
            f"{function}: `window` must fit into the image; a window of {'x'.join(map(str, extent))} pixels is larger "
            f"than {'x'.join(map(str, room))} with padding {padding!r}; use a smaller window or more padding."
        )
    output = tuple((n - k) // s + 1 for n, k, s in zip(room, extent, strides, strict=True))
    return Window(size, strides, dilation, pads, output)


def _resolve_padding(
    function: str,
    space: Sequence[int],
    extent: Sequence[int],
    strides: Sequence[int],
    padding: Padding,
    allow_ceil: bool,
) -> Pads:
    axes = list(zip(space, extent, strides, strict=True))
    if padding == "VALID":
        return ((0, 0),) * len(axes)
    if padding == "SAME":  # as TensorFlow: the odd pixel goes after
        totals = [max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in axes]
        return tuple((total // 2, total - total // 2) for total in totals)
    if padding == "CEIL" and allow_ceil:  # the last window must begin inside the image, as Theano and PyTorch
        counts = [min(max(-(-(n - k) // s), 0), (n - 1) // s) + 1 for n, k, s in axes]
        return tuple((0, max((count - 1) * s + k - n, 0)) for count, (n, k, s) in zip(counts, axes, strict=True))
    pairs = () if isinstance(padding, str) else tuple(tuple(pair) for pair in padding)
    valid = len(pairs) == len(axes) and all(
        len(pair) == 2 and all(isinstance(p, int) and p >= 0 for p in pair) for pair in pairs
    )
    if not valid:
        names = '"VALID", "SAME"' + (', "CEIL"' if allow_ceil else "")
        raise InputError(
            f"{function}: `padding` must be {names} or {len(axes)} (before, after) pairs of integers, 0 or above; "
            f"got {padding!r}."
        )
    return tuple((pair[0], pair[1]) for pair in pairs)


def pad_space(x: Array, pads: Pads, value: float = 0.0) -> Array:
    """Pad the spatial axes of x (N, *space, C) with `value`."""
    if not any(map(any, pads)):
        return x
    return lax.pad(x, jax.numpy.asarray(value, x.dtype), [(0, 0, 0), *((lo, hi, 0) for lo, hi in pads), (0, 0, 0)])


def taps(x: Array, window: Window, pad_value: float = 0.0) -> list[Array]:
    """Return what each offset of the window sees: arrays (N, *output, C), offsets in row-major order."""
    x = pad_space(x, window.pads, pad_value)
    strides = (1, *window.strides, 1)
    slices = []
    for offset in window.offsets:
        last = [o + (n - 1) * s + 1 for o, n, s in zip(offset, window.output, window.strides, strict=True)]
        slices.append(lax.slice(x, (0, *offset, 0), (x.shape[0], *last, x.shape[-1]), strides))
    return slices
