"""Helpers that several architectures share: options per layer, initial biases, width factors, resizing of images."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.nn.initializers import zeros

from lenet_jax import layers
from lenet_jax.errors import InputError
from lenet_jax.ops.initializers import Initializer


def per_layer(value: int | tuple[int, int]) -> tuple[int, int]:
    """Return an option as one value for each of two layers; a single value applies to both."""
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def bias_initializer(bias_range: float) -> Initializer:
    """Return an initializer of biases that draws from U(-bias_range, bias_range); of range 0, they are 0."""
    if not bias_range:
        return zeros

    def init(key: Any, shape: tuple[int, ...], dtype: jax.typing.DTypeLike = jnp.float32) -> jax.Array:
        return jnp.asarray(bias_range, dtype) * jax.random.uniform(key, shape, dtype, -1.0, 1.0)

    return init


def scaled(count: int, width: float, *, multiple: int = 1) -> int:
    """Return `width` times a number of kernels or units, rounded to a positive multiple of `multiple`."""
    return max(round(count * width / multiple), 1) * multiple


def cropped(crop_size: int | None, parts: Mapping[str, layers.Layer]) -> Mapping[str, layers.Layer]:
    """Return the layers, with a first one that takes a square in the middle of the images if its size is given.

    Raises:
        InputError: in `init`, if the images are smaller.
    """
    if crop_size is None:
        return parts

    def crop(x: jax.Array) -> jax.Array:
        margins = [size - crop_size for size in x.shape[1:3]]
        if min(margins) < 0:
            raise InputError(f"`crop_size` must be at most the size of the images, {x.shape[1:3]}; got {crop_size}.")
        top, left = (margin // 2 for margin in margins)
        return x[:, top : top + crop_size, left : left + crop_size]

    return {"crop": layers.function(crop), **parts}


def resized(image_size: int | None, parts: Mapping[str, layers.Layer]) -> layers.Layer:
    """Return the layers as a network, with a first layer that resizes the images if a size is given."""
    first = {} if image_size is None else {"resize": layers.resize(image_size)}
    return layers.serial({**first, **parts})
