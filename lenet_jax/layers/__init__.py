"""Layers as (init, apply) pairs, and combinators that build layers from layers."""

from lenet_jax.layers.base import (
    Cost,
    Layer,
    Shape,
    activation,
    average_pooling,
    flatten,
    function,
    global_average_pooling,
    max_pooling,
    resize,
)
from lenet_jax.layers.combinators import (
    auxiliary,
    branch,
    rematerialized,
    residual,
    serial,
    take_auxiliary,
    trace_layer,
)
from lenet_jax.layers.convolution import convolution
from lenet_jax.layers.dense import dense, dropout
from lenet_jax.layers.lenet5_units import radial_basis, subsampling
from lenet_jax.layers.model import make_model
from lenet_jax.layers.normalization import batch_normalization, local_response_normalization
from lenet_jax.layers.other_convolutions import depthwise_convolution, separable_convolution, transposed_convolution
from lenet_jax.layers.random_patches import random_patches

__all__ = [
    "Cost",
    "Layer",
    "Shape",
    "activation",
    "auxiliary",
    "average_pooling",
    "batch_normalization",
    "branch",
    "convolution",
    "dense",
    "depthwise_convolution",
    "dropout",
    "flatten",
    "function",
    "global_average_pooling",
    "local_response_normalization",
    "make_model",
    "max_pooling",
    "radial_basis",
    "random_patches",
    "rematerialized",
    "residual",
    "resize",
    "separable_convolution",
    "serial",
    "subsampling",
    "take_auxiliary",
    "trace_layer",
    "transposed_convolution",
]
