"""Layers that pool."""

import functools
import math
from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array

from lenet_jax.layers.base import Layer, function, slide
from lenet_jax.ops.pooling import avg_pool, max_pool
from lenet_jax.ops.windows import Padding
from lenet_jax.types import ReceptiveField


def max_pooling(size: int, *, strides: int | None = None, padding: Padding = "VALID") -> Layer:
    """Take the largest value of each window, as `lenet_jax.max_pool`."""
    return _pooling(max_pool, size, strides, padding)


def average_pooling(size: int, *, strides: int | None = None, padding: Padding = "VALID") -> Layer:
    """Take the mean of each window, as `lenet_jax.avg_pool`."""
    return _pooling(avg_pool, size, strides, padding)


def _pooling(pool: Callable[..., Array], size: int, strides: int | None, padding: Padding) -> Layer:
    layer = function(functools.partial(pool, window=size, strides=strides, padding=padding))
    return layer._replace(field=lambda field: slide(field, size, strides or size))


def global_average_pooling() -> Layer:
    """Take the mean of each map: an example (H, W, C) becomes (C,). Source: Lin et al. 2014, section 3.2."""
    layer = function(lambda x: jnp.mean(x, axis=(1, 2)))
    return layer._replace(field=lambda field: ReceptiveField(math.inf))
