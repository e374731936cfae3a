"""The matrix product of dense layers and of kernels of one pixel, with gradients that are fast on a CPU."""

from jax import lax
from jaxtyping import Array

from lenet_jax.ops.cpu.primitives import Rule, batching_rule, bilinear_primitive, outlined

_MIN_LARGE_SIZE = 2_000_000  # entries of a matrix that no cache holds
_MAX_FEW_ROWS = 128  # rows for which reading such a matrix is most of the time


def matmul(x: Array, matrix: Array) -> Array:
    """Return x @ matrix for x (..., I) and matrix (I, O): (..., O)."""
    return _matmul(x, matrix)


def _multiply(x: Array, matrix: Array) -> Array:
    return x @ matrix


def _matrix_gradient(x: Array, y: Array) -> Array:
    axes = tuple(range(x.ndim - 1))
    return lax.dot_general(x, y, ((axes, axes), ((), ())))


def _x_gradient(y: Array, matrix: Array) -> Array:
    if y.ndim != 2 or len(y) > _MAX_FEW_ROWS or matrix.size < _MIN_LARGE_SIZE:
        return y @ matrix.T
    # XLA's routine first copies its second operand into another order. The barrier keeps XLA from swapping the two.
    return lax.optimization_barrier(lax.dot_general(matrix, y, (((1,), (1,)), ((), ())))).T


_matmul = bilinear_primitive(
    "matmul",
    Rule(_multiply, batching_rule(_multiply)),
    Rule(outlined(_matrix_gradient), batching_rule(_matrix_gradient)),
    Rule(outlined(_x_gradient), batching_rule(lambda y, matrix: y @ matrix.T)),
)
