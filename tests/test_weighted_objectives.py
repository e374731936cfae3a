"""Weights, masks, metrics that are no means, and stopping rules, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import lenet_jax as lj
from lenet_jax import objectives
from lenet_jax.config import EarlyStoppingConfig, TrainerConfig
from lenet_jax.early_stopping import init, update

RNG = np.random.default_rng(3)
INPUTS = RNG.normal(size=(23, 4)).astype(np.float32)
LABELS = RNG.integers(0, 3, 23).astype(np.int32)
WEIGHTS = RNG.uniform(0, 2, 23).astype(np.float32) * (np.arange(23) % 4 != 0)
KERNEL = RNG.normal(size=(4, 3)).astype(np.float32)
VARIABLES = lj.Variables({"kernel": jnp.asarray(KERNEL)}, {})
MODEL = lj.Model(
    lambda key: lj.Variables({"kernel": jax.random.normal(key, (4, 3))}, {}),
    lambda variables, x, *, train=False, key=None: (x @ variables.params["kernel"], {}),
)


def cross_entropies(kernel, inputs, labels):
    logits = inputs.astype(np.float64) @ kernel.astype(np.float64)
    return np.log(np.exp(logits).sum(-1)) - logits[np.arange(len(labels)), labels]


def dataset(targets):
    split = lj.Split(INPUTS, targets)
    return lj.Dataset(split, split, split, num_classes=3)


def evaluated(objective, targets, batch_size=5):
    split = lj.Split(INPUTS, targets)
    return lj.evaluate(MODEL, VARIABLES, split, objective=objective, batch_size=batch_size)


def test_weights_of_examples_weigh_loss_and_metrics():
    found = evaluated(objectives.classification(), {"targets": LABELS, "weights": WEIGHTS})
    losses = cross_entropies(KERNEL, INPUTS, LABELS)
    right = (INPUTS @ KERNEL).argmax(-1) == LABELS
    assert float(found.loss) == pytest.approx(np.average(losses, weights=WEIGHTS), rel=1e-5)
    assert float(found.accuracy) == pytest.approx(np.average(right, weights=WEIGHTS), rel=1e-5)
    assert int(found.num_examples) == (WEIGHTS > 0).sum()


def test_weights_of_classes_weigh_the_loss_only():
    weights = np.array([0.2, 1.0, 3.0])
    found = evaluated(objectives.classification(class_weights=tuple(weights.tolist())), LABELS)
    losses = cross_entropies(KERNEL, INPUTS, LABELS)
    assert float(found.loss) == pytest.approx(np.average(losses, weights=weights[LABELS]), rel=1e-5)
    assert float(found.accuracy) == pytest.approx(((INPUTS @ KERNEL).argmax(-1) == LABELS).mean(), rel=1e-6)


@pytest.mark.parametrize("ignored", [-1, 255])
def test_a_label_that_is_ignored_counts_nowhere(ignored):
    labels = np.where(np.arange(23) % 3 == 0, ignored, LABELS)
    found = evaluated(objectives.classification(ignore_label=ignored), labels)
    kept = labels != ignored
    assert float(found.loss) == pytest.approx(cross_entropies(KERNEL, INPUTS[kept], LABELS[kept]).mean(), rel=1e-5)
    assert int(found.num_examples) == kept.sum()
    assert np.isfinite(float(found.accuracy))


def test_pixels_that_are_ignored_count_nowhere():
    labels = RNG.integers(0, 3, (5, 4, 4))
    logits = RNG.normal(size=(5, 4, 4, 3)).astype(np.float32)
    masked = np.where(RNG.uniform(size=labels.shape) < 0.4, 255, labels)
    objective = objectives.dense_classification(ignore_label=255, class_weights=(1.0, 2.0, 0.5))
    losses = cross_entropies(np.eye(3), logits.reshape(-1, 3), labels.ravel()).reshape(5, 16)
    weights = np.where(masked == 255, 0, np.array([1.0, 2.0, 0.5])[labels]).reshape(5, 16)
    found = objective.loss(jnp.asarray(logits), jnp.asarray(masked))
    np.testing.assert_allclose(
        found, [np.average(a, weights=w) for a, w in zip(losses, weights, strict=True)], rtol=1e-5
    )
    right = (logits.argmax(-1) == labels).reshape(5, 16)
    kept = (masked != 255).reshape(5, 16)
    expected = [a[k].mean() for a, k in zip(right, kept, strict=True)]
    np.testing.assert_allclose(
        objective.metrics["accuracy"](jnp.asarray(logits), jnp.asarray(masked)), expected, rtol=1e-6
    )


@pytest.mark.parametrize("steps", [1, 2])
def test_a_step_minimizes_the_weighted_mean_also_in_microbatches(steps):
    data = dataset({"targets": LABELS, "weights": WEIGHTS})
    optimizer, indices = optax.sgd(0.5), jnp.arange(20)
    state = lj.training.init_train_state(MODEL, optimizer, TrainerConfig(), jax.random.key(1), {})

    def weighted(kernel):
        logits = INPUTS[:20] @ kernel
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, LABELS[:20])
        return jnp.sum(losses * WEIGHTS[:20]) / WEIGHTS[:20].sum()

    kernel = state.variables.params["kernel"]
    expected = kernel - 0.5 * jax.grad(weighted)(kernel)
    new, loss = lj.training.train_step(MODEL, optimizer, state, data, indices, grad_accumulation_steps=steps)
    np.testing.assert_allclose(new.variables.params["kernel"], expected, rtol=1e-5, atol=1e-6)
    assert float(loss) == pytest.approx(float(weighted(kernel)), rel=1e-5)


def test_a_minibatch_without_weight_changes_nothing():
    data = dataset({"targets": LABELS, "weights": np.zeros(23, np.float32)})
    state = lj.training.init_train_state(MODEL, optax.sgd(0.5), TrainerConfig(), jax.random.key(1), {})
    new, loss = lj.training.train_step(MODEL, optax.sgd(0.5), state, data, jnp.arange(10))
    assert float(loss) == 0
    np.testing.assert_array_equal(new.variables.params["kernel"], state.variables.params["kernel"])


# ---- metrics that are no means --------------------------------------------------------------------------------------

POSITIVE = np.linspace(-4, 4, 41).astype(np.float32)


def area_under_the_curve(outputs, targets, counts):
    """By the Mann-Whitney statistic of binned scores; the classes are 0 and not 0."""
    scores = np.searchsorted(POSITIVE, outputs[:, 1])[counts]
    positive = targets[counts] > 0
    pairs = scores[positive][:, None] - scores[~positive][None]
    return ((pairs > 0) + 0.5 * (pairs == 0)).mean()


def histogram_init():
    return jnp.zeros((2, len(POSITIVE) + 1))


def histogram_update(state, outputs, targets, mask):
    bins = jnp.searchsorted(jnp.asarray(POSITIVE), outputs[:, 1])
    return state.at[(targets > 0).astype(jnp.int32), bins].add(mask.astype(jnp.float32))


def histogram_result(state):
    below = jnp.cumsum(state[0]) - state[0]
    return jnp.sum(state[1] * (below + 0.5 * state[0])) / (state[0].sum() * state[1].sum())


MASKED = lj.StreamingMetric(histogram_init, histogram_update, histogram_result)
ONE_BY_ONE = lj.StreamingMetric(
    histogram_init,
    lambda state, outputs, targets: histogram_update(state, outputs, targets, jnp.ones(1, bool)),
    histogram_result,
)


@pytest.mark.parametrize("metric", [MASKED, ONE_BY_ONE])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_metric_that_is_no_mean_sees_each_example_once(metric, weighted):
    objective = objectives.classification()._replace(metrics={"auc": metric}, monitor="auc")
    targets = {"targets": LABELS, "weights": WEIGHTS} if weighted else LABELS
    counts = WEIGHTS > 0 if weighted else np.ones(23, bool)
    found = evaluated(objective, targets)
    assert float(found.mean("auc")) == pytest.approx(area_under_the_curve(INPUTS @ KERNEL, LABELS, counts), rel=1e-5)


def test_a_run_is_monitored_by_it_on_one_device_and_on_two():
    objective = objectives.classification()._replace(metrics={"auc": MASKED}, monitor="auc")
    config = TrainerConfig(batch_size=16, max_epochs=3)
    train = lj.make_train(MODEL, optax.sgd(0.5), config, objective=objective)
    result = jax.jit(train)(jax.random.key(0), {}, dataset(LABELS))
    kernel = np.asarray(result.variables.params["kernel"])
    expected = area_under_the_curve(INPUTS @ kernel, LABELS, np.ones(23, bool))
    assert float(result.validation.mean("auc")) == pytest.approx(expected, rel=1e-5)


# ---- when to stop ---------------------------------------------------------------------------------------------------


def test_a_stopping_rule_of_ones_own_takes_the_place_of_patience():
    rule = lj.StoppingRule(
        lambda: {"worse": jnp.int32(0), "last": jnp.float32(-jnp.inf)},
        lambda state, value, epochs: (
            {"worse": state["worse"] + 1, "last": value},
            (state["worse"] >= 1) & (epochs >= 3),
        ),
    )
    objective = objectives.classification()._replace(stopping=rule)
    config = TrainerConfig(batch_size=23, max_epochs=9, early_stopping=EarlyStoppingConfig(patience=2))
    result = jax.jit(lj.make_train(MODEL, optax.sgd(0.1), config, objective=objective))(
        jax.random.key(0), {}, dataset(LABELS)
    )
    assert lj.Status(int(result.status)) == lj.Status.OWN_RULE
    assert int(result.iterations) == 3


@pytest.mark.parametrize(
    ("errors", "min_delta", "extended"),
    [
        ((1.0, 0.5), 0.0, True),
        ((1.0, 0.5), 0.5, False),  # not below by more than 0.5
        ((1.0, 0.999), 0.0, False),  # above the threshold of 0.995
        ((-1.0, -2.0), 0.0, True),
        ((-1.0, -1.001), 0.0, False),  # of a value below 0, half a percent further from 0
        ((-1.0, -1.01), 0.0, True),
    ],
)
def test_what_is_a_significant_improvement(errors, min_delta, extended):
    config = EarlyStoppingConfig(patience=10, min_delta=min_delta)
    state = update(init(config), jnp.float32(errors[0]), jnp.int32(2), config)
    state = update(state, jnp.float32(errors[1]), jnp.int32(20), config)
    assert (int(state.patience) == 40) == extended
    assert float(state.best_error) == np.float32(errors[1])


@pytest.mark.parametrize("make", [objectives.classification, objectives.dense_classification])
def test_there_must_be_a_weight_for_each_class(make):
    objective = make(class_weights=(1.0, 2.0))
    with pytest.raises(lj.InputError, match="a weight for each of the 3 classes; got 2"):
        objective.loss(jnp.zeros((2, 3)), jnp.zeros(2, jnp.int32))
