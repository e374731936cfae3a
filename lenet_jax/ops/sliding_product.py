"""The product of a matrix with every frame of consecutive rows, one frame at a time: a convolution along one axis.

Frames overlap, so an array of all of them would be as many times larger than the rows as a frame is long. Here each
frame is a slice of the rows, and small enough to stay in the processor's cache from its copy to its product; both
gradients are computed in the same way. The three are the derivatives of one trilinear form of the arrays

    weights (G, O, S, R)    rows (L, G, R, *M)    cotangent (F, G, O, *M)

for G groups and F frames of S rows, `stride` rows apart: the sum over all axes of
weights[g, o, s, r] rows[f * stride + s, g, r, m] cotangent[f, g, o, m], where M is one or several axes. Each is a
primitive, linear in the two arrays that it takes, so derivatives of any order in either mode are made of the three.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import ShapedArray
from jax.experimental.xla_metadata import set_xla_metadata
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jax.typing import ArrayLike
from jaxtyping import Array


def sliding_product(weights: Array, rows: Array, *, stride: int) -> Array:
    """Return y[f, g, o, m] = sum over s, r of weights[g, o, s, r] rows[f * stride + s, g, r, m]: (F, G, O, *M)."""
    return _product_p.bind(weights, rows, stride=stride, length=len(rows))


def _product(weights: Array, rows: Array, *, stride: int, length: int) -> Array:
    groups, maps, size, _ = weights.shape
    num_frames = (length - size) // stride + 1
    matrix = _as_matrix(weights)

    def step(_: None, start: Array) -> tuple[None, Array]:
        return None, _multiply(matrix, _frame(rows, start, size))

    products = lax.scan(step, None, stride * jnp.arange(num_frames))[1]
    return products.reshape(num_frames, groups, maps, *rows.shape[3:])


def _rows_gradient(weights: Array, cotangent: Array, *, stride: int, length: int) -> Array:
    groups, maps, size, width = weights.shape
    space = cotangent.shape[3:]
    matrix = jnp.swapaxes(_as_matrix(weights), 1, 2)

    def of_frame(part: Array) -> Array:
        product = _multiply(matrix, part.reshape(groups, maps, -1))
        return jnp.moveaxis(product.reshape(groups, size, width, *space), 1, 0)

    def step(total: Array, frame: tuple[Array, Array]) -> tuple[Array, None]:
        start, part = frame
        seen = lax.dynamic_slice_in_dim(total, start, size)
        return lax.dynamic_update_slice_in_dim(total, seen + of_frame(part), start, 0), None

    if length == size:
        return of_frame(cotangent[0])
    start = jnp.zeros((length, groups, width, *space), weights.dtype)
    return lax.scan(step, start, (stride * jnp.arange(len(cotangent)), cotangent))[0]


def _weights_gradient(cotangent: Array, rows: Array, *, stride: int, length: int) -> Array:
    num_frames, groups, maps = cotangent.shape[:3]
    width = rows.shape[2]
    size = length - (num_frames - 1) * stride  # rows beyond the last frame are cut off before

    def of_frame(start: ArrayLike, part: Array) -> Array:
        # The product with a transposed copy is faster than the one that XLA would choose without the barrier.
        part = jnp.swapaxes(part.reshape(groups, maps, -1), 1, 2)
        return _multiply(_frame(rows, start, size), lax.optimization_barrier(part))

    def step(total: Array, frame: tuple[Array, Array]) -> tuple[Array, None]:
        return total + of_frame(*frame), None

    if num_frames == 1:
        total = of_frame(0, cotangent[0])
    else:
        start = jnp.zeros((groups, size * width, maps), rows.dtype)
        total = lax.scan(step, start, (stride * jnp.arange(num_frames), cotangent))[0]
    return jnp.moveaxis(total.reshape(groups, size, width, maps), 3, 1)


def _as_matrix(weights: Array) -> Array:
    # A transpose that XLA may not fold into the product, for which it would choose a slower routine.
    return lax.optimization_barrier(weights.reshape(*weights.shape[:2], -1))


def _frame(rows: Array, start: ArrayLike, size: int) -> Array:
    """Return (G, S * R, M)."""
    frame = jnp.moveaxis(lax.dynamic_slice_in_dim(rows, start, size), 0, 1)
    return frame.reshape(frame.shape[0], size * frame.shape[2], -1)


def _multiply(a: Array, b: Array) -> Array:
    """Return a (G, I, J) @ b (G, J, K)."""
    return a @ b if len(a) > 1 else (a[0] @ b[0])[None]


def _apart(compute: Callable) -> Callable:
    """Make `compute` a function of its own in the program, so that its arguments are arrays in memory.

    XLA would fuse what computes the cotangent, as the gradient of a pooling, into each of its transposed copies, and a
    fusion that ends in a transpose or in merged axes is computed one number at a time.
    """
    function = jax.jit(compute, static_argnames=("stride", "length"))

    def call(*arrays: Array, **options: int) -> Array:
        with set_xla_metadata(inlineable="false"):
            return function(*arrays, **options)

    return call


_WEIGHTS, _ROWS, _COTANGENT = "GOSR", "LGRM", "FGOM"


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


_product_p = _primitive("sliding_product", _product, (_WEIGHTS, _ROWS), _COTANGENT)
_rows_p = _primitive("sliding_product_rows_gradient", _apart(_rows_gradient), (_WEIGHTS, _COTANGENT), _ROWS)
_weights_p = _primitive("sliding_product_weights_gradient", _apart(_weights_gradient), (_COTANGENT, _ROWS), _WEIGHTS)

ad.defbilinear(
    _product_p,
    lambda y, weights, rows, **options: _weights_p.bind(y, rows, **options),
    lambda y, weights, rows, **options: _rows_p.bind(weights, y, **options),
)
ad.defbilinear(
    _rows_p,
    lambda rows, weights, cotangent, **options: _weights_p.bind(cotangent, rows, **options),
    lambda rows, weights, cotangent, **options: _product_p.bind(weights, rows, **options),
)
ad.defbilinear(
    _weights_p,
    lambda weights, cotangent, rows, **options: _product_p.bind(weights, rows, **options),
    lambda weights, cotangent, rows, **options: _rows_p.bind(weights, cotangent, **options),
)
