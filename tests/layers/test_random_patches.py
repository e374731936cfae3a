"""Units that each see one patch of an image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lenet_jax as lj
from lenet_jax.layers.random_patches import patch_pixels, random_patches

INIT = lj.fan_in_uniform()


def test_the_lesson_counts_2230_weights_and_a_dense_network_has_15910():
    small, dense = (lj.create_model("patch_units", patch_size=size).init(jax.random.key(0)) for size in (10, 28))
    counts = [sum(leaf.size for leaf in jax.tree.leaves(each.params)) for each in (small, dense)]
    assert counts == [101 * 20 + 21 * 10, 785 * 20 + 21 * 10]
    assert counts == [2230, 15910]
    assert round(counts[0] / counts[1], 6) == 0.140163


def test_a_unit_is_the_sum_of_its_patch_times_its_kernel():
    layer, rng = random_patches(4, 3, INIT, seed=5), np.random.default_rng(0)
    variables, shape = layer.init(jax.random.key(1), (6, 8, 2))
    assert shape == (4,)
    images, kernel = rng.normal(size=(3, 6, 8, 2)), rng.normal(size=(3, 3, 2, 4))
    bias = rng.normal(size=4)
    variables = variables._replace(params=jax.tree.map(jnp.float32, {"kernel": kernel, "bias": bias}))
    outputs, _ = layer.apply(variables, jnp.float32(images), train=False, key=None)
    rows, columns = np.broadcast_arrays(*patch_pixels((6, 8), 4, 3, 5))
    for unit in range(4):
        top, left = rows[0, 0, unit], columns[0, 0, unit]
        patch = images[:, top : top + 3, left : left + 3]
        expected = (patch * kernel[..., unit]).sum(axis=(1, 2, 3)) + bias[unit]
        np.testing.assert_allclose(outputs[:, unit], expected, rtol=1e-4, atol=1e-5)


def test_no_gradient_reaches_a_pixel_that_no_unit_sees():
    layer = random_patches(2, 3, INIT, seed=1)
    variables, _ = layer.init(jax.random.key(0), (9, 9, 1))
    gradient = jax.grad(lambda x: layer.apply(variables, x, train=True, key=None)[0].sum())(jnp.ones((1, 9, 9, 1)))
    seen = np.zeros((9, 9), bool)
    seen[patch_pixels((9, 9), 2, 3, 1)] = True
    assert np.array_equal(np.asarray(gradient[0, :, :, 0]) != 0, seen)


def test_all_places_of_a_patch_occur_and_the_seed_decides_them():
    rows, columns = patch_pixels((5, 4), 500, 3, 0)
    assert {*zip(rows[0, 0].tolist(), columns[0, 0].tolist(), strict=True)} == {
        (y, x) for y in range(3) for x in (0, 1)
    }
    assert np.array_equal(rows, patch_pixels((5, 4), 500, 3, 0)[0])
    assert not np.array_equal(rows, patch_pixels((5, 4), 500, 3, 1)[0])


def test_a_patch_that_does_not_fit_is_refused():
    with pytest.raises(lj.InputError, match=r"`patch_size` must be at most 6, to fit into 6x8 pixels; got 7"):
        random_patches(2, 7, INIT).init(jax.random.key(0), (6, 8, 1))
    with pytest.raises(lj.InputError, match=r"needs three axes an example, H, W, C; got shape \(48,\)"):
        random_patches(2, 7, INIT).init(jax.random.key(0), (48,))
