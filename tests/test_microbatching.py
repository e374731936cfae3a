"""A minibatch in microbatches: the same sums, and the same random numbers, whatever their size."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lenet_jax as lj
from lenet_jax import layers, microbatching, training
from lenet_jax.augment import mixup, random_crop
from lenet_jax.config import TrainerConfig
from lenet_jax.microbatching import accumulate_gradients, accumulate_loss, choose_size
from lenet_jax.ops.initializers import fan_in_uniform
from lenet_jax.types import Dataset, Model, Objective, Split, Variables

KEY = jax.random.key(1)
RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("arguments", "is_separable", "expected"),
    [
        ((500, 1), True, 500),
        ((512, 1), True, 512),
        ((1000, 1), True, 500),  # the largest divisor up to 512
        ((50_000, 1), True, 500),
        ((1009, 1), True, 1009),  # a prime: no divisor from 65 to 512
        ((5000, 5), True, 500),
        ((500, 50), True, 10),  # as asked for, however small
        ((50_000, 1), False, 50_000),
        ((50_000, 5), False, 10_000),
    ],
)
def test_the_size_by_hand(arguments, is_separable, expected):
    assert choose_size(*arguments, is_separable=is_separable) == expected


@pytest.mark.parametrize("steps", [0, 3, 200])
def test_steps_that_do_not_divide_the_minibatch_are_refused(steps):
    with pytest.raises(lj.InputError) as error:
        choose_size(100, steps, is_separable=True)
    assert str(error.value) == (
        "train_step: `grad_accumulation_steps` must be 1 or above and divide the minibatch of 100 examples; "
        f"got {steps}."
    )


@pytest.mark.parametrize("size", [1, 3, 4, 12])
def test_sums_and_gradients_are_those_of_the_whole_minibatch(size):
    x, y = (jnp.asarray(RNG.normal(size=(12, 3)), jnp.float32) for _ in range(2))
    params = {"kernel": jnp.asarray(RNG.normal(size=(3, 3)), jnp.float32)}

    def loss_fn(variables, batch):
        losses = jnp.sum(jnp.square(batch["x"] @ variables.params["kernel"] - batch["y"]), axis=1)
        return losses, variables.state + len(losses)  # what is carried from one microbatch to the next

    variables, batch = Variables(params, jnp.int32(0)), {"x": x, "y": y}
    grads, loss, state = jax.jit(lambda batch: accumulate_gradients(loss_fn, variables, batch, size))(batch)
    difference = np.asarray(x, np.float64) @ np.asarray(params["kernel"], np.float64) - np.asarray(y)
    np.testing.assert_allclose(loss, np.square(difference).sum(), rtol=1e-5)
    np.testing.assert_allclose(grads["kernel"], 2 * np.asarray(x, np.float64).T @ difference, rtol=1e-4, atol=1e-4)
    assert int(state) == 12

    def total(params):
        return accumulate_loss(loss_fn, variables._replace(params=params), batch, size)

    value, again = jax.jit(jax.value_and_grad(total))(params)
    np.testing.assert_allclose(value, loss, rtol=1e-5)
    np.testing.assert_allclose(again["kernel"], grads["kernel"], rtol=1e-4, atol=1e-4)
    curvature = jax.jit(lambda p: jax.jvp(jax.grad(total), (p,), (p,))[1])(params)  # the loss is a quadratic
    hessian = 2 * np.asarray(x, np.float64).T @ np.asarray(x, np.float64)
    np.testing.assert_allclose(curvature["kernel"], hessian @ params["kernel"], rtol=1e-4, atol=1e-3)


# ---- what is drawn at random ----------------------------------------------------------------------------------------
#
# A model and an augmentation whose random numbers are the gradient: of two parameters an example, one has that of the
# model, the other that of the augmentation.

NUM = 96


def apply(variables, inputs, *, train=False, key=None):
    number, noise = inputs[:, 0].astype(jnp.int32), inputs[:, 1]
    drawn = jax.vmap(jax.random.uniform)(key) if train else jnp.zeros_like(noise)
    return drawn * variables.params[number, 0] + noise * variables.params[number, 1], variables.state


REVEALING = Model(lambda key: Variables(jnp.zeros((NUM, 2)), {}), apply, takes_example_keys=True)
NUMBERS = np.stack([np.arange(NUM), np.zeros(NUM)], axis=1).astype(np.float32)
EXAMPLES = Split(NUMBERS, np.zeros(NUM, np.float32))
REVEALED = Dataset(EXAMPLES, EXAMPLES, EXAMPLES)
OUTPUT = Objective(lambda outputs, targets: outputs, {}, monitor="loss", mode="min")


def add_noise(key, example):
    return example.at[1].add(jax.random.normal(key))


def drawn(steps=1):
    """Return the random numbers of a step on 64 examples: of the model and of the augmentation."""
    optimizer = lj.make_optimizer("sgd", learning_rate=1.0)
    state = training.init_train_state(REVEALING, optimizer, TrainerConfig(), KEY, {}, objective=OUTPUT)
    indices = jax.random.permutation(KEY, NUM)[:64]
    options = {"objective": OUTPUT, "augment": [add_noise], "grad_accumulation_steps": steps}
    state, _ = training.train_step(REVEALING, optimizer, state, REVEALED, indices, **options)
    return -64 * state.variables.params[indices]


def by_hand():
    """Return the same from the keys: of the step by its iteration, of an example by its position."""
    _, run_key = jax.random.split(KEY)
    step_key = jax.random.fold_in(jax.random.split(run_key)[1], 0)
    numbers = []
    for position in range(64):
        augment_key, model_key = jax.random.split(jax.random.fold_in(step_key, position))
        noise = jax.random.normal(jax.random.split(augment_key, 1)[0])
        numbers.append([float(jax.random.uniform(model_key)), float(noise)])
    return np.array(numbers, np.float32)


@pytest.mark.parametrize("largest", [1, 16, 32, 64])
@pytest.mark.parametrize("steps", [1, 4, 64])
def test_what_is_drawn_for_an_example_depends_on_its_position_in_the_minibatch_only(largest, steps, monkeypatch):
    monkeypatch.setattr(microbatching, "_LARGEST", largest)
    found = jax.jit(functools.partial(drawn, steps=steps))()
    np.testing.assert_allclose(found, by_hand(), rtol=1e-5)
    np.testing.assert_array_equal(found, _drawn_whole())


@functools.cache
def _drawn_whole():
    return np.asarray(jax.jit(drawn)())


def small_run(augment, **options):
    """Train a network with dropout for two epochs."""
    network = {
        "conv": layers.convolution(3, 3, fan_in_uniform(), pool_size=2),
        "tanh": layers.activation("tanh"),
        "flatten": layers.flatten(),
        "drop": layers.dropout(0.4),
        "dense": layers.dense(4, fan_in_uniform()),
    }
    rng = np.random.default_rng(0)
    split = Split(rng.integers(0, 256, (128, 8, 8, 1)).astype(np.uint8), rng.integers(0, 4, 128).astype(np.int32))
    config = TrainerConfig(**{"batch_size": 64, "max_epochs": 2, **options})
    model = layers.make_model(layers.serial(network), (8, 8, 1))
    train = lj.make_train(model, lj.make_optimizer("sgd", learning_rate=0.3), config, augment=augment)
    return jax.jit(train)(KEY, {}, Dataset(split, split, split, num_classes=4))


AUGMENTS = {"no augmentation": [], "crop": [random_crop(2)], "crop and mixup": [random_crop(2), mixup(alpha=0.4)]}


@pytest.mark.parametrize("name", AUGMENTS)
def test_a_run_has_the_same_losses_whatever_its_microbatches(name, monkeypatch):
    runs = []
    for largest, steps in ((64, 1), (64, 4), (16, 1), (32, 2)):
        monkeypatch.setattr(microbatching, "_LARGEST", largest)
        runs.append(small_run(AUGMENTS[name], grad_accumulation_steps=steps))
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    for other in runs[1:]:
        close(other.history.train_loss, runs[0].history.train_loss)
        jax.tree.map(close, other.variables, runs[0].variables)
    assert len(set(np.asarray(runs[0].history.train_loss).tolist())) == 2
