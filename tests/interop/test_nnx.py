"""NNX modules as people have them: what they sow, their modes, their random state, their variables."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import lenet_jax as lj
from lenet_jax.config import TrainerConfig
from lenet_jax.interop import from_nnx, to_nnx
from lenet_jax.types import Dataset, Split

nnx = pytest.importorskip("flax.nnx")

SHAPE = (6,)
KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (4, *SHAPE))


def train(model):
    rng = np.random.default_rng(0)
    split = Split(rng.normal(size=(24, *SHAPE)).astype(np.float32), rng.integers(0, 3, 24).astype(np.int32))
    config = TrainerConfig(batch_size=8, max_epochs=2)
    data = Dataset(split, split, split, num_classes=3)
    return jax.jit(lj.make_train(model, optax.sgd(0.1), config))(KEY, {}, data)


def draws_in_training_only(model):
    variables = model.init(KEY)
    one, other = (model.apply(variables, X, train=True, key=jax.random.key(n))[0] for n in (1, 2))
    first, second = (model.apply(variables, X, key=jax.random.key(n))[0] for n in (1, 2))
    return not np.array_equal(one, other) and np.array_equal(first, second)


class Counting(nnx.Module):
    """It sows, counts its calls, holds a list of layers, and an array that is no variable."""

    def __init__(self, rngs):
        self.layers = nnx.List([nnx.Linear(6, 5, rngs=rngs), nnx.Linear(5, 3, rngs=rngs)])
        self.calls = nnx.Variable(0)

    def __call__(self, x):
        hidden = nnx.relu(self.layers[0](x))
        self.sow(nnx.Intermediate, "hidden", hidden)
        self.calls.set_value(self.calls.get_value() + 1)
        return self.layers[1](hidden)


@pytest.mark.filterwarnings("ignore:Using 'Module.sow:DeprecationWarning")  # flax has another way now, too
def test_what_a_module_sows_is_dropped_and_its_variables_are_carried():
    model = from_nnx(Counting, SHAPE)
    variables = model.init(KEY)
    assert list(variables.state) == ["calls"]
    for calls in (1, 2):
        variables = variables._replace(state=model.apply(variables, X, train=True)[1])
        assert int(variables.state["calls"]) == calls
    result = train(model)
    assert np.isfinite(result.validation.loss)
    assert int(result.variables.state["calls"]) in (3, 6)  # the best of two epochs of three steps


def argument_module(name, trains):
    class Named(nnx.Module):
        def __init__(self, rngs):
            self.last, self.dropout = nnx.Linear(6, 3, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)

        def call(self, x, value):
            return self.last(self.dropout(x, deterministic=value != trains))

    Named.__call__ = eval(f"lambda self, x, {name}={not trains}: self.call(x, {name})")
    return Named


@pytest.mark.parametrize("name", ["train", "training", "is_training", "deterministic", "use_running_average"])
def test_the_mode_is_told_by_each_usual_name(name):
    module = argument_module(name, trains=name not in ("deterministic", "use_running_average"))
    assert draws_in_training_only(from_nnx(module, SHAPE))


def test_the_mode_is_told_among_keywords_that_the_call_hands_on():
    class Strict(nnx.Module):
        def __init__(self, rngs):
            self.last, self.dropout = nnx.Linear(6, 3, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)

        def __call__(self, x, **options):
            return self.last(self.dropout(x, **options))

    assert draws_in_training_only(from_nnx(Strict, SHAPE))


def test_a_call_that_takes_rngs_gets_them():
    class Given(nnx.Module):
        def __init__(self, rngs):
            self.last, self.dropout = nnx.Linear(6, 3, rngs=rngs), nnx.Dropout(0.5)

        def __call__(self, x, *, rngs):
            return self.last(self.dropout(x, rngs=rngs))

    assert draws_in_training_only(from_nnx(Given, SHAPE))

    def sequential(rngs):
        return nnx.Sequential(nnx.Linear(6, 5, rngs=rngs), nnx.Dropout(0.5, rngs=rngs), nnx.Linear(5, 3, rngs=rngs))

    assert draws_in_training_only(from_nnx(sequential, SHAPE))


class Noisy(nnx.Module):
    """Streams of its own, one of them an array of keys, and batch statistics."""

    def __init__(self, rngs):
        self.last, self.norm = nnx.Linear(6, 3, rngs=rngs), nnx.BatchNorm(6, rngs=rngs)
        self.rngs, self.dropout = nnx.Rngs(noise=rngs.noise()), nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x, train=False):
        x = self.norm(x)
        if train:
            x = x + jax.random.normal(self.rngs.noise(), x.shape)
        return self.last(self.dropout(x))


def test_each_stream_is_seeded_by_the_key_of_the_step_and_none_of_them_is_carried():
    model = from_nnx(Noisy, SHAPE)
    assert draws_in_training_only(model)
    state = model.init(KEY).state
    assert list(state) == ["norm"]
    assert not any(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in jax.tree.leaves(state))


def test_lanes_with_batch_statistics_equal_runs_alone():
    rng = np.random.default_rng(0)
    split = Split(rng.normal(size=(24, *SHAPE)).astype(np.float32), rng.integers(0, 3, 24).astype(np.int32))
    data = Dataset(split, split, split, num_classes=3)
    model, config = from_nnx(Noisy, SHAPE), TrainerConfig(batch_size=8, max_epochs=2)
    keys = jax.random.split(KEY, 2)
    lanes = jax.jit(lj.make_train_lanes(model, optax.sgd(0.1), config, strategy="vmap"))(keys, {}, data)
    alone = jax.jit(lj.make_train(model, optax.sgd(0.1), config))(keys[1], {}, data)
    jax.tree.map(
        lambda lane, run: np.testing.assert_allclose(lane[1], run, rtol=1e-4, atol=1e-5),
        lanes.variables,
        alone.variables,
    )


def test_a_seed_decides_the_initial_weights():
    model = from_nnx(Counting, SHAPE)
    kernels = [model.init(jax.random.key(n)).params["layers"][0]["kernel"] for n in (0, 0, 1)]
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert not np.array_equal(kernels[0], kernels[2])
    expected = nnx.Linear(6, 5, rngs=nnx.Rngs(KEY)).kernel.get_value()
    np.testing.assert_array_equal(kernels[0], expected)


def test_a_model_needs_no_stream_of_dropout_in_nnx():
    model = lj.create_model("lenet", num_kernels=(2, 2), hidden_units=4)
    images = jnp.zeros((2, 28, 28, 1))
    module = to_nnx(model, nnx.Rngs(params=0))
    module.train()
    expected = model.apply(model.init(nnx.Rngs(params=0).params()), images)[0]
    np.testing.assert_allclose(module(images), expected, rtol=1e-6)
