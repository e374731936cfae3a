"""LeNet of the Theano deep learning tutorials."""

from jax.nn.initializers import zeros

from lenet_jax import layers
from lenet_jax.config.checks import Activation, Count, NonNegative, PerLayer, TwoCounts
from lenet_jax.layers.model import make_model
from lenet_jax.models.sizes import bias_initializer, per_layer
from lenet_jax.ops.initializers import glorot_uniform
from lenet_jax.types import Model


def lenet(
    *,
    input_shape: tuple[int, ...],
    num_outputs: int,
    num_kernels: TwoCounts = (20, 50),
    kernel_size: PerLayer = 5,
    pool_size: PerLayer = 2,
    strides: PerLayer = 1,
    hidden_units: Count = 500,
    activation: Activation = "tanh",
    bias_range: NonNegative = 0.0,
) -> Model:
    """Build LeNet: two stages of convolution, max-pooling and tanh, a hidden layer with tanh, and a softmax layer.

    The activation follows the pooling. The initialization divides the fan-out of each convolution by the area of its
    pooling window; the weights of the softmax layer start at zero. The outputs are logits, as the loss includes the
    softmax.

    Args:
        input_shape: height, width and channels of the images.
        num_outputs: number of logits.
        num_kernels: feature maps of the two convolutions.
        kernel_size: side of the kernels in pixels: one number for both convolutions, or one for each.
        pool_size: side and stride of the pooling windows in pixels: one number for both stages, or one for each;
            1: no pooling.
        strides: strides of the convolutions in pixels: one number for both, or one for each.
        hidden_units: units of the hidden layer.
        activation: activation of both stages and of the hidden layer.
        bias_range: initial biases of the convolutions are uniform from -bias_range to bias_range; 0 as in the
            tutorial's network, 0.5 as in its two random filters.

    Source: Theano deep learning tutorials, "Convolutional Neural Networks (LeNet)", after LeCun et al. 1998,
    "Gradient-based learning applied to document recognition".
    """
    network, bias_init = {}, bias_initializer(bias_range)
    sizes = zip(num_kernels, per_layer(kernel_size), per_layer(pool_size), per_layer(strides), strict=True)
    for number, (kernels, size, pool, stride) in enumerate(sizes, 1):
        network[f"conv{number}"] = layers.convolution(
            kernels,
            size,
            glorot_uniform(pool_area=pool**2),
            strides=stride,
            bias_init=bias_init,
            pool_size=pool if pool > 1 else None,
        )
        network[f"{activation}{number}"] = layers.activation(activation)
    network |= {
        "flatten": layers.flatten(),
        "hidden": layers.dense(hidden_units, glorot_uniform()),
        f"{activation}3": layers.activation(activation),
        "softmax": layers.dense(num_outputs, zeros),
    }
    return make_model(layers.serial(network), input_shape)
