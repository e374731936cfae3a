"""The product of dense layers and its gradients, by either routine, against the product itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lenet_jax.ops.cpu import matrix_product as module

SHAPES = {"few rows": (3, 20, 30), "rows": (150, 20, 30), "images": (2, 3, 4, 20, 30)}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("in_axes", [None, (0, None), (None, 0), (0, 0)])
def test_every_derivative_and_map_is_that_of_the_product(shape, in_axes, monkeypatch):
    monkeypatch.setattr(module, "_MIN_LARGE_SIZE", 600)
    *rows, inputs, outputs = SHAPES[shape]
    x = jax.random.normal(jax.random.key(0), (2, *rows, inputs))
    matrix = jax.random.normal(jax.random.key(1), (2, inputs, outputs))
    axes = in_axes or (None, None)
    pair = [array if axis == 0 else array[0] for array, axis in zip((x, matrix), axes, strict=True)]

    def everything(product):
        loss = lambda x, m: jnp.mean(jnp.tanh(product(x, m)))  # noqa: E731
        gradient = jax.grad(loss, (0, 1))

        def compute(x, m):
            return product(x, m), gradient(x, m), jax.jvp(gradient, (x, m), (x, m))[1]

        return jax.jit(compute if in_axes is None else jax.vmap(compute, in_axes))(*pair)

    for a, b in zip(*map(jax.tree.leaves, (everything(module.matmul), everything(jnp.matmul))), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
