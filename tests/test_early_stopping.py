"""The patience rule against a plain transcription of the tutorial's loop."""

import functools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

from lenet_jax import early_stopping
from lenet_jax.config import EarlyStoppingConfig


def tutorial_loop(errors, frequency, patience, patience_increase, improvement_threshold, num_iterations):
    """The training loop of the Theano tutorials, without the training: returns what it remembers and where it stops."""
    best_error, best_iteration = np.float32(np.inf), -1
    for iteration in range(num_iterations):
        if (iteration + 1) % frequency == 0:
            error = errors[(iteration + 1) // frequency - 1]
            if error < best_error:
                if error < best_error * np.float32(improvement_threshold):
                    patience = max(patience, iteration * patience_increase)
                best_error, best_iteration = error, iteration
        if patience <= iteration:
            return patience, best_error, best_iteration, iteration
    return patience, best_error, best_iteration, None


@functools.cache
def scanned_rule(frequency, config, lanes=None):
    """The same with the functions of the package, one iteration a step of a scan that freezes when it stops."""

    def rule(errors):
        def step(carry, iteration):
            state, stopped_at = carry
            error = errors[(iteration + 1) // frequency - 1]
            updated = early_stopping.update(state, error, iteration, config)
            validated = (iteration + 1) % frequency == 0
            running = stopped_at < 0
            state = jax.tree.map(lambda new, old: jnp.where(running & validated, new, old), updated, state)
            stops = running & early_stopping.should_stop(state, iteration)
            return (state, jnp.where(stops, iteration, stopped_at)), None

        start = (early_stopping.init(config), jnp.int32(-1))
        return jax.lax.scan(step, start, jnp.arange(NUM_ITERATIONS, dtype=jnp.int32))[0]

    return jax.jit(rule if lanes is None else jax.vmap(rule))


NUM_ITERATIONS = 40
RULES = [  # validation frequency, patience, increase, threshold
    (1, 5, 2, 0.995),
    (2, 6, 2, 0.995),
    (5, 11, 3, 0.9),
    (3, 1, 2, 0.5),
    (4, 30, 1, 1.0),
    (1, 60, 2, 0.995),
]
curves = st.lists(
    st.one_of(st.floats(1e-30, 1), st.just(0.0), st.integers(0, 50).map(lambda n: n / 50)),
    min_size=NUM_ITERATIONS,
    max_size=NUM_ITERATIONS,
)


def agree(outcome, errors, rule):
    state, stopped_at = outcome
    patience, best_error, best_iteration, stop = tutorial_loop(errors, *rule, NUM_ITERATIONS)
    assert (int(state.patience), int(state.best_iteration)) == (patience, best_iteration)
    assert float(state.best_error) == float(best_error)
    assert int(stopped_at) == (-1 if stop is None else stop)


def to_config(rule):
    return EarlyStoppingConfig(patience=rule[1], patience_increase=rule[2], improvement_threshold=rule[3])


@hypothesis.settings(max_examples=200)
@hypothesis.given(curves, st.sampled_from(RULES))
def test_stops_where_the_tutorial_stops(curve, rule):
    errors = np.array(curve, np.float32)
    agree(scanned_rule(rule[0], to_config(rule))(errors), errors, rule)


@hypothesis.settings(max_examples=50)
@hypothesis.given(st.lists(curves, min_size=4, max_size=4), st.sampled_from(RULES))
def test_lanes_side_by_side_do_not_disturb_each_other(lanes, rule):
    errors = np.array(lanes, np.float32)
    outcomes = scanned_rule(rule[0], to_config(rule), lanes=4)(errors)
    for i, lane in enumerate(errors):
        agree(jax.tree.map(lambda leaf, i=i: leaf[i], outcomes), lane, rule)


def test_nan_is_never_an_improvement():
    config = EarlyStoppingConfig()
    state = early_stopping.update(early_stopping.init(config), jnp.float32(jnp.nan), jnp.int32(5), config)
    assert int(state.best_iteration) == -1


def test_only_an_improvement_extends_patience_below_zero_too():
    """As in an objective whose metric is above 1: its error, 1 - metric, is negative."""
    config = EarlyStoppingConfig(patience=5, patience_increase=2, improvement_threshold=0.9)
    state = early_stopping.update(early_stopping.init(config), jnp.float32(-1.0), jnp.int32(4), config)
    assert int(state.patience) == 8
    worse = early_stopping.update(state, jnp.float32(-0.95), jnp.int32(6), config)
    assert jax.tree.map(float, worse) == jax.tree.map(float, state)


def test_patience_that_cannot_be_counted_never_ends():
    config = EarlyStoppingConfig(patience_increase=2**30)
    state = early_stopping.update(early_stopping.init(config), jnp.float32(0.5), jnp.int32(3), config)
    assert int(state.patience) == 2**31 - 1


def test_validates_each_epoch_or_twice_within_the_first_patience():
    assert early_stopping.validation_interval(100, EarlyStoppingConfig()) == 100
    assert early_stopping.validation_interval(100, EarlyStoppingConfig(patience=60)) == 30
    assert early_stopping.validation_interval(100, EarlyStoppingConfig(patience=1)) == 1
    assert early_stopping.validation_interval(100, EarlyStoppingConfig(patience=60, enabled=False)) == 100


def test_never_stops_when_it_is_off():
    state = early_stopping.init(EarlyStoppingConfig(enabled=False, patience=1))
    assert not early_stopping.should_stop(state, jnp.int32(1_000_000_000))
