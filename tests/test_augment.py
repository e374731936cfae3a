"""Augmentation against SciPy's affine transformation, and the rules that any of it must keep."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

import lenet_jax as lj
from lenet_jax.augment import (
    mixup,
    random_affine,
    random_crop,
    random_cutout,
    random_elastic,
    random_flip,
    random_lighting,
    with_augmentation,
    with_mixup,
)
from lenet_jax.augment.geometry import _resample

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
    [
        ("degrees", 181, " and below 181"),
        ("scale", 1, " and below 1"),
        ("shear", -0.1, " and below 1"),
        ("shift", -1, ""),
    ],
)
def test_refuses_amounts_out_of_range(name, value, limit):
    with pytest.raises(lj.InputError) as error:
        random_affine(**{name: value})
    assert str(error.value) == f"random_affine: `{name}` must be 0 or above{limit}; got {value!r}."


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


SPREAD = jnp.asarray(np.random.default_rng(2).random((6, 12, 10, 3)), jnp.float32)


def each_alone(augment, key, images):
    """Whether what happens to an image depends on the others."""
    changed = augment(key, images)
    np.testing.assert_array_equal(changed[0], augment(key, images.at[1:].set(0.5))[0])
    assert changed.shape == images.shape
    assert changed.dtype == images.dtype
    np.testing.assert_allclose(jax.jit(jax.vmap(augment))(key[None], images[None])[0], changed, atol=1e-6)
    return changed


def test_a_crop_is_a_piece_of_the_image_with_a_margin():
    changed = np.asarray(each_alone(random_crop(2), jax.random.key(0), SPREAD))
    padded = np.pad(SPREAD, [(0, 0), (2, 2), (2, 2), (0, 0)])
    for image, whole in zip(changed, padded, strict=True):
        assert any((whole[r : r + 12, c : c + 10] == image).all() for r in range(5) for c in range(5))
    assert (
        len({image.tobytes() for image in np.asarray(random_crop(2)(jax.random.key(1), SPREAD[:1].repeat(200, 0)))})
        == 25
    )


def test_a_flip_is_the_mirror_image_of_half_of_them():
    changed = each_alone(random_flip(), jax.random.key(0), SPREAD)
    mirrored = [bool((a == b[:, ::-1]).all()) for a, b in zip(changed, SPREAD, strict=True)]
    assert all(m or bool((a == b).all()) for m, a, b in zip(mirrored, changed, SPREAD, strict=True))
    many = random_flip()(jax.random.key(1), SPREAD[:1].repeat(1000, 0))
    assert 430 < int((many == SPREAD[:1]).all(axis=(1, 2, 3)).sum()) < 570


def test_light_has_the_covariance_of_the_principal_components():
    added = np.asarray(random_lighting(0.5)(jax.random.key(0), jnp.zeros((4000, 2, 2, 3))))
    assert (added == added[:, :1, :1]).all()
    each_alone(random_lighting(), jax.random.key(0), SPREAD)
    directions = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])
    expected = directions @ np.diag(0.25 * np.square([0.2175, 0.0188, 0.0045])) @ directions.T
    np.testing.assert_allclose(np.cov(added[:, 0, 0].T), expected, atol=0.05 * expected.max())


def test_cutout_makes_a_square_that_may_hang_over_the_border():
    changed = each_alone(random_cutout(4), jax.random.key(0), SPREAD)
    for image, before in zip(np.asarray(changed), np.asarray(SPREAD), strict=True):
        hole = (image == 0).all(axis=-1)
        rows, columns = hole.any(axis=1), hole.any(axis=0)
        assert (hole == rows[:, None] & columns[None]).all()
        assert 2 <= rows.sum() <= 4
        assert 2 <= columns.sum() <= 4
        assert (image[~hole] == before[~hole]).all()


def test_elastic_distortions_are_those_of_scipy():
    augment = random_elastic(strength=20.0, smoothness=2.0)
    key = jax.random.key(3)
    changed = each_alone(augment, key, SPREAD)
    for number, (own, image) in enumerate(zip(jax.random.split(key, 6), np.asarray(SPREAD), strict=True)):
        field = np.asarray(jax.random.uniform(own, (2, 12, 10), jnp.float32, -1.0, 1.0))
        field = 20 * scipy.ndimage.gaussian_filter(field, (0, 2, 2), mode="constant", truncate=9)
        places = np.indices((12, 10)) + field
        for channel in range(3):
            padded = np.pad(image[..., channel], 3)
            expected = scipy.ndimage.map_coordinates(padded, places + 3, order=1)
            np.testing.assert_allclose(changed[number, ..., channel], expected, atol=1e-4)


def test_mixup_mixes_images_and_labels_alike():
    model = lj.create_model("mnist_cnn", input_shape=(12, 10, 3))
    variables = model.init(jax.random.key(0))
    labels = jnp.arange(6)
    mixed, weights = mixup(jax.random.key(1), SPREAD, 0.4)
    for n in range(6):
        np.testing.assert_allclose(mixed[n], weights[n] * SPREAD[n] + (1 - weights[n]) * SPREAD[n - 1], atol=1e-6)
    _, many = mixup(jax.random.key(2), jnp.zeros((4000, 1, 1, 1)), 0.4)
    assert float(many.mean()) == pytest.approx(0.5, abs=0.02)
    assert float(many.var()) == pytest.approx(0.25 / 1.8, abs=0.01)  # of Beta(0.4, 0.4)

    key = jax.random.key(5)
    losses, _ = with_mixup(model, 0.4).losses(lj.cross_entropy, variables, SPREAD, labels, key=key)
    mixed, weights = mixup(jax.random.split(key)[0], SPREAD, 0.4)
    logits, _ = model.apply(variables, mixed)
    np.testing.assert_allclose(
        losses,
        weights * lj.cross_entropy(logits, labels) + (1 - weights) * lj.cross_entropy(logits, jnp.roll(labels, 1)),
        rtol=1e-5,
    )
    assert with_mixup(model, 0.4).apply is model.apply


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: random_crop(-1), "random_crop: `margin` must be an integer, 0 or above; got -1."),
        (lambda: random_cutout(0), "random_cutout: `size` must be an integer, above 0; got 0."),
        (lambda: random_elastic(smoothness=0), "random_elastic: `smoothness` must be above 0; got 0."),
        (lambda: random_lighting(-0.1), "random_lighting: `deviation` must be 0 or above; got -0.1."),
        (lambda: with_mixup(None, 0.0), "mixup: `alpha` must be above 0; got 0.0."),
        (
            lambda: random_lighting()(jax.random.key(0), jnp.zeros((1, 2, 2, 1))),
            "random_lighting: `images` must have 3 channels; got shape (1, 2, 2, 1).",
        ),
    ],
)
def test_amounts_out_of_range_are_refused(call, message, without_type_checks):
    with pytest.raises(lj.InputError) as error:
        call()
    assert str(error.value) == message
