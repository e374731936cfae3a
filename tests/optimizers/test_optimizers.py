"""Optimizers against their formulas, in float64 NumPy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import lenet_jax as lj
from lenet_jax.config import SCHEMAS, CosineScheduleConfig, ExponentialScheduleConfig, SgdConfig, StepScheduleConfig
from lenet_jax.optimizers import averaged_parameters
from lenet_jax.optimizers.schedules import make_schedule

CONFIGS = SCHEMAS["optimizer"]


@pytest.fixture(autouse=True)
def optax_promotes_dtypes():
    """Optax itself mixes integer counts and floats."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def by_formula(config, p, gradients):
    """Follow the published update rules, one parameter."""
    lr, wd = config.learning_rate, config.weight_decay
    velocity = mean = square = 0.0
    for t, g in enumerate(gradients, start=1):
        g = g if config.name == "adamw" else g + wd * p
        if config.name == "sgd":
            p -= lr * g
        elif config.name in ("momentum", "nesterov"):
            velocity = config.momentum * velocity + g
            p -= lr * (g + config.momentum * velocity if config.name == "nesterov" else velocity)
        elif config.name == "rmsprop":
            square = config.decay * square + (1 - config.decay) * g**2
            velocity = config.momentum * velocity + lr * g / np.sqrt(square + config.eps)
            p -= velocity
        else:
            mean = config.b1 * mean + (1 - config.b1) * g
            square = config.b2 * square + (1 - config.b2) * g**2
            step = mean / (1 - config.b1**t) / (np.sqrt(square / (1 - config.b2**t)) + config.eps)
            p -= lr * (step + (wd * p if config.name == "adamw" else 0))
    return p


@pytest.mark.parametrize("name", sorted(CONFIGS.keys() - {"scaled_conjugate_gradient"}))  # it has a file of its own
def test_follows_its_formula(name):
    options = {"weight_decay": 0.1, "learning_rate": 0.05} | ({"momentum": 0.8} if name == "rmsprop" else {})
    config = CONFIGS[name](**options)
    optimizer = lj.make_optimizer(config)
    gradients = np.random.default_rng(0).standard_normal(6)
    params = jnp.full((1, 1), 0.7, jnp.float32)
    state = optimizer.init(params)
    for gradient in gradients:
        updates, state = optimizer.update(jnp.full((1, 1), gradient, jnp.float32), state, params)
        params = optax.apply_updates(params, updates)
    assert float(params[0, 0]) == pytest.approx(by_formula(config, 0.7, gradients), rel=1e-4)


def test_weight_decay_spares_biases_and_normalization():
    params = {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3), "scale": jnp.ones(3)}
    nothing = {name: jnp.zeros_like(leaf) for name, leaf in params.items()}
    for name in sorted(CONFIGS.keys() - {"scaled_conjugate_gradient"}):
        optimizer = lj.make_optimizer(CONFIGS[name](weight_decay=0.1))
        updates, _ = optimizer.update(nothing, optimizer.init(params), params)
        assert {key: bool(jnp.any(leaf)) for key, leaf in updates.items()} == {
            "kernel": True, "bias": False, "scale": False,
        }  # fmt: skip


@pytest.mark.parametrize("name", CONFIGS)
def test_what_a_sweep_varies_is_in_the_state_and_takes_effect_there(name):
    config = CONFIGS[name]()
    swept = {f.name for f in dataclasses.fields(config)} & {"learning_rate", "momentum", "weight_decay"}
    params, gradient = jnp.ones((1, 1)), jnp.full((1, 1), 0.3)
    for key in swept:
        optimizer, other = lj.make_optimizer(config), lj.make_optimizer(dataclasses.replace(config, **{key: 0.25}))
        state = optax.tree_utils.tree_set(optimizer.init(params), **{key: jnp.float32(0.25)})
        expected = other.init(params)
        for _ in range(2):
            updates, state = optimizer.update(gradient, state, params)
            expected_updates, expected = other.update(gradient, expected, params)
        assert float(updates[0, 0]) == float(expected_updates[0, 0])


def test_cosine_warms_up_and_comes_down_to_its_final_fraction():
    factor = make_schedule(
        CosineScheduleConfig(warmup_epochs=2, final_fraction=0.1), epoch_iterations=10, num_epochs=12
    )
    values = [float(factor(t)) for t in (0, 10, 20, 70, 120)]
    assert values == pytest.approx([0, 0.5, 1, 0.55, 0.1], abs=1e-6)


def test_step_applies_once_the_epochs_are_done():
    factor = make_schedule(StepScheduleConfig(epochs=(2, 3), factor=0.1), epoch_iterations=10, num_epochs=5)
    assert [float(factor(t)) for t in (19, 20, 29, 30)] == pytest.approx([1, 0.1, 0.1, 0.01])


def test_exponential_decays_smoothly():
    factor = make_schedule(ExponentialScheduleConfig(epoch_factor=0.81), epoch_iterations=10, num_epochs=5)
    assert [float(factor(t)) for t in (0, 5, 10)] == pytest.approx([1, 0.9, 0.81])


def test_a_schedule_multiplies_the_learning_rate_that_is_set():
    schedule = StepScheduleConfig(epochs=(1,), factor=0.5)
    optimizer = lj.make_optimizer(SgdConfig(learning_rate=9.0), schedule, epoch_iterations=1, num_epochs=3)
    params = jnp.float32(0)
    state = optax.tree_utils.tree_set(optimizer.init(params), learning_rate=jnp.float32(0.2))
    steps = []
    for _ in range(3):
        updates, state = jax.jit(optimizer.update)(jnp.float32(1), state, params)
        steps.append(float(updates))
    assert steps == pytest.approx([-0.2, -0.1, -0.1])


def test_step_warms_up():
    schedule = StepScheduleConfig(epochs=(4,), factor=0.1, warmup_epochs=2)
    factor = make_schedule(schedule, epoch_iterations=10, num_epochs=5)
    assert [float(factor(t)) for t in (0, 5, 20, 39, 40)] == pytest.approx([0, 0.25, 1, 1, 0.1])


def test_longer_gradients_are_cut_to_the_norm():
    optimizer = lj.make_optimizer(SgdConfig(learning_rate=1.0), clip_norm=5.0)
    for gradient, expected in (([6.0, 8.0], [-3.0, -4.0]), ([0.3, 0.4], [-0.3, -0.4])):
        updates, _ = optimizer.update(jnp.array(gradient), optimizer.init(jnp.zeros(2)), jnp.zeros(2))
        np.testing.assert_allclose(updates, expected, rtol=1e-6)


def test_averaged_parameters_are_the_recurrence_by_hand():
    optimizer = lj.make_optimizer(SgdConfig(learning_rate=1.0), ema_decay=0.3)
    params = average = np.float32(0)
    state = optimizer.init(jnp.float32(params))
    assert float(averaged_parameters(state)) == 0
    for t in range(6):
        updates, state = optimizer.update(jnp.float32(-1), state, jnp.float32(params))
        params = params + np.float32(updates)
        decay = min(0.3, (1 + t) / (10 + t))
        average = decay * average + (1 - decay) * params
        assert float(averaged_parameters(state)) == pytest.approx(average, rel=1e-6)
    assert averaged_parameters(lj.make_optimizer(SgdConfig()).init(params)) is None
