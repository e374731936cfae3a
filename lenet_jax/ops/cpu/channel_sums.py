"""Sums over all axes but that of the channels, fast on CPU: what batch normalization and its gradient are made of.

XLA's CPU backend computes the sum of anything but a plain array one channel at a time, three to ten times slower than
memory is read. Here rows are added up in a loop, whose body works on whole vectors. `moments` and its transpose
`spread` are JAX primitives, so gradients are made of them too.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array


def mean_and_variance(x: Array) -> tuple[Array, Array]:
    """Return the mean and the (biased) variance of x (*space, C) over space: (C,) each, in float32 at least.

    x is read once: the sums are those of x and of its squares about the mean of its first rows, from which the mean of
    all is not further away than the standard deviation times the root of the number of such parts. So what cancels is
    at most a rounding error times that number.
    """
    count = x.size // x.shape[-1]
    first = _widen(x.reshape(count, -1)[: _rows_at_a_time(x)])
    center = jnp.mean(first, 0)

    def terms(x: Array) -> tuple[Array, Array]:
        difference = x - along_channels(center, x)
        return difference, jnp.square(difference)

    shift, square = (total / count for total in _total(terms, x))
    return center + shift, jnp.maximum(square - jnp.square(shift), 0)


def moments(y: Array, x: Array, center: Array) -> Array:
    """Return the sums of y (*space, C), and of y * (x - center), over space: (2, C), of the dtype of `center`."""
    return _moments_p.bind(y, x, center)


def spread(v: Array, x: Array, center: Array) -> Array:
    """Return v[0] + v[1] * (x - center), of the shape and dtype of x (*space, C): the transpose of `moments`."""
    return _spread_p.bind(v, x, center)


def along_channels(a: Array, x: Array) -> Array:
    """Give a (C,) as many axes as x (*space, C)."""
    return jnp.expand_dims(a, tuple(range(x.ndim - 1)))


_ROW = 16_384  # numbers added at a time: a core's cache holds them and their sums
Terms = Callable[..., tuple[Array, ...]]


def _total(terms: Terms, *arrays: Array) -> list[Array]:
    by_rows, at_once = (functools.partial(add, terms) for add in (_sum_rows, _sum_at_once))
    return lax.platform_dependent(*arrays, cpu=by_rows, default=at_once)


def _sum_at_once(terms: Terms, *arrays: Array) -> list[Array]:
    space = tuple(range(arrays[0].ndim - 1))
    return [jnp.sum(y, space) for y in terms(*map(_widen, arrays))]


def _sum_rows(terms: Terms, *arrays: Array) -> list[Array]:
    channels, length = arrays[0].shape[-1], _rows_at_a_time(arrays[0])

    def add(totals: list[Array], rows: list[Array]) -> tuple[list[Array], None]:
        return [total + y for total, y in zip(totals, terms(*map(_widen, rows)), strict=True)], None

    rows = [x.reshape(-1, length, channels) for x in arrays]
    zeros = [jnp.zeros_like(y) for y in terms(*(_widen(x[0]) for x in rows))]
    return [jnp.sum(total, 0) for total in lax.scan(add, zeros, rows)[0]]


def _rows_at_a_time(x: Array) -> int:
    channels = x.shape[-1]
    positions = x.size // channels
    most = min(max(_ROW // channels, 1), positions)
    return next(n for n in range(most, 0, -1) if positions % n == 0)


def _widen(x: Array) -> Array:
    return x.astype(jnp.float32) if x.dtype.itemsize < 4 else x


def _moments(add: Callable[..., list[Array]], y: Array, x: Array, center: Array) -> Array:
    return jnp.stack(add(lambda y, x: (y, y * (x - along_channels(center, x))), y, x))


def _spread(v: Array, x: Array, center: Array) -> Array:
    bias, slope, center = (along_channels(a, x) for a in (*v, center))
    return (bias + slope * (_widen(x) - center)).astype(x.dtype)


# `moments` and `spread` are linear in their first array, and in it each other's transpose; what the others change is
# left to the derivatives of the definition.


def _register(primitive: Primitive, definition: Callable[..., Array], on_cpu: Callable[..., Array]) -> None:
    def shape(*arrays: Any) -> ShapedArray:
        y = jax.eval_shape(definition, *arrays)
        return ShapedArray(y.shape, y.dtype)

    def differentiate(arrays: Any, tangents: Any) -> tuple[Array, Array]:
        (first, *others), (dfirst, *dothers) = arrays, tangents
        parts = [] if type(dfirst) is ad.Zero else [primitive.bind(dfirst, *others)]
        if any(type(tangent) is not ad.Zero for tangent in dothers):
            dothers = [ad.instantiate_zeros(tangent) for tangent in dothers]
            parts.append(jax.jvp(functools.partial(definition, first), others, dothers)[1])
        return primitive.bind(*arrays), functools.reduce(jnp.add, parts)

    def batch(arrays: Any, axes: Any) -> tuple[Array, int]:
        mapped = (jax.vmap(compute, axes) for compute in (on_cpu, definition))
        return lax.platform_dependent(*arrays, cpu=next(mapped), default=next(mapped)), 0

    primitive.def_impl(jax.jit(primitive.bind))
    primitive.def_abstract_eval(shape)
    mlir.register_lowering(primitive, mlir.lower_fun(definition, multiple_results=False))
    mlir.register_lowering(primitive, mlir.lower_fun(on_cpu, multiple_results=False), platform="cpu")
    ad.primitive_jvps[primitive] = differentiate
    batching.primitive_batchers[primitive] = batch


_moments_p = Primitive("channel_moments")
_spread_p = Primitive("channel_spread")
_register(_moments_p, functools.partial(_moments, _sum_at_once), functools.partial(_moments, _sum_rows))
_register(_spread_p, _spread, _spread)
ad.primitive_transposes[_moments_p] = lambda v, y, x, center: (_spread_p.bind(v, x, center), None, None)
ad.primitive_transposes[_spread_p] = lambda y, v, x, center: (_moments_p.bind(y, x, center), None, None)
