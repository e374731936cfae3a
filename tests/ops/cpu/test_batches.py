"""A large batch computed as smaller ones of equal size."""

import jax.numpy as jnp
import pytest

from lenet_jax.ops import map_batches


@pytest.mark.parametrize(("num_examples", "sizes"), [(1, [1]), (4, [4]), (5, [3]), (12, [4]), (13, [4])])
def test_batches_are_of_equal_size_and_in_order(num_examples, sizes):
    seen = []

    def fn(x):
        seen.append(len(x))
        return 2 * x

    x = jnp.arange(2.0 * num_examples).reshape(num_examples, 2)
    assert map_batches(fn, x, 4).tolist() == (2 * x).tolist()
    assert seen == sizes
