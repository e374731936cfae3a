"""Layers built from layers: shapes, names, gradients, keys, messages."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import lenet_jax as lj
from lenet_jax import layers
from lenet_jax.ops.initializers import fan_in_uniform
from lenet_jax.types import Variables

NETWORK = {
    "conv": layers.convolution(3, 3, fan_in_uniform(), pool_size=2),
    "tanh": layers.activation(jnp.tanh),
    "flatten": layers.flatten(),
    "dense": layers.dense(5, fan_in_uniform()),
}


def test_shapes_are_inferred_and_variables_named_after_their_layer():
    variables, shape = layers.serial(NETWORK).init(jax.random.key(0), (8, 8, 2))
    assert shape == (5,)
    assert {name: {k: v.shape for k, v in own.items()} for name, own in variables.params.items()} == {
        "conv": {"kernel": (3, 3, 2, 3), "bias": (3,)},
        "dense": {"kernel": (27, 5), "bias": (5,)},
    }


def test_serial_is_the_composition_of_its_layers():
    network = layers.serial(NETWORK)
    variables, _ = network.init(jax.random.key(0), (8, 8, 2))
    x = jax.random.normal(jax.random.key(1), (4, 8, 8, 2))
    conv, dense = variables.params["conv"], variables.params["dense"]
    maps = lj.max_pool(lj.conv2d(x, conv["kernel"]), 2)
    expected = jnp.tanh(maps).reshape(4, -1) @ dense["kernel"]
    y, state = network.apply(variables, x, train=True, key=None)
    assert jnp.allclose(y, expected, atol=1e-6)
    assert state == {}


def test_gradients_of_a_whole_network_are_those_of_its_definition():
    network = layers.serial(
        {
            "one": layers.convolution(3, 3, fan_in_uniform(), padding="SAME", pool_size=2),
            "relu": layers.activation(jax.nn.relu),
            "two": layers.convolution(4, 2, fan_in_uniform(), pool_size=2),
            "tanh": layers.activation(jnp.tanh),
        }
    )
    variables, _ = network.init(jax.random.key(0), (9, 8, 2))
    x = jax.random.normal(jax.random.key(1), (5, 9, 8, 2))

    def definition(params, x):
        for name, padding, fn in (("one", "SAME", jax.nn.relu), ("two", "VALID", jnp.tanh)):
            x = lax.conv_general_dilated(
                x, params[name]["kernel"], (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
            x = fn(x + params[name]["bias"][None, None, None])
        return jnp.sum(x**2)

    def ours(params, x):
        return jnp.sum(network.apply(Variables(params, {}), x, train=True, key=None)[0] ** 2)

    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    jax.tree.map(close, jax.grad(ours, (0, 1))(variables.params, x), jax.grad(definition, (0, 1))(variables.params, x))


def test_state_and_keys_reach_the_layer_that_uses_them():
    def init(key, shape):
        return Variables({}, {"calls": jnp.int32(0)}), shape

    def apply(variables, x, *, train, key):
        return x + jax.random.normal(key, x.shape), {"calls": variables.state["calls"] + 1}

    noisy = layers.Layer(init, apply, stochastic=True)
    network = layers.serial({"a": noisy, "b": noisy})
    variables, _ = network.init(jax.random.key(0), (2,))
    y, state = network.apply(variables, jnp.zeros((1, 2)), train=True, key=jax.random.key(1))
    assert state == {"a": {"calls": 1}, "b": {"calls": 1}}
    first, second = jax.random.split(jax.random.key(1))
    assert jnp.allclose(y, jax.random.normal(first, (1, 2)) + jax.random.normal(second, (1, 2)))


def test_a_layer_that_does_not_fit_is_named():
    with pytest.raises(
        lj.InputError, match=r"layer `dense` does not fit an input of shape \(3, 3, 3\): dense: .*put `flat"
    ):
        layers.serial({k: v for k, v in NETWORK.items() if k != "flatten"}).init(jax.random.key(0), (8, 8, 2))
    with pytest.raises(
        lj.InputError, match=r"layer `conv` does not fit an input of shape \(2, 2, 1\): convolution: `kernel_size`"
    ):
        layers.serial(NETWORK).init(jax.random.key(0), (2, 2, 1))
