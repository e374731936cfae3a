"""Windows and patches against slices taken by hand, and convolution as their product."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lenet_jax as lj


@pytest.mark.parametrize("strides", [1, 2, (2, 3)])
@pytest.mark.parametrize("channels", [None, 3])
def test_windows_are_the_slices_of_the_image(channels, strides):
    shape = (2, 7, 8) if channels is None else (2, 7, 8, channels)
    images = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
    windows = lj.sliding_windows(images, (3, 2), strides=strides)
    down, right = (strides, strides) if isinstance(strides, int) else strides
    assert windows.shape == (2, (7 - 3) // down + 1, (8 - 2) // right + 1, 3, 2, *shape[3:])
    for n, i, j in np.ndindex(windows.shape[:3]):
        top, left = i * down, j * right
        np.testing.assert_array_equal(windows[n, i, j], images[n, top : top + 3, left : left + 2])


def test_windows_are_views():
    images = np.zeros((1, 28, 28), np.uint8)
    windows = lj.sliding_windows(images, 5)
    assert np.shares_memory(windows, images)
    assert not windows.flags.writeable
    images[0, 4, 4] = 7
    assert windows[0, 0, 0, 4, 4] == windows[0, 4, 4, 0, 0] == 7


def test_patches_are_the_rows_of_the_windows():
    images = np.random.default_rng(0).standard_normal((2, 6, 7, 3)).astype(np.float32)
    patches = lj.extract_patches(jnp.asarray(images), (2, 3), strides=2)
    windows = lj.sliding_windows(images, (2, 3), strides=2)
    np.testing.assert_array_equal(patches, windows.reshape(*patches.shape))


@pytest.mark.parametrize("padding", ["VALID", "SAME", ((1, 0), (2, 1))])
def test_patches_times_the_kernel_are_the_convolution(padding):
    x = jax.random.normal(jax.random.key(0), (2, 8, 9, 3))
    kernel = jax.random.normal(jax.random.key(1), (5, 4, 3, 6))
    product = lj.extract_patches(x, (5, 4), strides=2, padding=padding) @ kernel.reshape(-1, 6)
    np.testing.assert_allclose(product, lj.conv2d(x, kernel, strides=2, padding=padding), rtol=1e-4, atol=1e-4)


def test_bad_input_is_refused_with_the_rule_and_the_value():
    with pytest.raises(
        lj.InputError, match=r"sliding_windows: `images` needs 3 axes \(NHW\) or 4 \(NHWC\); got shape \(4,\)"
    ):
        lj.sliding_windows(np.zeros(4), 2)
    with pytest.raises(
        lj.InputError, match=r"`window` must fit into the image; a window of 5x5 pixels is larger than 4x4"
    ):
        lj.sliding_windows(np.zeros((1, 4, 4)), 5)
    with pytest.raises(lj.InputError, match=r"extract_patches: `x` needs 4 axes \(NHWC\); got shape \(4, 4\)"):
        inspect.unwrap(lj.extract_patches)(jnp.zeros((4, 4)), 2)
