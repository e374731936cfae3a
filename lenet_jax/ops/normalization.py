"""Normalization over nearby channels, and over a batch."""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from lenet_jax.errors import InputError
from lenet_jax.ops import statistics
from lenet_jax.ops.definitions import along_channels, scale_channels, widen


def local_response_norm(
    x: Float[ArrayLike, "... C"], *, depth_radius: int = 2, bias: float = 1.0, alpha: float = 2e-5, beta: float = 0.75
) -> Float[Array, "... C"]:
    """Normalize each value by the squared values of nearby channels, as tf.nn.local_response_normalization.

    y[c] = x[c] / (bias + alpha * sum over d from c - depth_radius to c + depth_radius of x[d]**2)**beta

    The defaults are those of AlexNet in PyTorch: size 5 and alpha 1e-4, which PyTorch divides by the size.

    Args:
        x: (..., C).
        depth_radius: number of channels on each side, 0 or more.
        bias: added to the sum, above 0.
        alpha: factor of the sum of squares, 0 or more.
        beta: exponent, 0 or more.

    Returns:
        An array of the same shape and dtype.

    Raises:
        InputError: if an argument is out of its range.

    Source: Krizhevsky et al. 2012, "ImageNet classification with deep convolutional neural networks", section 3.3.
    """
    for name, value, ok in (
        ("depth_radius", depth_radius, isinstance(depth_radius, int) and depth_radius >= 0),
        ("alpha", alpha, alpha >= 0),
        ("beta", beta, beta >= 0),
    ):
        if not ok:
            raise InputError(f"local_response_norm: `{name}` must be 0 or above; got {value!r}.")
    if not bias > 0:
        raise InputError(f"local_response_norm: `bias` must be above 0; got {bias!r}.")
    x = jnp.asarray(x)
    wide = widen(x)
    squares = jnp.pad(wide * wide, [(0, 0)] * (x.ndim - 1) + [(depth_radius, depth_radius)])
    channels = x.shape[-1]
    near = (lax.slice_in_dim(squares, d, d + channels, axis=-1) for d in range(2 * depth_radius + 1))
    total = bias + alpha * functools.reduce(jnp.add, near)
    if beta == 0.75:  # two square roots take a quarter of the time of a power
        root = lax.rsqrt(total)
        return (wide * root * jnp.sqrt(root)).astype(x.dtype)
    return (wide * total**-beta).astype(x.dtype)


@functools.partial(jax.custom_jvp, nondiff_argnums=(3,))
def normalize_batch(
    x: Float[Array, "... C"], scale: Float[Array, " C"], bias: Float[Array, " C"], epsilon: float = 1e-5
) -> tuple[Float[Array, "... C"], Float[Array, " C"], Float[Array, " C"]]:
    """Normalize each channel by its own mean and variance over all other axes, scale it and add a bias.

    Args:
        x: (..., C).
        scale: gamma of the paper, (C,).
        bias: beta of the paper, (C,).
        epsilon: added to the variance, above 0.

    Returns:
        `batch_norm` of x with these statistics, the mean, and the biased variance, both in at least float32.

    Source: Ioffe and Szegedy 2015, "Batch normalization: accelerating deep network training by reducing internal
    covariate shift", algorithm 1.
    """
    mean, variance = statistics.mean_and_variance(x)
    return batch_norm(x, mean, variance, scale, bias, epsilon=epsilon), mean, variance


# With this rule the gradient takes two sums over the batch, where JAX would derive one for each use of mean and
# variance, and only x is stored for the backward pass.


@normalize_batch.defjvp
def _(epsilon: float, primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[tuple, tuple]:
    x, scale, bias = primals
    dx, dscale, dbias = tangents
    y, mean, variance = normalize_batch(x, scale, bias, epsilon)
    root = lax.rsqrt(variance + epsilon)
    scale, dscale, dbias = (array.astype(root.dtype) for array in (scale, dscale, dbias))
    dmean, covariance = statistics.channel_sums(dx, x, mean) / (x.size // x.shape[-1])
    factor = root * scale
    slope = root * (dscale - covariance * scale * root**2)
    constant_and_slope = jnp.stack([dbias - dmean * factor, slope])
    dy = dx * along_channels(factor, x).astype(x.dtype) + statistics.channel_sums_adjoint(constant_and_slope, x, mean)
    return (y, mean, variance), (dy, dmean, 2 * covariance)


def batch_norm(
    x: Float[Array, "... C"],
    mean: Float[Array, " C"],
    variance: Float[Array, " C"],
    scale: Float[Array, " C"],
    bias: Float[Array, " C"],
    *,
    epsilon: float = 1e-5,
) -> Float[Array, "... C"]:
    """Normalize each channel: y = (x - mean) / sqrt(variance + epsilon) * scale + bias.

    Args:
        x: (..., C).
        mean: mean of each channel: of the batch, from `normalize_batch`, or a running mean.
        variance: variance of each channel, likewise.
        scale: gamma of the paper, (C,).
        bias: beta of the paper, (C,).
        epsilon: added to the variance, above 0.

    Returns:
        An array of the same shape and dtype.

    Source: Ioffe and Szegedy 2015, "Batch normalization: accelerating deep network training by reducing internal
    covariate shift", algorithm 1.
    """
    factor = lax.rsqrt(variance + epsilon) * scale.astype(variance.dtype)
    shift = bias.astype(mean.dtype) - mean * factor
    return scale_channels(x, factor, shift)
