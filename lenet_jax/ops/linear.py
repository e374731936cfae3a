"""The weighted sums of a dense layer."""

from jax.typing import ArrayLike
from jaxtyping import Array, Float

from lenet_jax.errors import InputError
from lenet_jax.ops.arguments import check_floating, to_array
from lenet_jax.ops.definitions import add_to_channels


def dense(
    x: Float[ArrayLike, "..."], kernel: Float[ArrayLike, "..."], bias: Float[ArrayLike, "..."] | None = None
) -> Float[Array, "..."]:
    """Multiply the last axis of x by a matrix and add a bias: y = x @ kernel + bias.

    Args:
        x: (..., I).
        kernel: (I, O), of the same dtype.
        bias: (O,), of the same dtype; None adds nothing.

    Returns:
        (..., O).

    Raises:
        InputError: if the axes do not match, or `kernel` or `bias` is not floating point.

    >>> dense(jnp.array([[1.0, 2.0]]), jnp.eye(2), jnp.array([0.5, 0.0]))
    Array([[1.5, 2. ]], dtype=float32)
    """
    x, kernel = to_array("dense", "x", x), to_array("dense", "kernel", kernel)
    check_floating("dense", "kernel", kernel)
    if x.ndim < 1 or kernel.ndim != 2 or kernel.shape[0] != x.shape[-1]:
        raise InputError(
            f"dense: `kernel` needs shape (I, O), where I is the last axis of `x`; got {kernel.shape} for `x` of shape "
            f"{x.shape}."
        )
    y = x @ kernel
    if bias is None:
        return y
    bias = to_array("dense", "bias", bias)
    if bias.shape != kernel.shape[1:]:
        raise InputError(f"dense: `bias` needs shape {kernel.shape[1:]}, one value per output; got {bias.shape}.")
    check_floating("dense", "bias", bias)
    return add_to_channels(y, bias)
