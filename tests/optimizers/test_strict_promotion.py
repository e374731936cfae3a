"""Optax takes powers of floats by counts, which strict promotion refuses; an optimizer works all the same."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lenet_jax.optimizers.standard_form import apply_optimizer


@pytest.mark.parametrize("name", ["adam", "adamw", "nadam", "lamb"])
def test_a_user_may_have_set_strict_promotion(name):
    optimizer, params = getattr(optax, name)(0.1), {"w": jnp.ones(3)}
    state, grads = optimizer.init(params), {"w": jnp.arange(3.0)}

    def loss_fn(params):
        return (params["w"] * grads["w"]).sum()

    with jax.numpy_dtype_promotion("standard"):
        expected, _ = optimizer.update(grads, state, params)
    with jax.numpy_dtype_promotion("strict"):
        found, _ = apply_optimizer(optimizer, state, params, grads, loss_fn(params), loss_fn)
    np.testing.assert_array_equal(found["w"], expected["w"])
