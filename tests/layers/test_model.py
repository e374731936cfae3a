"""Layers as a model: what it takes, and what it returns in training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lenet_jax as lj
from lenet_jax import layers
from lenet_jax.layers import make_model
from lenet_jax.ops.initializers import fan_in_uniform
from lenet_jax.types import Heads

NETWORK = {
    "conv": layers.convolution(3, 3, fan_in_uniform(), pool_size=2),
    "tanh": layers.activation(jnp.tanh),
    "flatten": layers.flatten(),
    "dense": layers.dense(5, fan_in_uniform()),
}


def test_a_model_refuses_images_it_was_not_built_for():
    model = make_model(layers.serial(NETWORK), (8, 8, 2))
    variables = model.init(jax.random.key(0))
    with pytest.raises(lj.InputError, match=r"`images` must have shape \(N, 8, 8, 2\); got \(1, 8, 7, 2\)"):
        model.apply(variables, jnp.zeros((1, 8, 7, 2)))
    with pytest.raises(
        lj.InputError, match=r"`images` must be floating point; got uint8; scale them, as images / 256.0"
    ):
        model.apply(variables, jnp.zeros((1, 8, 8, 2), jnp.uint8))
    with pytest.raises(
        lj.InputError, match=r"`input_shape` must be \(height, width, channels\), each 1 or above; got \(8,"
    ):
        make_model(layers.serial(NETWORK), (8, 8))


def noisy_model():
    """Return a network with dropout, and with an auxiliary classifier that has dropout of its own."""
    head = layers.serial(
        {"flatten": layers.flatten(), "drop": layers.dropout(0.5), "fc": layers.dense(3, fan_in_uniform())}
    )
    stages = {
        "conv": layers.convolution(4, 3, fan_in_uniform()),
        "drop1": layers.dropout(0.4),
        "auxiliary": layers.auxiliary(head, weight=0.3),
        "flatten": layers.flatten(),
        "drop2": layers.dropout(0.2),
        "dense": layers.dense(3, fan_in_uniform()),
    }
    return make_model(layers.serial(stages), (6, 6, 2))


def test_images_have_the_dtype_of_the_parameters():
    model = make_model(
        layers.serial({"flatten": layers.flatten(), "out": layers.dense(3, fan_in_uniform())}), (2, 2, 1)
    )
    variables, images = model.init(jax.random.key(0)), jnp.ones((1, 2, 2, 1), jnp.bfloat16)
    message = "model: `images` must have the dtype of the parameters, float32; got bfloat16; convert them by astype."
    with pytest.raises(lj.InputError) as raised:
        model.apply(variables, images)
    assert str(raised.value) == message
    low = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), variables)
    assert model.apply(low, images)[0].dtype == jnp.bfloat16


def test_auxiliary_classifiers_are_outputs_in_training_only():
    model, x = noisy_model(), jax.random.normal(jax.random.key(1), (5, 6, 6, 2))
    variables = model.init(jax.random.key(0))
    outputs, state = model.apply(variables, x, train=True, key=jax.random.key(2))
    assert isinstance(outputs, Heads)
    assert outputs.main.shape == (5, 3)
    ((weight, logits),) = outputs.auxiliary
    assert float(weight) == np.float32(0.3)
    assert logits.shape == (5, 3)
    assert state == {}
    outputs, state = model.apply(variables, x)
    assert outputs.shape == (5, 3)
    assert state == {}


def test_one_key_stands_for_a_key_of_each_position():
    model, x, key = noisy_model(), jax.random.normal(jax.random.key(1), (5, 6, 6, 2)), jax.random.key(2)
    assert model.takes_example_keys
    variables = model.init(jax.random.key(0))
    keys = jnp.stack([jax.random.fold_in(key, n) for n in range(5)])
    one, many = (model.apply(variables, x, train=True, key=each)[0] for each in (key, keys))
    jax.tree.map(np.testing.assert_array_equal, one, many)


def test_what_is_drawn_for_an_example_does_not_depend_on_its_batch():
    model, x = noisy_model(), jax.random.normal(jax.random.key(1), (5, 6, 6, 2))
    variables, keys = model.init(jax.random.key(0)), jax.random.split(jax.random.key(2), 5)
    together = model.apply(variables, x, train=True, key=keys)[0]
    for n in range(5):
        alone = model.apply(variables, x[n : n + 1], train=True, key=keys[n : n + 1])[0]
        np.testing.assert_allclose(alone.main[0], together.main[n], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(alone.auxiliary[0][1][0], together.auxiliary[0][1][n], rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("without_type_checks")
def test_keys_of_either_type_drop_the_same_values():
    model = make_model(layers.serial({"flatten": layers.flatten(), "dropout": layers.dropout(0.5)}), (2, 2, 1))
    keys = jax.random.key(3), jax.random.PRNGKey(3), np.asarray(jax.random.PRNGKey(3))
    variables = model.init(keys[0])
    new, old, of_numpy = (model.apply(variables, jnp.ones((3, 2, 2, 1)), train=True, key=key)[0] for key in keys)
    np.testing.assert_array_equal(old, new)
    np.testing.assert_array_equal(of_numpy, new)


@pytest.mark.usefixtures("without_type_checks")
def test_a_seed_in_the_place_of_a_key_is_refused_in_training():
    model = make_model(layers.serial(NETWORK), (8, 8, 2))
    variables = model.init(jax.random.key(0))
    with pytest.raises(lj.InputError, match=r"model: `key` must be a key; got 3"):
        model.apply(variables, jnp.zeros((1, 8, 8, 2)), train=True, key=3)


def test_no_key_is_used_twice():
    network = {**NETWORK, "first": layers.dropout(0.5), "second": layers.dropout(0.5)}
    model = make_model(layers.serial(network), (8, 8, 2))
    with jax.debug_key_reuse(True):
        variables = model.init(jax.random.key(0))
        model.apply(variables, jnp.zeros((2, 8, 8, 2)), train=True, key=jax.random.key(1))
