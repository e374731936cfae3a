"""The loss of a minibatch against what it is composed of, written out in plain JAX."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lenet_jax as lj
from lenet_jax import objectives
from lenet_jax.augment import Mixup, random_crop, random_flip, random_lighting
from lenet_jax.errors import InputError
from lenet_jax.objective import Batch, Task, measure, no_examples, predict, scale_inputs, training_loss
from lenet_jax.types import Heads, Model

KEY = jax.random.key(3)
RNG = np.random.default_rng(0)
NUM, SHAPE, CLASSES = 6, (5, 4, 3), 4
IMAGES = jnp.asarray(RNG.integers(0, 256, (NUM, *SHAPE)).astype(np.uint8))
LABELS = jnp.asarray(RNG.integers(0, CLASSES, NUM).astype(np.int32))
KEYS = jax.random.split(KEY, NUM)
ALL = jnp.ones(NUM, bool)


def init(key):
    kernels = 0.1 * jax.random.normal(key, (3, 60, 8))
    return lj.Variables({"hidden": kernels[0], "main": kernels[1, :8, :4], "auxiliary": kernels[2, :8, :4]}, {})


def apply(variables, images, *, train=False, key=None):
    """Two layers with dropout in between, and a second head in training."""
    params = variables.params
    hidden = jax.nn.relu(images.reshape(len(images), -1) @ params["hidden"])
    if not train:
        return hidden @ params["main"], variables.state
    hidden = jnp.where(jax.vmap(lambda key: jax.random.bernoulli(key, 0.5, (8,)))(key), 2 * hidden, 0)
    return Heads(hidden @ params["main"], ((jnp.float32(0.3), hidden @ params["auxiliary"]),)), variables.state


MODEL = Model(init, apply, takes_example_keys=True)
VARIABLES = init(jax.random.key(0))
AUGMENTS = (random_crop(1), random_flip(), random_lighting(0.2))


def neighbour(keys=KEYS):
    other = jnp.roll(jnp.arange(NUM), 1)
    return Batch(IMAGES[other], LABELS[other], keys[other])


def loss_by_hand(params, n, *, augments, alpha, smoothing, dtype):
    """Return the loss of one example of the minibatch."""

    def changed(n):
        image, key = IMAGES[n].astype(jnp.float32) / 200, jax.random.split(KEYS[n])[0]
        for number, augment in enumerate(augments):
            image = augment(jax.random.split(key, len(augments))[number], image)
        return image

    key, image, targets = KEYS[n], changed(n), [(1.0, LABELS[n])]
    if augments or alpha:
        key = jax.random.split(key)[1]
    if alpha:
        mix, key = jax.random.split(key)
        weight, other = jax.random.beta(mix, alpha, alpha, dtype=jnp.float32), (n - 1) % NUM
        image = weight * image + (1 - weight) * changed(other)
        targets = [(weight, LABELS[n]), (1 - weight, LABELS[other])]
    low = {name: kernel.astype(dtype) for name, kernel in params.items()}
    hidden = jax.nn.relu(image.astype(dtype).reshape(1, -1) @ low["hidden"])[0]
    hidden = jnp.where(jax.random.bernoulli(key, 0.5, (8,)), 2 * hidden, 0)
    total = jnp.float32(0)
    for head, factor in (("main", 1.0), ("auxiliary", 0.3)):
        logits = (hidden[None] @ low[head])[0].astype(jnp.float32)
        log_likelihoods = logits - jnp.log(jnp.sum(jnp.exp(logits)))
        for weight, label in targets:
            mean = jnp.mean(log_likelihoods)
            total -= factor * weight * ((1 - smoothing) * log_likelihoods[label] + smoothing * mean)
    return total


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("alpha", [None, 0.4])
@pytest.mark.parametrize("augments", [(), AUGMENTS])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_in_training_is_that_by_hand(augments, alpha, dtype, smoothing):
    mixup = () if alpha is None else (Mixup(alpha),)
    task = Task(MODEL, objectives.classification(label_smoothing=smoothing), (*augments, *mixup), dtype, 200.0)
    batch = Batch(IMAGES, LABELS, KEYS, neighbour() if mixup else None)

    def ours(params):
        losses, state = training_loss(task, VARIABLES._replace(params=params), batch)
        assert losses.shape == (NUM,)
        assert losses.dtype == jnp.float32
        assert state == {}
        return jnp.mean(losses), losses

    by_hand = functools.partial(loss_by_hand, augments=augments, alpha=alpha, smoothing=smoothing, dtype=dtype)

    def expected(params):
        losses = jax.vmap(by_hand, (None, 0))(params, jnp.arange(NUM))
        return jnp.mean(losses), losses

    tolerance = {"rtol": 1e-5, "atol": 1e-6} if dtype == "float32" else {"rtol": 2e-2, "atol": 2e-3}
    grads, losses = jax.jit(jax.grad(ours, has_aux=True))(VARIABLES.params)
    expected_grads, expected_losses = jax.jit(jax.grad(expected, has_aux=True))(VARIABLES.params)
    np.testing.assert_allclose(losses, expected_losses, **tolerance)
    for name, grad in expected_grads.items():
        np.testing.assert_allclose(grads[name], grad, err_msg=name, **tolerance)
        assert grads[name].dtype == jnp.float32


def test_an_example_mixed_alone_is_mixed_as_in_its_minibatch():
    task = Task(MODEL, objectives.classification(), (random_flip(), Mixup(0.4)))
    whole = Batch(IMAGES, LABELS, KEYS, neighbour())
    together, _ = training_loss(task, VARIABLES, whole)
    alone = [training_loss(task, VARIABLES, jax.tree.map(lambda x, n=n: x[n : n + 1], whole))[0] for n in range(NUM)]
    np.testing.assert_allclose(jnp.concatenate(alone), together, rtol=1e-5)


def test_a_model_of_one_key_gets_the_key_of_the_first_example():
    def one_key(variables, images, *, train=False, key=None):
        return jnp.broadcast_to(jax.random.normal(key, (1, 4)), (len(images), 4)), variables.state

    task = Task(Model(init, one_key), objectives.classification())
    losses, _ = training_loss(task, VARIABLES, Batch(IMAGES, LABELS, KEYS))
    logits = jnp.broadcast_to(jax.random.normal(KEYS[0], (1, 4)), (NUM, 4))
    np.testing.assert_allclose(losses, lj.cross_entropy(logits, LABELS), rtol=1e-6)


def test_counts_only_what_the_mask_admits():
    logits = jnp.array([[2.0, 0.0], [0.0, 2.0], [0.0, 2.0]])
    model = Model(init, lambda variables, images, *, train=False, key=None: (images, {}))
    task = Task(model, objectives.classification(label_smoothing=0.3))
    counted = measure(task, VARIABLES, logits, jnp.array([0, 0, 1]), jnp.array([True, True, False]))
    assert (int(counted.num_correct), int(counted.num_examples)) == (1, 2)
    assert float(counted.accuracy) == float(counted.mean("accuracy")) == 0.5
    np.testing.assert_allclose(counted.loss, (np.log1p(np.exp(-2)) + np.log1p(np.exp(2))) / 2, rtol=1e-6)
    assert float(counted.mean("loss")) == float(counted.loss)


def test_a_value_that_is_not_finite_is_not_counted_behind_the_mask():
    model = Model(init, lambda variables, images, *, train=False, key=None: (images, {}))
    logits = jnp.array([[2.0, 0.0], [jnp.nan, jnp.inf]])
    task = Task(model, objectives.classification())
    counted = measure(task, VARIABLES, logits, jnp.array([0, 0]), jnp.array([True, False]))
    np.testing.assert_allclose(counted.loss, np.log1p(np.exp(-2)), rtol=1e-6)


def test_the_metrics_of_parts_add_up_from_those_of_no_example():
    task = Task(MODEL, objectives.classification())
    total = no_examples(task.objective)
    for part in (slice(0, 2), slice(2, 6)):
        more = measure(task, VARIABLES, IMAGES[part], LABELS[part], ALL[part])
        total = jax.tree.map(jnp.add, total, more)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-5),
        total,
        measure(task, VARIABLES, IMAGES, LABELS, ALL),
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_bytes_are_divided_and_floats_are_taken_as_they_are(dtype):
    floats = np.asarray(IMAGES, np.float32) / np.float32(128)  # a power of two: no rounding, however it is computed
    task = Task(MODEL, objectives.classification(), AUGMENTS, dtype, pixel_divisor=128.0)
    logits = predict(task, VARIABLES, IMAGES)
    assert logits.dtype == jnp.float32
    np.testing.assert_array_equal(predict(task, VARIABLES, jnp.asarray(floats)), logits)
    if dtype == "float32":
        np.testing.assert_allclose(logits, apply(VARIABLES, jnp.asarray(floats))[0], rtol=1e-5, atol=1e-6)
    else:
        assert not np.array_equal(logits, predict(task._replace(compute_dtype="float32"), VARIABLES, IMAGES))
    losses = [training_loss(task, VARIABLES, Batch(x, LABELS, KEYS))[0] for x in (IMAGES, jnp.asarray(floats))]
    np.testing.assert_array_equal(*losses)


def test_every_array_of_the_inputs_is_scaled_by_its_own_dtype():
    inputs = {
        "image": jnp.array([[128]], jnp.uint8),
        "floats": jnp.array([128.0]),
        "words": jnp.array([128], jnp.int32),
    }
    scaled = scale_inputs(inputs, 256.0)
    assert {name: (x.dtype.name, x.ravel().tolist()) for name, x in scaled.items()} == {
        "image": ("float32", [0.5]),
        "floats": ("float32", [128.0]),
        "words": ("int32", [128]),
    }


def test_an_augmentation_that_changes_the_shape_is_refused():
    task = Task(MODEL, objectives.classification(), (lambda key, image: image[1:],))
    with pytest.raises(InputError, match=r"must return an example of the same shape, \(\d+, .*\) here; got \("):
        training_loss(task, VARIABLES, Batch(IMAGES, LABELS, KEYS))
