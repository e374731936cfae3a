"""Overlapping frames of an axis, and their overlap-add: the two halves of every convolution and pooling on CPU.

A window over several spatial axes is a frame along each of them, one axis after the other. `split_frames` takes an
array apart into the entries of its frames, `overlap_add` sums entries back into an array; each is the transpose of the
other, so derivatives of any order in either mode are made of these two. They are JAX primitives because JAX's own
transpose of slices, a sum of padded arrays, takes XLA's CPU backend three times as long as additions in place.
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


class Frames(NamedTuple):
    """Frames along one axis of an array."""

    axis: int
    length: int  # of the axis
    size: int  # entries a frame
    stride: int  # from one frame to the next
    dilation: int  # from one entry to the next
    count: int  # frames


def frames_along(window: Window, space_axis: int, axis: int, length: int) -> Frames:
    """Return the frames of one axis of space, which is `axis` of the array and `length` long there."""
    size, stride, dilation, count = (
        entry[space_axis] for entry in (window.size, window.strides, window.dilation, window.output)
    )
    return Frames(axis, length, size, stride, dilation, count)


def split_frames(x: Array, frames: Frames) -> list[Array]:
    """Return the first entries of all frames, the second, and so on: `size` arrays, `count` long along the axis."""
    return _split_frames_p.bind(x, frames=frames)


def overlap_add(entries: Sequence[Array], frames: Frames) -> Array:
    """Add each entry to where it came from: the transpose of `split_frames`."""
    return _overlap_add_p.bind(*entries, frames=frames)


def copy_windows(x: Array, window: Window) -> Array:
    """Copy every window of x (A, *space, B), which is padded already: (A, *size, *output, B)."""
    num_axes = len(window.size)
    for axis in reversed(range(num_axes)):
        # Each axis of space that is done has put its entries before those that are not.
        entries = split_frames(x, frames_along(window, axis, num_axes, x.shape[num_axes]))
        # Without the barrier XLA would compute the frames of each axis from the source again.
        x = lax.optimization_barrier(jnp.stack(entries, 1))
    return x


def _slice_frames(x: Array, frames: Frames) -> list[Array]:
    axis, _, size, stride, dilation, count = frames
    span = (count - 1) * stride + 1
    return [lax.slice_in_dim(x, k * dilation, k * dilation + span, stride, axis) for k in range(size)]


def _overlap_add(*entries: Array, frames: Frames) -> Array:
    axis, length, size, stride, dilation, count = frames
    # In rows of `stride` numbers the places that one entry of all frames came from are a block of one column.
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


def _along_axis(x: Any, frames: Frames, length: int) -> ShapedArray:
    return ShapedArray((*x.shape[: frames.axis], length, *x.shape[frames.axis + 1 :]), x.dtype)


def _batched(frames: Frames, arrays: Sequence[Array], axes: Sequence[Any]) -> tuple[list[Array], Frames]:
    """Put the mapped axis first."""
    size = next(x.shape[axis] for x, axis in zip(arrays, axes, strict=True) if axis is not None)
    moved = [batching.bdim_at_front(x, axis, size) for x, axis in zip(arrays, axes, strict=True)]
    return moved, frames._replace(axis=frames.axis + 1)


def _batch_split_frames(arrays: Any, axes: Any, *, frames: Frames) -> tuple[list[Array], list[int]]:
    (x,), frames = _batched(frames, arrays, axes)
    return split_frames(x, frames), [0] * frames.size


def _batch_overlap_add(arrays: Any, axes: Any, *, frames: Frames) -> tuple[Array, int]:
    return overlap_add(*_batched(frames, arrays, axes)), 0


def _transpose_split_frames(cotangents: Any, _: Any, *, frames: Frames) -> list[Array]:
    return [overlap_add([ad.instantiate_zeros(c) for c in cotangents], frames)]


def _transpose_overlap_add(cotangent: Array, *entries: Any, frames: Frames) -> list[Array | None]:
    parts = split_frames(cotangent, frames)
    return [part if ad.is_undefined_primal(entry) else None for part, entry in zip(parts, entries, strict=True)]


_split_frames_p = Primitive("split_frames")
_split_frames_p.multiple_results = True
_split_frames_p.def_impl(_slice_frames)
_split_frames_p.def_abstract_eval(lambda x, *, frames: [_along_axis(x, frames, frames.count)] * frames.size)
mlir.register_lowering(_split_frames_p, mlir.lower_fun(_slice_frames, multiple_results=True))
batching.primitive_batchers[_split_frames_p] = _batch_split_frames
ad.deflinear2(_split_frames_p, _transpose_split_frames)

_overlap_add_p = Primitive("overlap_add")
_overlap_add_p.def_impl(_overlap_add)
_overlap_add_p.def_abstract_eval(lambda *entries, frames: _along_axis(entries[0], frames, frames.length))
mlir.register_lowering(_overlap_add_p, mlir.lower_fun(_overlap_add, multiple_results=False))
batching.primitive_batchers[_overlap_add_p] = _batch_overlap_add
ad.deflinear2(_overlap_add_p, _transpose_overlap_add)
