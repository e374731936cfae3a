"""Augmentation against SciPy's affine transformation, and the rules that any of it must keep."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

import lenet_jax as lj
from lenet_jax.data.augment import _resample, random_affine, with_augmentation

IMAGES = np.random.default_rng(0).random((4, 9, 12, 2)).astype(np.float32)


def test_resampling_is_that_of_scipy():
    rng = np.random.default_rng(1)
    matrices = np.eye(2) + 0.3 * rng.normal(size=(4, 2, 2))
    offsets = 2 * rng.normal(size=(4, 2))
    as_rows = [[jnp.asarray(matrices[:, i, j], jnp.float32) for j in (0, 1)] for i in (0, 1)]
    ours = _resample(jnp.asarray(IMAGES), as_rows, jnp.asarray(offsets.T, jnp.float32))
    middle = np.array([4.0, 5.5])
    for image, matrix, offset, result in zip(IMAGES, matrices, offsets, ours, strict=True):
        for channel in range(2):
            padded = np.pad(
                image[..., channel], 3
            )  # SciPy fades out within a pixel of the border, as we do, if it is 0
            expected = scipy.ndimage.affine_transform(
                padded, matrix, offset + middle + 3 - matrix @ (middle + 3), order=1, mode="constant"
            )[3:-3, 3:-3]
            np.testing.assert_allclose(result[..., channel], expected, atol=1e-5)


def test_nothing_changes_without_amounts():
    np.testing.assert_allclose(random_affine()(jax.random.key(0), jnp.asarray(IMAGES)), IMAGES, atol=1e-6)


def test_each_example_depends_on_its_own_key_alone():
    augment = random_affine(degrees=20, scale=0.2, shear=0.2, shift=3)
    key = jax.random.key(5)
    changed = augment(key, jnp.asarray(IMAGES))
    others = jnp.asarray(IMAGES).at[1:].set(0.0)
    np.testing.assert_array_equal(changed[0], augment(key, others)[0])
    assert (augment(key, jnp.asarray(IMAGES)) == changed).all()
    same = augment(key, jnp.asarray(np.repeat(IMAGES[:1], 4, axis=0)))
    assert (same[0] != same[1]).any()


def test_a_shift_moves_a_pixel_by_at_most_its_range():
    image = jnp.zeros((200, 21, 21, 1)).at[:, 10, 10].set(1.0)
    moved = np.asarray(random_affine(shift=3)(jax.random.key(0), image))[..., 0]
    rows, columns = ((moved * axis).sum(axis=(1, 2)) for axis in np.indices((21, 21)))
    for centre in (rows, columns):
        assert 2.5 < np.abs(centre - 10).max() <= 3 + 1e-4
        assert abs((centre - 10).mean()) < 0.5
    np.testing.assert_allclose(moved.sum(axis=(1, 2)), 1, atol=1e-5)


def test_works_under_vmap_and_jit():
    augment = jax.jit(random_affine(degrees=10))
    keys = jax.random.split(jax.random.key(0), 3)
    together = jax.vmap(augment, in_axes=(0, None))(keys, jnp.asarray(IMAGES))
    for key, changed in zip(keys, together, strict=True):
        np.testing.assert_allclose(changed, augment(key, jnp.asarray(IMAGES)), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "value", "limit"),
    [("degrees", 181, "181"), ("scale", 1, "1"), ("shear", -0.1, "1"), ("shift", -1, "1e+09")],
)
def test_refuses_amounts_out_of_range(name, value, limit):
    with pytest.raises(lj.InputError) as error:
        random_affine(**{name: value})
    assert str(error.value) == f"random_affine: `{name}` must be 0 or above and below {limit}; got {value!r}."


def test_a_model_with_augmentation_changes_images_only_while_it_trains():
    model = lj.create_model("mnist_cnn", input_shape=(9, 12, 2))
    augmented = with_augmentation(model, random_affine(shift=2))
    variables = model.init(jax.random.key(0))
    apply = functools.partial(augmented.apply, variables, jnp.asarray(IMAGES))
    plain, _ = model.apply(variables, jnp.asarray(IMAGES))
    assert (apply()[0] == plain).all()
    assert (apply(train=True, key=jax.random.key(1))[0] != plain).any()
    with pytest.raises(lj.InputError, match="`key` must be given while the model trains"):
        apply(train=True)
