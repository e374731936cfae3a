"""Scaled conjugate gradient against Møller's steps in NumPy, known minima and SciPy; all in float64."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize
from jax import lax

import lenet_jax as lj
from lenet_jax.optimizers import scaled_conjugate_gradient


@pytest.fixture(autouse=True)
def in_float64():
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        yield


def minimize(fn, x, num_steps, **options):
    """Return the points on the way to the minimum, from the start on."""
    optimizer = scaled_conjugate_gradient(**options)

    def step(carry, _):
        x, state = carry
        value, grads = jax.value_and_grad(fn)(x)
        updates, state = optimizer.update(grads, state, x, value=value, value_fn=fn)
        x = optax.apply_updates(x, updates)
        return (x, state), x

    x = jnp.asarray(x)
    (_, state), path = lax.scan(step, (x, optimizer.init(x)), length=num_steps)
    return np.concatenate([x[None], path]), state


def by_the_paper(fn, gradient, hessian, w, num_steps, damping=1e-6):
    """Follow the nine steps of Møller's section 4, with the exact p.Hp in step 2."""
    lam, lam_bar, success = damping, 0.0, True
    r = -gradient(w)
    p = r
    path = [w]
    for k in range(1, num_steps + 1):
        if success:
            delta = p @ hessian(w) @ p
        delta += (lam - lam_bar) * (p @ p)
        if delta <= 0:
            lam_bar = 2 * (lam - delta / (p @ p))
            delta = -delta + lam * (p @ p)
            lam = lam_bar
        mu = p @ r
        alpha = mu / delta
        comparison = 2 * delta * (fn(w) - fn(w + alpha * p)) / mu**2
        length = p @ p
        if comparison >= 0:
            w = w + alpha * p
            lam_bar, success = 0.0, True
            new_r = -gradient(w)
            p = new_r if k % len(w) == 0 else new_r + (new_r @ new_r - new_r @ r) / mu * p
            r = new_r
            if comparison >= 0.75:
                lam /= 4
        else:
            lam_bar, success = lam, False
        if comparison < 0.25:
            lam += delta * (1 - comparison) / length
        path.append(w)
    return np.array(path)


def rosenbrock(x):
    return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2


def saddle(x):
    """Negative curvature around the origin; minima at (1, 0) and (-1, 0)."""
    return 0.25 * x[0] ** 4 - 0.5 * x[0] ** 2 + x[1] ** 2


@pytest.mark.parametrize(("fn", "start"), [(rosenbrock, [-1.2, 1.0]), (saddle, [0.1, 0.5]), (saddle, [1e-3, 1e-3])])
def test_takes_the_steps_of_the_paper(fn, start):
    expected = by_the_paper(fn, jax.grad(fn), jax.hessian(fn), np.array(start), 25)
    path, _ = minimize(fn, start, 25)
    # Rounding grows from step to step.
    np.testing.assert_allclose(path[:15], expected[:15], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(path, expected, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("num_unknowns", [1, 2, 5, 10])
def test_reaches_the_minimum_of_a_quadratic_in_as_many_steps_as_unknowns(num_unknowns):
    rng = np.random.default_rng(num_unknowns)
    factor = rng.normal(size=(num_unknowns, num_unknowns))
    matrix, b = factor @ factor.T + np.eye(num_unknowns), rng.normal(size=num_unknowns)
    path, _ = minimize(
        lambda x: 0.5 * x @ matrix @ x - b @ x, np.zeros(num_unknowns), num_unknowns, initial_damping=1e-15
    )
    solution = np.linalg.solve(matrix, b)
    np.testing.assert_allclose(path[-1], solution, rtol=1e-9, atol=1e-10)
    if num_unknowns > 1:
        assert np.abs(path[-2] - solution).max() > 1e-6


def test_finds_the_minimum_of_rosenbrock():
    path, _ = minimize(rosenbrock, [-1.2, 1.0], 300)
    np.testing.assert_allclose(path[-1], [1, 1], atol=1e-6)


def test_leaves_a_saddle_of_negative_curvature():
    path, _ = minimize(saddle, [1e-3, 0.3], 50)
    np.testing.assert_allclose(np.abs(path[-1]), [1, 0], atol=1e-6)


def test_the_loss_never_rises():
    path, _ = minimize(rosenbrock, [-1.2, 1.0], 60)
    losses = [float(rosenbrock(x)) for x in path]
    assert all(later <= earlier for earlier, later in itertools.pairwise(losses))
    assert any(later == earlier for earlier, later in itertools.pairwise(losses))  # steps not taken


def test_logistic_regression_has_the_minimum_that_scipy_finds():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 4))
    y = (rng.random(200) < 1 / (1 + np.exp(-x @ [1.0, -2.0, 0.5, 0.0]))).astype(float)

    def loss(params):
        logits = x @ params["weights"] + params["bias"]
        return jnp.mean(jnp.logaddexp(0.0, logits) - y * logits) + 0.01 * jnp.sum(params["weights"] ** 2)

    optimizer = scaled_conjugate_gradient()
    params = {"weights": jnp.zeros(4), "bias": jnp.zeros(())}
    state = optimizer.init(params)
    for _ in range(40):
        value, grads = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(grads, state, params, value=value, value_fn=loss)
        params = optax.apply_updates(params, updates)

    def flat(v):
        return float(loss({"weights": jnp.asarray(v[:4]), "bias": jnp.asarray(v[4])}))

    expected = scipy.optimize.minimize(flat, np.zeros(5), method="BFGS", tol=1e-9).x
    np.testing.assert_allclose([*params["weights"], params["bias"]], expected, atol=1e-5)


def test_many_runs_side_by_side_are_those_runs():
    starts = jnp.array([[-1.2, 1.0], [0.5, 2.0], [3.0, -1.0]])
    together = jax.vmap(lambda x: jnp.asarray(minimize_traced(rosenbrock, x, 30)))(starts)
    for start, final in zip(starts, together, strict=True):
        np.testing.assert_allclose(final, minimize(rosenbrock, start, 30)[0][-1], rtol=1e-6)


def minimize_traced(fn, x, num_steps):
    optimizer = scaled_conjugate_gradient()

    def step(_, carry):
        x, state = carry
        value, grads = jax.value_and_grad(fn)(x)
        updates, state = optimizer.update(grads, state, x, value=value, value_fn=fn)
        return optax.apply_updates(x, updates), state

    return lax.fori_loop(0, num_steps, step, (x, optimizer.init(x)))[0]


def test_the_difference_of_gradients_is_near_the_second_derivative():
    path, _ = minimize(rosenbrock, [-1.2, 1.0], 300, curvature="difference", difference_step=1e-6)
    np.testing.assert_allclose(path[-1], [1, 1], atol=1e-5)
    exact = minimize(rosenbrock, [-1.2, 1.0], 5)[0]
    np.testing.assert_allclose(path[:6], exact, rtol=1e-4)


def test_stays_at_a_minimum():
    path, _ = minimize(lambda x: jnp.sum(x**2), np.zeros(3), 3)
    assert (path == 0).all()


def test_a_step_to_nowhere_is_not_taken():
    def fn(x):
        return jnp.where(x[0] < 0.5, jnp.nan, x[0] ** 2)

    path, _ = minimize(fn, [1.0], 3)
    assert path[1] == path[0] == 1.0
    assert 0.5 <= path[-1] < 1.0


def test_trains_a_network_within_the_framework():
    data = lj.load_dataset(train_size=200)
    model = lj.create_model("window_classifier", num_kernels=3, hidden_units=8)
    optimizer = lj.make_optimizer("scaled_conjugate_gradient")
    stopping = lj.config.EarlyStoppingConfig(enabled=False)
    config = lj.config.TrainerConfig(batch_size=None, max_epochs=30, shuffle=False, early_stopping=stopping)
    with jax.enable_x64(False):
        result = jax.jit(lj.make_train(model, optimizer, config))(jax.random.key(0), {}, data)
    losses = np.asarray(result.history.train_loss)
    assert (np.diff(losses) <= 0).all()
    assert losses[-1] < 0.3 * losses[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"initial_damping": 0.0}, "scaled_conjugate_gradient: `initial_damping` must be above 0; got 0.0."),
        ({"difference_step": -1.0}, "scaled_conjugate_gradient: `difference_step` must be above 0; got -1.0."),
        (
            {"curvature": "exat"},
            "`scaled_conjugate_gradient curvature` has no 'exat'; choose one of: exact, difference.",
        ),
    ],
)
def test_refuses_options(options, message, without_type_checks):
    with pytest.raises(lj.InputError) as error:
        scaled_conjugate_gradient(**options)
    assert str(error.value) == message


def test_needs_the_loss_as_a_function():
    optimizer = scaled_conjugate_gradient()
    params = jnp.zeros(2)
    with pytest.raises(lj.InputError, match="`update` must get params, value and value_fn"):
        optimizer.update(params, optimizer.init(params), params)
