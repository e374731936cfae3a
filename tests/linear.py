"""A model for tests of what is around a model: it compiles in a third of the time that LeNet takes."""

from lenet_jax import layers
from lenet_jax.network import make_model
from lenet_jax.ops.initializers import fan_in_uniform


def linear(config, input_shape, num_classes):
    """Build a softmax layer; the configuration is that of any model."""
    network = layers.serial({"flatten": layers.flatten(), "softmax": layers.dense(num_classes, fan_in_uniform())})
    return make_model(network, input_shape)
