"""Sums over all axes but the channels: the parts of batch normalization and its gradient.

XLA's CPU backend computes the sum of an expression one channel at a time, three to ten times slower than memory is
read. There, blocks of rows are added in a loop whose body works on whole vectors.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from lenet_jax.ops.definitions import along_channels, widen
from lenet_jax.ops.operation import Arrays, Operation, Tangents, apply


def mean_and_variance(x: Array) -> tuple[Array, Array]:
    """Return the mean and the (biased) variance of x (*space, C) over space: (C,) each, in float32 at least."""
    mean, variance = apply(_Moments(), x)
    return mean, variance


def channel_sums(y: Array, x: Array, center: Array) -> Array:
    """Return the sums of y (*space, C), and of y * (x - center), over space: (2, C), of the dtype of `center`."""
    return apply(_ChannelSums(), y, x, center)[0]


def channel_sums_adjoint(v: Array, x: Array, center: Array) -> Array:
    """Return v[0] + v[1] * (x - center), of the shape and dtype of x (*space, C): the transpose of `channel_sums`."""
    bias, slope, center = (along_channels(a, x) for a in (*v, center))
    return (bias + slope * (widen(x) - center)).astype(x.dtype)


class _Moments(Operation):
    """Mean and variance of x.

    On a CPU x is read once: the sums are of x and its square relative to the mean of the first rows. The overall mean
    differs from that mean by at most the standard deviation times the square root of the number of such blocks of
    rows, so cancellation costs at most a rounding error times that number.
    """

    def define(self, *arrays: Array) -> Arrays:
        (x,) = map(widen, arrays)
        space = tuple(range(x.ndim - 1))
        mean = jnp.mean(x, space)
        return mean, jnp.mean(jnp.square(x - along_channels(mean, x)), space)

    def on_cpu(self, *arrays: Array) -> Arrays:
        (x,) = arrays
        count = x.size // x.shape[-1] if x.size else 0
        if count == 0:
            return self.define(x)
        center = jnp.mean(widen(x.reshape(count, -1)[: _rows_per_block(x)]), 0)

        def terms(x: Array) -> Arrays:
            difference = x - along_channels(center, x)
            return difference, jnp.square(difference)

        shift, square = (total / count for total in _sum_rows(terms, x))
        return center + shift, jnp.maximum(square - jnp.square(shift), 0)


class _ChannelSums(Operation):
    """`channel_sums`, linear in its first array."""

    def define(self, *arrays: Array) -> Arrays:
        y, x, center = map(widen, arrays)
        space = tuple(range(x.ndim - 1))
        return (jnp.stack([jnp.sum(y, space), jnp.sum(y * (x - along_channels(center, x)), space)]),)

    def on_cpu(self, *arrays: Array) -> Arrays:
        y, x, center = arrays
        if x.size == 0:
            return self.define(*arrays)
        return (jnp.stack(_sum_rows(lambda y, x: (y, y * (x - along_channels(center, x))), y, x)),)

    def jvp(self, primals: Sequence[Array], tangents: Tangents) -> tuple[Arrays, Tangents]:
        (_, *others), (dy, *dothers) = primals, tangents
        terms = [] if dy is None else [*apply(self, dy, *others)]
        if any(dot is not None for dot in dothers):
            terms += self.jvp_of_definition(primals, [None, *dothers])[1]
        return apply(self, *primals), (functools.reduce(jnp.add, terms),)

    def transpose(self, cotangents: Sequence[Array], *arrays: Any) -> list[Array | None]:
        _, x, center = arrays
        return [channel_sums_adjoint(cotangents[0], x, center), None, None]


_BLOCK_SIZE = 16_384  # numbers added at once: a core's cache holds them and their sums


def _sum_rows(terms: Callable[..., Arrays], *arrays: Array) -> list[Array]:
    channels, length = arrays[0].shape[-1], _rows_per_block(arrays[0])

    def add(totals: list[Array], rows: list[Array]) -> tuple[list[Array], None]:
        return [total + y for total, y in zip(totals, terms(*map(widen, rows)), strict=True)], None

    rows = [x.reshape(-1, length, channels) for x in arrays]
    zeros = [jnp.zeros_like(y) for y in terms(*(widen(x[0]) for x in rows))]
    return [jnp.sum(total, 0) for total in lax.scan(add, zeros, rows)[0]]


def _rows_per_block(x: Array) -> int:
    channels = x.shape[-1]
    positions = x.size // channels
    most = min(max(_BLOCK_SIZE // channels, 1), positions)
    return next(n for n in range(most, 0, -1) if positions % n == 0)
