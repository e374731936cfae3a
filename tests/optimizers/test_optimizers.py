"""Optimizers against their formulas, in float64 NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import lenet_jax as lj
from lenet_jax import components, optimizers
from lenet_jax.config.catalogue import built_in
from lenet_jax.optimizers import schedules
from lenet_jax.optimizers.standard_form import evaluation_parameters

NAMES = sorted(built_in("optimizer"))
OF_THEIR_OWN = ("scaled_conjugate_gradient", "conjugate_gradient", "by_path")  # they have test files of their own
WITH_A_RATE = [name for name in NAMES if name not in OF_THEIR_OWN]


def options_of(name, **options):
    """Return all options of an optimizer, the defaults included."""
    return components.function_and_options(components.built_in_component("optimizer", name, options))[1]


@pytest.fixture(autouse=True)
def optax_promotes_dtypes():
    """Optax itself mixes integer counts and floats."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def by_formula(name, options, p, gradients):
    """Follow the published update rules, one parameter."""
    lr, wd = options["learning_rate"], options["weight_decay"]
    velocity = mean = square = 0.0
    for t, g in enumerate(gradients, start=1):
        g = g if name == "adamw" else g + wd * p
        if name == "sgd":
            p -= lr * g
        elif name in ("momentum", "nesterov"):
            velocity = options["momentum"] * velocity + g
            p -= lr * (g + options["momentum"] * velocity if name == "nesterov" else velocity)
        elif name == "rmsprop":
            square = options["decay"] * square + (1 - options["decay"]) * g**2
            velocity = options["momentum"] * velocity + lr * g / np.sqrt(square + options["eps"])
            p -= velocity
        else:
            mean = options["b1"] * mean + (1 - options["b1"]) * g
            square = options["b2"] * square + (1 - options["b2"]) * g**2
            step = mean / (1 - options["b1"] ** t) / (np.sqrt(square / (1 - options["b2"] ** t)) + options["eps"])
            p -= lr * (step + (wd * p if name == "adamw" else 0))
    return p


@pytest.mark.parametrize("name", WITH_A_RATE)
def test_follows_its_formula(name):
    options = {"weight_decay": 0.1, "learning_rate": 0.05} | ({"momentum": 0.8} if name == "rmsprop" else {})
    optimizer = lj.make_optimizer(name, **options)
    gradients = np.random.default_rng(0).standard_normal(6)
    params = jnp.full((1, 1), 0.7, jnp.float32)
    state = optimizer.init(params)
    for gradient in gradients:
        updates, state = optimizer.update(jnp.full((1, 1), gradient, jnp.float32), state, params)
        params = optax.apply_updates(params, updates)
    expected = by_formula(name, options_of(name, **options), 0.7, gradients)
    assert float(params[0, 0]) == pytest.approx(expected, rel=1e-4)


def test_weight_decay_spares_biases_and_normalization():
    params = {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3), "scale": jnp.ones(3)}
    nothing = {name: jnp.zeros_like(leaf) for name, leaf in params.items()}
    for name in WITH_A_RATE:
        optimizer = lj.make_optimizer(name, weight_decay=0.1)
        updates, _ = optimizer.update(nothing, optimizer.init(params), params)
        assert {key: bool(jnp.any(leaf)) for key, leaf in updates.items()} == {
            "kernel": True, "bias": False, "scale": False,
        }  # fmt: skip


@pytest.mark.parametrize("name", WITH_A_RATE)
def test_what_a_sweep_varies_is_in_the_state_and_takes_effect_there(name):
    swept = [key for key, value in options_of(name).items() if isinstance(value, float)]
    assert optimizers.hyperparameters(options_of(name)).keys() == set(swept)
    params, gradient = jnp.ones((1, 1)), jnp.full((1, 1), 0.3)
    for key in swept:
        optimizer, other = lj.make_optimizer(name), lj.make_optimizer(name, **{key: 0.25})
        state = optimizers.set_hyperparameters(optimizer.init(params), {key: 0.25})
        expected = other.init(params)
        for _ in range(2):
            updates, state = optimizer.update(gradient, state, params)
            expected_updates, expected = other.update(gradient, expected, params)
        assert float(updates[0, 0]) == float(expected_updates[0, 0])


def test_cosine_warms_up_and_comes_down_to_its_final_fraction():
    factor = schedules.cosine(warmup_epochs=2, final_fraction=0.1, steps_per_epoch=10, num_steps=120)
    values = [float(factor(t)) for t in (0, 10, 20, 70, 120)]
    assert values == pytest.approx([0, 0.5, 1, 0.55, 0.1], abs=1e-6)


def test_step_applies_once_the_epochs_are_done():
    factor = schedules.step(epochs=(2, 3), factor=0.1, steps_per_epoch=10)
    assert [float(factor(t)) for t in (19, 20, 29, 30)] == pytest.approx([1, 0.1, 0.1, 0.01])


def test_exponential_decays_smoothly():
    factor = schedules.exponential(epoch_factor=0.81, steps_per_epoch=10)
    assert [float(factor(t)) for t in (0, 5, 10)] == pytest.approx([1, 0.9, 0.81])


def test_a_schedule_multiplies_the_learning_rate_that_is_set():
    schedule = schedules.step(epochs=(1,), factor=0.5, steps_per_epoch=1)
    optimizer = lj.make_optimizer("sgd", learning_rate=9.0, schedule=schedule)
    params = jnp.float32(0)
    state = optax.tree_utils.tree_set(optimizer.init(params), learning_rate=jnp.float32(0.2))
    steps = []
    for _ in range(3):
        updates, state = jax.jit(optimizer.update)(jnp.float32(1), state, params)
        steps.append(float(updates))
    assert steps == pytest.approx([-0.2, -0.1, -0.1])


def test_step_warms_up():
    factor = schedules.step(epochs=(4,), factor=0.1, warmup_epochs=2, steps_per_epoch=10)
    assert [float(factor(t)) for t in (0, 5, 20, 39, 40)] == pytest.approx([0, 0.25, 1, 1, 0.1])


def test_a_schedule_by_name_has_its_default_options_and_the_lengths_of_the_run():
    optimizer = lj.make_optimizer("sgd", learning_rate=0.4, schedule="cosine", num_steps=4, steps_per_epoch=2)
    params = jnp.float32(0)
    state, steps = optimizer.init(params), []
    for _ in range(4):
        updates, state = optimizer.update(jnp.float32(1), state, params)
        steps.append(float(updates))
    assert steps == pytest.approx([-0.4 * (1 + np.cos(np.pi * t / 4)) / 2 for t in range(4)])
    constant = lj.make_optimizer("sgd", schedule="constant", num_steps=4, steps_per_epoch=2)
    assert jax.tree.structure(constant.init(params)) == jax.tree.structure(lj.make_optimizer("sgd").init(params))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("sgdd", {}, "`optimizer` has no 'sgdd'; choose one of: sgd, adam, "),
        ("sgd", {"beta": 0.9}, "`optimizer` has no 'beta'; choose one of: learning_rate, momentum, nesterov, weight_d"),
        ("sgd", {"learning_rate": -1.0}, "`optimizer.learning_rate` must be a finite number above 0; got -1.0."),
        (
            "sgd",
            {"schedule": "cosin", "num_steps": 9, "steps_per_epoch": 3},
            "`schedule` has no 'cosin'; choose one of",
        ),
        (
            "sgd",
            {"schedule": "cosine", "num_steps": 9},
            "make_optimizer: `num_steps` and `steps_per_epoch` must be given with schedule='cosine' outside of "
            "make_train, or inside of another transformation; got 9 and None; ",
        ),
    ],
)
def test_bad_input_is_refused(name, options, message):
    with pytest.raises(lj.InputError) as error:
        lj.make_optimizer(name, **options)
    assert str(error.value).startswith(message)


def test_longer_gradients_are_cut_to_the_norm():
    optimizer = lj.make_optimizer("sgd", learning_rate=1.0, clip_norm=5.0)
    for gradient, expected in (([6.0, 8.0], [-3.0, -4.0]), ([0.3, 0.4], [-0.3, -0.4])):
        updates, _ = optimizer.update(jnp.array(gradient), optimizer.init(jnp.zeros(2)), jnp.zeros(2))
        np.testing.assert_allclose(updates, expected, rtol=1e-6)


def test_averaged_parameters_are_the_recurrence_by_hand():
    optimizer = lj.make_optimizer("sgd", learning_rate=1.0, ema_decay=0.3)
    params = average = np.float32(0)
    state = optimizer.init(jnp.float32(params))
    assert float(evaluation_parameters(state, jnp.float32(5))) == 0
    for t in range(6):
        updates, state = optimizer.update(jnp.float32(-1), state, jnp.float32(params))
        params = params + np.float32(updates)
        decay = min(0.3, (1 + t) / (10 + t))
        average = decay * average + (1 - decay) * params
        assert float(evaluation_parameters(state, jnp.float32(params))) == pytest.approx(average, rel=1e-6)
    assert float(evaluation_parameters(lj.make_optimizer("sgd").init(params), jnp.float32(5))) == 5


SCHEDULED = optax.inject_hyperparams(optax.adam)(learning_rate=optax.cosine_decay_schedule(0.01, 100))


@pytest.mark.parametrize(
    ("optimizer", "values", "message"),
    [
        (SCHEDULED, {"learning_rate": 0.1}, "which a schedule of this optimizer sets in each step"),
        (optax.adam(0.1), {"mu": 0.9}, "must be empty for an optimizer that keeps none"),
        (optax.adam(0.1), {"count": 5}, "must be empty for an optimizer that keeps none"),
        (optax.sgd(0.1, momentum=0.9), {"trace": 0.9}, "must be empty for an optimizer that keeps none"),
        (lj.make_optimizer("sgd"), {"hyperparams": 0.1}, "has no 'hyperparams'; choose one of: learning_rate, weight"),
        (lj.make_optimizer("sgd"), {"count": 1}, "has no 'count'"),
    ],
)
def test_hyperparameters_reach_what_is_injected_and_nothing_else(optimizer, values, message):
    state = optimizer.init({"kernel": jnp.ones((2, 2))})
    with pytest.raises(lj.InputError, match=message):
        optimizers.set_hyperparameters(state, values)


def test_hyperparameters_are_found_in_transformations_inside_others():
    inner = optax.inject_hyperparams(optax.sgd)(learning_rate=0.1)
    optimizer = optax.chain(optax.clip(1.0), optax.masked(optax.inject_hyperparams(lambda decay: optax.chain(
        optax.add_decayed_weights(decay), inner))(decay=0.5), {"kernel": True}))  # fmt: skip
    params = {"kernel": jnp.ones((1, 1))}
    state = optimizers.set_hyperparameters(optimizer.init(params), {"learning_rate": 0.25, "decay": 2.0})
    updates, _ = optimizer.update({"kernel": jnp.full((1, 1), 0.5)}, state, params)
    assert float(updates["kernel"][0, 0]) == -0.25 * (0.5 + 2.0 * 1.0)


@pytest.mark.parametrize("warmup_epochs", [0, 1, 2, 3, 5])
@pytest.mark.parametrize("epochs", [(1, 2), (2, 1, 3), (2, 2), (4,)])
def test_all_steps_that_meet_the_warm_up_count_once_it_is_over(epochs, warmup_epochs):
    factor = schedules.step(epochs=epochs, factor=0.5, warmup_epochs=warmup_epochs, steps_per_epoch=10)
    for iteration in range(60):
        done = sum(iteration >= 10 * epoch for epoch in epochs)
        warm = 10 * warmup_epochs
        expected = iteration / warm if iteration < warm else 0.5**done
        assert float(factor(iteration)) == pytest.approx(expected, rel=1e-6)
