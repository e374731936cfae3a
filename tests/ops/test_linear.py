"""The products of a dense layer by hand, and its messages."""

import jax.numpy as jnp
import pytest

from lenet_jax import InputError, ops


def test_by_hand():
    x, kernel = jnp.array([[1.0, 2.0], [0.0, -1.0]]), jnp.array([[1.0, 0.0, 2.0], [3.0, 1.0, 0.0]])
    assert ops.dense(x, kernel).tolist() == [[7.0, 2.0, 2.0], [-3.0, -1.0, 0.0]]
    assert ops.dense(x, kernel, jnp.array([0.5, 0.0, -1.0])).tolist() == [[7.5, 2.0, 1.0], [-2.5, -1.0, -1.0]]
    assert ops.dense(x[0], kernel).tolist() == [7.0, 2.0, 2.0]


def test_axes_that_do_not_match_are_refused():
    with pytest.raises(
        InputError, match=r"dense: `kernel` needs shape \(I, O\), .* of `x`; got \(2, 3\) for `x` of shape \(4, 5\)"
    ):
        ops.dense(jnp.ones((4, 5)), jnp.ones((2, 3)))
    with pytest.raises(InputError, match=r"dense: `bias` needs shape \(3,\), one value per output; got \(2,\)"):
        ops.dense(jnp.ones((4, 2)), jnp.ones((2, 3)), jnp.ones(2))
