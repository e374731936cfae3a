"""The product of a matrix with every frame of consecutive rows, one frame at a time: a convolution along one axis.

Frames overlap, so an array of all of them would be as many times larger than the rows as a frame is long. Here each
frame is a slice of the rows, and small enough to stay in the processor's cache from its copy to its product; both
gradients are computed in the same way. The three are the derivatives of one trilinear form of the arrays

    weights (G, O, S, R)    rows (L, G, R, M)    cotangent (F, G, M, O)

for G groups and F frames of S rows, `stride` rows apart: the sum over all axes of
weights[g, o, s, r] rows[f * stride + s, g, r, m] cotangent[f, g, m, o]. Each is a primitive, linear in the two arrays
that it takes, so derivatives of any order in either mode are made of the three.

The cotangent has its last axes exchanged: products with such a copy are faster, and what computes the cotangent, the
gradient of a pooling, is fused into the copy.
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


def sliding_product(weights: Array, rows: Array, *, stride: int) -> Array:
    """Return y[f, g, o, m] = sum over s, r of weights[g, o, s, r] rows[f * stride + s, g, r, m]: (F, G, O, M)."""
    return _product_p.bind(weights, rows, stride=stride, length=len(rows))


def _num_frames(size: int, stride: int, length: int) -> int:
    return (length - size) // stride + 1


def _product(weights: Array, rows: Array, *, stride: int, length: int) -> Array:
    size = weights.shape[2]
    matrix = _as_matrix(weights)

    def step(_: None, start: Array) -> tuple[None, Array]:
        return None, _multiply(matrix, _frame(rows, start, size))

    return _scan(step, None, stride * jnp.arange(_num_frames(size, stride, length)))[1]


def _rows_gradient(weights: Array, cotangent: Array, *, stride: int, length: int) -> Array:
    groups, _, size, width = weights.shape
    matrix = jnp.swapaxes(_as_matrix(weights), 1, 2)

    def step(total: Array, frame: tuple[Array, Array]) -> tuple[Array, None]:
        start, part = frame
        product = _multiply(matrix, jnp.swapaxes(part, 1, 2)).reshape(groups, size, width, -1)
        seen = lax.dynamic_slice_in_dim(total, start, size)
        return lax.dynamic_update_slice_in_dim(total, seen + jnp.moveaxis(product, 1, 0), start, 0), None

    start = jnp.zeros((length, groups, width, cotangent.shape[2]), weights.dtype)
    return _scan(step, start, (stride * jnp.arange(len(cotangent)), cotangent))[0]


def _weights_gradient(cotangent: Array, rows: Array, *, stride: int, length: int) -> Array:
    groups, width = rows.shape[1:3]
    size = length - (len(cotangent) - 1) * stride  # rows beyond the last frame are cut off before
    maps = cotangent.shape[3]

    def step(total: Array, frame: tuple[Array, Array]) -> tuple[Array, None]:
        start, part = frame
        return total + _multiply(_frame(rows, start, size), part), None

    start = jnp.zeros((groups, size * width, maps), rows.dtype)
    total = _scan(step, start, (stride * jnp.arange(len(cotangent)), cotangent))[0]
    return jnp.moveaxis(total.reshape(groups, size, width, maps), 3, 1)


def _as_matrix(weights: Array) -> Array:
    # A transpose that XLA may not fold into the product, for which it would choose a slower routine.
    return lax.optimization_barrier(weights.reshape(*weights.shape[:2], -1))


def _frame(rows: Array, start: Array, size: int) -> Array:
    frame = jnp.moveaxis(lax.dynamic_slice_in_dim(rows, start, size), 0, 1)
    return frame.reshape(frame.shape[0], -1, frame.shape[3])


def _multiply(a: Array, b: Array) -> Array:
    """Return a (G, I, J) @ b (G, J, K)."""
    return a @ b if len(a) > 1 else (a[0] @ b[0])[None]


def _scan(step: Callable, carry: Any, xs: Any) -> Any:
    return lax.scan(step, carry, xs)


_WEIGHTS, _ROWS, _COTANGENT, _RESULT = "GOSR", "LGRM", "FGMO", "FGOM"


def _primitive(name: str, compute: Callable, axes: tuple[str, str], result: str) -> Primitive:
    """Make a primitive of two arrays with these axes."""
    primitive = Primitive(name)
    primitive.def_impl(jax.jit(compute, static_argnames=("stride", "length")))
    primitive.def_abstract_eval(
        lambda *arrays, **options: ShapedArray(
            jax.eval_shape(functools.partial(compute, **options), *arrays).shape, arrays[0].dtype
        )
    )
    mlir.register_lowering(primitive, mlir.lower_fun(compute, multiple_results=False))
    batching.primitive_batchers[primitive] = functools.partial(_batch, primitive, axes, result)
    return primitive


def _batch(
    primitive: Primitive, axes: tuple[str, str], result: str, arrays: Any, mapped: Any, **options: int
) -> tuple[Array, int]:
    """Merge the mapped axis into the groups if both arrays have it, else into the axis that the other one lacks."""
    free = [next(a for a in own if a in result and a not in other) for own, other in (axes, axes[::-1])]
    axis = "G" if None not in mapped else free[0] if mapped[1] is None else free[1]
    size = next(x.shape[m] for x, m in zip(arrays, mapped, strict=True) if m is not None)
    merged = [
        x if m is None else _merge(jnp.moveaxis(x, m, 0), names.index(axis))
        for x, m, names in zip(arrays, mapped, axes, strict=True)
    ]
    y = primitive.bind(*merged, **options)
    position = result.index(axis)
    return y.reshape(*y.shape[:position], size, -1, *y.shape[position + 1 :]), position


def _merge(x: Array, axis: int) -> Array:
    """Merge the first axis into the one that is `axis` without it."""
    x = jnp.moveaxis(x, 0, axis)
    return x.reshape(*x.shape[:axis], -1, *x.shape[axis + 2 :])


def _exchange(x: Array) -> Array:
    return jnp.swapaxes(x, 2, 3)


_product_p = _primitive("sliding_product", _product, (_WEIGHTS, _ROWS), _RESULT)
_rows_p = _primitive("sliding_product_rows_gradient", _rows_gradient, (_WEIGHTS, _COTANGENT), _ROWS)
_weights_p = _primitive("sliding_product_weights_gradient", _weights_gradient, (_COTANGENT, _ROWS), _WEIGHTS)

ad.defbilinear(
    _product_p,
    lambda y, weights, rows, **options: _weights_p.bind(lax.optimization_barrier(_exchange(y)), rows, **options),
    lambda y, weights, rows, **options: _rows_p.bind(weights, lax.optimization_barrier(_exchange(y)), **options),
)
ad.defbilinear(
    _rows_p,
    lambda rows, weights, cotangent, **options: _weights_p.bind(cotangent, rows, **options),
    lambda rows, weights, cotangent, **options: _exchange(_product_p.bind(weights, rows, **options)),
)
ad.defbilinear(
    _weights_p,
    lambda weights, cotangent, rows, **options: _exchange(_product_p.bind(weights, rows, **options)),
    lambda weights, cotangent, rows, **options: _rows_p.bind(weights, cotangent, **options),
)
