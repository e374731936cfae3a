"""Pure functions on arrays: convolution, patches, pooling, normalization, initialization."""

from lenet_jax.ops import initializers
from lenet_jax.ops.convolution import conv1d, conv2d, conv2d_transpose, conv3d, depthwise_conv2d, separable_conv2d
from lenet_jax.ops.initializers import fan_in_uniform, glorot_uniform
from lenet_jax.ops.normalization import batch_norm, local_response_norm, normalize_batch
from lenet_jax.ops.patches import extract_patches, sliding_windows
from lenet_jax.ops.pooling import avg_pool, max_pool

__all__ = [
    "avg_pool",
    "batch_norm",
    "conv1d",
    "conv2d",
    "conv2d_transpose",
    "conv3d",
    "depthwise_conv2d",
    "extract_patches",
    "fan_in_uniform",
    "glorot_uniform",
    "initializers",
    "local_response_norm",
    "max_pool",
    "normalize_batch",
    "separable_conv2d",
    "sliding_windows",
]
