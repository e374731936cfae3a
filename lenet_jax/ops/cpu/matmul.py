"""The product that dense layers and kernels of one pixel have in common, with gradients that are fast on CPU."""

from jax import lax
from jaxtyping import Array

from lenet_jax.ops.cpu.primitives import Form, apart, mapped_as, trilinear

# Numbers of a matrix that no cache holds, and rows below which reading it is most of the work.
_LARGE = 2_000_000
_FEW_ROWS = 128


def mix(x: Array, matrix: Array) -> Array:
    """Return x @ matrix, x (..., I) and matrix (I, O): (..., O)."""
    return _mix(x, matrix)


def _multiply(x: Array, matrix: Array) -> Array:
    return x @ matrix


def _matrix_gradient(x: Array, y: Array) -> Array:
    axes = tuple(range(x.ndim - 1))
    return lax.dot_general(x, y, ((axes, axes), ((), ())))


def _x_gradient(y: Array, matrix: Array) -> Array:
    if y.ndim != 2 or len(y) > _FEW_ROWS or matrix.size < _LARGE:
        return y @ matrix.T
    # XLA's routine copies its second array in another order first. The barrier keeps XLA from changing the two.
    return lax.optimization_barrier(lax.dot_general(matrix, y, (((1,), (1,)), ((), ())))).T


_mix = trilinear(
    "mix",
    Form(_multiply, mapped_as(_multiply)),
    Form(apart(_matrix_gradient), mapped_as(_matrix_gradient)),
    Form(apart(_x_gradient), mapped_as(lambda y, matrix: y @ matrix.T)),
)
