"""Layers as (init, apply) pairs, and ways to put them together."""

from lenet_jax.layers.base import Layer, Shape, Work, activation, flatten, function, resize
from lenet_jax.layers.combinators import auxiliary, branch, rematerialized, residual, serial, take_auxiliary, visit
from lenet_jax.layers.normalization import batch_normalization, dropout, local_response_normalization
from lenet_jax.layers.pooling import average_pooling, global_average_pooling, max_pooling
from lenet_jax.layers.weights import convolution, dense, radial_basis, subsampling

__all__ = [
    "Layer",
    "Shape",
    "Work",
    "activation",
    "auxiliary",
    "average_pooling",
    "batch_normalization",
    "branch",
    "convolution",
    "dense",
    "dropout",
    "flatten",
    "function",
    "global_average_pooling",
    "local_response_normalization",
    "max_pooling",
    "radial_basis",
    "rematerialized",
    "residual",
    "resize",
    "serial",
    "subsampling",
    "take_auxiliary",
    "visit",
]
