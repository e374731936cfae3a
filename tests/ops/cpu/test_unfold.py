"""Unfolded and folded windows against plain slices, in every transformation."""

import functools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from lenet_jax.ops.cpu.unfold import AxisWindows, fold, unfold


@st.composite
def windows_of_an_axis(draw):
    size, stride, dilation = draw(st.integers(1, 4)), draw(st.integers(1, 4)), draw(st.integers(1, 3))
    span = (size - 1) * dilation + 1
    length = span + draw(st.integers(0, 9))
    axis = draw(st.sampled_from([0, 1, 2]))
    return AxisWindows(axis, length, size, stride, dilation, (length - span) // stride + 1)


def slices(x, windows):
    """The definition."""
    stop = [k * windows.dilation + (windows.count - 1) * windows.stride + 1 for k in range(windows.size)]
    return [
        lax.slice_in_dim(x, k * windows.dilation, stop[k], windows.stride, windows.axis) for k in range(windows.size)
    ]


def array(windows, key=0):
    shape = [3, 2, 4]
    shape[windows.axis] = windows.length
    return jax.random.normal(jax.random.key(key), shape)


def weighted_cubes(split, windows):
    """A function with a second derivative that tells the entries apart."""
    return lambda x: sum(k * jnp.sum(entry**3) for k, entry in enumerate(split(x, windows), 1))


@hypothesis.given(windows_of_an_axis())
def test_are_slices_and_each_is_the_transpose_of_the_other(windows):
    x = array(windows)
    entries = unfold(x, windows)
    np.testing.assert_array_equal(entries, slices(x, windows))
    cotangents = [jax.random.normal(jax.random.key(k), entry.shape) for k, entry in enumerate(entries)]
    expected = jax.linear_transpose(lambda x: slices(x, windows), x)(cotangents)[0]
    np.testing.assert_allclose(fold(cotangents, windows), expected, atol=1e-6)
    back = jax.linear_transpose(lambda *c: fold(c, windows), *cotangents)(x)
    np.testing.assert_array_equal(back, entries)


@hypothesis.given(windows_of_an_axis())
def test_derivatives_are_those_of_slices(windows):
    x, direction = array(windows), array(windows, key=1)
    for transform in (
        jax.grad,
        lambda f: lambda x: jax.jvp(jax.grad(f), (x,), (direction,))[1],
        lambda f: lambda x: jax.grad(lambda y: jnp.vdot(jax.grad(f)(y), direction))(x),
        lambda f: jax.jit(jax.grad(jax.checkpoint(f))),
    ):
        ours, expected = (transform(weighted_cubes(split, windows))(x) for split in (unfold, slices))
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)


def test_map_over_any_axis_and_some_of_the_entries():
    windows = AxisWindows(1, 9, 3, 2, 1, 4)
    x = jax.random.normal(jax.random.key(0), (2, 9, 5, 4))
    for axis in (0, 2, 3):
        one = functools.partial(unfold, windows=windows._replace(axis=0 if axis == 0 else 1))
        mapped = jax.vmap(one, axis, axis)(x)
        np.testing.assert_array_equal(mapped, slices(x, windows))
    entries = [jax.random.normal(jax.random.key(k), (2, 4, 5)) for k in range(3)]
    many = jnp.stack([entries[0], entries[0] + 1])
    mapped = jax.vmap(lambda first: fold([first, *entries[1:]], windows))(many)
    np.testing.assert_array_equal(mapped[1], fold([many[1], *entries[1:]], windows))
