"""Sliding windows: their geometry, shared by convolution and pooling, and windows as arrays of their own.

A window slides over the spatial axes of an array (N, *space, C). Each offset inside the window selects a strided slice
of the padded array: the entries at that offset in all windows.
"""

import itertools
import operator
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Num, Shaped

from lenet_jax.errors import InputError
from lenet_jax.ops.arguments import plain, to_array

Int = int | np.integer
Ints = Int | Sequence[Int] | np.ndarray
Padding = str | Int | Sequence[Int] | Sequence[Sequence[Int]] | np.ndarray
Pads = tuple[tuple[int, int], ...]


class Window(NamedTuple):
    """Checked options of a window: one entry for each spatial axis."""

    size: tuple[int, ...]  # pixels
    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    pads: Pads  # pixels before and after each axis
    output: tuple[int, ...]  # number of windows along each axis

    @property
    def offsets(self) -> list[tuple[int, ...]]:
        """Offsets inside the window, in row-major order, in pixels."""
        axes = zip(self.size, self.dilation, strict=True)
        return list(itertools.product(*(range(0, k * d, d) for k, d in axes)))


def to_tuple(function: str, argument: str, value: Ints, length: int) -> tuple[int, ...]:
    """Return an int or a sequence of ints, of Python or NumPy, as a tuple of `length` entries, each 1 or more.

    Raises:
        InputError: if it is neither; the message names the `argument` of `function`.
    """
    values = to_ints(value, length, least=1)
    if values is None:
        raise InputError(
            f"{function}: `{argument}` must be an integer, 1 or above, or {length} of them, one a spatial axis; "
            f"got {plain(value)!r}."
        )
    return values


def missing_batch_axis(x: Array, num_axes: int) -> str:
    """Return the remedy for an array that has one axis too few, to end a message; "" for any other."""
    return "; add the batch axis: x[None]" if x.ndim == num_axes - 1 else ""


def to_int(function: str, argument: str, value: Int, *, least: int = 1) -> int:
    """Return an int of Python or NumPy, `least` or above, as an int.

    Raises:
        InputError: if it is none; the message names the `argument` of `function`.
    """
    number = _to_int(value, least)
    if number is None:
        raise InputError(f"{function}: `{argument}` must be an integer, {least} or above; got {plain(value)!r}.")
    return number


def _to_int(value: Any, least: int) -> int | None:
    """Return an integer of any type that is `least` or above; None for anything else, as a bool or a float."""
    if isinstance(value, bool):
        return None
    try:
        number = operator.index(value)
    except TypeError:
        return None
    return number if number >= least else None


def to_ints(value: Any, length: int, least: int) -> tuple[int, ...] | None:
    """Return an integer, which stands for `length` equal ones, or `length` integers; None for anything else."""
    one = _to_int(value, least)
    values = [one] * length if one is not None else [_to_int(each, least) for each in entries(value)]
    found = tuple(each for each in values if each is not None)
    return found if len(found) == len(values) == length else None


def entries(value: Any) -> list[Any]:
    """Return the entries of a sequence, of an array too; none of a text or of what is no sequence."""
    is_sequence = isinstance(value, Sequence) and not isinstance(value, str | bytes)
    return list(value) if is_sequence or getattr(value, "ndim", 0) else []


def is_fixed(sizes: Iterable[Any]) -> bool:
    """Return whether sizes are known: none is symbolic, as while `jax.export` traces for images of any size."""
    return all(isinstance(size, int) for size in sizes)


def make_window(
    function: str,
    space: Sequence[int],
    size: Ints,
    strides: Ints,
    padding: Padding,
    dilation: Ints = 1,
    *,
    allow_ceil: bool = False,
    argument: str = "window",
) -> Window:
    """Check the options of a window over an array with spatial shape `space`.

    Args:
        function: name of the function that messages speak of.
        space: spatial shape, in pixels.
        size: size of the window in pixels, an int or one for each axis.
        strides: steps in pixels, an int or one for each axis.
        padding: "VALID", "SAME", pixels on both sides, an int or one for each axis, or (before, after) pairs of them;
            "CEIL" too if `allow_ceil`.
        dilation: pixels from one entry of the window to the next, an int or one for each axis.
        allow_ceil: whether windows may extend beyond the image on the right and at the bottom ("CEIL").
        argument: name of the argument of `function` that `size` is given by.

    Raises:
        InputError: if a number is not positive, the padding is unknown or the window is larger than the padded array.
    """
    size, strides, dilation = (
        to_tuple(function, name, value, len(space))
        for name, value in ((argument, size), ("strides", strides), ("dilation", dilation))
    )
    extent = [(k - 1) * d + 1 for k, d in zip(size, dilation, strict=True)]
    pads = _resolve_padding(function, space, extent, strides, padding, allow_ceil)
    padded_space = [n + lo + hi for n, (lo, hi) in zip(space, pads, strict=True)]
    if any(k > n for k, n in zip(extent, padded_space, strict=True)):
        raise InputError(
            f"{function}: `{argument}` must fit into the image; a window of {'x'.join(map(str, extent))} pixels is "
            f"larger than {'x'.join(map(str, padded_space))} with padding {plain(padding)!r}; use a smaller window "
            "or more padding."
        )
    output = tuple((n - k) // s + 1 for n, k, s in zip(padded_space, extent, strides, strict=True))
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
    if isinstance(padding, str) and padding == "VALID":
        return ((0, 0),) * len(axes)
    if isinstance(padding, str) and padding == "SAME":  # as in TensorFlow: an odd pixel goes after
        totals = [max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in axes]
        return tuple((total // 2, total - total // 2) for total in totals)
    if isinstance(padding, str) and padding == "CEIL" and allow_ceil:
        # As in Theano and PyTorch: the last window must begin inside the image.
        counts = [min(max(-(-(n - k) // s), 0), (n - 1) // s) + 1 for n, k, s in axes]
        return tuple((0, max((count - 1) * s + k - n, 0)) for count, (n, k, s) in zip(counts, axes, strict=True))
    if (sides := to_ints(padding, len(axes), least=0)) is not None:
        return tuple((pixels, pixels) for pixels in sides)
    pairs = [to_ints(entries(pair), 2, least=0) for pair in entries(padding)]
    if len(pairs) != len(axes) or None in pairs:
        names = '"VALID", "SAME"' + (', "CEIL"' if allow_ceil else "")
        raise InputError(
            f"{function}: `padding` must be {names} or {len(axes)} (before, after) pairs of integers, 0 or above; "
            f"got {plain(padding)!r}."
        )
    return tuple((pair[0], pair[1]) for pair in pairs if pair is not None)


def pad_space(x: Array, pads: Pads, value: float = 0.0) -> Array:
    """Pad the spatial axes of x (N, *space, C) with `value`."""
    if not any(map(any, pads)):
        return x
    return lax.pad(x, jnp.asarray(value, x.dtype), [(0, 0, 0), *((lo, hi, 0) for lo, hi in pads), (0, 0, 0)])


def strided_slices(x: Array, window: Window, padding_value: float = 0.0) -> list[Array]:
    """Return the strided slices of x (N, *space, C), one (N, *output, C) for each offset, in row-major order."""
    x = pad_space(x, window.pads, padding_value)
    strides = (1, *window.strides, 1)
    slices = []
    for offset in window.offsets:
        last = [o + (n - 1) * s + 1 for o, n, s in zip(offset, window.output, window.strides, strict=True)]
        slices.append(lax.slice(x, (0, *offset, 0), (x.shape[0], *last, x.shape[-1]), strides))
    return slices


def sliding_windows(
    images: Shaped[np.ndarray, "..."] | Sequence[Any], window: Ints, *, strides: Ints = 1
) -> Shaped[np.ndarray, "N out_h out_w Kh Kw *C"]:
    """Return every window of NumPy images as a read-only view: no pixel is copied.

    Args:
        images: (N, H, W) or (N, H, W, C), any dtype; lists of numbers are taken too, but copied.
        window: height and width in pixels, an int or two.
        strides: steps down and right in pixels, an int or two.

    Returns:
        (N, out_h, out_w, K_h, K_w) or (N, out_h, out_w, K_h, K_w, C), out = (size - window) // stride + 1.

    Raises:
        InputError: if `images` has another rank, an option is not made of integers, or the window does not fit.

    >>> sliding_windows(np.arange(12).reshape(1, 3, 4), 2)[0, 1, 2]
    array([[ 6,  7],
           [10, 11]])
    """
    try:
        images = np.asarray(images)
    except ValueError as error:
        raise InputError("sliding_windows: `images` must be an array; got lists of different lengths.") from error
    if images.ndim not in (3, 4):
        raise InputError(f"sliding_windows: `images` needs 3 axes (NHW) or 4 (NHWC); got shape {images.shape}.")
    checked = make_window("sliding_windows", images.shape[1:3], window, strides, "VALID")
    view = np.lib.stride_tricks.sliding_window_view(images, checked.size, axis=(1, 2))
    view = view[:, :: checked.strides[0], :: checked.strides[1]]
    return view if images.ndim == 3 else np.moveaxis(view, 3, -1)


def extract_patches(
    x: Num[ArrayLike, "N H W C"], window: Ints, *, strides: Ints = 1, padding: Padding = "VALID"
) -> Num[Array, "N out_h out_w KhKwC"]:
    """Return every window of images as a row: the JAX form of `sliding_windows`.

    A row lists the window's rows, columns, then channels, so `extract_patches(x, k) @ kernel.reshape(-1, out)` is
    `conv2d(x, kernel)`.

    Args:
        x: images (N, H, W, C).
        window: height and width in pixels, an int or two.
        strides: steps down and right in pixels, an int or two.
        padding: "VALID", "SAME" (as in TensorFlow) or pixels of zeros, as in `conv2d`.

    Returns:
        (N, out_h, out_w, K_h * K_w * C), of the same dtype.

    Raises:
        InputError: if `x` has another rank, an option is not made of integers, or the window does not fit into it.
    """
    x = to_array("extract_patches", "x", x)
    if x.ndim != 4:
        raise InputError(f"extract_patches: `x` needs 4 axes (NHWC); got shape {x.shape}{missing_batch_axis(x, 4)}.")
    checked = make_window(
        "extract_patches", x.shape[1:3], to_tuple("extract_patches", "window", window, 2), strides, padding
    )
    # In float32 at least, so that the gradient of a pixel, a sum over the windows that it is in, is too.
    is_half = jnp.issubdtype(x.dtype, jnp.floating) and x.dtype.itemsize < 4
    slices = strided_slices(x.astype(jnp.float32) if is_half else x, checked)
    return jnp.concatenate(slices, axis=-1).astype(x.dtype)
