"""Normalization over nearby channels, and over a batch."""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import Tracer
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from lenet_jax.errors import InputError
from lenet_jax.ops import statistics
from lenet_jax.ops.arguments import check_floating, to_array, to_number
from lenet_jax.ops.definitions import along_channels, widen
from lenet_jax.ops.windows import Int, to_int


def local_response_norm(
    x: Float[ArrayLike, "... C"], *, depth_radius: Int = 2, bias: float = 1.0, alpha: float = 2e-5, beta: float = 0.75
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
        InputError: if `x` is not floating point, or an argument is out of its range.

    Source: Krizhevsky et al. 2012, "ImageNet classification with deep convolutional neural networks", section 3.3.
    """
    function = "local_response_norm"
    depth_radius = to_int(function, "depth_radius", depth_radius, least=0)
    bias = to_number(function, "bias", bias, "above 0", lambda number: number > 0)
    alpha, beta = (
        to_number(function, name, value, "0 or above", lambda number: number >= 0)
        for name, value in (("alpha", alpha), ("beta", beta))
    )
    x = to_array(function, "x", x)
    check_floating(function, "x", x)
    if x.ndim < 1:
        raise InputError(f"{function}: `x` must have an axis of channels; got a single number.")
    wide = widen(x)
    squares = jnp.pad(wide * wide, [(0, 0)] * (x.ndim - 1) + [(depth_radius, depth_radius)])
    channels = x.shape[-1]
    near = (lax.slice_in_dim(squares, d, d + channels, axis=-1) for d in range(2 * depth_radius + 1))
    total = bias + alpha * functools.reduce(jnp.add, near)
    if not isinstance(beta, Tracer) and beta == 0.75:  # two square roots take a quarter of the time of a power
        root = lax.rsqrt(total)
        return (wide * root * jnp.sqrt(root)).astype(x.dtype)
    return (wide * total**-beta).astype(x.dtype)


def normalize_batch(
    x: Float[ArrayLike, "... C"], scale: Float[ArrayLike, " C"], bias: Float[ArrayLike, " C"], epsilon: float = 1e-5
) -> tuple[Float[Array, "... C"], Float[Array, " C"], Float[Array, " C"]]:
    """Normalize each channel by its own mean and variance over all other axes, scale it and add a bias.

    Args:
        x: (..., C).
        scale: gamma of the paper, (C,).
        bias: beta of the paper, (C,).
        epsilon: added to the variance, above 0.

    Returns:
        `batch_norm` of x with these statistics, the mean, and the biased variance, both in at least float32.

    Raises:
        InputError: as `batch_norm`.

    Source: Ioffe and Szegedy 2015, "Batch normalization: accelerating deep network training by reducing internal
    covariate shift", algorithm 1.
    """
    checked, parameters = _check("normalize_batch", x, epsilon, scale=scale, bias=bias)
    return _normalize_batch(checked, *parameters, jnp.asarray(epsilon, widen(checked).dtype))


def _check(function: str, x: ArrayLike, epsilon: float, **parameters: ArrayLike) -> tuple[Array, list[Array]]:
    """Return images and parameters (C,) as arrays, checked."""
    to_number(function, "epsilon", epsilon, "above 0", lambda number: number > 0)
    arrays = {name: to_array(function, name, value) for name, value in {"x": x, **parameters}.items()}
    for name, array in arrays.items():
        check_floating(function, name, array)
    images = arrays.pop("x")
    if images.ndim < 1:
        raise InputError(f"{function}: `x` must have an axis of channels; got a single number.")
    for name, array in arrays.items():
        if array.shape != images.shape[-1:]:
            raise InputError(
                f"{function}: `{name}` must have shape {images.shape[-1:]}, a number for each channel of `x`; "
                f"got {array.shape}."
            )
    return images, list(arrays.values())


@jax.custom_jvp
def _normalize_batch(x: Array, scale: Array, bias: Array, epsilon: Array) -> tuple[Array, Array, Array]:
    mean, variance = statistics.mean_and_variance(x)
    return _normalize(x, mean, variance, scale, bias, epsilon), mean, variance


# With this rule the gradient takes two sums over the batch, where JAX would derive one for each use of mean and
# variance, and only x is stored for the backward pass.


@_normalize_batch.defjvp
def _(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[tuple, tuple]:
    x, scale, bias, epsilon = primals
    dx, dscale, dbias, depsilon = tangents
    y, mean, variance = _normalize_batch(x, scale, bias, epsilon)
    root = lax.rsqrt(variance + epsilon)
    scale, dscale, dbias = (array.astype(root.dtype) for array in (scale, dscale, dbias))
    dmean, covariance = statistics.channel_sums(dx, x, mean) / (x.size // x.shape[-1])
    factor = root * scale
    slope = root * (dscale - (covariance + depsilon / 2) * scale * root**2)
    constant_and_slope = jnp.stack([dbias - dmean * factor, slope])
    dy = dx * along_channels(factor, x).astype(x.dtype) + statistics.channel_sums_adjoint(constant_and_slope, x, mean)
    return (y, mean, variance), (dy, dmean, 2 * covariance)


def batch_norm(
    x: Float[ArrayLike, "... C"],
    mean: Float[ArrayLike, " C"],
    variance: Float[ArrayLike, " C"],
    scale: Float[ArrayLike, " C"],
    bias: Float[ArrayLike, " C"],
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

    Raises:
        InputError: if `x` has no axis, an array is not floating point, one beside `x` has not shape (C,), or `epsilon`
            is not above 0.

    Source: Ioffe and Szegedy 2015, "Batch normalization: accelerating deep network training by reducing internal
    covariate shift", algorithm 1.
    """
    parameters = {"mean": mean, "variance": variance, "scale": scale, "bias": bias}
    images, (centre, spread, gamma, beta) = _check("batch_norm", x, epsilon, **parameters)
    return _normalize(images, centre, spread, gamma, beta, jnp.asarray(epsilon, widen(images).dtype))


def _normalize(x: Array, mean: Array, variance: Array, scale: Array, bias: Array, epsilon: Array) -> Array:
    wide = widen(x)
    mean, variance, scale, bias = (a.astype(wide.dtype) for a in (mean, variance, scale, bias))
    factor = lax.rsqrt(variance + epsilon) * scale
    # The mean is subtracted first: where it is large, x * factor and mean * factor would cancel.
    centred = wide - along_channels(mean, wide)
    return (centred * along_channels(factor, wide) + along_channels(bias, wide)).astype(x.dtype)
