"""Augmentation against SciPy's affine transformation, and the rules that any of it must keep."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from PIL import Image

import lenet_jax as lj
from lenet_jax import augment as augments
from lenet_jax.augment import (
    Mixup,
    _transform,
    chain,
    flatten,
    mixup,
    random_affine,
    random_crop,
    random_cutout,
    random_elastic,
    random_flip,
    random_lighting,
    random_resized_crop,
)

IMAGES = np.random.default_rng(0).random((4, 9, 12, 2)).astype(np.float32)


def of_each(augment, key, images):
    """Change each image of a batch with a key of its own."""
    return jax.vmap(augment)(jax.random.split(key, len(images)), jnp.asarray(images))


def test_resampling_is_that_of_scipy():
    rng = np.random.default_rng(1)
    matrices = np.eye(2) + 0.3 * rng.normal(size=(4, 2, 2))
    offsets = 2 * rng.normal(size=(4, 2))
    middle = np.array([4.0, 5.5])
    for image, matrix, offset in zip(IMAGES, matrices, offsets, strict=True):
        result = _transform(jnp.asarray(image), jnp.asarray(matrix, jnp.float32), jnp.asarray(offset, jnp.float32))
        for channel in range(2):
            padded = np.pad(
                image[..., channel], 3
            )  # SciPy fades out within a pixel of the border, as we do, if it is 0
            expected = scipy.ndimage.affine_transform(
                padded, matrix, offset + middle + 3 - matrix @ (middle + 3), order=1, mode="constant"
            )[3:-3, 3:-3]
            np.testing.assert_allclose(result[..., channel], expected, atol=1e-5)


def test_nothing_changes_without_amounts():
    np.testing.assert_allclose(of_each(random_affine(), jax.random.key(0), IMAGES), IMAGES, atol=1e-6)


def test_each_example_depends_on_its_own_key_alone():
    augment = random_affine(degrees=20, scale=0.2, shear=0.2, shift=3)
    key = jax.random.key(5)
    changed = of_each(augment, key, IMAGES)
    others = jnp.asarray(IMAGES).at[1:].set(0.0)
    np.testing.assert_array_equal(changed[0], of_each(augment, key, others)[0])
    assert (of_each(augment, key, IMAGES) == changed).all()
    same = of_each(augment, key, np.repeat(IMAGES[:1], 4, axis=0))
    assert (same[0] != same[1]).any()


def test_a_shift_moves_a_pixel_by_at_most_its_range():
    image = jnp.zeros((200, 21, 21, 1)).at[:, 10, 10].set(1.0)
    moved = np.asarray(of_each(random_affine(shift=3), jax.random.key(0), image))[..., 0]
    rows, columns = ((moved * axis).sum(axis=(1, 2)) for axis in np.indices((21, 21)))
    for centre in (rows, columns):
        assert 2.5 < np.abs(centre - 10).max() <= 3 + 1e-4
        assert abs((centre - 10).mean()) < 0.5
    np.testing.assert_allclose(moved.sum(axis=(1, 2)), 1, atol=1e-5)


def test_works_under_vmap_and_jit():
    augment = jax.jit(random_affine(degrees=10))
    keys = jax.random.split(jax.random.key(0), 3)
    together = jax.vmap(augment, in_axes=(0, None))(keys, jnp.asarray(IMAGES[0]))
    for key, changed in zip(keys, together, strict=True):
        np.testing.assert_allclose(changed, augment(key, jnp.asarray(IMAGES[0])), atol=1e-5)


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


SPREAD = jnp.asarray(np.random.default_rng(2).random((6, 12, 10, 3)), jnp.float32)


def each_alone(augment, key, images):
    """Whether what happens to an image depends on the others."""
    changed = of_each(augment, key, images)
    np.testing.assert_array_equal(changed[0], of_each(augment, key, images.at[1:].set(0.5))[0])
    assert changed.shape == images.shape
    assert changed.dtype == images.dtype
    first = jax.jit(augment)(jax.random.split(key, len(images))[0], images[0])
    np.testing.assert_allclose(first, changed[0], atol=1e-6)
    return changed


def test_a_crop_is_a_piece_of_the_image_with_a_margin():
    changed = np.asarray(each_alone(random_crop(2), jax.random.key(0), SPREAD))
    padded = np.pad(SPREAD, [(0, 0), (2, 2), (2, 2), (0, 0)])
    for image, whole in zip(changed, padded, strict=True):
        assert any((whole[r : r + 12, c : c + 10] == image).all() for r in range(5) for c in range(5))
    many = np.asarray(of_each(random_crop(2), jax.random.key(1), SPREAD[:1].repeat(200, 0)))
    assert len({image.tobytes() for image in many}) == 25


@pytest.mark.parametrize("size", [None, 6, 9])
def test_a_resized_crop_is_that_of_pillow(size):
    image = np.random.default_rng(3).random((12, 10, 1)).astype(np.float32)
    augment = random_resized_crop(crop_size=size, min_area=0.2)
    for number in range(8):
        key = jax.random.key(number)
        area, stretch, down, right = np.asarray(jax.random.uniform(key, (4,)), np.float64)
        side, aspect = np.sqrt((0.2 + 0.8 * area) * 120), (4 / 3) ** (stretch - 0.5)
        height, width = min(side / aspect, 12.0), min(side * aspect, 10.0)
        top, left = down * (12 - height), right * (10 - width)
        rows, columns = (12, 10) if size is None else (size, size)
        whole = Image.fromarray(image[..., 0])
        box = (left, top, left + width, top + height)
        expected = np.asarray(whole.resize((columns, rows), Image.Resampling.BILINEAR, box))
        changed = np.asarray(augment(key, jnp.asarray(image)))[..., 0]
        above, before = (12 - rows) // 2, (10 - columns) // 2
        found = changed[above : above + rows, before : before + columns]
        np.testing.assert_allclose(found[1:-1, 1:-1], expected[1:-1, 1:-1], atol=2e-3)  # Pillow sees nothing outside
        assert changed.shape == (12, 10)
        assert np.count_nonzero(changed) == np.count_nonzero(found)


def test_a_flip_is_the_mirror_image_of_half_of_them():
    changed = each_alone(random_flip(), jax.random.key(0), SPREAD)
    mirrored = [bool((a == b[:, ::-1]).all()) for a, b in zip(changed, SPREAD, strict=True)]
    assert all(m or bool((a == b).all()) for m, a, b in zip(mirrored, changed, SPREAD, strict=True))
    many = of_each(random_flip(), jax.random.key(1), SPREAD[:1].repeat(1000, 0))
    assert 430 < int((many == SPREAD[:1]).all(axis=(1, 2, 3)).sum()) < 570


def test_light_has_the_covariance_of_the_principal_components():
    added = np.asarray(of_each(random_lighting(0.5), jax.random.key(0), jnp.zeros((4000, 2, 2, 3))))
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


def test_the_weights_of_mixup_have_the_moments_of_their_beta_distribution():
    keys = jax.random.split(jax.random.key(2), 4000)
    weights = mixup(alpha=0.4).draw_weights(keys)
    assert float(weights.mean()) == pytest.approx(0.5, abs=0.02)
    assert float(weights.var()) == pytest.approx(0.25 / 1.8, abs=0.01)  # of Beta(0.4, 0.4)
    np.testing.assert_array_equal(Mixup(0.4).draw_weights(keys[7:9]), weights[7:9])


def test_a_chain_applies_one_after_another_with_keys_of_their_own():
    key, image = jax.random.key(3), SPREAD[0]
    first, second = jax.random.split(key)
    expected = random_lighting()(second, random_crop(2)(first, image))
    np.testing.assert_array_equal(chain(random_crop(2), random_lighting())(key, image), expected)
    np.testing.assert_array_equal(chain()(key, image), image)


def test_what_photographs_are_augmented_with():
    key, image = jax.random.key(4), SPREAD[0]
    parts = augments.photo(margin=2, cutout=3, mixup=0.4)
    assert parts[-1] == Mixup(0.4)
    by_hand = [random_flip(), random_crop(2), random_lighting(0.1), random_cutout(3)]
    for part, expected in zip(parts[:-1], by_hand, strict=True):
        np.testing.assert_array_equal(part(key, image), expected(key, image))
    assert len(augments.photo()) == 3
    *_, rotation, light = augments.photo(degrees=10)  # shifts, flips, rotations and lighting, as listed for AlexNet
    np.testing.assert_array_equal(rotation(key, image), random_affine(degrees=10)(key, image))
    np.testing.assert_array_equal(light(key, image), random_lighting(0.1)(key, image))
    assert augments.photo(flip=False, margin=0, lighting=0) == []


def test_what_large_photographs_are_augmented_with():
    key, image = jax.random.key(4), SPREAD[0]
    parts = augments.imagenet(crop_size=8, lighting=0.1, mixup=0.4)
    assert parts[-1] == Mixup(0.4)
    by_hand = [random_resized_crop(crop_size=8), random_flip(), random_lighting(0.1)]
    for part, expected in zip(parts[:-1], by_hand, strict=True):
        np.testing.assert_array_equal(part(key, image), expected(key, image))
    assert len(augments.imagenet()) == 2


def test_elastic_is_affine_and_then_elastic():
    key, image = jax.random.key(5), SPREAD[0]
    expected = chain(random_affine(degrees=5, scale=0.1, shear=0.1, shift=2), random_elastic(strength=9))(key, image)
    np.testing.assert_array_equal(augments.elastic(degrees=5, strength=9)(key, image), expected)


def test_lists_of_augmentations_become_one_list():
    flip, light, mix = random_flip(), random_lighting(), Mixup(0.2)
    assert flatten([flip, [light, [mix]], []]) == (flip, light, mix)
    with pytest.raises(lj.InputError, match=r"^augment: at most one may be a Mixup; got 2: .*; remove the others\.$"):
        flatten([mix, [mix]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: random_crop(-1), "random_crop: `margin` must be an integer, 0 or above; got -1."),
        (lambda: random_resized_crop(max_aspect=0.5), "random_resized_crop: `max_aspect` must be 1 or above; got 0.5."),
        (
            lambda: random_resized_crop(crop_size=0),
            "random_resized_crop: `crop_size` must be an integer, above 0; got 0.",
        ),
        (
            lambda: random_resized_crop(crop_size=3)(jax.random.key(0), jnp.zeros((2, 4, 1))),
            "random_resized_crop: `crop_size` must be at most the size of the images, (2, 4); got 3.",
        ),
        (lambda: random_cutout(0), "random_cutout: `size` must be an integer, above 0; got 0."),
        (lambda: random_elastic(smoothness=0), "random_elastic: `smoothness` must be above 0; got 0."),
        (lambda: random_lighting(-0.1), "random_lighting: `deviation` must be 0 or above; got -0.1."),
        (lambda: mixup(alpha=0.0), "mixup: `alpha` must be above 0; got 0.0."),
        (
            lambda: random_lighting()(jax.random.key(0), jnp.zeros((2, 2, 1))),
            "random_lighting: `images` must have 3 channels; got shape (2, 2, 1); leave the lighting out.",
        ),
        (
            lambda: augments.photo(flip=False, margin=0)[0](jax.random.key(0), jnp.zeros((2, 2, 1))),
            "photo: `lighting` must be 0 for images that have not 3 channels; got 0.1 and an image of shape (2, 2, 1).",
        ),
    ],
)
def test_amounts_out_of_range_are_refused(call, message, without_type_checks):
    with pytest.raises(lj.InputError) as error:
        call()
    assert str(error.value) == message


@pytest.mark.parametrize(
    "augment",
    [
        random_affine(),
        random_elastic(),
        random_crop(1),
        random_resized_crop(),
        random_flip(),
        random_lighting(),
        random_cutout(2),
    ],
)
def test_a_batch_instead_of_an_image_is_refused(augment, without_type_checks):
    with pytest.raises(
        lj.InputError, match=r"must be one image \(H, W, C\); got shape \(2, 8, 8, 3\); map over a batch"
    ):
        augment(jax.random.key(0), jnp.zeros((2, 8, 8, 3)))
