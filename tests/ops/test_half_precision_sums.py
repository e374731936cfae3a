"""Sums of thousands of numbers of half precision are those of float32, rounded once.

The numbers are positive, so a sum in half precision stands still: in bfloat16 at 256, in float16 at 2048 times the size
of a term. A result within two roundings of the right one was not added up that way.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lenet_jax import ops
from lenet_jax.layers import batch_normalization, convolution, subsampling
from lenet_jax.ops import fan_in_uniform
from lenet_jax.ops.pools import MaxPool
from lenet_jax.ops.products import PooledConvolution
from lenet_jax.ops.windows import make_window
from lenet_jax.types import Variables
from tests.ops import definitions as D


def pooling(window):
    """Return the mean of one window that is the whole image, and its definition."""
    return functools.partial(ops.avg_pool, window=window), lambda x: x.mean(tuple(range(1, x.ndim - 1)), keepdims=True)


def bias_of_convolution(x, bias, kernel):
    layer = convolution(2, 1, fan_in_uniform(), strides=2)
    return layer.apply(Variables({"kernel": kernel, "bias": bias}, {}), x, train=True, key=None)[0]


def subsampled(x, bias, coefficient):
    return subsampling(2).apply(Variables({"bias": bias, "coefficient": coefficient}, {}), x, train=True, key=None)[0]


def at_inference(x, bias, scale):
    statistics = {"mean": jnp.zeros(2, jnp.float32), "variance": jnp.ones(2, jnp.float32)}
    variables = Variables({"bias": bias, "scale": scale}, statistics)
    return batch_normalization(epsilon=1e-7).apply(variables, x, train=False, key=None)[0]


ROWS = {
    "conv2d": (ops.conv2d, D.conv, [(1, 40, 40, 2), (40, 40, 2, 1)]),
    "conv2d kernel": (ops.conv2d, D.conv, [(1, 64, 64, 2), (2, 3, 2, 2)]),
    "conv1d kernel": (ops.conv1d, D.conv, [(2, 3000, 1), (3, 1, 2)]),
    "depthwise_conv2d kernel": (ops.depthwise_conv2d, D.depthwise, [(1, 64, 64, 2), (3, 3, 2, 1)]),
    "conv2d one pixel": (ops.conv2d, D.conv, [(1, 64, 64, 2), (1, 1, 2, 2)]),
    "dense": (ops.dense, D.dense, [(2, 4096), (4096, 2), (2,)]),
    "dense kernel and bias": (ops.dense, D.dense, [(4096, 2), (2, 2), (2,)]),
    "conv2d_max_pool bias": (
        functools.partial(ops.conv2d_max_pool, pool_size=1),
        functools.partial(D.conv_max_pool, pool_size=1),
        [(1, 64, 64, 1), (1, 1, 1, 2), (2,)],
    ),
    "avg_pool": (*pooling(64), [(1, 64, 64, 2)]),
    "avg_pool 1d": (*pooling(300), [(1, 300, 2)]),
    "normalize_batch bias": (
        lambda x, bias: ops.normalize_batch(x, jnp.zeros_like(bias), bias)[0],
        lambda x, bias: jnp.broadcast_to(bias, x.shape),
        [(4096, 2), (2,)],
    ),
    "layers.convolution": (
        bias_of_convolution,
        lambda x, bias, kernel: D.conv(x, kernel, strides=2) + bias.reshape(1, 1, 1, -1),
        [(1, 128, 128, 1), (2,), (1, 1, 1, 2)],
    ),
    "layers.subsampling": (subsampled, functools.partial(D.subsampling, size=2), [(1, 128, 128, 2), (2,), (2,)]),
    "layers.batch_normalization inference": (
        at_inference,
        lambda x, bias, scale: x / np.sqrt(1 + 1e-7) * scale.reshape(1, -1) + bias.reshape(1, -1),
        [(4096, 2), (2,), (2,)],
    ),
}
DTYPES = ("bfloat16", "float16")


def cell(name, dtype):
    fn, definition, shapes = ROWS[name]
    rng = np.random.default_rng(0)
    args = [jnp.asarray(rng.uniform(0.5, 1, shape), dtype) for shape in shapes]
    y = jax.eval_shape(fn, *args)
    return fn, definition, args, jnp.asarray(rng.uniform(0.5, 1, y.shape), dtype)


def both(fn, args, cotangent):
    y, pull = jax.vjp(fn, *args)
    return y, *pull(cotangent)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ROWS)
def test_value_and_gradients_are_sums_in_float32(name, dtype):
    fn, definition, args, cotangent = cell(name, dtype)
    found = jax.jit(functools.partial(both, fn))(args, cotangent)
    with jax.enable_x64(True):
        exact = [np.asarray(a).astype(np.float64) for a in (*args, cotangent)]
        right = jax.device_get(jax.jit(functools.partial(both, definition))(exact[:-1], exact[-1]))
    for leaf, expected in zip(found, right, strict=True):
        np.testing.assert_allclose(np.asarray(leaf, np.float64), expected, rtol=2 * float(jnp.finfo(dtype).eps))


def test_the_mean_of_large_numbers_of_float16_is_finite():
    assert ops.avg_pool(jnp.full((1, 7, 7, 1), 3000, jnp.float16), 7).item() == 3000


OVERLAPPING = {
    # A pixel inside is in 400 windows, and the largest of all of them.
    "extract_patches": lambda x: ops.extract_patches(x, 20),
    "max_pool": lambda x: ops.max_pool(x, 20, strides=1),
    "definition of max_pool": lambda x: MaxPool(make_window("max_pool", (39, 39), 20, 1, "VALID")).define(x)[0],
}


@pytest.mark.parametrize("name", OVERLAPPING)
def test_the_gradient_of_a_pixel_adds_up_its_windows_in_float32(name):
    x = jnp.zeros((1, 39, 39, 1), jnp.bfloat16).at[0, 19, 19, 0].set(1)
    gradient = jax.grad(lambda x: jnp.sum(OVERLAPPING[name](x).astype(jnp.float32)))(x)
    assert gradient[0, 19, 19, 0] == 400


def test_the_definition_of_a_pooled_convolution_adds_up_the_gradient_of_its_bias_in_float32():
    x, kernel, bias = (jnp.ones(shape, jnp.bfloat16) for shape in ((1, 80, 80, 1), (1, 1, 1, 2), (2,)))
    window = make_window("conv2d", (80, 80), 1, 1, "VALID")
    pooled = PooledConvolution(window, 1, make_window("conv2d", (80, 80), 2, 2, "VALID"), None)
    gradient = jax.grad(lambda bias: jnp.sum(pooled.define(x, kernel, bias)[0].astype(jnp.float32)))(bias)
    assert gradient.tolist() == [1600, 1600]
