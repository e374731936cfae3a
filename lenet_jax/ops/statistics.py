"""Sums over all axes but the channels: the parts of batch normalization and its gradient."""

import functools
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from lenet_jax.ops import cpu
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
    return apply(_ChannelSumsAdjoint(), v, x, center)[0]


class _Moments(Operation):
    """Mean and variance of x."""

    def define(self, *arrays: Array) -> Arrays:
        (x,) = map(widen, arrays)
        space = tuple(range(x.ndim - 1))
        mean = jnp.mean(x, space)
        return mean, jnp.mean(jnp.square(x - along_channels(mean, x)), space)

    def on_cpu(self, *arrays: Array) -> Arrays:
        (x,) = map(widen, arrays)
        return cpu.channel_moments(x) if x.size else self.define(x)


class _LinearInFirst(Operation):
    """An operation with one result that is linear in its first array."""

    def jvp(self, primals: Sequence[Array], tangents: Tangents) -> tuple[Arrays, Tangents]:
        (_, *others), (first_dot, *dots) = primals, tangents
        terms = [] if first_dot is None else [*apply(self, first_dot, *others)]
        if any(dot is not None for dot in dots):
            terms += self.jvp_of_definition(primals, [None, *dots])[1]
        return apply(self, *primals), (functools.reduce(jnp.add, terms),)


class _ChannelSums(_LinearInFirst):
    """`channel_sums`."""

    def define(self, *arrays: Array) -> Arrays:
        y, x, center = map(widen, arrays)
        space = tuple(range(x.ndim - 1))
        return (jnp.stack([jnp.sum(y, space), jnp.sum(y * (x - along_channels(center, x)), space)]),)

    def on_cpu(self, *arrays: Array) -> Arrays:
        y, x, center = map(widen, arrays)
        return (cpu.channel_sums(y, x, center),) if x.size else self.define(*arrays)

    def transpose(self, cotangents: Sequence[Array], *arrays: Any) -> list[Array | None]:
        _, x, center = arrays
        return [channel_sums_adjoint(cotangents[0], x, center), None, None]


class _ChannelSumsAdjoint(_LinearInFirst):
    """`channel_sums_adjoint`, whose transpose JAX would make of sums that are slow on a CPU."""

    def define(self, *arrays: Array) -> Arrays:
        v, x, center = arrays
        bias, slope, center = (along_channels(a, x) for a in (*v, center))
        return ((bias + slope * (widen(x) - center)).astype(x.dtype),)

    def transpose(self, cotangents: Sequence[Array], *arrays: Any) -> list[Array | None]:
        _, x, center = arrays
        return [channel_sums(cotangents[0], x, center), None, None]
