"""The product of a matrix with every window of consecutive rows, one window at a time: a convolution along one axis.

Windows overlap, so an array of all of them would be many times larger than the rows. Here each window is a slice of the
rows, small enough to stay in the processor's cache until its product is done; both gradients are computed in the same
way. The three are the derivatives of one trilinear form of the arrays

    weights (G, O, S, R)    rows (L, G, R, *M)    cotangent (F, G, O, *M)

for G groups and F windows of S rows, `stride` rows apart: the sum over all axes of
weights[g, o, s, r] rows[f * stride + s, g, r, m] cotangent[f, g, o, m], where M is one or several axes.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array

from lenet_jax.ops.cpu.primitives import Rule, bilinear_primitive, outlined


def window_product(weights: Array, rows: Array, *, stride: int) -> Array:
    """Return y[f, g, o, m] = sum over s, r of weights[g, o, s, r] rows[f * stride + s, g, r, m]: (F, G, O, *M)."""
    return _bind(weights, rows, stride=stride, length=len(rows))


def _product(weights: Array, rows: Array, *, stride: int, length: int) -> Array:
    groups, outputs, size, _ = weights.shape
    num_windows = (length - size) // stride + 1
    matrix = _as_matrix(weights)

    def step(_: None, start: Array) -> tuple[None, Array]:
        return None, _multiply(matrix, _window(rows, start, size))

    products = lax.scan(step, None, stride * jnp.arange(num_windows))[1]
    return products.reshape(num_windows, groups, outputs, *rows.shape[3:])


def _rows_gradient(weights: Array, cotangent: Array, *, stride: int, length: int) -> Array:
    groups, outputs, size, width = weights.shape
    space = cotangent.shape[3:]
    matrix = jnp.swapaxes(_as_matrix(weights), 1, 2)

    def of_window(part: Array) -> Array:
        product = _multiply(matrix, part.reshape(groups, outputs, -1))
        return jnp.moveaxis(product.reshape(groups, size, width, *space), 1, 0)

    def step(total: Array, window: tuple[Array, Array]) -> tuple[Array, None]:
        start, part = window
        before = lax.dynamic_slice_in_dim(total, start, size)
        return lax.dynamic_update_slice_in_dim(total, before + of_window(part), start, 0), None

    if length == size:
        return of_window(cotangent[0])
    start = jnp.zeros((length, groups, width, *space), weights.dtype)
    return lax.scan(step, start, (stride * jnp.arange(len(cotangent)), cotangent))[0]


def _weights_gradient(cotangent: Array, rows: Array, *, stride: int, length: int) -> Array:
    num_windows, groups, outputs = cotangent.shape[:3]
    width = rows.shape[2]
    size = length - (num_windows - 1) * stride  # the caller has cut off the rows beyond the last window

    def of_window(start: ArrayLike, part: Array) -> Array:
        # The product with a transposed copy is faster than the one that XLA would choose without the barrier.
        part = jnp.swapaxes(part.reshape(groups, outputs, -1), 1, 2)
        return _multiply(_window(rows, start, size), lax.optimization_barrier(part))

    def step(total: Array, window: tuple[Array, Array]) -> tuple[Array, None]:
        return total + of_window(*window), None

    if num_windows == 1:
        total = of_window(0, cotangent[0])
    else:
        start = jnp.zeros((groups, size * width, outputs), rows.dtype)
        total = lax.scan(step, start, (stride * jnp.arange(num_windows), cotangent))[0]
    return jnp.moveaxis(total.reshape(groups, size, width, outputs), 3, 1)


def _as_matrix(weights: Array) -> Array:
    # A transpose that XLA may not fold into the product, for which it would choose a slower routine.
    return lax.optimization_barrier(weights.reshape(*weights.shape[:2], -1))


def _window(rows: Array, start: ArrayLike, size: int) -> Array:
    """Return (G, S * R, M)."""
    window = jnp.moveaxis(lax.dynamic_slice_in_dim(rows, start, size), 0, 1)
    return window.reshape(window.shape[0], size * window.shape[2], -1)


def _multiply(a: Array, b: Array) -> Array:
    """Return a (G, I, J) @ b (G, J, K)."""
    return a @ b if len(a) > 1 else (a[0] @ b[0])[None]


_WEIGHTS, _ROWS, _COTANGENT = "GOSR", "LGRM", "FGOM"


def _batch(
    axes: tuple[str, str], result: str, bind: Callable, arrays: Any, mapped: Any, **options: int
) -> tuple[Array, int]:
    """Merge the mapped axis into the groups if both arrays have it, else into the axis that the other one lacks."""
    free = [next(a for a in own if a in result and a not in other) for own, other in (axes, axes[::-1])]
    axis = "G" if None not in mapped else free[0] if mapped[1] is None else free[1]
    size = next(x.shape[m] for x, m in zip(arrays, mapped, strict=True) if m is not None)
    merged = [
        x if m is None else _merge(jnp.moveaxis(x, m, 0), names.index(axis))
        for x, m, names in zip(arrays, mapped, axes, strict=True)
    ]
    y = bind(*merged, **options)
    position = result.index(axis)
    return y.reshape(*y.shape[:position], size, -1, *y.shape[position + 1 :]), position


def _merge(x: Array, axis: int) -> Array:
    """Merge the first axis into the one that is `axis` without it."""
    x = jnp.moveaxis(x, 0, axis)
    return x.reshape(*x.shape[:axis], -1, *x.shape[axis + 2 :])


_OPTIONS = ("stride", "length")
_bind = bilinear_primitive(
    "window_product",
    Rule(_product, functools.partial(_batch, (_WEIGHTS, _ROWS), _COTANGENT)),
    Rule(outlined(_rows_gradient, _OPTIONS), functools.partial(_batch, (_WEIGHTS, _COTANGENT), _ROWS)),
    Rule(outlined(_weights_gradient, _OPTIONS), functools.partial(_batch, (_COTANGENT, _ROWS), _WEIGHTS)),
)
