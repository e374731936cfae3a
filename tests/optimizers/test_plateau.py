import jax
import jax.numpy as jnp
import optax
import pytest

from lenet_jax.optimizers import chain_optimizer
from lenet_jax.optimizers.plateau import observe_validation, reduce_on_plateau


@pytest.fixture(autouse=True)
def standard_promotion():
    """Optax multiplies integer counts by floats there."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def test_the_rate_is_reduced_after_so_many_validations_without_improvement():
    optimizer = chain_optimizer(optax.sgd(1.0), schedule=reduce_on_plateau(factor=0.5, patience=2, min_improvement=0.1))
    params = jnp.zeros(())
    state, found = optimizer.init(params), []
    for error in (1.0, 0.8, 0.79, 0.78, 0.5, 0.5, 0.5):
        for _ in range(3):  # steps between two validations
            updates, state = optimizer.update(jnp.ones(()), state, params)
        found.append(float(updates))
        state = observe_validation(state, jnp.float32(error))
    updates, _ = optimizer.update(jnp.ones(()), state, params)
    # 0.79 and 0.78 are no improvement on 0.8 by a tenth, 0.5 is one, and twice the same is none.
    assert [*found, float(updates)] == [-1, -1, -1, -1, -0.5, -0.5, -0.5, -0.25]


def test_it_does_not_fall_below_the_smallest_scale():
    transformation = reduce_on_plateau(factor=0.1, patience=1, min_scale=0.05)
    state = transformation.init(jnp.zeros(()))
    for _ in range(4):
        state = observe_validation(state, jnp.float32(1))
        updates, state = transformation.update(jnp.ones(()), state)
    assert float(updates) == pytest.approx(0.05)


def test_other_states_do_not_change_by_a_validation():
    state = optax.adam(0.1).init(jnp.zeros(2))
    observed = observe_validation(state, jnp.float32(1))
    assert jax.tree.all(jax.tree.map(jnp.array_equal, observed, state))
