"""The table of models, and each model against its published sizes and an independent forward pass."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import lenet_jax as lj


def count(variables):
    return sum(leaf.size for leaf in jax.tree.leaves(variables.params))


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        # conv 20@5x5, conv 50@5x5, 800 -> 500 -> 10
        ("lenet", 20 * 26 + 50 * (20 * 25 + 1) + 500 * 801 + 10 * 501),
        # conv 32@3x3, conv 16@3x3, 784 -> 10
        ("mnist_cnn", 32 * 10 + 16 * (32 * 9 + 1) + 10 * 785),
    ],
)
def test_parameter_counts(name, parameters):
    model = lj.create_model(name)
    variables = model.init(jax.random.key(0))
    assert count(variables) == parameters
    logits, state = model.apply(variables, jnp.zeros((3, 28, 28, 1)))
    assert logits.shape == (3, 10)
    assert state == {}


def test_initial_biases_of_the_convolutions_of_lenet_are_uniform_in_their_range():
    key = jax.random.key(3)
    usual, wide = (lj.create_model("lenet", bias_range=width).init(key).params for width in (0.0, 0.5))
    for name, layer in usual.items():
        np.testing.assert_array_equal(wide[name]["kernel"], layer["kernel"])
        np.testing.assert_array_equal(layer["bias"], jnp.zeros(layer["bias"].shape))
    for name in ("conv1", "conv2"):
        bias = np.asarray(wide[name]["bias"])
        assert np.abs(bias).max() < 0.5
        assert 0.2 < bias.std() < 0.38  # 1 / sqrt(12) = 0.29
    for name in ("hidden", "softmax"):
        np.testing.assert_array_equal(wide[name]["bias"], usual[name]["bias"])


TINY = {"width": 0.02, "image_size": 67}
OPTIONS = {
    "alexnet": TINY,
    "zfnet": TINY,
    "googlenet": {"width": 0.02},
    **{key: {"width": 0.02} for key in ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")},
}


DEEP = ("googlenet", "resnet34", "resnet50", "resnet101", "resnet152")  # as the others, and slow to trace


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in DEEP)) for name in lj.MODELS])
def test_every_model_takes_other_images_and_classes(name):
    images = jnp.zeros((2, 20, 24, 3))
    model = lj.create_model(name, input_shape=(20, 24, 3), num_classes=4, **OPTIONS.get(name, {}))
    logits = jax.eval_shape(lambda key: model.apply(model.init(key), images)[0], jax.random.key(0))
    assert logits.shape == (2, 4)


def torch_forward(torch, params, images, activation, padding):
    functional = torch.nn.functional
    as_torch = lambda a: torch.tensor(np.asarray(a, np.float64))  # noqa: E731
    x = as_torch(images).permute(0, 3, 1, 2)
    for name in ("conv1", "conv2"):
        kernel = as_torch(params[name]["kernel"]).permute(3, 2, 0, 1)
        # bias and squashing before the pooling, as the textbooks draw it
        x = functional.max_pool2d(
            activation(functional.conv2d(x, kernel, as_torch(params[name]["bias"]), padding=padding)), 2
        )
    x = x.permute(0, 2, 3, 1).flatten(1)
    if "hidden" in params:
        x = torch.tanh(x @ as_torch(params["hidden"]["kernel"]) + as_torch(params["hidden"]["bias"]))
    return (x @ as_torch(params["softmax"]["kernel"]) + as_torch(params["softmax"]["bias"])).numpy()


@pytest.mark.parametrize(("name", "padding"), [("lenet", 0), ("mnist_cnn", 1)])
def test_forward_pass_equals_torch(name, padding):
    torch = pytest.importorskip("torch")
    model = lj.create_model(name)
    variables = model.init(jax.random.key(0))
    key = jax.random.key(1)  # the softmax layer and the biases start at 0: give them values
    params = jax.tree.map(lambda p: p + 0.1 * jax.random.normal(key, p.shape), variables.params)
    images = jax.random.uniform(key, (4, 28, 28, 1))
    logits, _ = model.apply(variables._replace(params=params), images)
    activation = torch.tanh if name == "lenet" else torch.relu
    np.testing.assert_allclose(logits, torch_forward(torch, params, images, activation, padding), atol=2e-4)


def test_lenet_starts_as_the_tutorial_says():
    params = lj.create_model("lenet").init(jax.random.key(0)).params
    assert not jnp.any(params["softmax"]["kernel"])
    assert not any(jnp.any(layer["bias"]) for layer in params.values())
    bounds = {"conv1": (6 / (25 + 500 / 4)) ** 0.5, "conv2": (6 / (500 + 1250 / 4)) ** 0.5, "hidden": (6 / 1300) ** 0.5}
    for name, bound in bounds.items():
        assert 0.9 * bound < float(jnp.max(jnp.abs(params[name]["kernel"]))) <= bound


@pytest.mark.parametrize("name", ["lenet", "mnist_cnn"])
def test_each_convolution_has_sizes_and_an_activation_of_its_own(name):
    """Against plain JAX, convolution, activation, then pooling; the GELU is not monotonic."""
    options = {"kernel_size": (3, 2), "pool_size": (2, 1), "strides": (1, 2), "activation": "gelu"}
    model = lj.create_model(name, input_shape=(11, 12, 2), num_kernels=(3, 4), num_classes=5, **options)
    variables = model.init(jax.random.key(0))
    params = jax.tree.map(lambda p: p + 0.1 * jax.random.normal(jax.random.key(2), p.shape), variables.params)
    images = jax.random.normal(jax.random.key(1), (2, 11, 12, 2))
    x, padding = images, "VALID" if name == "lenet" else "SAME"
    for layer, pool, stride in (("conv1", 2, 1), ("conv2", 1, 2)):
        kernel, bias = params[layer]["kernel"], params[layer]["bias"][None, None, None]
        layout = ("NHWC", "HWIO", "NHWC")
        x = lax.conv_general_dilated(x, kernel, (stride, stride), padding, dimension_numbers=layout) + bias
        x = x if name == "lenet" else jax.nn.gelu(x)
        x = lax.reduce_window(x, -jnp.inf, lax.max, (1, pool, pool, 1), (1, pool, pool, 1), "VALID")
        x = jax.nn.gelu(x) if name == "lenet" else x
    x = x.reshape(2, -1)
    if name == "lenet":
        x = jax.nn.gelu(x @ params["hidden"]["kernel"] + params["hidden"]["bias"][None])
    expected = x @ params["softmax"]["kernel"] + params["softmax"]["bias"][None]
    logits, _ = model.apply(variables._replace(params=params), images)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("lenett", {}, "`model` has no 'lenett'; choose one of: lenet, lenet5, alexnet, "),
        ("lenet", {"units": 3}, "`model` has no 'units'; choose one of: activation, bias_range, hidden_units, "),
        (
            "lenet",
            {"kernel_size": 0},
            "`model.kernel_size` must be an integer, 1 or above, or a list of two integers, each 1 or above; got 0.",
        ),
        ("lenet", {"activation": "tan"}, "`model.activation` must be one of tanh, relu, "),
        ("lenet", {"num_classes": 1}, "model: `num_classes` must be 2 or above; got 1."),
        (
            "lenet",
            {"input_shape": (8, 8, 1)},
            "layer `conv2` does not fit an input of shape (2, 2, 20): convolution: `kernel_size`",
        ),
    ],
)
def test_bad_input_is_refused(name, options, message):
    with pytest.raises(lj.InputError) as error:
        lj.create_model(name, **options)
    assert str(error.value).startswith(message)
