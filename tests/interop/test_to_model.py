"""Whatever a user has of a network becomes a model: from an object, a class or a function."""

import functools
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import lenet_jax as lj
from lenet_jax import layers
from lenet_jax.config import TrainerConfig
from lenet_jax.interop import to_model

linen = pytest.importorskip("flax.linen")
nnx = pytest.importorskip("flax.nnx")

SHAPE = (4, 4, 1)
KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (5, *SHAPE))


class LinenNet(linen.Module):
    num_outputs: int
    width: int = 8

    @linen.compact
    def __call__(self, x):
        return linen.Dense(self.num_outputs)(linen.relu(linen.Dense(self.width)(x.reshape(len(x), -1))))


class NnxNet(nnx.Module):
    def __init__(self, num_outputs, width=8, *, input_shape, rngs):
        self.hidden = nnx.Linear(int(np.prod(input_shape)), width, rngs=rngs)
        self.last = nnx.Linear(width, num_outputs, rngs=rngs)

    def __call__(self, x):
        return self.last(nnx.relu(self.hidden(x.reshape(len(x), -1))))


def pair(*, input_shape, num_outputs):
    size = int(np.prod(input_shape))
    return lambda key: jax.random.normal(key, (size, num_outputs)), lambda w, x: x.reshape(len(x), -1) @ w


def dense(num_outputs=3):
    return layers.serial({"flatten": layers.flatten(), "out": layers.dense(num_outputs, lj.fan_in_uniform())})


FOUND = {
    "a model": layers.make_model(dense(), SHAPE),
    "a layer": dense(),
    "a function that returns a layer": dense,
    "a Linen module": LinenNet(3),
    "a Linen class": LinenNet,
    "a function that returns a Linen module": lambda num_outputs: LinenNet(num_outputs),
    "an NNX class": NnxNet,
    "a function that returns an NNX module": lambda rngs: NnxNet(3, input_shape=SHAPE, rngs=rngs),
    "a partial NNX class": functools.partial(NnxNet, 3, width=4, input_shape=SHAPE),
    "a pair": pair(input_shape=SHAPE, num_outputs=3),
    "a function that returns a pair": pair,
}


@pytest.mark.parametrize("name", FOUND)
def test_a_model_is_made_of(name):
    model = to_model(FOUND[name], SHAPE, 3)
    assert isinstance(model, lj.Model)
    variables = model.init(KEY)
    assert model.apply(variables, X)[0].shape == (5, 3)
    other = model.init(jax.random.key(1))
    leaves = zip(jax.tree.leaves(variables.params), jax.tree.leaves(other.params), strict=True)
    assert any(not np.array_equal(a, b) for a, b in leaves)


def test_an_equinox_module_comes_from_a_function_that_takes_a_key():
    eqx = pytest.importorskip("equinox")

    def net(key):
        return eqx.nn.Sequential([eqx.nn.Lambda(jnp.ravel), eqx.nn.Linear(16, 3, key=key)])

    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        model = to_model(net, SHAPE)
        assert model.apply(model.init(KEY), X)[0].shape == (5, 3)
        with pytest.raises(lj.InputError, match="got a Sequential whose weights are there already, whatever the seed"):
            to_model(net(KEY), SHAPE)
    with pytest.raises(lj.InputError, match="got a Dense for `key`"):
        to_model(lambda key: linen.Dense(3), SHAPE)


ALLOWED = "must be, or return, a lj.Model, a Layer of lenet_jax.layers, a flax Linen module, a flax NNX module "


@pytest.mark.parametrize(
    ("found", "kind"),
    [
        (3, "an int"),
        (lambda: {}, "a dict"),
        ((pair, 3), "a tuple"),
        (lambda: NnxNet, "an ObjectMeta|a [A-Za-z]*Meta"),
        (NnxNet(3, input_shape=SHAPE, rngs=nnx.Rngs(0)), "a NnxNet whose weights are there already"),
        (lambda rngs: LinenNet(3), "a LinenNet for `rngs`"),
    ],
)
def test_anything_else_is_refused_with_all_that_is_possible(found, kind):
    with pytest.raises(lj.InputError, match=f"{ALLOWED}.*; got ({kind})"):
        to_model(found, SHAPE, 3)


def test_vectors_are_inputs_like_images():
    def train(model):
        rng = np.random.default_rng(0)
        x = rng.normal(size=(40, 3)).astype(np.float32)
        split = lj.Split(x, x @ np.float32([[1.0], [2.0], [3.0]]))
        config = TrainerConfig(batch_size=10, max_epochs=40)
        run = lj.make_train(model, optax.sgd(0.1), config, objective=lj.objectives.regression())
        return jax.jit(run)(KEY, {}, lj.Dataset(split, split, split, num_classes=1))

    for found in (LinenNet, NnxNet, pair, layers.dense(1, lj.fan_in_uniform())):
        assert float(train(to_model(found, (3,), 1)).test.loss) < 0.5


def test_a_module_in_place_of_a_model_is_answered_with_the_way_to_make_one(without_type_checks):
    message = r"`model` must be a lj.Model; got a LinenNet; make one of it: lj.interop.to_model\(model, input_shape\)"
    with pytest.raises(lj.InputError, match=f"make_train: {message}"):
        lj.make_train(LinenNet(3), optax.sgd(0.1), TrainerConfig())
    with pytest.raises(lj.InputError, match=f"make_train: {message}"):
        lj.make_train_lanes(LinenNet(3), optax.sgd(0.1), TrainerConfig())
    with pytest.raises(lj.InputError, match=f"evaluate: {message}"):
        lj.evaluate(LinenNet(3), lj.Variables({}, {}), lj.Split(X, jnp.zeros(5, jnp.int32)))


def test_no_other_library_is_imported_before_it_is_used():
    code = "import lenet_jax as lj, sys; lj.interop.to_model; print({'flax', 'equinox'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
