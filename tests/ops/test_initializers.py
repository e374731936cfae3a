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


FANS = {  # counted by hand: kernel area 3 x 3
    ("plain", (3, 3, 8, 16)): (72, 144),
    ("plain", (3, 3, 2, 16)): (18, 144),  # 4 groups of 8 channels
    ("plain", (7, 5)): (7, 5),
    ("depthwise", (3, 3, 8, 2)): (9, 18),
    ("transposed", (3, 3, 16, 8)): (72, 144),
}


@pytest.mark.parametrize(("kernel", "shape"), FANS)
def test_the_fans_of_each_kind_of_kernel(kernel, shape):
    fan_in, fan_out = FANS[kernel, shape]
    assert lj.initializers.fans(shape, kernel) == (fan_in, fan_out)
    many = (*shape[:-2], *(1000 * n if kernel == "depthwise" and i == 0 else n for i, n in enumerate(shape[-2:])))
    drawn = lj.fan_in_uniform(kernel=kernel)(jax.random.key(0), many)
    assert float(jnp.max(jnp.abs(drawn))) == pytest.approx(1 / math.sqrt(fan_in), rel=0.1)
    drawn = lj.glorot_uniform(kernel=kernel)(jax.random.key(0), many)
    assert float(jnp.max(jnp.abs(drawn))) == pytest.approx(math.sqrt(6 / (fan_in + fan_out)), rel=0.1)


def test_he_normal_of_depthwise_kernels_has_the_variance_of_their_inputs():
    drawn = lj.initializers.he_normal(kernel="depthwise")(jax.random.key(0), (3, 3, 5000, 1))
    assert float(jnp.var(drawn)) == pytest.approx(2 / 9, rel=0.05)
    scaling = jax.nn.initializers.variance_scaling(2.0, "fan_in", "normal")
    plain = lj.initializers.he_normal()
    assert jnp.array_equal(*(init(jax.random.key(0), SHAPE, jnp.float32) for init in (plain, scaling)))


@pytest.mark.parametrize("make", [lj.fan_in_uniform, lj.glorot_uniform, lj.initializers.he_normal])
@pytest.mark.parametrize("shape", [(0, 10), (10, 0), (0, 0), (3, 3, 0, 8), (0, 3, 4, 8)])
def test_kernels_without_inputs_or_outputs_are_empty(make, shape):
    for kernel in ("plain", "depthwise", "transposed"):
        assert make(kernel=kernel)(jax.random.key(0), shape).shape == shape


def test_an_unknown_kind_of_kernel_is_refused(without_type_checks):
    with pytest.raises(lj.InputError, match="`kernel` must be one of plain, depthwise, transposed; got 'grouped'"):
        lj.fan_in_uniform(kernel="grouped")
