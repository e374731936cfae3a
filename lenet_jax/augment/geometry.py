"""Where the pixels of an image come from: affine and elastic distortions, crops, flips."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from lenet_jax.augment.base import Augment, check_range
from lenet_jax.types import Key


def random_affine(*, degrees: float = 0.0, scale: float = 0.0, shear: float = 0.0, shift: float = 0.0) -> Augment:
    """Return a function that rotates, scales, shears and shifts each image by random amounts, about its middle.

    Amounts are uniform: angles within +-degrees, each axis scaled by a factor within 1 +- scale and sheared by within
    +-shear of the other, shifts within +-shift pixels. Pixels between are interpolated linearly; outside is 0.

    Args:
        degrees: 0 to below 181.
        scale: 0 to below 1.
        shear: 0 to below 1.
        shift: pixels, 0 or above.

    Raises:
        InputError: if an argument is out of its range.

    >>> random_affine(degrees=10, shift=2)(jax.random.key(0), jnp.ones((5, 28, 28, 1))).shape
    (5, 28, 28, 1)
    """
    check_range("random_affine", "degrees", degrees, 181)
    check_range("random_affine", "scale", scale, 1)
    check_range("random_affine", "shear", shear, 1)
    check_range("random_affine", "shift", shift, 1e9)

    def augment(key: Key, images: Float[Array, "N H W C"]) -> Float[Array, "N H W C"]:
        keys = jax.random.split(key, images.shape[0])
        numbers = jax.vmap(lambda key: jax.random.uniform(key, (7,), jnp.float32, -1.0, 1.0))(keys).T
        angle = numbers[0] * jnp.deg2rad(jnp.float32(degrees))
        tall, wide = (jnp.float32(1) + number * jnp.float32(scale) for number in numbers[1:3])
        down, right = (number * jnp.float32(shear) for number in numbers[3:5])
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        matrix = (
            (cos * tall - sin * right, cos * down - sin * wide),
            (sin * tall + cos * right, sin * down + cos * wide),
        )
        return _resample(images, matrix, numbers[5:7] * jnp.float32(shift))

    return augment


def _resample(images: Array, matrix: Any, offset: Array) -> Array:
    """Look up each pixel (r, c), counted from the middle, at matrix @ (r, c) + offset; an entry of them an image."""
    _, height, width, _ = images.shape
    middle = jnp.float32((height - 1) / 2), jnp.float32((width - 1) / 2)
    r, c = (axis - centre for axis, centre in zip(_pixels(height, width), middle, strict=True))
    return _look_up(
        images,
        [
            row[0][:, None] * r + row[1][:, None] * c + shift[:, None] + centre
            for row, shift, centre in zip(matrix, offset, middle, strict=True)
        ],
    )


def _pixels(height: int, width: int) -> list[Array]:
    """Return row and column of each pixel, (1, height * width)."""
    axes = jnp.arange(height, dtype=jnp.float32), jnp.arange(width, dtype=jnp.float32)
    return [axis.reshape(1, -1) for axis in jnp.meshgrid(*axes, indexing="ij")]


def _look_up(images: Array, places: list[Array]) -> Array:
    """Return the images at these rows and columns, (N, H * W) each, linearly between the pixels; outside is 0."""
    num_images, height, width, _ = images.shape
    floors = [jnp.floor(place) for place in places]
    flat = images.reshape(num_images, height * width, -1)
    total = jnp.zeros_like(flat)
    for row in (0, 1):
        for column in (0, 1):
            corner = [floor.astype(jnp.int32) + step for floor, step in zip(floors, (row, column), strict=True)]
            weight = jnp.prod(
                jnp.stack(
                    [1 - jnp.abs(place - at.astype(jnp.float32)) for place, at in zip(places, corner, strict=True)]
                ),
                axis=0,
            )
            inside = (corner[0] >= 0) & (corner[0] < height) & (corner[1] >= 0) & (corner[1] < width)
            index = jnp.clip(corner[0], 0, height - 1) * width + jnp.clip(corner[1], 0, width - 1)
            seen = jnp.take_along_axis(flat, index[..., None], axis=1)
            total += seen * jnp.where(inside, weight, jnp.zeros_like(weight))[..., None].astype(flat.dtype)
    return total.reshape(images.shape)


def random_elastic(*, strength: float = 8.0, smoothness: float = 4.0) -> Augment:
    """Return a function that moves the pixels of each image by smooth random distances, as handwriting differs.

    Distances down and right are uniform numbers within +-1 of each pixel, smoothed by a Gaussian and multiplied.
    Pixels between are interpolated linearly; outside is 0.

    Args:
        strength: what the smoothed numbers are multiplied by, 0 or above; alpha of the paper.
        smoothness: standard deviation of the Gaussian in pixels, above 0; sigma of the paper.

    Raises:
        InputError: if an argument is out of its range.

    Source: Simard, Steinkraus and Platt 2003, "Best practices for convolutional neural networks applied to visual
    document analysis", section 2.
    """
    check_range("random_elastic", "strength", strength, 1e9)
    check_range("random_elastic", "smoothness", smoothness, 1e9, above=True)

    def augment(key: Key, images: Float[Array, "N H W C"]) -> Float[Array, "N H W C"]:
        num_images, height, width, _ = images.shape
        keys = jax.random.split(key, num_images)
        field = jax.vmap(lambda key: jax.random.uniform(key, (2, height, width), jnp.float32, -1.0, 1.0))(keys)
        down, across = _gaussian(height, smoothness), _gaussian(width, smoothness)
        field = jnp.float32(strength) * jnp.einsum("ij,najk,lk->anil", down, field, across)
        moved = field.reshape(2, num_images, height * width)
        return _look_up(images, [at + by for at, by in zip(_pixels(height, width), moved, strict=True)])

    return augment


def _gaussian(length: int, deviation: float) -> Array:
    """Return the matrix that smooths along an axis; there is nothing outside of it."""
    distance = jnp.arange(length, dtype=jnp.float32)[:, None] - jnp.arange(length, dtype=jnp.float32)[None]
    weights = jnp.exp(-0.5 * jnp.square(distance / jnp.float32(deviation)))
    around = jnp.arange(-8 * length, 8 * length + 1, dtype=jnp.float32)
    return weights / jnp.sum(jnp.exp(-0.5 * jnp.square(around / jnp.float32(deviation))))


def random_crop(margin: int) -> Augment:
    """Return a function that shifts each image by up to `margin` whole pixels either way, down and across.

    It is a crop, of the size of the image, of the image with a margin of zeros: Krizhevsky et al. 2012, section 4.1, as
    He et al. 2016, section 4.2, have it for small images.

    Raises:
        InputError: if `margin` is no integer, 0 or above.
    """
    check_range("random_crop", "margin", margin, 1e9, integer=True)

    def augment(key: Key, images: Float[Array, "N H W C"]) -> Float[Array, "N H W C"]:
        padded = jnp.pad(images, [(0, 0), (margin, margin), (margin, margin), (0, 0)])

        def crop(key: Key, image: Array) -> Array:
            down, right = jax.random.randint(key, (2,), 0, 2 * margin + 1)
            return lax.dynamic_slice(image, (down, right, jnp.zeros_like(down)), images.shape[1:])

        return jax.vmap(crop)(jax.random.split(key, images.shape[0]), padded)

    return augment


def random_flip() -> Augment:
    """Return a function that turns each image into its mirror image, left for right, with probability 1/2."""

    def augment(key: Key, images: Float[Array, "N H W C"]) -> Float[Array, "N H W C"]:
        keys = jax.random.split(key, images.shape[0])
        flipped = jax.vmap(jax.random.bernoulli)(keys)
        return jnp.where(jnp.expand_dims(flipped, (1, 2, 3)), images[:, :, ::-1], images)

    return augment
