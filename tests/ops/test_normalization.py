"""Normalization against its formula, torch, and finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import lenet_jax as lj
from lenet_jax.ops import statistics
from lenet_jax.ops.cpu import native, plain
from lenet_jax.ops.normalization import local_response_norm, normalize_batch

KEY = jax.random.key(0)
SCALE, BIAS = jnp.array([1.0, 2.0, 0.5]), jnp.array([0.5, -1.0, 0.0])


def formula(x, scale, bias, epsilon=1e-5):
    space = tuple(range(x.ndim - 1))
    mean = jnp.mean(x, space)
    variance = jnp.var(x, space)
    scaled = (x - jnp.expand_dims(mean, space)) / jnp.expand_dims(jnp.sqrt(variance + epsilon), space)
    return scaled * jnp.expand_dims(scale, space) + jnp.expand_dims(bias, space), mean, variance


def compute_with(block_size, monkeypatch):
    """Use the kernels, or plain JAX with blocks of as many numbers."""
    if block_size != "kernels":
        monkeypatch.setattr(native, "computes", lambda x: False)
        monkeypatch.setattr(plain, "_BLOCK_SIZE", block_size)
    elif native.instruction_set() == "none":
        pytest.skip("the kernels are not in use")
    jax.clear_caches()


@pytest.mark.parametrize("shape", [(7, 3), (4, 5, 3), (3, 4, 5, 3), (2, 2, 3, 2, 3)])
@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("block_size", ["kernels", 1, 30])
def test_every_derivative_and_map_is_that_of_the_formula(shape, mapped, block_size, monkeypatch):
    compute_with(block_size, monkeypatch)

    def everything(normalize):
        def loss(x, scale, bias):
            return sum(jnp.sum(jnp.sin((n + 1) * y)) for n, y in enumerate(normalize(x, scale, bias)))

        gradient = jax.grad(loss, (0, 1, 2))

        def compute(x):
            point = (x, SCALE, BIAS)
            return normalize(*point), gradient(*point), jax.jvp(gradient, point, point)[1]

        x = jax.random.normal(KEY, (2, *shape)) + 2.0
        of_all = lambda x: jnp.sum(jax.vmap(lambda x: loss(x, SCALE, BIAS))(x))  # noqa: E731
        return jax.jit(lambda x: (jax.vmap(compute)(x), jax.grad(of_all)(x)))(x) if mapped else jax.jit(compute)(x[0])

    for a, b in zip(*map(jax.tree.leaves, (everything(normalize_batch), everything(formula))), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-3)


def test_gradients_are_those_of_finite_differences():
    with jax.enable_x64(True):
        x = jax.random.normal(KEY, (3, 2, 2, 3), jnp.float64)
        scale, bias = SCALE.astype(jnp.float64), BIAS.astype(jnp.float64)
        check_grads(jax.jit(normalize_batch), (x, scale, bias), order=2, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("offset", "first"), [(0.0, 0.0), (3e4, 0.0), (0.0, 1e4), (-1e3, -1e5)], ids=["plain", "offset", "first", "both"]
)
@pytest.mark.parametrize("block_size", ["kernels", 300])  # 300: 100 rows at a time, 64 times
def test_mean_and_variance_lose_nothing_to_a_batch_far_from_zero_or_from_its_first_rows(
    offset, first, block_size, monkeypatch
):
    compute_with(block_size, monkeypatch)
    x = np.random.default_rng(0).normal(size=(6_400, 3)) + offset
    x[:100] += first
    x = x.astype(np.float32)
    mean, variance = jax.jit(statistics.mean_and_variance)(x)
    np.testing.assert_allclose(mean, x.astype(float).mean(0), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(variance, x.astype(float).var(0), rtol=2e-5)


@pytest.mark.parametrize("rows", [1, 2, 63, 65, 1_000, 70_000])
@pytest.mark.parametrize("channels", [1, 3, 16, 63, 64, 65, 200])
def test_the_kernels_are_the_definitions_in_float64(rows, channels, monkeypatch):
    if rows * channels > 2_000_000:
        channels = 7
    compute_with("kernels", monkeypatch)
    rng = np.random.default_rng(rows + channels)
    x, y = (rng.normal(1.0, 2.0, (rows, channels)).astype(np.float32) for _ in range(2))
    center = rng.normal(size=channels).astype(np.float32)
    mean, variance = statistics.mean_and_variance(jnp.asarray(x))
    wide = x.astype(np.float64)
    np.testing.assert_allclose(mean, wide.mean(0), rtol=1e-5, atol=2e-6)
    np.testing.assert_allclose(variance, wide.var(0), rtol=1e-5, atol=2e-6)
    products = y.astype(np.float64) * (wide - center)
    scale = np.abs(products).sum(0)
    sums = statistics.channel_sums(*map(jnp.asarray, (y, x, center)))
    np.testing.assert_allclose(sums[0], y.astype(np.float64).sum(0), atol=1e-5 * np.abs(y).sum(0).max())
    np.testing.assert_allclose(sums[1], products.sum(0), atol=1e-5 * scale.max())


@pytest.mark.skipif(native.instruction_set() == "none", reason="the kernels are not in use")
def test_the_gradient_adds_up_in_the_kernels_alone():
    def loss(x, scale, bias):
        return jnp.sum(normalize_batch(x, scale, bias)[0] ** 2)

    x = jnp.zeros((4, 6, 6, 3))
    program = jax.jit(lambda *point: jax.grad(loss, (0, 1, 2))(*point)).lower(x, SCALE, BIAS).as_text()
    assert program.count("@lenet_jax_channel_sums") == 1
    assert "stablehlo.reduce" not in program


def test_a_channel_of_one_value_has_no_variance():
    mean, variance = statistics.mean_and_variance(jnp.full((1_000, 3), 0.1))
    np.testing.assert_allclose(mean, 0.1, rtol=1e-6)
    assert ((variance >= 0) & (variance < 1e-12)).all()


def test_half_precision_is_summed_in_single():
    x = (jax.random.normal(KEY, (64, 8, 8, 3)) + 3.0).astype(jnp.bfloat16)
    y, mean, variance = normalize_batch(x, SCALE, BIAS)
    assert (y.dtype, mean.dtype, variance.dtype) == (jnp.bfloat16, jnp.float32, jnp.float32)
    wide = formula(x.astype(jnp.float32), SCALE, BIAS)
    np.testing.assert_allclose(mean, wide[1], rtol=1e-5)
    np.testing.assert_allclose(variance, wide[2], rtol=1e-5)
    gradient = jax.grad(lambda x: jnp.sum(normalize_batch(x, SCALE, BIAS)[0].astype(jnp.float32) ** 3))(x)
    assert gradient.dtype == jnp.bfloat16


@pytest.mark.parametrize("beta", [0.75, 0.5])
def test_response_normalization_and_its_gradient_are_those_of_torch(beta):
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 7)).astype(np.float32)
    ours = lambda x: local_response_norm(x, depth_radius=2, alpha=0.02, beta=beta)  # noqa: E731
    x_torch = torch.tensor(x.transpose(0, 3, 1, 2), requires_grad=True)
    theirs = torch.nn.functional.local_response_norm(x_torch, 5, alpha=0.1, beta=beta, k=1.0)
    np.testing.assert_allclose(ours(x), theirs.detach().numpy().transpose(0, 2, 3, 1), atol=1e-6)
    (gradient,) = torch.autograd.grad((theirs**3).sum(), x_torch)
    found = jax.grad(lambda x: jnp.sum(ours(x) ** 3))(jnp.asarray(x))
    np.testing.assert_allclose(found, gradient.numpy().transpose(0, 2, 3, 1), rtol=1e-4, atol=1e-4)


def test_response_normalization_by_hand():
    # 1 + 1 * (1 + 4) = 6 for the first channel, 1 + 14 = 15 for the second, 1 + 13 = 14 for the third.
    y = local_response_norm(jnp.array([1.0, 2.0, 3.0]), depth_radius=1, alpha=1.0, beta=1.0)
    np.testing.assert_allclose(y, [1 / 6, 2 / 15, 3 / 14], rtol=1e-6)
    for name, value in (("depth_radius", -1), ("alpha", -1.0), ("beta", -0.5)):
        with pytest.raises(lj.InputError, match=f"`{name}` must be (an integer, )?0 or above; got {value}"):
            local_response_norm(jnp.ones(3), **{name: value})
    with pytest.raises(lj.InputError, match="`bias` must be above 0; got 0"):
        local_response_norm(jnp.ones(3), bias=0)


@pytest.mark.parametrize(("dtype", "mean"), [("float32", 1e4), ("bfloat16", 100.0), ("float16", 1000.0)])
def test_batch_norm_of_values_far_from_0_subtracts_the_mean_first(dtype, mean):
    x = jnp.asarray(mean + 8 * jax.random.normal(KEY, (50, 3)), dtype)
    parameters = [jnp.full(3, value, dtype) for value in (mean, 64.0, 1.0, 0.0)]
    found = lj.ops.batch_norm(x, *parameters)
    right = (np.asarray(x, np.float64) - float(parameters[0][0])) / np.sqrt(64.0 + 1e-5)
    np.testing.assert_allclose(np.asarray(found, np.float64), right, rtol=2 * float(jnp.finfo(dtype).eps), atol=1e-7)


def test_batch_norm_adds_epsilon_in_float32():
    x, ones = jnp.full((2, 1), 2, jnp.float16), jnp.ones(1, jnp.float16)
    assert lj.ops.batch_norm(x, 2 * ones, 0 * ones, ones, 0 * ones, epsilon=1e-8).tolist() == [[0], [0]]


def test_normalize_batch_is_differentiated_with_respect_to_epsilon():
    x = jax.random.normal(KEY, (4, 3))
    found, right = (
        jax.jit(jax.grad(lambda epsilon, fn=fn: jnp.sum(fn(x, SCALE, BIAS, epsilon)[0] ** 2)))(0.5)
        for fn in (normalize_batch, formula)
    )
    np.testing.assert_allclose(found, right, rtol=1e-5)


def test_local_response_norm_takes_a_traced_exponent():
    x = jax.random.normal(KEY, (2, 5))
    found = jax.jit(lambda beta: local_response_norm(x, alpha=0.1, beta=beta))(0.75)
    np.testing.assert_allclose(found, local_response_norm(x, alpha=0.1), rtol=1e-6)
