"""The small convolutional network of the Keras MNIST notebook."""

import functools

from lenet_jax import layers
from lenet_jax.config.checks import Activation, PerLayer, TwoCounts
from lenet_jax.layers.model import make_model
from lenet_jax.models.sizes import per_layer
from lenet_jax.ops.initializers import glorot_uniform
from lenet_jax.types import Model

_INCREASING = ("tanh", "relu", "sigmoid", "elu", "leaky_relu", "softplus", "identity")  # they commute with max-pooling


def mnist_cnn(
    *,
    input_shape: tuple[int, ...],
    num_outputs: int,
    num_kernels: TwoCounts = (32, 16),
    kernel_size: PerLayer = 3,
    pool_size: PerLayer = 2,
    strides: PerLayer = 1,
    activation: Activation = "relu",
) -> Model:
    """Build two stages of padded convolution, activation and max-pooling, and a softmax layer.

    Weights have the initialization of Keras. A non-decreasing activation, such as ReLU, commutes with max-pooling, so
    it is applied to the smaller, pooled maps. The outputs are logits, as the loss includes the softmax.

    Args:
        input_shape: height, width and channels of the images.
        num_outputs: number of logits.
        num_kernels: feature maps of the two convolutions.
        kernel_size: side of the kernels in pixels: one number for both convolutions, or one for each.
        pool_size: side and stride of the pooling windows in pixels: one number for both stages, or one for each;
            1: no pooling.
        strides: strides of the convolutions in pixels: one number for both, or one for each.
        activation: activation of both stages.
    """
    network = {}
    sizes = zip(num_kernels, per_layer(kernel_size), per_layer(pool_size), per_layer(strides), strict=True)
    for number, (kernels, size, pool, stride) in enumerate(sizes, 1):
        convolution = functools.partial(
            layers.convolution, kernels, size, glorot_uniform(), strides=stride, padding="SAME"
        )
        if pool == 1 or activation not in _INCREASING:
            network[f"conv{number}"] = convolution()
            network[f"{activation}{number}"] = layers.activation(activation)
            network |= {} if pool == 1 else {f"pool{number}": layers.max_pooling(pool)}
        else:
            network[f"conv{number}"] = convolution(pool_size=pool)
            network[f"{activation}{number}"] = layers.activation(activation)
    network |= {"flatten": layers.flatten(), "softmax": layers.dense(num_outputs, glorot_uniform())}
    return make_model(layers.serial(network), input_shape)
