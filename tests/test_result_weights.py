"""`trainer.weights: last` and `trainer.running_metrics`, in the pure function."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import lenet_jax as lj
from lenet_jax import training
from lenet_jax.config import EarlyStoppingConfig
from tests.test_training import DATA, KEY, MODEL, bits, trainer

NO_STOPPING = EarlyStoppingConfig(enabled=False)


@functools.cache
def run(learning_rate=0.5, **options):
    config = trainer(max_epochs=6, early_stopping=NO_STOPPING, **options)
    optimizer = lj.make_optimizer("sgd", learning_rate=learning_rate)
    return jax.jit(lj.make_train(MODEL, optimizer, config))(KEY, {}, DATA)


def by_hand(config, num_steps):
    """Take the steps of a run one after another; yield the weights before each, its examples, and those at the end."""
    optimizer = lj.make_optimizer("sgd", learning_rate=0.5)
    state = training.init_train_state(MODEL, optimizer, config, KEY, {})
    plan = training.plan_run(config, 96)
    order_key, _ = jax.random.split(state.key)
    step = jax.jit(functools.partial(training.train_step, MODEL, optimizer))
    for number in range(num_steps):
        if number % plan.interval == 0:
            batches = training.minibatches(plan, 96, order_key, state.iteration, shuffle=config.shuffle)
        indices = jax.tree.leaves(batches)[0][number % plan.interval]
        yield state.variables, indices
        state, _ = step(state, DATA, indices)
    yield state.variables, None


def test_the_last_weights_are_those_after_the_last_step():
    config = trainer(max_epochs=6, early_stopping=NO_STOPPING)
    *_, (last, _) = by_hand(config, 6 * 3)
    found = run(weights="last").variables
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(last), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_their_validation_and_test_are_measured_with_them():
    result = run(weights="last")
    assert bits(result.validation) == bits(jax.tree.map(lambda column: column[-1], result.history.validation))
    measured = lj.evaluate(MODEL, result.variables, DATA.test, DATA.pixel_divisor)
    assert float(result.test.loss) == pytest.approx(float(measured.loss), rel=1e-5)


def test_which_weights_are_the_result_does_not_change_the_training():
    best, last = run(weights="best"), run(weights="last")
    assert bits(best.history) == bits(last.history)
    assert float(best.validation.accuracy) == float(jnp.max(best.history.validation.accuracy))
    assert bits(run(weights="both")) == bits(best)  # what is measured beside is for the record of a run


def test_of_a_run_that_diverges_the_last_weights_are_finite():
    result = run(learning_rate=1e30, weights="last")
    assert int(result.status) == lj.Status.DIVERGED
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(result.variables))


def test_the_running_accuracy_is_that_of_each_minibatch_before_its_step():
    config = trainer(max_epochs=6, early_stopping=NO_STOPPING)
    result = run(running_metrics=True)
    correct = []
    for variables, indices in by_hand(config, 6 * 3):
        if indices is not None:
            images = DATA.train.inputs[np.asarray(indices)] / np.float32(256)
            logits, _ = MODEL.apply(variables, images)
            correct.append(np.mean(np.argmax(logits, axis=1) == DATA.train.targets[np.asarray(indices)]))
    np.testing.assert_allclose(result.history.running["accuracy"], np.reshape(correct, (6, 3)).mean(axis=1), atol=1e-6)


def test_running_metrics_change_no_bit_of_a_run_and_are_absent_unless_they_are_asked_for():
    assert run().history.running == {}
    assert bits(run().variables) == bits(run(running_metrics=True).variables)


def test_running_metrics_are_the_same_in_microbatches_and_over_lanes():
    whole = run(running_metrics=True)
    parts = run(running_metrics=True, grad_accumulation_steps=2)
    np.testing.assert_allclose(whole.history.running["accuracy"], parts.history.running["accuracy"], atol=0.02)
    config = trainer(max_epochs=6, early_stopping=NO_STOPPING, running_metrics=True, weights="last")
    train = lj.make_train_lanes(MODEL, lj.make_optimizer("sgd", learning_rate=0.5), config, strategy="vmap")
    lanes = jax.jit(train)(jnp.stack([KEY, jax.random.key(8)]), {}, DATA)
    np.testing.assert_allclose(lanes.history.running["accuracy"][0], whole.history.running["accuracy"], atol=0.02)


def test_a_metric_that_is_no_mean_has_no_running_value():
    from lenet_jax.types import StreamingMetric

    largest = StreamingMetric(
        lambda: jnp.float32(0), lambda state, outputs, targets, mask: jnp.maximum(state, outputs.max()), lambda s: s
    )
    plain = lj.objectives.classification()
    objective = plain._replace(metrics={**plain.metrics, "largest": largest})
    config = trainer(max_epochs=1, early_stopping=NO_STOPPING, running_metrics=True)
    result = jax.jit(lj.make_train(MODEL, optax.sgd(0.1), config, objective=objective))(KEY, {}, DATA)
    assert set(result.history.running) == {"accuracy"}
