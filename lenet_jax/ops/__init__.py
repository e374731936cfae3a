"""Pure functions of arrays: convolution, pooling, windows, dense products, normalization, initialization."""

from lenet_jax.ops import initializers
from lenet_jax.ops.batches import BATCH_SIZE, map_batches
from lenet_jax.ops.convolution import (
    conv1d,
    conv1d_transpose,
    conv2d,
    conv2d_max_pool,
    conv2d_transpose,
    conv3d,
    conv3d_transpose,
)
from lenet_jax.ops.depthwise import (
    depthwise_conv1d,
    depthwise_conv2d,
    depthwise_conv3d,
    separable_conv1d,
    separable_conv2d,
    separable_conv3d,
)
from lenet_jax.ops.initializers import fan_in_uniform, glorot_uniform
from lenet_jax.ops.linear import dense
from lenet_jax.ops.normalization import batch_norm, local_response_norm, normalize_batch
from lenet_jax.ops.pooling import avg_pool, max_pool
from lenet_jax.ops.windows import extract_patches, sliding_windows

__all__ = [
    "BATCH_SIZE",
    "avg_pool",
    "batch_norm",
    "conv1d",
    "conv1d_transpose",
    "conv2d",
    "conv2d_max_pool",
    "conv2d_transpose",
    "conv3d",
    "conv3d_transpose",
    "dense",
    "depthwise_conv1d",
    "depthwise_conv2d",
    "depthwise_conv3d",
    "extract_patches",
    "fan_in_uniform",
    "glorot_uniform",
    "initializers",
    "local_response_norm",
    "map_batches",
    "max_pool",
    "normalize_batch",
    "separable_conv1d",
    "separable_conv2d",
    "separable_conv3d",
    "sliding_windows",
]
