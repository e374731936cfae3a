"""The product with sliding windows and its two gradients against their sum written out, in every derivative and map."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lenet_jax.ops.cpu.window_product import window_product

WEIGHTS = (2, 3, 3, 2)  # G, O, S, R
ROWS = (6, 2, 2, 4)  # L, G, R, M: 2 windows of 3 rows
STRIDE = 3


def arrays(*lead, rows=ROWS):
    return (jax.random.normal(jax.random.key(i), (*lead, *shape)) for i, shape in enumerate((WEIGHTS, rows)))


def definition(weights, rows):
    size = weights.shape[2]
    windows = [rows[start : start + size] for start in range(0, len(rows) - size + 1, STRIDE)]
    return jnp.stack([jnp.einsum("gosr,sgr...->go...", weights, window) for window in windows])


ours = functools.partial(window_product, stride=STRIDE)


def derivatives(product, weights, rows):
    """Value, gradients, forward over reverse, reverse over reverse."""

    def loss(weights, rows):
        return jnp.sum(jnp.sin(product(weights, rows)))

    gradient = jax.grad(loss, (0, 1))

    def size_of_gradient(weights, rows):
        return sum(jnp.sum(part**2) for part in gradient(weights, rows))

    both = (weights, rows)
    return product(*both), gradient(*both), jax.jvp(gradient, both, both)[1], jax.grad(size_of_gradient, (0, 1))(*both)


def assert_close(actual, expected):
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4)


def test_by_hand():
    weights = jnp.array([1.0, 10.0]).reshape(1, 1, 2, 1)
    rows = jnp.array([1.0, 2.0, 3.0]).reshape(3, 1, 1, 1)
    assert window_product(weights, rows, stride=1).ravel().tolist() == [21.0, 32.0]


@pytest.mark.parametrize("rows", [ROWS, (3, 2, 2, 4), (6, 2, 2, 3, 1, 2)], ids=["two windows", "one", "three axes"])
def test_equals_its_definition_in_every_derivative(rows):
    both = tuple(arrays(rows=rows))
    assert_close(jax.jit(functools.partial(derivatives, ours))(*both), derivatives(definition, *both))


@pytest.mark.parametrize("in_axes", [(0, None), (None, 0), (0, 0), (1, 2)])
def test_maps_of_derivatives_and_derivatives_of_maps(in_axes):
    chosen = [array if axis is not None else array[0] for array, axis in zip(arrays(3), in_axes, strict=True)]
    chosen = [jnp.moveaxis(a, 0, axis) if axis else a for a, axis in zip(chosen, in_axes, strict=True)]
    for of in (
        lambda product: jax.vmap(functools.partial(derivatives, product), in_axes),
        lambda product: functools.partial(derivatives, jax.vmap(product, in_axes)),
    ):
        assert_close(jax.jit(of(ours))(*chosen), of(definition)(*chosen))


def test_bfloat16_stays_bfloat16():
    weights, rows = (array.astype(jnp.bfloat16) for array in arrays())
    assert jax.tree.map(lambda a: a.dtype, jax.vjp(ours, weights, rows)[1](ours(weights, rows))) == (jnp.bfloat16,) * 2
