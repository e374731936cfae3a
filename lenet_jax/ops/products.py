"""The three products of a convolution, and a convolution with max-pooling, bias and activation in one pass.

The sum of conv(x, kernel) * y over all positions is linear in each of three arrays: images x (N, *space, C), a kernel
(*size, C // groups, O) and maps y (N, *output, O). Its derivative with respect to one of them is a product of the other
two: the convolution itself, the gradient of the images, and the gradient of the kernel. So their derivatives are such
products again. With a pooling, y has one value for each pooling window, and an array of indices says which of the
window's positions it belongs to: the gradients behind a max-pool, without the positions that were not the largest.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array

from lenet_jax.ops import cpu, definitions
from lenet_jax.ops.operation import Arrays, Operation, Tangents, apply, merge_first_axes, split_first_axis, zeros
from lenet_jax.ops.pools import MaxPool
from lenet_jax.ops.windows import Window

X, KERNEL, Y = range(3)


@dataclasses.dataclass(frozen=True)
class Product(Operation):
    """The product of two of the arrays (x, kernel, y), in this order and without `result`, and of the indices."""

    window: Window
    groups: int
    space: tuple[int, ...]  # of x
    result: int  # X, KERNEL or Y
    pooling: Window | None = None

    def define(self, *arrays: Array) -> Arrays:
        x, kernel, y, index = self._by_name(arrays)

        def conv(x: Array, kernel: Array) -> Array:
            y = definitions.conv(x, kernel, window=self.window, groups=self.groups)
            return y if self.pooling is None else definitions.choose(y, index, window=self.pooling)

        if self.result == Y:
            return (conv(x, kernel),)
        if self.result == X:
            unknown = zeros((y.shape[0], *self.space, kernel.shape[-2] * self.groups), y)
            return jax.vjp(lambda x: conv(x, kernel), unknown)[1](y)
        unknown = zeros((*self.window.size, x.shape[-1] // self.groups, y.shape[-1]), y)
        return jax.vjp(lambda kernel: conv(x, kernel), unknown)[1](y)

    def on_cpu(self, *arrays: Array) -> Arrays:
        x, kernel, y, index = self._by_name(arrays)
        chosen = None if self.pooling is None else cpu.Chosen(self.pooling, index)
        options = {"window": self.window, "groups": self.groups, "chosen": chosen}
        if self.result == Y:
            return (cpu.convolution(x, kernel, **options),)
        if self.result == X:
            return (cpu.input_gradient(y, kernel, **options, space=self.space),)
        return (cpu.kernel_gradient(x, y, **options),)

    def _by_name(self, arrays: Sequence[Array | None]) -> list[Any]:
        """Return x, kernel, y and the indices; None for the result, and for the indices without a pooling."""
        named = [*arrays[: self.result], None, *arrays[self.result :]]
        return named if self.pooling is not None else [*named, None]

    def jvp(self, primals: Sequence[Array], tangents: Tangents) -> tuple[Arrays, Tangents]:
        first, second, *index = primals
        terms = []
        if tangents[0] is not None:
            terms += apply(self, tangents[0], second, *index)
        if tangents[1] is not None:
            terms += apply(self, first, tangents[1], *index)
        return apply(self, *primals), (functools.reduce(jnp.add, terms) if terms else None,)

    def transpose(self, cotangents: Sequence[Array], *arrays: Any) -> list[Array | None]:
        named = self._by_name(arrays)
        named[self.result] = cotangents[0]
        unknown = next(i for i in range(3) if named[i] is None)
        (product,) = apply(dataclasses.replace(self, result=unknown), *(x for x in named if x is not None))
        position = next(i for i, x in enumerate(arrays) if x is None)
        return [product if i == position else None for i in range(len(arrays))]

    def map_first_axes(self, arrays: Sequence[Array], axes: Sequence[int | None]) -> Arrays | None:
        """Images and maps of all entries are one batch, where they share the kernel."""
        position = {X: 0, Y: 1}.get(self.result)
        if position is None or axes[position] == 0:
            return None
        size = next(x.shape[0] for x, axis in zip(arrays, axes, strict=True) if axis == 0)
        merged = [
            x if i == position else merge_first_axes(x if axes[i] == 0 else jnp.broadcast_to(x, (size, *x.shape)))
            for i, x in enumerate(arrays)
        ]
        images = merged[1 - position]
        return split_first_axis((size, images.shape[0] // max(size, 1)), apply(self, *merged))


Activation = Literal["relu", "tanh"]
FUSED_ACTIVATIONS: tuple[Activation, ...] = get_args(Activation)
"""Names, in `jax.nn`, of the activations that a convolution with max-pooling can end with."""


@dataclasses.dataclass(frozen=True)
class PooledConvolution(Operation):
    """activation(max_pool(conv(x, kernel)) + bias) of x, kernel and bias, and the position of each largest value."""

    window: Window
    groups: int
    pooling: Window
    activation: Activation | None

    def define(self, *arrays: Array) -> Arrays:
        x, kernel, bias = arrays
        y = definitions.conv(x, kernel, window=self.window, groups=self.groups)
        largest, index = MaxPool(self.pooling).define(y)
        wide = definitions.widen(largest)  # so that the gradient of the bias is a sum in float32 at least
        wide = self._activate(wide + definitions.along_channels(bias.astype(wide.dtype), wide))
        return wide.astype(x.dtype), index

    def _activate(self, y: Array) -> Array:
        return {None: lambda y: y, "relu": jax.nn.relu, "tanh": jnp.tanh}[self.activation](y)

    def on_cpu(self, *arrays: Array) -> Arrays:
        x, kernel, bias = arrays
        options = {"window": self.window, "groups": self.groups, "pooling": self.pooling}
        return cpu.pooled_convolution(x, kernel, bias, **options, activation=self.activation)

    def jvp(self, primals: Sequence[Array], tangents: Tangents) -> tuple[Arrays, Tangents]:
        x, kernel, _ = primals
        dx, dkernel, dbias = tangents
        y, index = apply(self, *primals)
        product = Product(self.window, self.groups, x.shape[1:-1], Y, self.pooling)
        terms = []
        if dx is not None:
            terms += apply(product, dx, kernel, index)
        if dkernel is not None:
            terms += apply(product, x, dkernel, index)
        if dbias is not None:
            terms.append(definitions.add_to_channels(jnp.zeros_like(y), dbias))
        if not terms:
            return (y, index), (None, None)
        dot = functools.reduce(jnp.add, terms)
        if self.activation == "tanh":
            dot = dot * (1 - y * y)
        elif self.activation == "relu":
            dot = jnp.where(y > 0, dot, 0)
        return (y, index), (dot, None)

    def map_first_axes(self, arrays: Sequence[Array], axes: Sequence[int | None]) -> Arrays | None:
        x, kernel, bias = arrays
        if axes[1] == 0 or axes[2] == 0:
            return None
        return split_first_axis(x.shape[:2], apply(self, merge_first_axes(x), kernel, bias))
