"""Arrays, losses and optimizers of a user that do not fit each other are refused where they enter, or made to fit."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import lenet_jax as lj
from lenet_jax.optimizers.standard_form import average_parameters, check_averages

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((24, 5)).astype(np.float32), RNG.standard_normal(24).astype(np.float32)
LABELS = RNG.integers(0, 3, 24)
CONFIG = lj.config.TrainerConfig(max_epochs=2, batch_size=8)


def dataset(targets, **options):
    return lj.Dataset(*(lj.Split(X, targets) for _ in range(3)), **options)


def linear(*shape):
    model = (lambda key: jax.random.normal(key, (5, *shape)), lambda weights, x: x @ weights)
    return lj.interop.to_model(model, (5,))


def train(model, targets, objective=None, optimizer=None, config=CONFIG):
    run = lj.make_train(model, optimizer or optax.sgd(0.1), config, objective=objective)
    return jax.jit(run)(jax.random.key(0), {}, dataset(targets))


def mean_square(outputs, targets):
    return jnp.mean((outputs - targets) ** 2, axis=-1)


def first_square(outputs, targets):
    return (outputs[:, 0] - targets) ** 2


@pytest.mark.parametrize(("shape", "targets"), [((1,), Y), ((), Y[:, None])])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_loss_that_would_pair_all_examples_is_refused(shape, targets, axis, without_type_checks):
    with jax.numpy_rank_promotion("allow"):
        for loss, metrics, name in (
            (lambda o, t: jnp.mean((o - t) ** 2, axis), {}, "loss"),
            (lambda o, t: (o.reshape(-1) - t.reshape(-1)) ** 2, {"mine": lambda o, t: jnp.mean(o * t, axis)}, "mine"),
        ):
            with pytest.raises(lj.InputError, match=rf"`{name}` must not combine outputs .* broadcasts to all pairs"):
                train(linear(*shape), targets, lj.Objective(loss, metrics, "loss", "min"))


@pytest.mark.parametrize("loss", [lambda o, t: jnp.mean((o - t["y"]) ** 2, -1), lambda o, t: (o[:, 0] - t["y"]) ** 2])
def test_targets_of_several_arrays_are_not_broadcast_either(loss):
    data = lj.Dataset(*(lj.Split(X, {"y": Y, "mask": Y > 0}) for _ in range(3)))
    run = lj.make_train(linear(1), optax.sgd(0.1), CONFIG, objective=lj.Objective(loss, {}, "loss", "min"))
    with jax.numpy_rank_promotion("allow"):
        if loss(jnp.ones((2, 1)), {"y": jnp.array([1.0, 2.0])})[0] == 0:
            assert jax.jit(run)(jax.random.key(0), {}, data).status == lj.Status.MAX_EPOCHS
        else:
            with pytest.raises(lj.InputError, match="broadcasts to all pairs"):
                jax.jit(run)(jax.random.key(0), {}, data)


@pytest.mark.parametrize(
    ("shape", "targets", "loss"),
    [
        ((1,), Y[:, None], mean_square),
        ((2,), RNG.standard_normal((24, 2)).astype(np.float32), mean_square),
        ((1,), Y, first_square),
        ((1,), Y, lambda o, t: o[:, 0] ** 2),
        ((1,), Y, jax.jit(lambda o, t: o[:, 0] ** 2)),
        ((1,), Y, lambda o, t: (o[jnp.arange(len(t)), 0] - t) ** 2),
        ((1,), Y, lambda o, t: jnp.abs(o[:, 0] - t.mean())),
        ((1,), Y, lambda o, t: mean_square(o, t[:, None])),
        ((1,), Y, jax.vmap(lambda o, t: (o[0] - t) ** 2)),
        ((3,), LABELS, lambda o, t: -jax.nn.log_softmax(o)[jnp.arange(len(t)), t]),
    ],
)
def test_a_loss_of_each_example_is_taken(shape, targets, loss):
    expected = train(linear(*shape), targets, lj.Objective(loss, {}, "loss", "min"))
    assert expected.status == lj.Status.MAX_EPOCHS


@pytest.mark.parametrize(("shape", "targets"), [((1,), Y), ((3,), Y[:, None]), ((), Y)])
def test_multi_label_targets_have_the_shape_of_the_outputs(shape, targets, without_type_checks):
    with pytest.raises(lj.InputError, match=r"multi_label: .* same shape \(N, labels\); got \(8,.*`num_classes`"):
        train(linear(*shape), (targets > 0).astype(np.int32), lj.objectives.multi_label())


@pytest.mark.parametrize("apply", [lambda w, x: jnp.sum(x @ w), lambda w, x: (x @ w)[:, 0], lambda w, x: (x @ w, x)])
def test_outputs_that_are_no_logits_are_told_so(apply):
    model = lj.interop.to_model((lambda key: jax.random.normal(key, (5, 3)), apply), (5,))
    with pytest.raises(lj.InputError, match=r"outputs for a batch of one .* logits \(1, classes\); got .* objective"):
        train(model, LABELS)
    with pytest.raises(lj.InputError, match=r"logits \(1, classes\)"):
        lj.evaluate(model, model.init(jax.random.key(0)), lj.Split(X, LABELS))


def test_numbers_as_targets_of_classes_name_the_objective():
    with pytest.raises(lj.InputError, match=r"integers \(N,\) for an objective of classes; .* objective=regression"):
        train(linear(1), Y)


def test_a_moving_average_is_kept_once():
    averaged = {"ema_decay": 0.5}
    config = lj.config.TrainerConfig(max_epochs=2, batch_size=8, **averaged)
    once = train(linear(3), LABELS, optimizer=lj.make_optimizer(**averaged)).variables
    same = train(linear(3), LABELS, optimizer=lj.make_optimizer(), config=config).variables
    np.testing.assert_array_equal(once.params, same.params)
    with pytest.raises(lj.InputError, match=r"`ema_decay` must be given once; .* several moving averages"):
        train(linear(3), LABELS, optimizer=lj.make_optimizer(**averaged), config=config)


def test_parameters_may_have_averages_of_their_own():
    parts = {name: optax.chain(optax.sgd(0.1), average_parameters(decay)) for name, decay in (("a", 0.5), ("b", 0.9))}
    optimizer = optax.multi_transform(parts, {"x": "a", "y": "b"})
    check_averages(optimizer.init({"x": jnp.zeros(2), "y": jnp.zeros(3)}))


@pytest.mark.parametrize("name", ["cosine", "step", "exponential", "constant"])
def test_a_schedule_gets_the_lengths_of_the_run(name):
    options = {"learning_rate": 0.1, "schedule": name, "clip_norm": 1.0}
    found = train(linear(3), LABELS, optimizer=lj.make_optimizer(**options))
    expected = train(linear(3), LABELS, optimizer=lj.make_optimizer(**options, num_steps=6, steps_per_epoch=3))
    np.testing.assert_array_equal(found.variables.params, expected.variables.params)
    lanes = lj.make_train_lanes(linear(3), lj.make_optimizer(**options), CONFIG, strategy="map")
    many = jax.jit(lanes)(jax.random.split(jax.random.key(0), 1), {"learning_rate": jnp.array([0.1])}, dataset(LABELS))
    assert jnp.all(jnp.isfinite(many.variables.params))


@pytest.mark.parametrize("name", ["momentum", "nesterov", "adam", "adamw", "rmsprop"])
def test_optimizers_and_schedules_may_promote_as_optax_does(name):
    """The tests run with strict promotion of dtypes and ranks, which a user may have set."""
    optimizer = lj.make_optimizer(name, schedule="cosine", clip_norm=1.0)
    assert train(linear(3), LABELS, optimizer=optimizer).status == lj.Status.MAX_EPOCHS


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_numbers_whose_squares_have_no_place_in_half_precision_are_finite(dtype):
    def apply(weights, x):
        return 100 * (x.astype(dtype) @ weights)  # the loss is about 200

    model = lj.interop.to_model((lambda key: jax.random.normal(key, (5, 3)).astype(dtype), apply), (5,))
    result = train(model, LABELS, optimizer=optax.sgd(1e-4))
    assert result.status == lj.Status.MAX_EPOCHS


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"model": jnp.tanh}, "make_train: `model` must be a lj.Model"),
        ({"optimizer": "sgd"}, "make_train: `optimizer` must be an Optax transformation; got 'sgd'; make one"),
        ({"config": {"max_epochs": 1}}, "make_train: `config` must be a lj.config.TrainerConfig; got a dict"),
        ({"objective": "regression"}, "objective: `objective` must be a lj.Objective; got 'regression'"),
        ({"data": (X, LABELS)}, "train: `data` must be a lj.Dataset .* got a tuple"),
        ({"data": lj.Dataset(*(lj.Split(X.tolist(), LABELS) for _ in range(3)))}, r"`inputs` of train must be arrays"),
        ({"key": 0}, "train: `key` must be a key; got 0"),
    ],
)
def test_what_is_passed_for_another_thing_is_named(wrong, message, without_type_checks):
    given = {"model": linear(3), "optimizer": optax.sgd(0.1), "config": CONFIG, "objective": None, **wrong}
    key, data = wrong.get("key", jax.random.key(0)), wrong.get("data", dataset(LABELS))
    with pytest.raises(lj.InputError, match=message):
        lj.make_train(given["model"], given["optimizer"], given["config"], objective=given["objective"])(key, {}, data)


@pytest.mark.parametrize(("labels", "num_classes"), [([0.5, 1.0], 3), ([0, 1], "3")])
def test_a_confusion_matrix_is_of_integers(labels, num_classes, without_type_checks):
    with pytest.raises(lj.InputError, match=r"confusion_matrix: `(labels|num_classes)` must be"):
        lj.confusion_matrix(labels, [0, 1], num_classes)


@pytest.mark.parametrize("nans", [False, True])
def test_sound_runs_and_states_have_no_infinities_for_debug_infs(nans):
    data, model = dataset(LABELS), linear(3)
    config = lj.config.TrainerConfig(
        max_epochs=20, batch_size=8, early_stopping=lj.config.EarlyStoppingConfig(patience=3)
    )
    with jax.debug_infs(True), jax.debug_nans(nans):
        state = lj.training.init_train_state(model, optax.sgd(0.1), config, jax.random.key(0), {})
        state, loss = lj.training.train_step(model, optax.sgd(0.1), state, data, jnp.arange(8))
        state, _ = jax.jit(lambda state: lj.training.train_interval(model, optax.sgd(0.1), config, state, data))(state)
        result = jax.jit(lj.make_train(model, optax.sgd(0.1), config))(jax.random.key(0), {}, data)
    assert jnp.isfinite(loss)
    assert state.early_stopping.best_error < 1
    assert result.status == lj.Status.PATIENCE
    assert not jnp.any(jnp.isinf(result.history.train_loss))


def test_a_schedule_without_lengths_is_refused_elsewhere():
    optimizer = lj.make_optimizer(schedule="cosine")
    for use in (optimizer, optax.chain(optax.clip(1.0), optimizer)):
        with pytest.raises(
            lj.InputError, match=r"`num_steps` and `steps_per_epoch` must be given .* outside of make_t"
        ):
            use.init(jnp.zeros(3))
    with pytest.raises(lj.InputError, match="got 5 and None"):
        lj.make_optimizer(schedule="cosine", num_steps=5)
