"""Sums over all axes but the channels, fast on a CPU: the parts of batch normalization and its gradient.

XLA's CPU backend computes the sum of an expression one channel at a time, three to ten times slower than memory is
read. Here rows are added in a loop whose body works on whole vectors. `channel_sums` and its adjoint are JAX
primitives, so that gradients consist of them too.
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

from lenet_jax.ops.definitions import along_channels


def mean_and_variance(x: Array) -> tuple[Array, Array]:
    """Return the mean and the (biased) variance of x (*space, C) over space: (C,) each, in float32 at least.

    x is read once. The sums are of x and its square relative to the mean of the first rows. The overall mean differs
    from that mean by at most the standard deviation times the square root of the number of such blocks of rows, so
    cancellation costs at most a rounding error times that number.
    """
    count = x.size // x.shape[-1]
    first = _widen(x.reshape(count, -1)[: _rows_per_block(x)])
    center = jnp.mean(first, 0)

    def terms(x: Array) -> tuple[Array, Array]:
        difference = x - along_channels(center, x)
        return difference, jnp.square(difference)

    shift, square = (total / count for total in _sum(terms, x))
    return center + shift, jnp.maximum(square - jnp.square(shift), 0)


def channel_sums(y: Array, x: Array, center: Array) -> Array:
    """Return the sums of y (*space, C), and of y * (x - center), over space: (2, C), of the dtype of `center`."""
    return _channel_sums_p.bind(y, x, center)


def channel_sums_adjoint(v: Array, x: Array, center: Array) -> Array:
    """Return v[0] + v[1] * (x - center), of the shape and dtype of x (*space, C): the transpose of `channel_sums`."""
    return _channel_sums_adjoint_p.bind(v, x, center)


_BLOCK_SIZE = 16_384  # numbers added at once: a core's cache holds them and their sums
Terms = Callable[..., tuple[Array, ...]]


def _sum(terms: Terms, *arrays: Array) -> list[Array]:
    by_rows, at_once = (functools.partial(add, terms) for add in (_sum_rows, _sum_at_once))
    return lax.platform_dependent(*arrays, cpu=by_rows, default=at_once)


def _sum_at_once(terms: Terms, *arrays: Array) -> list[Array]:
    space = tuple(range(arrays[0].ndim - 1))
    return [jnp.sum(y, space) for y in terms(*map(_widen, arrays))]


def _sum_rows(terms: Terms, *arrays: Array) -> list[Array]:
    channels, length = arrays[0].shape[-1], _rows_per_block(arrays[0])

    def add(totals: list[Array], rows: list[Array]) -> tuple[list[Array], None]:
        return [total + y for total, y in zip(totals, terms(*map(_widen, rows)), strict=True)], None

    rows = [x.reshape(-1, length, channels) for x in arrays]
    zeros = [jnp.zeros_like(y) for y in terms(*(_widen(x[0]) for x in rows))]
    return [jnp.sum(total, 0) for total in lax.scan(add, zeros, rows)[0]]


def _rows_per_block(x: Array) -> int:
    channels = x.shape[-1]
    positions = x.size // channels
    most = min(max(_BLOCK_SIZE // channels, 1), positions)
    return next(n for n in range(most, 0, -1) if positions % n == 0)


def _widen(x: Array) -> Array:
    return x.astype(jnp.float32) if x.dtype.itemsize < 4 else x


def _compute_sums(add: Callable[..., list[Array]], y: Array, x: Array, center: Array) -> Array:
    return jnp.stack(add(lambda y, x: (y, y * (x - along_channels(center, x))), y, x))


def _compute_adjoint(v: Array, x: Array, center: Array) -> Array:
    bias, slope, center = (along_channels(a, x) for a in (*v, center))
    return (bias + slope * (_widen(x) - center)).astype(x.dtype)


# Both are linear in their first array, and with respect to it each other's transpose. Derivatives with respect to the
# other arrays are those of the definition.


def _register(primitive: Primitive, definition: Callable[..., Array], on_cpu: Callable[..., Array]) -> None:
    def abstract_value(*arrays: Any) -> ShapedArray:
        y = jax.eval_shape(definition, *arrays)
        return ShapedArray(y.shape, y.dtype)

    def jvp(arrays: Any, tangents: Any) -> tuple[Array, Array]:
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
    primitive.def_abstract_eval(abstract_value)
    mlir.register_lowering(primitive, mlir.lower_fun(definition, multiple_results=False))
    mlir.register_lowering(primitive, mlir.lower_fun(on_cpu, multiple_results=False), platform="cpu")
    ad.primitive_jvps[primitive] = jvp
    batching.primitive_batchers[primitive] = batch


_channel_sums_p = Primitive("channel_sums")
_channel_sums_adjoint_p = Primitive("channel_sums_adjoint")
_register(_channel_sums_p, functools.partial(_compute_sums, _sum_at_once), functools.partial(_compute_sums, _sum_rows))
_register(_channel_sums_adjoint_p, _compute_adjoint, _compute_adjoint)
ad.primitive_transposes[_channel_sums_p] = lambda v, y, x, center: (
    _channel_sums_adjoint_p.bind(v, x, center),
    None,
    None,
)
ad.primitive_transposes[_channel_sums_adjoint_p] = lambda y, v, x, center: (
    _channel_sums_p.bind(y, x, center),
    None,
    None,
)
