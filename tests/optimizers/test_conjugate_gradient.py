import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize

from lenet_jax.optimizers.conjugate_gradient import conjugate_gradient, scale_by_polak_ribiere


@pytest.fixture
def double():
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        yield


def rosenbrock(x):
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def minimize(loss, start, steps):
    optimizer = conjugate_gradient()

    def step(carry, _):
        params, state = carry
        value, grads = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(grads, state, params, value=value, grad=grads, value_fn=loss)
        return (optax.apply_updates(params, updates), state), value

    return jax.jit(lambda x: jax.lax.scan(step, (x, optimizer.init(x)), length=steps))(start)


def test_it_finds_the_minimum_that_scipy_finds(double):
    start = np.array([-1.2, 1.0, -0.5, 0.8])
    (found, _), values = minimize(rosenbrock, jnp.asarray(start), 100)
    expected = scipy.optimize.minimize(rosenbrock, start, jac=jax.grad(rosenbrock), method="CG")
    assert expected.fun < 1e-8
    np.testing.assert_allclose(found, expected.x, atol=1e-4)
    assert (np.diff(values) <= 0).all()


def test_directions_are_conjugate_on_a_quadratic_with_exact_steps(double):
    matrix = jnp.diag(jnp.array([1.0, 5.0, 20.0]))
    transformation = scale_by_polak_ribiere()
    params = jnp.array([1.0, -2.0, 0.5])
    state, directions = transformation.init(params), []
    for _ in range(3):
        gradient = matrix @ params
        direction, state = transformation.update(gradient, state)
        directions.append(direction)
        params = params - (direction @ gradient) / (direction @ matrix @ direction) * direction
    products = [directions[i] @ matrix @ directions[j] for i, j in ((0, 1), (0, 2), (1, 2))]
    np.testing.assert_allclose(products, 0, atol=1e-10)
    np.testing.assert_allclose(params, 0, atol=1e-12)  # after as many steps as there are dimensions
