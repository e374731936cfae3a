"""The small rectified network of the Keras MNIST notebook."""

import functools

import jax

from lenet_jax import layers
from lenet_jax.config import MnistCnnConfig
from lenet_jax.network import make_model
from lenet_jax.ops.initializers import glorot_uniform
from lenet_jax.types import Model


def mnist_cnn(config: MnistCnnConfig, input_shape: tuple[int, int, int], num_classes: int) -> Model:
    """Build two stages of padded convolution, ReLU and max-pool, and a softmax layer; weights start as in Keras.

    ReLU and max-pool commute, so the ReLU is applied to the smaller, pooled maps. The softmax itself is in the loss:
    `apply` returns logits.
    """
    first, second = config.num_kernels
    stage = functools.partial(
        layers.convolution,
        kernel_size=config.kernel_size,
        kernel_init=glorot_uniform(),
        padding="SAME",
        pool_size=config.pool_size,
    )
    network = layers.serial(
        {
            "conv1": stage(first),
            "relu1": layers.activation(jax.nn.relu),
            "conv2": stage(second),
            "relu2": layers.activation(jax.nn.relu),
            "flatten": layers.flatten(),
            "softmax": layers.dense(num_classes, glorot_uniform()),
        }
    )
    return make_model(network, input_shape)
