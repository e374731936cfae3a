"""Training as a pure function: its steps against torch, its order, its counts, its lanes, its compiled program."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import lenet_jax as lj
from lenet_jax import training
from lenet_jax.config import EarlyStoppingConfig, TrainerConfig
from lenet_jax.types import Status

KEY = jax.random.key(7)


def small_data(num_train=96, size=10):
    """Images whose class is written in one bright column: learnable in a few steps."""
    rng = np.random.default_rng(0)

    def split(n):
        labels = rng.integers(0, 4, n).astype(np.int32)
        images = rng.integers(0, 60, (n, size, size, 1)).astype(np.uint8)
        images[np.arange(n), :, 2 * labels + 1] += 180
        return lj.Split(images, labels)

    return lj.Dataset(split(num_train), split(50), split(30), num_classes=4)


DATA = small_data()
MODEL = lj.create_model(
    "lenet", input_shape=(10, 10, 1), num_classes=4, num_kernels=(3, 4), kernel_size=2, hidden_units=8
)


def trainer(**options):
    return TrainerConfig(**{"batch_size": 32, "max_epochs": 4, **options})


@functools.cache
def run(config, learning_rate=0.5):
    """Train once with the whole run as one compiled function."""
    train = lj.make_train(MODEL, lj.make_optimizer("sgd", learning_rate=learning_rate), config)
    return jax.jit(train)(KEY, {}, DATA)


def bits(tree):
    leaves = jax.tree.leaves(tree)
    leaves = [jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf for leaf in leaves]
    return [np.asarray(leaf).tobytes() for leaf in leaves]


def test_learns_and_reports_what_it_did():
    result = run(trainer(max_epochs=12))
    assert float(result.test.accuracy) > 0.9
    assert int(result.test.num_examples) == 30
    assert int(result.iterations) == 12 * 3
    assert Status(int(result.status)) is Status.MAX_EPOCHS
    assert result.history.iteration.tolist() == list(range(3, 37, 3))
    assert float(result.validation.accuracy) == pytest.approx(float(jnp.max(result.history.validation.accuracy)))
    assert float(result.history.train_loss[-1]) < 0.5 * float(result.history.train_loss[0])


@pytest.mark.parametrize("shuffle", [True, False])
def test_driving_it_interval_by_interval_gives_the_same_bits(shuffle):
    config = trainer(shuffle=shuffle)
    optimizer = lj.make_optimizer("sgd", learning_rate=0.5)
    state = jax.jit(lambda key: training.init_train_state(MODEL, optimizer, config, key, {}))(KEY)
    task = training.make_task(MODEL, config, DATA)
    advance = jax.jit(functools.partial(training.train_interval, task, optimizer, config), donate_argnums=0)
    data = jax.device_put(DATA)
    while int(state.status) == Status.RUNNING:
        state, _ = advance(state, data)
    assert bits(state.best) == bits(run(config).variables)


def torch_lenet_steps(torch, params, images, labels, learning_rate, momentum):
    """Train LeNet on minibatches in float64 torch, bias and tanh as the textbooks draw them."""
    functional = torch.nn.functional
    weights = {path: torch.tensor(np.asarray(leaf, np.float64), requires_grad=True) for path, leaf in params.items()}
    optimizer = torch.optim.SGD(weights.values(), lr=learning_rate, momentum=momentum)
    for x, y in zip(images, labels, strict=True):
        x = torch.tensor(np.asarray(x, np.float64) / 256).permute(0, 3, 1, 2)
        for layer in ("conv1", "conv2"):
            kernel = weights[layer, "kernel"].permute(3, 2, 0, 1)
            x = torch.tanh(functional.max_pool2d(functional.conv2d(x, kernel, weights[layer, "bias"]), 2))
        x = x.permute(0, 2, 3, 1).flatten(1)
        x = torch.tanh(x @ weights["hidden", "kernel"] + weights["hidden", "bias"])
        loss = functional.cross_entropy(
            x @ weights["softmax", "kernel"] + weights["softmax", "bias"], torch.tensor(y).long()
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {path: weight.detach().numpy() for path, weight in weights.items()}, loss.item()


@pytest.mark.parametrize("batch_size", [12, 48, 96])  # one microbatch a step, and several
def test_steps_are_those_of_torch(batch_size):
    torch = pytest.importorskip("torch")
    optimizer = lj.make_optimizer("momentum", learning_rate=0.1, momentum=0.9)
    state = training.init_train_state(MODEL, optimizer, trainer(), KEY, {})
    start = {(a, b): leaf for a, layer in state.variables.params.items() for b, leaf in layer.items()}
    order = np.random.default_rng(1).permutation(96).reshape(-1, batch_size).repeat(2, axis=0)
    step = jax.jit(functools.partial(training.train_step, MODEL, optimizer))
    for indices in order:
        state, loss = step(state, DATA, jnp.asarray(indices))
    images, labels = DATA.train.images[order], DATA.train.labels[order]
    expected, expected_loss = torch_lenet_steps(torch, start, images, labels, 0.1, 0.9)
    assert float(loss) == pytest.approx(expected_loss, rel=1e-4)
    for (layer, name), weight in expected.items():
        np.testing.assert_allclose(state.variables.params[layer][name], weight, rtol=1e-3, atol=2e-5)


def test_microbatches_add_up_to_the_whole_step():
    optimizer = lj.make_optimizer("sgd", learning_rate=0.5)
    state = training.init_train_state(MODEL, optimizer, trainer(), KEY, {})
    steps = [
        jax.jit(functools.partial(training.train_step, MODEL, optimizer, grad_accumulation_steps=n))(
            state, DATA, jnp.arange(48)
        )
        for n in (1, 3)
    ]
    for a, b in zip(*map(jax.tree.leaves, ((s.variables, loss) for s, loss in steps)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    with pytest.raises(
        lj.InputError, match="`grad_accumulation_steps` must be 1 or above and divide the minibatch of 48 examples; "
    ):
        training.train_step(MODEL, optimizer, state, DATA, jnp.arange(48), grad_accumulation_steps=5)


def test_half_precision_keeps_parameters_and_losses_in_single_and_learns():
    config = trainer(max_epochs=12, compute_dtype="bfloat16")
    result = run(config)
    assert {leaf.dtype for leaf in jax.tree.leaves(result.variables)} == {jnp.dtype(jnp.float32)}
    assert result.history.train_loss.dtype == jnp.float32
    assert float(result.test.accuracy) > 0.9
    assert not np.array_equal(result.history.train_loss, run(trainer(max_epochs=12)).history.train_loss)


def test_a_run_is_evaluated_with_its_averaged_weights():
    optimizer, config = lj.make_optimizer("sgd", learning_rate=0.5, ema_decay=0.9), trainer(max_epochs=12)
    state = training.init_train_state(MODEL, optimizer, config, KEY, {})
    task = training.make_task(MODEL, config, DATA)
    state, evaluation = jax.jit(functools.partial(training.train_interval, task, optimizer, config))(state, DATA)
    average = training.evaluation_variables(state)
    assert not np.array_equal(average.params["softmax"]["kernel"], state.variables.params["softmax"]["kernel"])
    measured = lj.evaluate(MODEL, average, DATA.validation, DATA.pixel_divisor)
    assert float(evaluation.validation.loss) == pytest.approx(float(measured.loss), rel=1e-5)
    np.testing.assert_array_equal(state.best.params["softmax"]["kernel"], average.params["softmax"]["kernel"])


def test_stops_when_patience_is_used_up_and_keeps_the_best():
    config = trainer(max_epochs=50, early_stopping=EarlyStoppingConfig(patience=9, patience_increase=1))
    result = run(config)
    assert Status(int(result.status)) is Status.PATIENCE
    assert int(result.iterations) < 150
    evaluations = int(result.iterations) // 3
    errors = 1 - result.history.validation.num_correct[:evaluations] / 50
    assert 1 - float(result.validation.accuracy) == pytest.approx(float(jnp.min(errors)))
    assert not jnp.any(result.history.iteration[evaluations:])
    validation = lj.evaluate(MODEL, result.variables, DATA.validation, DATA.pixel_divisor)
    assert int(validation.num_correct) == int(result.validation.num_correct)


def test_divergence_ends_the_run_and_keeps_the_best():
    result = run(trainer(), 1e30)
    assert Status(int(result.status)) is Status.DIVERGED
    assert int(result.iterations) == 0
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(result.variables))


def breaks_at(iteration, what):
    """Return a model and an optimizer of which something is not finite from a step on, and only that."""

    @jax.custom_jvp
    def identity(x, bad):
        return x

    @identity.defjvp
    def identity_jvp(primals, tangents):
        return primals[0], jnp.where(primals[1], jnp.inf, 1.0) * tangents[0]

    def apply(variables, images, *, train=False, key=None):
        params, count = variables
        bad = train & (count >= iteration)
        logits = images.reshape(len(images), -1) @ params
        logits = jnp.where(bad & (what == "loss"), jnp.nan, logits)
        return identity(logits, bad & (what == "gradient")), count + 1 if train else count

    def update(updates, count, params=None):
        factor = jnp.where((count >= iteration) & (what == "update"), jnp.nan, -0.1)
        return updates * factor, count + 1

    model = lj.Model(lambda key: lj.Variables(jnp.zeros((100, 4)), jnp.int32(0)), apply)
    return model, optax.GradientTransformation(lambda params: jnp.int32(0), update)


@pytest.mark.parametrize("what", ["loss", "gradient", "update"])
def test_a_step_with_something_that_is_not_finite_is_not_done(what):
    step = jax.jit(training.train_step, static_argnums=(0, 1))
    states = {}
    for name, iteration in (("good", 9), ("bad", 2)):
        model, optimizer = breaks_at(iteration, what)
        state = training.init_train_state(model, optimizer, trainer(), KEY, {})
        for number in range(4):
            state, loss = step(model, optimizer, state, DATA, jnp.arange(8) + 8 * number)
            states[name, number] = state
            assert bool(jnp.isfinite(loss)) == (name == "good" or number < 2)
    assert bits(states["bad", 1]) == bits(states["good", 1])
    for number in (2, 3):  # and later ones, which would be finite again, are not done either
        state = states["bad", number]
        assert Status(int(state.status)) is Status.DIVERGED
        assert bits(state._replace(status=jnp.int32(Status.RUNNING))) == bits(states["good", 1])


@pytest.mark.slow
@pytest.mark.usefixtures("optimized")
def test_lanes_give_the_same_results_as_runs_alone_whenever_each_stops():
    config = trainer(max_epochs=8, early_stopping=EarlyStoppingConfig(patience=6, patience_increase=1))
    train = lj.make_train(MODEL, lj.make_optimizer("sgd"), config)
    rates = jnp.array([0.5, 1e-6, 1e30])
    keys = jax.random.split(KEY, 3)
    lanes = jax.jit(jax.vmap(lambda key, rate: train(key, {"learning_rate": rate}, DATA)))(keys, rates)
    alone = jax.jit(train)
    for i in range(3):
        single = alone(keys[i], {"learning_rate": rates[i]}, DATA)
        assert int(lanes.status[i]) == int(single.status)
        assert int(lanes.iterations[i]) == int(single.iterations)
        np.testing.assert_allclose(lanes.test.loss[i], single.test.loss, rtol=1e-4)
    assert len(set(lanes.status.tolist())) > 1


def test_another_learning_rate_does_not_compile_again():
    traces = []
    train = lj.make_train(MODEL, lj.make_optimizer("sgd"), trainer(max_epochs=1))

    @jax.jit
    def counted(key, hyperparameters):
        traces.append(1)
        return train(key, hyperparameters, DATA)

    losses = [float(counted(KEY, {"learning_rate": rate}).test.loss) for rate in (0.1, 0.2, 0.3)]
    assert len(set(losses)) == 3
    assert len(traces) == 1


def test_takes_any_optax_optimizer():
    result = jax.jit(lj.make_train(MODEL, optax.sgd(0.5), trainer()))(KEY, {}, DATA)
    np.testing.assert_allclose(result.test.loss, run(trainer()).test.loss, rtol=1e-5)


@pytest.mark.parametrize(
    "name",
    ["lenet", "lenet5", *(pytest.param(name, marks=pytest.mark.slow) for name in ("mnist_cnn", "window_classifier"))],
)
def test_only_convolutions_that_are_fast_in_loops_are_left_in_the_compiled_run(name):
    # XLA's CPU backend would run others as a naive nest of loops there (jax issue 12868).
    options = {} if name == "lenet5" else {"kernel_size": 2}
    model = lj.create_model(name, input_shape=(12, 12, 1), num_classes=4, **options)
    train = lj.make_train(model, lj.make_optimizer("sgd"), trainer())
    program = jax.jit(train).lower(KEY, {}, small_data(size=12)).compile().as_text()
    assert " dot(" in program
    convolutions = [line for line in program.splitlines() if " convolution(" in line]
    assert all("dim_labels=b01f_01io->b01f" in line and "reversal" not in line for line in convolutions)
    assert "select-and-scatter" not in program


def test_the_state_is_donated():
    config, optimizer = trainer(), lj.make_optimizer("sgd")
    state = training.init_train_state(MODEL, optimizer, config, KEY, {})  # outside of jit, as in a notebook
    task = training.make_task(MODEL, config, DATA)
    advance = jax.jit(functools.partial(training.train_interval, task, optimizer, config), donate_argnums=0)
    advance(state, DATA)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.variables))


@pytest.mark.parametrize(
    ("options", "optimizer", "hyperparameters", "message"),
    [
        (
            {"batch_size": 97},
            optax.sgd(0.1),
            {},
            "`trainer.batch_size` must be at most the size of the training set, 96; got 97.",
        ),
        (
            {"max_epochs": 2**30},
            optax.sgd(0.1),
            {},
            "`trainer.max_epochs` must be below 715827882 for 3 iterations an epoch; got 1073741824.",
        ),
        (
            {},
            lj.make_optimizer("sgd"),
            {"learning_rat": 0.1},
            "`hyperparameters` has no 'learning_rat'; choose one of: learning_rate, weight_decay.",
        ),
        (
            {},
            optax.sgd(0.1),
            {"learning_rate": 0.1},
            "`hyperparameters` must be empty for an optimizer that keeps none in its state; got 'learning_rate'; "
            "build it with make_optimizer or optax.inject_hyperparams.",
        ),
    ],
)
def test_bad_input_is_refused_while_tracing(options, optimizer, hyperparameters, message):
    with pytest.raises(lj.InputError) as error:
        jax.eval_shape(lj.make_train(MODEL, optimizer, trainer(**options)), KEY, hyperparameters, DATA)
    assert str(error.value) == message


def test_clip_norm_and_ema_decay_of_the_configuration_act():
    config = trainer(max_epochs=2)
    in_config = lj.config.TrainerConfig(**{**vars(config), "clip_norm": 0.01, "ema_decay": 0.9})
    plain = lj.make_optimizer("sgd", learning_rate=0.5)
    in_optimizer = lj.make_optimizer("sgd", learning_rate=0.5, clip_norm=0.01, ema_decay=0.9)
    ours = jax.jit(lj.make_train(MODEL, plain, in_config))(KEY, {"learning_rate": 0.4}, DATA)
    expected = jax.jit(lj.make_train(MODEL, in_optimizer, config))(KEY, {"learning_rate": 0.4}, DATA)
    without = jax.jit(lj.make_train(MODEL, plain, config))(KEY, {"learning_rate": 0.4}, DATA)
    for a, b, c in zip(*(jax.tree.leaves(each.variables) for each in (ours, expected, without)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
        assert not np.allclose(a, c)


@pytest.mark.parametrize("wrap", [jax.jit, lambda run: run], ids=["jit", "eager"])
def test_a_sound_run_that_stops_early_has_no_nan(wrap):
    early = lj.config.EarlyStoppingConfig(patience=8, patience_increase=1)
    config = lj.config.TrainerConfig(**{**vars(trainer(max_epochs=20)), "early_stopping": early})
    with jax.debug_nans(True):
        result = wrap(lj.make_train(MODEL, lj.make_optimizer("sgd"), config))(KEY, {}, DATA)
    assert result.status == lj.Status.PATIENCE
    used = np.asarray(result.history.iteration > 0)
    assert 0 < used.sum() < used.size
    assert np.isfinite(result.history.train_loss[used]).all()
    assert np.isinf(result.history.train_loss[~used]).all()
    assert np.isinf(result.history.validation.loss_sum[~used]).all()


def test_parameters_of_float64_are_trained_as_such_and_recorded_in_float32():
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        model = lj.Model(
            lambda key: lj.Variables(jnp.zeros((100, 4), jnp.float64), {}),
            lambda variables, x, *, train=False, key=None: (x.reshape(len(x), 100) @ variables.params, {}),
        )
        train = lj.make_train(model, optax.sgd(0.1), trainer(max_epochs=1))
        result = jax.eval_shape(train, KEY, {}, DATA)
    assert result.variables.params.dtype == jnp.float64
    assert result.history.train_loss.dtype == result.history.validation.loss_sum.dtype == jnp.float32
