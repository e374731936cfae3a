"""Each objective against its formula in float64 NumPy, and what a run does with its metrics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lenet_jax as lj
from lenet_jax import layers, objectives
from lenet_jax.config import TrainerConfig
from lenet_jax.ops.initializers import fan_in_uniform
from lenet_jax.types import Dataset, Objective, Split

RNG = np.random.default_rng(0)


def softmax_loss(logits, labels, label_smoothing=0.0):
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    classes = logits.shape[-1]
    targets = (1 - label_smoothing) * np.eye(classes)[labels] + label_smoothing / classes
    return -(targets * np.log(probabilities)).sum(-1)


def check(objective, outputs, targets, expected):
    """Compare loss and metrics of each example with those expected: one column of numbers a name."""
    outputs, targets = jnp.asarray(outputs, jnp.float32), jnp.asarray(targets)
    functions = {"loss": objective.loss, **objective.metrics}
    assert functions.keys() == expected.keys()
    for name, fn in functions.items():
        values = jax.jit(fn)(outputs, targets)
        assert values.shape == (len(outputs),), name
        np.testing.assert_allclose(np.asarray(values, np.float64), expected[name], rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("dtype", [np.int32, np.uint8])
def test_classification(dtype):
    logits, labels = 3 * RNG.normal(size=(8, 5)), RNG.integers(0, 5, 8)
    right = logits.argmax(-1) == labels
    objective = objectives.classification()
    check(objective, logits, labels.astype(dtype), {"loss": softmax_loss(logits, labels), "accuracy": right})
    assert (objective.monitor, objective.mode) == ("accuracy", "max")


def test_labels_are_smoothed_in_training_only():
    logits, labels = 3 * RNG.normal(size=(8, 5)), RNG.integers(0, 5, 8)
    objective = objectives.classification(label_smoothing=0.1)
    right = logits.argmax(-1) == labels
    check(objective, logits, labels, {"loss": softmax_loss(logits, labels, 0.1), "accuracy": right})
    evaluated = objective.evaluation_loss(jnp.asarray(logits, jnp.float32), jnp.asarray(labels))
    np.testing.assert_allclose(evaluated, softmax_loss(logits, labels), rtol=1e-5)


@pytest.mark.parametrize(
    ("outputs", "targets"), [((6,), (6,)), ((6, 1), (6,)), ((6, 3), (6, 3)), ((6, 2, 4, 3), (6, 2, 4, 3))]
)
def test_regression(outputs, targets):
    y, t = RNG.normal(size=outputs), RNG.normal(size=targets)
    difference = (y.reshape(targets) - t).reshape(6, -1)
    squared, absolute = np.square(difference).mean(-1), np.abs(difference).mean(-1)
    objective = objectives.regression()
    expected = {"loss": squared, "mean_squared_error": squared, "mean_absolute_error": absolute}
    check(objective, y, t.astype(np.float32), expected)
    assert (objective.monitor, objective.mode) == ("mean_squared_error", "min")
    integers = RNG.integers(0, 9, targets)
    found = objective.loss(jnp.asarray(y, jnp.float32), jnp.asarray(integers))
    np.testing.assert_allclose(found, np.square(y.reshape(targets) - integers).reshape(6, -1).mean(-1), rtol=1e-5)


def test_multi_label():
    logits, targets = 3 * RNG.normal(size=(8, 4)), RNG.integers(0, 2, (8, 4))
    logits[0] = 5 * (2 * targets[0] - 1)  # all of them right
    sigmoid = 1 / (1 + np.exp(-logits))
    loss = -(targets * np.log(sigmoid) + (1 - targets) * np.log(1 - sigmoid)).mean(-1)
    right = (logits > 0) == targets
    expected = {"loss": loss, "accuracy": right.mean(-1), "exact_match": right.all(-1)}
    check(objectives.multi_label(), logits, targets, expected)
    check(objectives.multi_label(), logits, targets.astype(np.float32), expected)


@pytest.mark.parametrize("dtype", [np.int32, np.uint8])
def test_dense_classification(dtype):
    logits, labels = 3 * RNG.normal(size=(6, 3, 4, 5)), RNG.integers(0, 5, (6, 3, 4))
    right = (logits.argmax(-1) == labels).reshape(6, -1).mean(-1)
    expected = {"loss": softmax_loss(logits, labels).reshape(6, -1).mean(-1), "accuracy": right}
    check(objectives.dense_classification(), logits, labels.astype(dtype), expected)


# ---- in a run -------------------------------------------------------------------------------------------------------


def train(network, input_shape, data, objective, learning_rate, **trainer):
    model = layers.make_model(layers.serial(network), input_shape)
    config = TrainerConfig(**{"batch_size": 16, "max_epochs": 8, **trainer})
    optimizer = lj.make_optimizer("sgd", learning_rate=learning_rate)
    run = jax.jit(lj.make_train(model, optimizer, config, objective=objective))
    return model, run(jax.random.key(0), {}, data)


def to_data(inputs, targets, **options):
    """Return a data set of the first 64 examples, the next 16 and the last 16."""
    ends = ((0, 64), (64, 80), (80, 96))
    return Dataset(*(Split(inputs[a:b], targets[a:b]) for a, b in ends), **options)


def test_a_regression_is_trained_to_the_coefficients_of_its_targets():
    x = RNG.normal(size=(96, 2, 2, 1)).astype(np.float32)
    data = to_data(x, (x.reshape(96, 4) @ np.array([1.0, -2.0, 0.5, 3.0]) + 0.7).astype(np.float32))
    network = {"flatten": layers.flatten(), "dense": layers.dense(1, fan_in_uniform())}
    model, result = train(network, (2, 2, 1), data, objectives.regression(), 0.1, max_epochs=40)
    np.testing.assert_allclose(result.variables.params["dense"]["kernel"].ravel(), [1, -2, 0.5, 3], atol=0.01)
    losses = np.asarray(result.history.train_loss)
    assert losses[-1] < 1e-3 * losses[0]
    errors = result.history.validation.mean("mean_squared_error")
    assert float(result.validation.mean("mean_squared_error")) == float(jnp.min(errors))
    outputs = model.apply(result.variables, data.test.inputs)[0][:, 0]
    for name, error in (("mean_squared_error", np.square), ("mean_absolute_error", np.abs)):
        expected = error(np.asarray(outputs, np.float64) - data.test.targets).mean()
        assert float(result.test.mean(name)) == pytest.approx(expected, rel=1e-5)
    assert float(result.test.loss) == float(result.test.mean("mean_squared_error"))


def test_a_class_is_learned_for_each_pixel():
    images = RNG.integers(0, 256, (96, 5, 4, 1)).astype(np.uint8)
    data = to_data(images, (images[..., 0] > 128).astype(np.int32), num_classes=2)
    network = {
        "conv1": layers.convolution(4, 1, fan_in_uniform(), padding="SAME"),
        "relu": layers.activation("relu"),
        "conv2": layers.convolution(2, 1, fan_in_uniform(), padding="SAME"),
    }
    _, result = train(network, (5, 4, 1), data, objectives.dense_classification(), 2.0, max_epochs=20)
    losses = np.asarray(result.history.train_loss)
    assert losses[-1] < 0.5 * losses[0]
    assert float(result.test.accuracy) > 0.9
    assert int(result.test.num_examples) == 16


@pytest.mark.parametrize("mode", ["max", "min"])
@pytest.mark.parametrize("monitor", ["loss", "first_logit"])
def test_monitor_and_mode_decide_which_weights_are_the_best(monitor, mode):
    labels = RNG.integers(0, 3, 96).astype(np.int32)
    data = to_data(RNG.normal(size=(96, 2, 2, 1)).astype(np.float32), labels, num_classes=3)
    metrics = {"first_logit": lambda outputs, targets: outputs[:, 0]}
    objective = Objective(lj.cross_entropy, metrics, monitor, mode)
    network = {"flatten": layers.flatten(), "dense": layers.dense(3, fan_in_uniform())}
    model, result = train(network, (2, 2, 1), data, objective, 5.0)
    values = np.asarray(result.history.validation.mean(monitor))
    assert len(np.unique(values)) == 8
    best = values.max() if mode == "max" else values.min()
    assert float(result.validation.mean(monitor)) == best
    again = lj.evaluate(model, result.variables, data.validation, objective=objective)
    assert float(again.mean(monitor)) == pytest.approx(best, rel=1e-5)


def test_a_loss_that_is_averaged_already_is_refused():
    """It would divide the gradients by the size of the minibatch once more, and nothing would show it."""
    model = lj.create_model("lenet", input_shape=(12, 12, 1), num_kernels=(2, 2), kernel_size=3, hidden_units=4)
    split = Split(jnp.zeros((20, 12, 12, 1)), jnp.zeros(20, jnp.int32))
    objective = Objective(lambda outputs, targets: lj.cross_entropy(outputs, targets).mean(), {}, "loss", "min")
    train = lj.make_train(
        model, lj.make_optimizer("sgd"), TrainerConfig(batch_size=10, max_epochs=1), objective=objective
    )
    with pytest.raises(lj.InputError, match=r"^objective: `loss` must return one value an example, of shape"):
        jax.jit(train)(jax.random.key(0), {}, Dataset(split, split, split))
