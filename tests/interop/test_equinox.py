"""Equinox modules as models: examples one by one, keys, state, inference."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import lenet_jax as lj
from lenet_jax.config import TrainerConfig
from lenet_jax.interop import from_equinox
from lenet_jax.types import Dataset, Split

eqx = pytest.importorskip("equinox")

SHAPE = (4, 4, 1)
KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (6, *SHAPE))


@pytest.fixture(autouse=True)
def promotion():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # which equinox relies on
        yield


def train(model):
    rng = np.random.default_rng(0)
    split = Split(rng.normal(size=(24, *SHAPE)).astype(np.float32), rng.integers(0, 3, 24).astype(np.int32))
    config = TrainerConfig(batch_size=8, max_epochs=2)
    return jax.jit(lj.make_train(model, optax.sgd(0.1), config))(KEY, {}, Dataset(split, split, split, num_classes=3))


class Plain(eqx.Module):
    hidden: eqx.nn.Linear
    last: eqx.nn.Linear
    shift: jax.Array
    activation: object

    def __init__(self, width=8, *, key):
        one, two = jax.random.split(key)
        self.hidden, self.last = eqx.nn.Linear(16, width, key=one), eqx.nn.Linear(width, 3, key=two)
        self.shift, self.activation = jnp.arange(3), lambda x: jnp.tanh(x)

    def __call__(self, x):
        return self.last(self.activation(self.hidden(x.reshape(-1)))) + self.shift


def test_a_module_is_applied_to_each_example_and_its_floats_are_trained():
    model, module = from_equinox(lambda key: Plain(key=key), SHAPE), Plain(key=KEY)
    variables = model.init(KEY)
    assert list(variables.params) == ["hidden/weight", "hidden/bias", "last/weight", "last/bias"]
    np.testing.assert_array_equal(variables.state["arrays"]["shift"], [0, 1, 2])
    expected = jnp.stack([module(x) for x in X])
    np.testing.assert_allclose(model.apply(variables, X)[0], expected, rtol=1e-5, atol=1e-6)
    result = train(model)
    assert np.isfinite(result.validation.loss)
    assert not np.array_equal(result.variables.params["last/bias"], variables.params["last/bias"])


class Stateful(eqx.Module):
    norm: eqx.nn.BatchNorm
    dropout: eqx.nn.Dropout
    last: eqx.nn.Linear

    def __init__(self, axis_name="batch", *, key):
        self.norm = eqx.nn.BatchNorm(16, axis_name, mode="batch", momentum=0.9)
        self.dropout, self.last = eqx.nn.Dropout(0.5), eqx.nn.Linear(16, 3, key=key)

    def __call__(self, x, state, *, key):
        x, state = self.norm(x.reshape(-1), state)
        return self.last(self.dropout(x, key=key)), state


@pytest.mark.parametrize("axis", ["batch", "examples"])
def test_state_is_carried_and_moves_in_training_only(axis):
    model = from_equinox(lambda key: Stateful(axis, key=key), SHAPE)
    variables = model.init(KEY)
    _, same = model.apply(variables, X)
    jax.tree.map(np.testing.assert_array_equal, same, variables.state)
    outputs, state = model.apply(variables, X, train=True, key=KEY)
    module, own = eqx.nn.make_with_state(Stateful)(axis, key=KEY)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(KEY, jnp.arange(6))
    mapped = jax.vmap(lambda x, s, k: module(x, s, key=k), (0, None, 0), (0, None), axis_name=axis)
    expected, own = mapped(X, own, keys)
    np.testing.assert_allclose(outputs, expected, rtol=1e-5)
    found = list(state["state"].values())
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, jax.tree.leaves(own))
    assert np.isfinite(train(model).validation.loss)


def test_a_pair_of_a_module_and_its_state_is_the_same():
    one = from_equinox(lambda key: Stateful(key=key), SHAPE)
    other = from_equinox(lambda key: eqx.nn.make_with_state(Stateful)(key=key), SHAPE)
    pairs = [each.apply(each.init(KEY), X, train=True, key=KEY) for each in (one, other)]
    jax.tree.map(np.testing.assert_array_equal, *pairs)


def test_an_examples_dropout_is_that_of_its_key():
    class Net(eqx.Module):
        dropout: eqx.nn.Dropout
        last: eqx.nn.Linear

        def __init__(self, key):
            self.dropout, self.last = eqx.nn.Dropout(0.5), eqx.nn.Linear(16, 3, key=key)

        def __call__(self, x, key=None):
            return self.last(self.dropout(x.reshape(-1), key=key))

    model = from_equinox(Net, SHAPE)
    keys = jax.random.split(KEY, 6)
    variables = model.init(KEY)
    outputs, _ = model.apply(variables, X, train=True, key=keys)
    part, _ = model.apply(variables, X[2:4], train=True, key=keys[2:4])
    np.testing.assert_allclose(part, outputs[2:4], rtol=1e-5, atol=1e-6)
    assert variables.state == {}
    assert not np.allclose(model.apply(variables, X)[0], outputs)


def test_many_statistics_keep_their_places_in_a_compiled_step():
    class Deep(eqx.Module):
        norms: list

        def __init__(self, key):
            self.norms = [eqx.nn.BatchNorm(n, "batch", mode="batch") for n in (16, 2, 3, 4, 5, 6)]

        def __call__(self, x, state):
            x = x.reshape(-1)
            for norm in self.norms:
                x, state = norm(x[: norm.input_size], state)
                x = jnp.tile(x, 8)
            return x[:3], state

    model = from_equinox(Deep, SHAPE)
    variables = model.init(KEY)
    assert len(variables.state["state"]) > 10
    step = jax.jit(lambda variables: variables._replace(state=model.apply(variables, X, train=True)[1]))
    twice, plain = step(step(variables)), variables
    for _ in range(2):
        plain = plain._replace(state=model.apply(plain, X, train=True)[1])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), twice.state, plain.state)


def test_batch_statistics_over_two_axes_are_refused():
    class Two(eqx.Module):
        one: eqx.nn.BatchNorm
        two: eqx.nn.BatchNorm

        def __init__(self, key):
            self.one, self.two = (eqx.nn.BatchNorm(16, name, mode="batch") for name in ("a", "b"))

        def __call__(self, x, state):
            return x, state

    with pytest.raises(lj.InputError, match=r"`axis_name` of all eqx.nn.BatchNorm must be the same; got "):
        from_equinox(Two, SHAPE)
