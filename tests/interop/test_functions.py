"""Pairs of functions (init, apply) as models."""

import jax
import jax.numpy as jnp
import numpy as np

import lenet_jax as lj
from lenet_jax.interop import from_functions

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (4, 6))


def init(key):
    return {"w": jax.random.normal(key, (6, 3))}


def test_parameters_are_any_pytree_and_apply_returns_outputs():
    model = from_functions(init, lambda params, x: x @ params["w"], (6,))
    variables = model.init(KEY)
    outputs, state = model.apply(variables, X, train=True, key=KEY)
    np.testing.assert_allclose(outputs, X @ init(KEY)["w"])
    assert (state, model.input_shape) == ({}, (6,))


def test_the_mode_and_the_key_are_passed_where_the_signature_names_them():
    def apply(params, x, *, train, key=None):
        return x @ params["w"] + (jax.random.normal(key) if train else 0)

    model = from_functions(init, apply)
    variables = model.init(KEY)
    plain, noisy = (model.apply(variables, X, train=train, key=KEY)[0] for train in (False, True))
    np.testing.assert_allclose(noisy - plain, jnp.full((4, 3), jax.random.normal(KEY)), rtol=1e-5)
    only_mode = from_functions(init, lambda params, x, train: x @ params["w"] * (2.0 if train else 1.0))
    np.testing.assert_allclose(only_mode.apply(variables, X, train=True, key=KEY)[0], 2 * plain)


def test_with_variables_apply_returns_its_state_as_well():
    def init_both(key):
        return lj.Variables(init(key), {"calls": jnp.zeros((), jnp.int32)})

    def apply(variables, x):
        return x @ variables.params["w"], {"calls": variables.state["calls"] + 1}

    model = from_functions(init_both, apply)
    assert int(model.apply(model.init(KEY), X)[1]["calls"]) == 1
