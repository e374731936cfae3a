"""Which layer the page of a run draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lenet_jax as lj
from lenet_jax.layers.model import make_model
from lenet_jax.report.page import _draw_first_layer
from lenet_jax.runs.evaluate import EvaluationReport


def nested():
    stage = lj.layers.serial(
        {"conv": lj.layers.convolution(2, 3, lj.fan_in_uniform()), "relu": lj.layers.activation("relu")}
    )
    classifier = {"flatten": lj.layers.flatten(), "dense": lj.layers.dense(10, lj.fan_in_uniform())}
    return make_model(lj.layers.serial({"stage": stage, **classifier}), (28, 28, 1))


MODELS = {
    "conv1": lambda: lj.create_model("lenet", num_kernels=(2, 3), hidden_units=4),
    "windows": lambda: lj.create_model("window_classifier", num_kernels=2, hidden_units=4),
    "stage.conv": nested,
}


@pytest.mark.parametrize("layer", MODELS)
def test_the_filters_are_those_of_the_first_convolution_whatever_the_order_of_the_names(layer):
    model = MODELS[layer]()
    variables = jax.tree.map(jnp.asarray, model.init(jax.random.key(0)))  # sorts the names, as weights that are read
    labels = np.zeros(2, np.int32)
    split = lj.Split(np.zeros((2, 28, 28, 1), np.uint8), labels)
    drawn = list(
        _draw_first_layer(EvaluationReport(model, variables, split, 256.0, labels, np.zeros((10, 10), np.int32), {}))
    )
    assert [(picture, f"`{layer}`" in caption) for picture, caption, _ in drawn] == [
        ("filters", True),
        ("feature_maps", True),
    ]
