"""Operations by hand: products, convolutions and loops."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import lenet_jax as lj
from lenet_jax.runs.flops import count_flops

SQUARE = jax.ShapeDtypeStruct((64, 64), jnp.float32)
PRODUCT = 2 * 64**3
IMAGES, KERNEL = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((2, 10, 10, 3), (5, 5, 3, 7)))


def repeat(step, x, length):
    return lax.scan(lambda carry, _: (step(carry), None), x, None, length=length)[0]


def test_a_product_is_two_operations_a_term():
    assert count_flops(jnp.matmul, SQUARE, SQUARE) == PRODUCT


@pytest.mark.parametrize("wrap", [lambda fn: fn, jax.jit, jax.checkpoint])
def test_loops_count_in_full(wrap):
    def inner(x, y):
        return repeat(lambda x: x @ y, x, 3)

    def outer(x, y):
        return repeat(lambda x: wrap(inner)(x, y) @ y, x, 10) @ y

    assert count_flops(wrap(outer), SQUARE, SQUARE) == pytest.approx((10 * (3 + 1) + 1) * PRODUCT, rel=1e-3)


def test_a_convolution_and_its_gradient_count_as_many_whichever_kernels_compute_them():
    products = 2 * (2 * 6 * 6) * (5 * 5 * 3) * 7
    assert count_flops(lj.conv2d, IMAGES, KERNEL) == products
    gradient = jax.grad(lambda kernel, images: jnp.sum(lj.conv2d(images, kernel)))
    assert count_flops(gradient, KERNEL, IMAGES) == pytest.approx(products, rel=0.01)


def test_nothing_is_said_without_the_client_that_counts(monkeypatch):
    def fail(**options):
        raise RuntimeError("Unknown backend cpu")

    monkeypatch.setattr(jax, "local_devices", fail)
    assert count_flops(jnp.matmul, SQUARE, SQUARE) is None
