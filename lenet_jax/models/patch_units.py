"""A network whose hidden units each see one patch of the image."""

from lenet_jax import layers
from lenet_jax.config.checks import Activation, Count, Seed
from lenet_jax.layers.model import make_model
from lenet_jax.ops.initializers import fan_in_uniform
from lenet_jax.types import Model


def patch_units(
    *,
    input_shape: tuple[int, ...],
    num_outputs: int,
    hidden_units: Count = 20,
    patch_size: Count = 10,
    patch_seed: Seed = 0,
    activation: Activation = "tanh",
) -> Model:
    """Build a layer of hidden units that each see one random patch, and a softmax layer.

    On digits of 28x28 pixels it has 2,230 weights; with patches of 28x28 pixels, the whole image, 15,910. The outputs
    are logits, as the loss includes the softmax.

    Args:
        input_shape: height, width and channels of the images.
        num_outputs: number of logits.
        hidden_units: units of the hidden layer, each with a patch of its own.
        patch_size: side of the patches in pixels.
        patch_seed: decides where the patches lie, whatever the seed of the run is.
        activation: activation of the hidden layer.

    Source: C. Anderson, Colorado State University, CS445, notebook "Convolutional Neural Networks".
    """
    network = {
        "patches": layers.random_patches(hidden_units, patch_size, fan_in_uniform(), seed=patch_seed),
        activation: layers.activation(activation),
        "softmax": layers.dense(num_outputs, fan_in_uniform()),
    }
    return make_model(layers.serial(network), input_shape)
