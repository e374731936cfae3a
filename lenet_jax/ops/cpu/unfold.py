"""Overlapping windows along an axis: `unfold` copies them out, `fold` adds them back.

A window over several spatial axes is a window along each of them, one axis after the other. `unfold` and `fold` are
transposes of each other, so derivatives of any order in either mode consist of these two. They are JAX primitives
because JAX's own transpose of slices, a sum of padded arrays, takes three times as long on a CPU as adding in place.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array

from lenet_jax.ops.windows import Window


class AxisWindows(NamedTuple):
    """Windows along one axis of an array."""

    axis: int
    length: int  # of the axis
    size: int  # entries of a window
    stride: int  # entries from one window to the next
    dilation: int  # from one entry of a window to the next
    count: int  # number of windows


def axis_windows(window: Window, space_axis: int, axis: int, length: int) -> AxisWindows:
    """Return the windows along one spatial axis, which is axis number `axis` of the array and `length` long."""
    size, stride, dilation, count = (
        entry[space_axis] for entry in (window.size, window.strides, window.dilation, window.output)
    )
    return AxisWindows(axis, length, size, stride, dilation, count)


def unfold(x: Array, windows: AxisWindows) -> list[Array]:
    """Return the first entries of all windows, the second, and so on: `size` arrays, `count` long along the axis."""
    return _unfold_p.bind(x, windows=windows)


def fold(entries: Sequence[Array], windows: AxisWindows) -> Array:
    """Add each entry to the position that `unfold` takes it from: the transpose of `unfold`."""
    return _fold_p.bind(*entries, windows=windows)


def copy_windows(x: Array, window: Window) -> Array:
    """Copy every window of the padded x (A, *space, B): (A, *size, *output, B)."""
    num_axes = len(window.size)
    for axis in reversed(range(num_axes)):
        # The entries of an axis that is done stand before the axes that are not.
        entries = unfold(x, axis_windows(window, axis, num_axes, x.shape[num_axes]))
        # Without the barrier XLA would compute the windows of each axis from the source again.
        x = lax.optimization_barrier(jnp.stack(entries, 1))
    return x


def _compute_unfold(x: Array, windows: AxisWindows) -> list[Array]:
    axis, _, size, stride, dilation, count = windows
    span = (count - 1) * stride + 1
    return [lax.slice_in_dim(x, k * dilation, k * dilation + span, stride, axis) for k in range(size)]


def _compute_fold(*entries: Array, windows: AxisWindows) -> Array:
    axis, length, size, stride, dilation, count = windows
    # In rows of `stride` numbers, the positions of one entry in all windows are consecutive rows of one column.
    rows = max(-(-length // stride), (size - 1) * dilation // stride + count)
    shape = entries[0].shape
    total = jnp.zeros((*shape[:axis], rows, stride, *shape[axis + 1 :]), entries[0].dtype)
    overlapping = (size - 1) * dilation >= stride
    for k, entry in enumerate(entries):
        start = [0] * total.ndim
        start[axis : axis + 2] = divmod(k * dilation, stride)
        entry = jnp.expand_dims(entry, axis + 1)
        if overlapping:
            entry += lax.slice(total, start, [s + n for s, n in zip(start, entry.shape, strict=True)])
        total = lax.dynamic_update_slice(total, entry, start)
    total = total.reshape(*shape[:axis], rows * stride, *shape[axis + 1 :])
    return lax.slice_in_dim(total, 0, length, axis=axis)


def _abstract_value(x: Any, windows: AxisWindows, length: int) -> ShapedArray:
    return ShapedArray((*x.shape[: windows.axis], length, *x.shape[windows.axis + 1 :]), x.dtype)


def _move_batch_first(
    windows: AxisWindows, arrays: Sequence[Array], axes: Sequence[Any]
) -> tuple[list[Array], AxisWindows]:
    """Move the mapped axis to the front, and shift the axis of the windows."""
    size = next(x.shape[axis] for x, axis in zip(arrays, axes, strict=True) if axis is not None)
    moved = [batching.bdim_at_front(x, axis, size) for x, axis in zip(arrays, axes, strict=True)]
    return moved, windows._replace(axis=windows.axis + 1)


def _batch_unfold(arrays: Any, axes: Any, *, windows: AxisWindows) -> tuple[list[Array], list[int]]:
    (x,), windows = _move_batch_first(windows, arrays, axes)
    return unfold(x, windows), [0] * windows.size


def _batch_fold(arrays: Any, axes: Any, *, windows: AxisWindows) -> tuple[Array, int]:
    return fold(*_move_batch_first(windows, arrays, axes)), 0


def _transpose_unfold(cotangents: Any, _: Any, *, windows: AxisWindows) -> list[Array]:
    return [fold([ad.instantiate_zeros(c) for c in cotangents], windows)]


def _transpose_fold(cotangent: Array, *entries: Any, windows: AxisWindows) -> list[Array | None]:
    parts = unfold(cotangent, windows)
    return [part if ad.is_undefined_primal(entry) else None for part, entry in zip(parts, entries, strict=True)]


_unfold_p = Primitive("unfold")
_unfold_p.multiple_results = True
_unfold_p.def_impl(_compute_unfold)
_unfold_p.def_abstract_eval(lambda x, *, windows: [_abstract_value(x, windows, windows.count)] * windows.size)
mlir.register_lowering(_unfold_p, mlir.lower_fun(_compute_unfold, multiple_results=True))
batching.primitive_batchers[_unfold_p] = _batch_unfold
ad.deflinear2(_unfold_p, _transpose_unfold)

_fold_p = Primitive("fold")
_fold_p.def_impl(_compute_fold)
_fold_p.def_abstract_eval(lambda *entries, windows: _abstract_value(entries[0], windows, windows.length))
mlir.register_lowering(_fold_p, mlir.lower_fun(_compute_fold, multiple_results=False))
batching.primitive_batchers[_fold_p] = _batch_fold
ad.deflinear2(_fold_p, _transpose_fold)
