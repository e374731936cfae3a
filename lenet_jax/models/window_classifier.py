"""The network of the Colorado State notebook on convolution."""

import jax.numpy as jnp

from lenet_jax import layers
from lenet_jax.config import WindowClassifierConfig
from lenet_jax.network import make_model
from lenet_jax.ops.initializers import fan_in_uniform
from lenet_jax.types import Model


def window_classifier(config: WindowClassifierConfig, input_shape: tuple[int, int, int], num_classes: int) -> Model:
    """Build tanh units over each window of the image, tanh units over all of their outputs, a softmax layer.

    Pixels are standardized first. There is no pooling. The softmax itself is in the loss: `apply` returns logits.

    Source: C. Anderson, Colorado State University, CS545, notebooks on convolutional networks in NumPy.
    """
    network = layers.serial(
        {
            "standardize": layers.function(lambda x: (x - config.pixel_mean) / config.pixel_std),
            "windows": layers.convolution(
                config.num_kernels, config.kernel_size, fan_in_uniform(), padding=config.padding
            ),
            "tanh1": layers.activation(jnp.tanh),
            "flatten": layers.flatten(),
            "hidden": layers.dense(config.hidden_units, fan_in_uniform()),
            "tanh2": layers.activation(jnp.tanh),
            "softmax": layers.dense(num_classes, fan_in_uniform()),
        }
    )
    return make_model(network, input_shape)
