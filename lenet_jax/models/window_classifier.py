"""The network of the Colorado State notebooks on convolutional networks."""

from typing import Literal

from lenet_jax import layers
from lenet_jax.config.checks import Activation, Count, Fraction, Positive
from lenet_jax.layers.model import make_model
from lenet_jax.ops.initializers import fan_in_uniform
from lenet_jax.types import Model


def window_classifier(
    *,
    input_shape: tuple[int, ...],
    num_outputs: int,
    num_kernels: Count = 20,
    kernel_size: Count = 5,
    strides: Count = 1,
    padding: Literal["VALID", "SAME"] = "VALID",
    hidden_units: Count = 50,
    activation: Activation = "tanh",
    pixel_mean: Fraction = 0.13,
    pixel_std: Positive = 0.31,
) -> Model:
    """Build a convolution with tanh, a hidden layer with tanh, and a softmax layer.

    Pixels are standardized first. There is no pooling. The outputs are logits, as the loss includes the softmax.

    Args:
        input_shape: height, width and channels of the images.
        num_outputs: number of logits.
        num_kernels: number of kernels of the convolution.
        kernel_size: side of the kernels in pixels.
        strides: strides of the convolution in pixels.
        padding: padding of the convolution, "VALID" or "SAME".
        hidden_units: units of the hidden layer.
        activation: activation of the convolution and of the hidden layer.
        pixel_mean: mean of the scaled pixels, 0 to 1; the default is that of MNIST.
        pixel_std: standard deviation of the scaled pixels, above 0; the default is that of MNIST.

    Source: C. Anderson, Colorado State University, CS545, notebooks on convolutional networks in NumPy.
    """
    windows = layers.convolution(num_kernels, kernel_size, fan_in_uniform(), strides=strides, padding=padding)
    network = layers.serial(
        {
            "standardize": layers.function(lambda x: (x - pixel_mean) / pixel_std),
            "windows": windows,
            f"{activation}1": layers.activation(activation),
            "flatten": layers.flatten(),
            "hidden": layers.dense(hidden_units, fan_in_uniform()),
            f"{activation}2": layers.activation(activation),
            "softmax": layers.dense(num_outputs, fan_in_uniform()),
        }
    )
    return make_model(network, input_shape)
