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


# ---- options ---------------------------------------------------------------------------------------------------------

X, KERNEL = jnp.ones((1, 9, 9, 4)), jnp.ones((3, 3, 4, 6))
TWO = [2, np.int64(2), np.uint8(2), np.array(2), [2, 2], (np.int32(2), 2), np.array([2, 2])]
NO_SIZE = [True, np.True_, 2.0, np.float32(2), None, "2", 0, -1, (2, 0), (2, 2, 2), (2.0, 2), (True, 2), [[2], [2, 2]]]
OPTIONS = {
    "conv2d strides": lambda value: lj.conv2d(X, KERNEL, strides=value),
    "conv2d dilation": lambda value: lj.conv2d(X, KERNEL, dilation=value),
    "conv2d_max_pool pool_size": lambda value: lj.ops.conv2d_max_pool(X, KERNEL, pool_size=value),
    "depthwise_conv2d strides": lambda value: lj.depthwise_conv2d(X, KERNEL, strides=value),
    "conv2d_transpose strides": lambda value: lj.conv2d_transpose(X, jnp.ones((3, 3, 6, 4)), strides=value),
    "conv2d_transpose dilation": lambda value: lj.conv2d_transpose(X, jnp.ones((3, 3, 6, 4)), dilation=value),
    "max_pool window": lambda value: lj.max_pool(X, value),
    "avg_pool strides": lambda value: lj.avg_pool(X, 3, strides=value),
    "extract_patches window": lambda value: lj.extract_patches(X, value),
    "sliding_windows window": lambda value: lj.sliding_windows(np.ones((1, 9, 9)), value),
    "sliding_windows strides": lambda value: lj.sliding_windows(np.ones((1, 9, 9)), 2, strides=value),
}


@pytest.mark.parametrize("option", OPTIONS)
def test_integers_of_any_kind_are_one_option(option, without_type_checks):
    shapes = {jax.eval_shape(lambda value=value: jnp.asarray(OPTIONS[option](value))).shape for value in TWO}
    assert len(shapes) == 1


@pytest.mark.parametrize("option", OPTIONS)
def test_what_is_no_integer_is_refused_by_name_in_one_line(option, without_type_checks):
    function, argument = option.split()
    for value in NO_SIZE:
        if value is None and option == "avg_pool strides":
            continue
        with pytest.raises(
            lj.InputError, match=rf"^{function}: `{argument}` must be an integer, 1 or above.*got"
        ) as found:
            OPTIONS[option](value)
        assert "\n" not in str(found.value)


@pytest.mark.parametrize("value", [2.0, True, None, 0, -1, "2", (1, 1)])
def test_groups_are_one_integer(value, without_type_checks):
    with pytest.raises(lj.InputError, match=r"^conv2d: `groups` must be an integer, 1 or above; got"):
        lj.conv2d(X, KERNEL, groups=value)
    assert lj.conv2d(X, KERNEL[:, :, :2], groups=np.int64(2)).shape == (1, 7, 7, 6)


@pytest.mark.parametrize(
    ("padding", "pairs"),
    [
        (1, ((1, 1), (1, 1))),
        (np.int8(0), ((0, 0), (0, 0))),
        ((1, 2), ((1, 1), (2, 2))),
        ([[1, 0], [2, 1]], ((1, 0), (2, 1))),
        (np.array([[1, 0], [2, 1]]), ((1, 0), (2, 1))),
    ],
)
def test_pixels_of_padding_are_an_int_one_an_axis_or_pairs(padding, pairs):
    x, kernel = jax.random.normal(jax.random.key(0), (1, 5, 6, 2)), jax.random.normal(jax.random.key(1), (3, 2, 2, 3))
    for function in (lambda p: lj.conv2d(x, kernel, padding=p), lambda p: lj.max_pool(x, 2, padding=p)):
        np.testing.assert_array_equal(function(padding), function(pairs))


@pytest.mark.parametrize("padding", [1.0, True, None, -1, "same", (1, 2, 3), ((1, 1),), ((1, 1), (1,)), (("1", 1), 2)])
def test_other_paddings_are_refused(padding, without_type_checks):
    for function in (lambda: lj.conv2d(X, KERNEL, padding=padding), lambda: lj.avg_pool(X, 2, padding=padding)):
        with pytest.raises(lj.InputError, match=r"`padding` must be .* pairs of integers, 0 or above; got"):
            function()


def test_windows_of_lists_are_those_of_the_array(without_type_checks):
    images = np.arange(12).reshape(1, 3, 4)
    np.testing.assert_array_equal(lj.sliding_windows(images.tolist(), 2), lj.sliding_windows(images, 2))


def test_an_image_without_batch_axis_is_told_to_add_it(without_type_checks):
    image = jnp.ones((8, 8, 4))
    calls = {
        "conv2d": lambda: lj.conv2d(image, KERNEL),
        "depthwise_conv2d": lambda: lj.depthwise_conv2d(image, KERNEL),
        "conv2d_transpose": lambda: lj.conv2d_transpose(image, KERNEL),
        "extract_patches": lambda: lj.extract_patches(image, 2),
        "conv1d": lambda: lj.conv1d(jnp.ones((8, 4)), jnp.ones((3, 4, 2))),
    }
    for name, call in calls.items():
        with pytest.raises(lj.InputError, match=rf"^{name}: `x` needs . axes .*; add the batch axis: x\[None\]"):
            call()
