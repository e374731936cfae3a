"""What a network is made of, against published counts and against what its gradients reach."""

from importlib import metadata

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import lenet_jax as lj
from lenet_jax import layers
from lenet_jax.ops.initializers import fan_in_uniform
from lenet_jax.summary import inference_bytes, training_bytes

# LeCun et al. 1998, section II.B: trained parameters and connections of each layer, and the output's 840 connections.
LENET5 = {
    "c1": (156, 122_304),
    "s2": (12, 5_880),
    "c3": (1_516, 151_600),
    "s4": (32, 2_000),
    "c5": (48_120, 48_120),
    "f6": (10_164, 10_164),
    "rbf": (0, 840),
}


def test_lenet5_has_the_published_parameters_and_connections():
    rows = lj.summarize(lj.create_model("lenet5"))
    counted = {row.layer: (row.parameters, row.connections) for row in rows if row.connections}
    assert counted == LENET5
    assert sum(row.parameters for row in rows) == 60_000
    assert sum(row.connections for row in rows) == 340_908
    maps = [row.output_shape for row in rows if row.layer in ("c1", "s2", "c3", "s4", "c5")]
    assert maps == [(28, 28, 6), (14, 14, 6), (10, 10, 16), (5, 5, 16), (1, 1, 120)]


def test_the_arithmetic_of_the_tensorflow_notes():
    """5x5 filters, 200 maps of 150x100, RGB, SAME, stride 1: 15,200 parameters, 225 million products, 11.4 MB."""
    model = lj.create_model("window_classifier", num_kernels=200, padding="SAME", input_shape=(150, 100, 3))
    row = next(row for row in lj.summarize(model) if row.layer == "windows")
    assert row.output_shape == (150, 100, 200)
    assert row.parameters == 15_200
    assert row.multiply_adds == 225_000_000
    assert round(row.bytes / 2**20, 1) == 11.4


def test_lenet_by_hand():
    maps1, conv1, tanh1, maps2, conv2, *_, softmax = lj.summarize(lj.create_model("lenet"))
    assert maps1 == ("conv1.maps", (24, 24, 20), 0, 0, 0, 4 * 24 * 24 * 20, (5, 5), "")
    assert maps2 == ("conv2.maps", (8, 8, 50), 0, 0, 0, 4 * 8 * 8 * 50, (14, 14), "")
    assert conv1 == ("conv1", (12, 12, 20), 520, 24 * 24 * 520, 24 * 24 * 500, 4 * 12 * 12 * 20, (6, 6), "")
    assert tanh1 == ("tanh1", (12, 12, 20), 0, 0, 0, 4 * 12 * 12 * 20, (6, 6), "")
    assert conv2[1:5] == ((4, 4, 50), 25_050, 8 * 8 * 25_050, 8 * 8 * 25_000)
    assert conv2.receptive_field == (16, 16)
    assert softmax == ("softmax", (10,), 5_010, 5_010, 5_000, 40, (28, 28), "")


@pytest.mark.parametrize("name", [pytest.param("lenet5", marks=pytest.mark.slow), "window_classifier"])
def test_receptive_fields_are_what_the_gradient_reaches(name):
    model = lj.create_model(name)
    variables = model.init(jax.random.key(0))
    image = jax.random.uniform(jax.random.key(1), (1, 28, 28, 1))
    for row in lj.summarize(model):
        if len(row.output_shape) < 3 or row.connections == 0:  # an activation sees what its input saw
            continue
        middle = tuple(n // 2 for n in row.output_shape[:2])

        def total(image, row=row, middle=middle):
            return lj.activations(model, variables, image)[row.layer][(0, *middle)].sum()

        reached = np.abs(np.asarray(jax.grad(total)(image)))[0, :, :, 0] > 0
        rows, columns = (np.flatnonzero(reached.any(axis=axis)) for axis in (1, 0))
        assert rows.size <= row.receptive_field[0]  # padding is not reached
        assert columns.size <= row.receptive_field[1]
        if max(row.receptive_field) < 20:
            assert (rows.size, columns.size) == row.receptive_field


def test_bytes_to_apply_and_to_train():
    rows = lj.summarize(lj.create_model("window_classifier"))
    image, maps, hidden, logits = 4 * 28 * 28, 4 * 24 * 24 * 20, 4 * 50, 4 * 10
    assert [row.bytes for row in rows] == [image, maps, maps, maps, hidden, hidden, logits]
    assert inference_bytes(rows) == 2 * maps
    assert training_bytes(rows) == image + 3 * maps + 2 * hidden + logits


def _lenet_in_plain_jax(params, x):
    """The network of `create_model("lenet")`, with nothing of ours."""

    def stage(x, kernel, bias):
        maps = lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return jnp.tanh(lax.reduce_window(maps, -np.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID") + bias)

    for number in (1, 2):
        x = stage(x, **{name: params[f"conv{number}"][name] for name in ("kernel", "bias")})
    x = jnp.tanh(x.reshape(len(x), -1) @ params["hidden"]["kernel"] + params["hidden"]["bias"])
    return x @ params["softmax"]["kernel"] + params["softmax"]["bias"]


def _bytes_an_example(function, kind):
    """Return by how many bytes XLA's plan of a function grows with each example of the minibatch."""
    # jaxlib 0.10 makes convolution and pooling one library call, of whose memory XLA does not know.
    plain: dict[str, str | bool] = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_DOT"}
    options = plain if metadata.version("jaxlib").startswith("0.10.") else None
    params = jax.eval_shape(lambda: lj.create_model("lenet").init(jax.random.key(0)).params)
    few, many = (
        getattr(jax.jit(function).lower(params, images).compile(options).memory_analysis(), kind)
        for images in (jax.ShapeDtypeStruct((n, 28, 28, 1), jnp.float32) for n in (50, 100))
    )
    return (many - few) / 50


def test_the_bytes_of_lenet_are_those_that_xla_plans_for():
    rows = lj.summarize(lj.create_model("lenet"))
    assert (inference_bytes(rows), training_bytes(rows)) == (57_600, 95_560)  # 56.2 and 93.3 KiB

    def forward_for_backward(params, x):
        return jax.vjp(lambda params: _lenet_in_plain_jax(params, x), params)  # the outputs hold what is stored

    with jax.numpy_rank_promotion("allow"):
        applied = _bytes_an_example(_lenet_in_plain_jax, "temp_size_in_bytes")
        stored = _bytes_an_example(forward_for_backward, "output_size_in_bytes")
    assert applied == pytest.approx(inference_bytes(rows), rel=0.05)
    assert stored == pytest.approx(training_bytes(rows), rel=0.05)


def test_activations_are_the_outputs_of_the_layers_by_name():
    block = {
        "conv": layers.convolution(3, 3, fan_in_uniform(), pool_size=2),
        "tanh": layers.activation(jnp.tanh),
        "flatten": layers.flatten(),
        "dense": layers.dense(5, fan_in_uniform()),
    }
    network = {"block": layers.serial(block), "relu": layers.activation(jax.nn.relu)}
    model = layers.make_model(layers.serial(network), (8, 8, 2))
    variables = model.init(jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (4, 8, 8, 2))
    outputs = lj.activations(model, variables, x)
    assert list(outputs) == ["block.conv.maps", "block.conv", "block.tanh", "block.flatten", "block.dense", "relu"]
    own = variables.params["block"]
    maps = lj.max_pool(lj.conv2d(x, own["conv"]["kernel"]), 2)
    np.testing.assert_allclose(lj.max_pool(outputs["block.conv.maps"], 2), outputs["block.conv"], atol=1e-6)
    np.testing.assert_allclose(outputs["block.tanh"], jnp.tanh(maps), atol=1e-6)
    np.testing.assert_allclose(outputs["relu"], model.apply(variables, x)[0], atol=1e-6)


def test_a_model_without_layers_is_refused():
    model = lj.Model(lambda key: lj.Variables({}, {}), lambda variables, images, **_: (images, {}))
    with pytest.raises(lj.InputError, match=r"summarize: `model` must be made of lenet_jax\.layers"):
        lj.summarize(model)
    with pytest.raises(lj.InputError, match=r"activations: `model` must be made of lenet_jax\.layers"):
        lj.activations(model, lj.Variables({}, {}), jnp.zeros((1, 28, 28, 1)))
