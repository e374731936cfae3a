"""Which of the two methods of a function is used where; here their values differ, so that the result shows it."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from lenet_jax.ops.cpu.primitives import inference_only

X = jnp.array([1.0, 2.0])
W = {"w": jnp.array([3.0, 4.0])}


def fast(params, x):
    return params["w"] * x + 1000.0


def general(params, x):
    return params["w"] * x


chosen = inference_only(fast, general)


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit, jax.checkpoint])
def test_a_value_is_computed_the_fast_way(transform):
    assert transform(chosen)(W, X).tolist() == [1003.0, 1008.0]
    assert jax.jit(lambda: lax.map(lambda x: transform(chosen)(W, x), X[None]))().tolist() == [[1003.0, 1008.0]]


def test_derivatives_and_their_values_are_those_of_the_general_form():
    assert jax.jvp(chosen, (W, X), (W, X))[0].tolist() == [3.0, 8.0]
    value, gradient = jax.value_and_grad(lambda w, x: jnp.sum(chosen(w, x)), (0, 1))(W, X)
    assert value == 11.0
    assert gradient[0]["w"].tolist() == X.tolist()
    assert gradient[1].tolist() == W["w"].tolist()
    assert jax.jit(jax.grad(jax.checkpoint(lambda x: jnp.sum(chosen(W, x) ** 2))))(X).tolist() == [18.0, 64.0]
    assert jax.hessian(lambda x: jnp.sum(chosen(W, x) ** 2))(X).tolist() == [[18.0, 0.0], [0.0, 32.0]]


def test_a_map_is_one_of_the_general_form():
    assert jax.vmap(chosen, (None, 0))(W, X[None]).tolist() == [[3.0, 8.0]]
    assert jax.vmap(chosen, (0, None))({"w": W["w"][None]}, X).tolist() == [[3.0, 8.0]]


def test_can_be_transposed():
    transposed = jax.linear_transpose(lambda x: chosen(W, x), X)(jnp.ones(2))
    assert transposed[0].tolist() == [3.0, 4.0]
