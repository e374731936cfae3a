"""Pooling as operations: the largest value of each window with its position, and sums over windows."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
from jax import lax
from jaxtyping import Array

from lenet_jax.ops import cpu, definitions
from lenet_jax.ops.operation import Arrays, Operation, Tangents, apply, merge_first_axes, split_first_axis, zeros
from lenet_jax.ops.windows import Window


class _OfImages(Operation):
    """An operation of which every array is (N, ...), and every entry of the first axis its own."""

    def map_first_axes(self, arrays: Sequence[Array], axes: Sequence[int | None]) -> Arrays | None:
        if None in axes:
            return None
        return split_first_axis(arrays[0].shape[:2], apply(self, *map(merge_first_axes, arrays)))


@dataclasses.dataclass(frozen=True)
class MaxPool(_OfImages):
    """The largest value in each window of x (N, *space, C), and its position, the first of equal ones."""

    window: Window

    def define(self, *arrays: Array) -> Arrays:
        (x,) = arrays
        wide = definitions.widen(x)  # so that the gradients of windows that overlap are added in float32 at least
        largest = definitions.max_pool(wide, window=self.window)
        return largest.astype(x.dtype), definitions.argmax_pool(lax.stop_gradient(x), window=self.window)

    def on_cpu(self, *arrays: Array) -> Arrays:
        return cpu.max_pool(*arrays, window=self.window)

    def jvp(self, primals: Sequence[Array], tangents: Tangents) -> tuple[Arrays, Tangents]:
        y, index = apply(self, *primals)
        (dx,) = tangents
        if dx is None:
            return (y, index), (None, None)
        return (y, index), (*apply(Choice(self.window, dx.shape[1:-1]), dx, index), None)


@dataclasses.dataclass(frozen=True)
class Choice(_OfImages):
    """The value at a position in each window, of x (N, *space, C) and index (N, *output, C).

    Transposed, it is of (y, index): images with each value of y added at its position.
    """

    window: Window
    space: tuple[int, ...]
    transposed: bool = False

    def define(self, *arrays: Array) -> Arrays:
        values, index = arrays
        if not self.transposed:
            return (definitions.choose(values, index, window=self.window),)
        wide = definitions.widen(values)
        unknown = zeros((values.shape[0], *self.space, values.shape[-1]), wide)
        (images,) = jax.vjp(lambda x: definitions.choose(x, index, window=self.window), unknown)[1](wide)
        return (images.astype(values.dtype),)

    def on_cpu(self, *arrays: Array) -> Arrays:
        if self.transposed:
            return (cpu.scatter(*arrays, window=self.window, space=self.space),)
        return self.define(*arrays)

    def jvp(self, primals: Sequence[Array], tangents: Tangents) -> tuple[Arrays, Tangents]:
        _, index = primals
        dot = None if tangents[0] is None else apply(self, tangents[0], index)[0]
        return apply(self, *primals), (dot,)

    def transpose(self, cotangents: Sequence[Array], *arrays: Any) -> list[Array | None]:
        _, index = arrays
        return [*apply(dataclasses.replace(self, transposed=not self.transposed), *cotangents, index), None]


@dataclasses.dataclass(frozen=True)
class SumPool(_OfImages):
    """The sum over each window of x (N, *space, C); transposed, images with each value of y added to its window."""

    window: Window
    space: tuple[int, ...]
    transposed: bool = False

    def define(self, *arrays: Array) -> Arrays:
        (values,) = arrays
        if not self.transposed:
            return (definitions.sum_pool(values, window=self.window),)
        unknown = zeros((values.shape[0], *self.space, values.shape[-1]), values)
        return jax.vjp(lambda x: definitions.sum_pool(x, window=self.window), unknown)[1](values)

    def on_cpu(self, *arrays: Array) -> Arrays:
        if self.transposed:
            return (cpu.sum_pool_gradient(*arrays, window=self.window, space=self.space),)
        return (cpu.sum_pool(*arrays, window=self.window),)

    def jvp(self, primals: Sequence[Array], tangents: Tangents) -> tuple[Arrays, Tangents]:
        (dot,) = tangents
        return apply(self, *primals), (None,) if dot is None else apply(self, dot)

    def transpose(self, cotangents: Sequence[Array], *arrays: Any) -> list[Array | None]:
        return [*apply(dataclasses.replace(self, transposed=not self.transposed), *cotangents)]
