"""LeNet as the Theano deep learning tutorial builds it."""

import functools

import jax.numpy as jnp
from jax.nn.initializers import zeros

from lenet_jax import layers
from lenet_jax.config import LeNetConfig
from lenet_jax.network import make_model
from lenet_jax.ops.initializers import glorot_uniform
from lenet_jax.types import Model


def lenet(config: LeNetConfig, input_shape: tuple[int, int, int], num_classes: int) -> Model:
    """Build LeNet: two stages of convolution, max-pool and tanh, a tanh hidden layer, a softmax layer of zeros.

    The squashing function comes after the pooling, and the pooling divides the convolutions' fan_out. The softmax
    itself is in the loss: `apply` returns logits.

    Source: Theano deep learning tutorials, "Convolutional Neural Networks (LeNet)", after LeCun et al. 1998,
    "Gradient-based learning applied to document recognition".
    """
    first, second = config.num_kernels
    stage = functools.partial(
        layers.convolution,
        kernel_size=config.kernel_size,
        kernel_init=glorot_uniform(pool_area=config.pool_size**2),
        pool_size=config.pool_size,
    )
    network = layers.serial(
        {
            "conv1": stage(first),
            "tanh1": layers.activation(jnp.tanh),
            "conv2": stage(second),
            "tanh2": layers.activation(jnp.tanh),
            "flatten": layers.flatten(),
            "hidden": layers.dense(config.hidden_units, glorot_uniform()),
            "tanh3": layers.activation(jnp.tanh),
            "softmax": layers.dense(num_classes, zeros),
        }
    )
    return make_model(network, input_shape)
