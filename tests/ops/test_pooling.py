"""Pooling against loops in float64, torch, finite differences and hand-worked values."""

import functools
import inspect

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from jax.test_util import check_grads

import lenet_jax as lj
from lenet_jax.ops import definitions
from lenet_jax.ops.operation import apply
from lenet_jax.ops.pools import MaxPool, SumPool
from lenet_jax.ops.windows import make_window
from tests.reference import pool, same_pads


def ceil_pads(size, window, stride):
    """Enough pixels after for a last window that begins inside: as Theano's ignore_border=False."""
    starts = [p for p in range(0, size, stride) if p == 0 or p - stride + window < size]
    return 0, max(starts[-1] + window - size, 0)


@st.composite
def cases(draw):
    num_axes = draw(st.integers(1, 3))
    window = [draw(st.integers(1, 3)) for _ in range(num_axes)]
    strides = draw(st.one_of(st.none(), st.lists(st.integers(1, 4), min_size=num_axes, max_size=num_axes)))
    space = [draw(st.integers(k, k + 4)) for k in window]
    padding = draw(st.sampled_from(["VALID", "SAME", "CEIL"]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    levels = draw(st.sampled_from([3, 1000]))  # few levels make ties
    x = rng.integers(-levels, levels, (2, *space, 2)).astype(np.float32)
    return x, tuple(window), None if strides is None else tuple(strides), padding


def explicit_pads(x, window, strides, padding):
    rule = {"VALID": lambda *_: (0, 0), "SAME": same_pads, "CEIL": ceil_pads}[padding]
    return [rule(n, k, s) for n, k, s in zip(x.shape[1:-1], window, strides, strict=True)]


@hypothesis.given(cases())
def test_equals_loops_in_float64(case):
    x, window, strides, padding = case
    pads = explicit_pads(x, window, strides or window, padding)
    for ours, reduce in ((lj.max_pool, np.max), (lj.avg_pool, np.mean)):
        y = ours(jnp.asarray(x), window, strides=strides, padding=padding)
        np.testing.assert_allclose(y, pool(x, window, strides or window, pads, reduce), rtol=1e-5, atol=1e-5)


@hypothesis.given(cases())
def test_and_its_gradients_equal_torch_ties_included(case):
    torch = pytest.importorskip("torch")
    x, window, strides, padding = case
    strides = strides or window
    pads = explicit_pads(x, window, strides, padding)
    flat_pads = [p for pair in reversed(pads) for p in pair]
    num_axes = len(window)
    for ours, name, pad_value in ((lj.max_pool, "max", -np.inf), (lj.avg_pool, "avg", 0.0)):
        f = functools.partial(ours, window=window, strides=strides, padding=padding)
        dy = np.random.default_rng(0).standard_normal(jax.eval_shape(f, x).shape).astype(np.float32)
        y, dx = jax.jit(lambda a, b, f=f: (f(a), jax.vjp(f, a)[1](b)[0]))(x, dy)
        tx = torch.tensor(np.moveaxis(x, -1, 1).astype(np.float64)).requires_grad_()
        torch_pool = getattr(torch.nn.functional, f"{name}_pool{num_axes}d")
        ty = torch_pool(torch.nn.functional.pad(tx, flat_pads, value=pad_value), window, strides)
        if name == "avg":  # torch counts padding: rescale by the fraction of real pixels
            real = torch.nn.functional.pad(torch.ones_like(tx), flat_pads)
            ty = ty / torch_pool(real, window, strides)
        ty.backward(torch.tensor(np.moveaxis(dy, -1, 1).astype(np.float64)))
        np.testing.assert_allclose(y, np.moveaxis(ty.detach().numpy(), 1, -1), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(dx, np.moveaxis(tx.grad.numpy(), 1, -1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("padding", "strides"), [("VALID", 2), ("SAME", 2), ("CEIL", 1)])
def test_forward_and_reverse_mode_agree_with_finite_differences(padding, strides):
    x = jnp.asarray(np.random.default_rng(0).permutation(60).reshape(1, 6, 5, 2).astype(np.float32))
    for ours in (lj.max_pool, lj.avg_pool):
        f = functools.partial(ours, window=2, strides=strides, padding=padding)
        check_grads(
            jax.jit(lambda a, f=f: jnp.sin(f(a))), (x,), order=2, modes=("fwd", "rev"), atol=0.05, rtol=0.05, eps=1e-2
        )


@hypothesis.given(cases())
def test_the_reduction_of_other_platforms_agrees(case):
    x, window, strides, padding = case
    checked = make_window("pool", x.shape[1:-1], window, strides or window, padding, allow_ceil=True)
    x = jnp.asarray(x)
    for ours, theirs in (
        (MaxPool(checked), definitions.max_pool),
        (SumPool(checked, x.shape[1:-1]), definitions.sum_pool),
    ):
        y, transpose = jax.vjp(lambda x, ours=ours: apply(ours, x)[0], x)
        expected, expected_transpose = jax.vjp(functools.partial(theirs, window=checked), x)
        np.testing.assert_allclose(y, expected, rtol=1e-6)
        np.testing.assert_allclose(transpose(y)[0], expected_transpose(y)[0], rtol=1e-6)


def test_maps_over_a_batch_of_batches():
    x = jax.random.normal(jax.random.key(0), (3, 2, 5, 6, 2))
    pool_all = functools.partial(lj.max_pool, window=2, padding="CEIL")
    np.testing.assert_array_equal(jax.vmap(pool_all)(x), jnp.stack([pool_all(one) for one in x]))


def test_ragged_borders_by_hand():
    x = jnp.arange(1.0, 6.0).reshape(1, 5, 1)
    assert lj.max_pool(x, 2)[0, :, 0].tolist() == [2, 4]
    assert lj.max_pool(x, 2, padding="CEIL")[0, :, 0].tolist() == [2, 4, 5]
    assert lj.avg_pool(x, 2, padding="CEIL")[0, :, 0].tolist() == [1.5, 3.5, 5]
    assert lj.max_pool(-x, 3, strides=1, padding="SAME")[0, :, 0].tolist() == [-1, -1, -2, -3, -4]
    assert lj.max_pool(x, 7, padding="CEIL")[0, :, 0].tolist() == [5]


def test_the_first_of_equal_largest_values_gets_the_gradient():
    x = jnp.ones((1, 2, 2, 1))
    for padding in ("VALID", "SAME"):
        gradient = jax.grad(lambda a, p=padding: jnp.sum(lj.max_pool(a, 2, padding=p)))(x)
        assert gradient[0, :, :, 0].tolist() == [[1, 0], [0, 0]]
    overlapping = jax.grad(lambda a: jnp.sum(lj.max_pool(a, 2, strides=1, padding="SAME")))(x)
    assert overlapping[0, :, :, 0].tolist() == [[1, 1], [1, 1]]


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_keeps_the_dtype(dtype):
    x = jnp.ones((1, 3, 3, 1), dtype)
    assert lj.max_pool(x, 2, padding="SAME").dtype == lj.avg_pool(x, 2, padding="SAME").dtype == dtype


def test_gradients_work_in_float64():
    with jax.enable_x64(True):
        x = jax.random.normal(jax.random.key(0), (2, 4, 6, 3), jnp.float64)
        check_grads(lambda x: lj.max_pool(x, 2), (x,), order=1)


def test_bad_input_is_refused_with_the_rule_and_the_value():
    x = jnp.ones((1, 3, 3, 1))
    with pytest.raises(lj.InputError, match=r"max_pool: `x` needs 1 to 3 spatial axes, .*; got shape \(3, 3\)"):
        lj.max_pool(x[0, :, :, 0], 2)
    with pytest.raises(lj.InputError, match=r"max_pool: `x` must be floating point; got uint8"):
        inspect.unwrap(lj.max_pool)(x.astype(jnp.uint8), 2)
    with pytest.raises(
        lj.InputError, match=r"avg_pool: `window` must fit into the image; a window of 4x4 pixels is larger"
    ):
        lj.avg_pool(x, 4)
    with pytest.raises(lj.InputError, match=r'`padding` must be "VALID", "SAME", "CEIL" or 2 \(before, after\) pairs'):
        lj.max_pool(x, 2, padding="FULL")
    with pytest.raises(lj.InputError, match=r"`window` must be an integer, 1 or above, or 2 of them, .*; got \(2,\)"):
        lj.max_pool(x, (2,))


@pytest.mark.parametrize("ours", [lj.max_pool, lj.avg_pool])
def test_an_image_without_batch_axis_is_not_taken_for_sequences(ours):
    for shape in ((28, 28, 1), (8, 28, 28)):
        with pytest.raises(lj.InputError, match=r"may be .* an image without batch axis; .* x\[None\], .* as|\(2,\)"):
            ours(jnp.zeros(shape), 2)
        with pytest.raises(lj.InputError, match="image without batch axis"):
            ours(jnp.zeros(shape), (2, 2))
        with pytest.raises(lj.InputError, match="image without batch axis"):
            ours(jnp.zeros(shape), 2, padding=((1, 1), (1, 1)))
    for shape in ((24, 32, 2), (14, 14, 16), (8, 8, 5)):  # of few channels, and maps, which are square
        with pytest.raises(lj.InputError, match="image without batch axis"):
            ours(jnp.zeros(shape), 2)
    assert ours(jnp.zeros((8, 28, 3)), (2,)).shape == (8, 14, 3)
    assert ours(jnp.zeros((8, 28, 3)), 2, strides=[1]).shape == (8, 27, 3)
    assert ours(jnp.zeros((1, 28, 3)), 4).shape == (1, 7, 3)  # no image: it would have one row


@pytest.mark.parametrize("ours", [lj.max_pool, lj.avg_pool])
@pytest.mark.parametrize("shape", [(2, 8, 3), (4, 10, 5), (50, 24, 16), (8, 28, 1), (64, 128, 32), (3, 6, 1)])
def test_an_int_is_a_window_of_sequences_that_do_not_look_like_images(ours, shape):
    x = jax.random.normal(jax.random.key(0), shape)
    expected = ours(x[:, :, None], (2, 1))[:, :, 0]
    np.testing.assert_array_equal(ours(x, 2), expected)
    np.testing.assert_array_equal(ours(x, np.int64(2), strides=1, padding="SAME").shape, shape)


def test_windows_of_padding_only_have_no_largest_value_and_a_mean_of_0():
    x = jnp.array([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 2, 2, 1)
    padding = ((3, 0), (0, 3))
    largest, mean = (ours(x, 2, strides=1, padding=padding)[0, :, :, 0] for ours in (lj.max_pool, lj.avg_pool))
    inf = np.inf
    assert largest.tolist() == [
        [-inf, -inf, -inf, -inf],
        [-inf, -inf, -inf, -inf],
        [2, 2, -inf, -inf],
        [4, 4, -inf, -inf],
    ]
    assert mean.tolist() == [[0, 0, 0, 0], [0, 0, 0, 0], [1.5, 2, 0, 0], [2.5, 3, 0, 0]]
    gradient = jax.grad(lambda x: jnp.sum(lj.avg_pool(x, 2, strides=1, padding=padding)))(x)
    assert jnp.all(jnp.isfinite(gradient))


@pytest.mark.parametrize("padding", ["VALID", "SAME", "CEIL", ((1, 1), (2, 0))])
@pytest.mark.parametrize("strides", [1, 2])
def test_infinities_and_nan_stay_in_their_windows(padding, strides):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 5, 6, 2)).astype(np.float32)
    x[0, 1, 2, 0], x[0, 4, 5, 1], x[1, 0, 0, 0], x[1, 3:, :3, 1] = np.inf, -np.inf, np.nan, -np.inf
    pads = explicit_pads(x, (2, 2), (strides,) * 2, padding) if isinstance(padding, str) else padding
    for ours, reduce in ((lj.max_pool, np.max), (lj.avg_pool, np.mean)):
        y = ours(jnp.asarray(x), 2, strides=strides, padding=padding)
        empty = -np.inf if reduce is np.max else 0.0
        expected = pool(x, (2, 2), (strides,) * 2, pads, lambda a, axis, r=reduce, e=empty: r(a, axis) if a.size else e)
        np.testing.assert_allclose(y, expected, rtol=1e-5)


@pytest.mark.parametrize("padding", ["SAME", ((2, 1), (0, 2)), "VALID"])
@pytest.mark.parametrize("strides", [1, 2, 3])
def test_the_gradient_of_a_window_of_minus_infinity_goes_where_that_of_the_definition_goes(padding, strides):
    rng = np.random.default_rng(0)
    x = jnp.asarray(np.where(rng.random((2, 5, 6, 3)) < 0.9, -np.inf, 1.0), jnp.float32)

    def definition(x):
        pads = padding if isinstance(padding, str) else ((0, 0), *padding, (0, 0))
        return jax.lax.reduce_window(x, -np.inf, jax.lax.max, (1, 3, 3, 1), (1, strides, strides, 1), pads)

    y, backward = jax.vjp(lambda x: lj.max_pool(x, 3, strides=strides, padding=padding), x)
    expected, expected_backward = jax.vjp(definition, x)
    dy = jnp.asarray(rng.normal(size=y.shape), jnp.float32)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_allclose(backward(dy)[0], expected_backward(dy)[0], rtol=1e-6)
