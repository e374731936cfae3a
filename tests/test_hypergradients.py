"""A whole run differentiated: beside finite differences in float64, and in both modes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import lenet_jax as lj
from lenet_jax import layers


def data(dtype=jnp.float32):
    keys = jax.random.split(jax.random.key(1), 2)
    inputs = jax.random.normal(keys[0], (24, 6, 6, 1), dtype)
    labels = jax.random.randint(keys[1], (24,), 0, 3)
    split = lj.Split(inputs, labels)
    return lj.Dataset(split, split, split, num_classes=3)


def model():
    network = layers.serial(
        {
            "conv": layers.convolution(3, 3, jax.nn.initializers.he_normal()),
            "tanh": layers.activation("tanh"),
            "flatten": layers.flatten(),
            "out": layers.dense(3, jax.nn.initializers.he_normal()),
        }
    )
    return layers.make_model(network, (6, 6, 1))


CONFIG = lj.config.TrainerConfig(max_epochs=4, batch_size=8, weights="last")


def make(differentiable=True, config=CONFIG):
    optimizer = lj.make_optimizer("sgd", learning_rate=0.1, momentum=0.9)
    return lj.make_train(model(), optimizer, config, differentiable=differentiable)


def test_it_is_the_same_run():
    results = [jax.jit(make(each))(jax.random.key(0), {"learning_rate": 0.2}, data()) for each in (False, True)]
    for one, other in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_run_that_stops_early_stays_as_it_was():
    patience = lj.config.EarlyStoppingConfig(patience=3, patience_increase=1)
    config = lj.config.TrainerConfig(max_epochs=9, batch_size=8, early_stopping=patience)
    results = [jax.jit(make(each, config))(jax.random.key(0), {}, data()) for each in (False, True)]
    assert results[0].status == lj.Status.PATIENCE
    assert int(results[0].iterations) < 27
    for one, other in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_array_equal(one, other)


def test_hypergradients_agree_with_finite_differences_in_both_modes():
    train, examples = make(), data()

    def loss(hyperparameters):
        return train(jax.random.key(0), hyperparameters, examples).validation.loss_sum / 24

    at = {"learning_rate": jnp.float32(0.15), "momentum": jnp.float32(0.8)}
    reverse = jax.jit(jax.grad(loss))(at)
    forward = jax.jit(jax.jacfwd(loss))(at)
    value = jax.jit(loss)
    for name, step in (("learning_rate", 2e-3), ("momentum", 2e-3)):
        above, below = ({**at, name: at[name] + sign * step} for sign in (1, -1))
        expected = (value(above) - value(below)) / (2 * step)
        assert float(reverse[name]) == pytest.approx(float(expected), rel=2e-2)
        assert float(forward[name]) == pytest.approx(float(reverse[name]), rel=1e-3)


def test_inputs_have_gradients_too():
    train, examples = make(), data()

    def loss(inputs):
        changed = lj.Dataset(examples.train._replace(inputs=inputs), examples.validation, examples.test, num_classes=3)
        return train(jax.random.key(0), {}, changed).validation.loss_sum

    inputs = examples.train.inputs
    gradient = jax.jit(jax.grad(loss))(inputs)
    direction = jax.random.normal(jax.random.key(7), inputs.shape)
    expected = (jax.jit(loss)(inputs + 1e-3 * direction) - jax.jit(loss)(inputs - 1e-3 * direction)) / 2e-3
    assert float(jnp.vdot(gradient, direction)) == pytest.approx(float(expected), rel=5e-2)


def test_an_optax_transformation_is_differentiated_where_it_is_made():
    examples = data()

    def loss(rate):
        train = lj.make_train(model(), optax.sgd(rate), CONFIG, differentiable=True)
        return train(jax.random.key(0), {}, examples).validation.loss_sum

    gradient = jax.jit(jax.grad(loss))(0.1)
    expected = (jax.jit(loss)(0.102) - jax.jit(loss)(0.098)) / 0.004
    assert float(gradient) == pytest.approx(float(expected), rel=2e-2)
