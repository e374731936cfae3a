"""flax modules in this package's trainer, and its models in flax."""

import functools
import os

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import lenet_jax as lj
from lenet_jax.config import TrainerConfig
from lenet_jax.interop import from_linen, from_nnx, to_linen, to_nnx
from lenet_jax.lanes import make_train_lanes
from lenet_jax.types import Dataset, Split

linen = pytest.importorskip("flax.linen")
nnx = pytest.importorskip("flax.nnx")

SHAPE = (4, 4, 1)


class LinenNet(linen.Module):
    """Dropout and batch normalization: random numbers and state."""

    rate: float = 0.0

    @linen.compact
    def __call__(self, images, train: bool = False):
        x = linen.Dense(8)(images.reshape(len(images), -1))
        x = linen.relu(linen.BatchNorm(use_running_average=not train, momentum=0.9)(x))
        return linen.Dense(3)(linen.Dropout(self.rate, deterministic=not train)(x))


class NnxNet(nnx.Module):
    def __init__(self, rngs, rate=0.0):
        self.hidden, self.last = nnx.Linear(16, 8, rngs=rngs), nnx.Linear(8, 3, rngs=rngs)
        self.norm = nnx.BatchNorm(8, momentum=0.9, rngs=rngs)
        self.dropout = nnx.Dropout(rate, rngs=rngs)

    def __call__(self, images):
        x = nnx.relu(self.norm(self.hidden(images.reshape(len(images), -1))))
        return self.last(self.dropout(x))


MODELS = {
    "linen": lambda rate=0.0: from_linen(LinenNet(rate), SHAPE),
    "nnx": lambda rate=0.0: from_nnx(lambda rngs: NnxNet(rngs, rate), SHAPE),
}


def data():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 48).astype(np.int32)
    images = rng.integers(0, 100, (48, *SHAPE))
    images[np.arange(48), labels] += 150
    split = Split(images.astype(np.uint8), labels)
    return Dataset(split, split, split, num_classes=3)


CONFIG = TrainerConfig(batch_size=8, max_epochs=10)
OPTIMIZER = lj.make_optimizer("momentum", learning_rate=0.05)

# As users compile: made the older way, flax's operations are added up in another order in another program.
OLDER = "fusion_emitters=false" in os.environ.get("XLA_FLAGS", "")
jit = functools.partial(jax.jit, compiler_options={"xla_cpu_use_fusion_emitters": True} if OLDER else None)


@pytest.mark.parametrize("library", MODELS)
def test_a_module_of_flax_learns_in_the_trainer_and_in_lanes(library):
    model = MODELS[library](0.1)
    rates = jnp.asarray([0.05, 0.02])
    keys = jax.random.split(jax.random.key(0), 2)
    lanes = jit(make_train_lanes(model, OPTIMIZER, CONFIG))(keys, {"learning_rate": rates}, data())
    assert float(lanes.test.accuracy[0]) > 0.9
    alone = jit(lj.make_train(model, OPTIMIZER, CONFIG))(keys[1], {"learning_rate": rates[1]}, data())
    jax.tree.map(lambda lane, run: np.testing.assert_array_equal(lane[1], run), lanes.variables, alone.variables)


@pytest.mark.parametrize("library", MODELS)
def test_its_state_moves_while_it_trains_only_and_its_key_is_the_callers(library):
    model, images = MODELS[library](0.5), jax.random.normal(jax.random.key(1), (6, *SHAPE))
    variables = model.init(jax.random.key(0))
    _, same = model.apply(variables, images)
    jax.tree.map(np.testing.assert_array_equal, same, variables.state)
    key = jax.random.key(2)
    logits, state = model.apply(variables, images, train=True, key=key)
    np.testing.assert_array_equal(model.apply(variables, images, train=True, key=key)[0], logits)
    assert not np.array_equal(model.apply(variables, images, train=True, key=jax.random.key(3))[0], logits)
    moved = [not np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (state, variables.state)), strict=True)]
    assert any(moved)


def test_the_state_of_a_linen_module_is_that_of_flax():
    module, images = LinenNet(), jax.random.normal(jax.random.key(1), (6, *SHAPE))
    model = from_linen(module, SHAPE)
    params, state = model.init(jax.random.key(0))
    logits, new = module.apply({"params": params, **state}, images, train=True, mutable=["batch_stats"])
    found, found_state = model.apply(lj.Variables(params, state), images, train=True)
    np.testing.assert_array_equal(found, logits)
    jax.tree.map(np.testing.assert_array_equal, found_state, dict(new))


def normalized_model():
    stages = {
        "conv": lj.layers.convolution(3, 3, lj.initializers.he_normal()),
        "norm": lj.layers.batch_normalization(),
        "flatten": lj.layers.flatten(),
        "dense": lj.layers.dense(4, lj.fan_in_uniform()),
    }
    return lj.layers.make_model(lj.layers.serial(stages), (8, 8, 1))


def test_a_model_stands_inside_a_linen_module():
    model, images = normalized_model(), jax.random.normal(jax.random.key(1), (6, 8, 8, 1))

    class Both(linen.Module):
        @linen.compact
        def __call__(self, images, train: bool = False):
            return linen.Dense(2)(to_linen(model)(images, train=train))

    module = Both()
    variables = module.init({"params": jax.random.key(0)}, images)
    inner = variables["params"]["LinenModel_0"]["model"]
    state = variables["state"]["LinenModel_0"]["model"]
    features, new_state = model.apply(lj.Variables(inner, state), images, train=True)
    logits, changed = module.apply(variables, images, train=True, mutable=["state"])
    np.testing.assert_allclose(logits, linen.Dense(2).apply({"params": variables["params"]["Dense_0"]}, features), 1e-6)
    jax.tree.map(np.testing.assert_array_equal, changed["state"]["LinenModel_0"]["model"], new_state)

    def loss(params):
        return module.apply({**variables, "params": params}, images).sum()

    assert optax.tree.norm(jax.grad(loss)(variables["params"])["LinenModel_0"]) > 0


def test_a_model_stands_inside_an_nnx_module():
    model, images = normalized_model(), jax.random.normal(jax.random.key(1), (6, 8, 8, 1))

    class Both(nnx.Module):
        def __init__(self, rngs):
            self.features, self.last = to_nnx(model, rngs), nnx.Linear(4, 2, rngs=rngs)

        def __call__(self, images):
            return self.last(self.features(images))

    module = Both(nnx.Rngs(0))
    before = jax.tree.map(jnp.copy, module.features.state.get_value())

    @nnx.jit
    def step(module, images):
        return nnx.value_and_grad(lambda module: module(images).sum())(module)

    module.train()
    _, grads = step(module, images)
    assert optax.tree.norm(nnx.to_pure_dict(grads)["features"]) > 0
    moved = module.features.state.get_value()
    assert not np.array_equal(jax.tree.leaves(moved)[0], jax.tree.leaves(before)[0])
    module.eval()
    params = module.features.params.get_value()
    expected = module.last(model.apply(lj.Variables(params, moved), images)[0])
    np.testing.assert_allclose(module(images), expected, rtol=1e-6)
