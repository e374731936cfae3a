"""Bounds of the uniform draws, by their formulas."""

import math

import jax
import jax.numpy as jnp
import pytest

import lenet_jax as lj

SHAPE = (5, 5, 20, 50)  # fan_in 500, fan_out 1250


@pytest.mark.parametrize(
    ("initializer", "bound"),
    [
        (lj.fan_in_uniform(), 1 / math.sqrt(500)),
        (lj.glorot_uniform(), math.sqrt(6 / (500 + 1250))),
        (lj.glorot_uniform(pool_area=4), math.sqrt(6 / (500 + 1250 / 4))),  # the tutorial's LeNet
    ],
)
def test_fills_the_interval_evenly(initializer, bound):
    kernel = initializer(jax.random.key(0), SHAPE)
    assert kernel.shape == SHAPE
    assert kernel.dtype == jnp.float32
    assert 0.999 * bound < float(jnp.max(jnp.abs(kernel))) <= bound
    assert abs(float(jnp.mean(kernel))) < 0.02 * bound
    assert float(jnp.var(kernel)) == pytest.approx(bound**2 / 3, rel=0.02)


def test_dense_kernels_count_their_inputs_and_outputs():
    kernel = lj.glorot_uniform()(jax.random.key(0), (800, 500))
    assert float(jnp.max(jnp.abs(kernel))) == pytest.approx(math.sqrt(6 / 1300), rel=1e-3)


def test_agrees_with_jax_where_jax_has_it():
    ours, theirs = (
        init(jax.random.key(3), SHAPE) for init in (lj.glorot_uniform(), jax.nn.initializers.glorot_uniform())
    )
    assert jnp.allclose(ours, theirs, rtol=1e-5)


def test_refuses_bad_input():
    with pytest.raises(lj.InputError, match="glorot_uniform: `pool_area` must be 1 or above; got 0"):
        lj.glorot_uniform(pool_area=0)
    with pytest.raises(lj.InputError, match=r"`shape` needs input and output channels as its last axes; got \(3,\)"):
        lj.fan_in_uniform()(jax.random.key(0), (3,))
