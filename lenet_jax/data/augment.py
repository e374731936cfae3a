"""Random changes of training images, on the device: pure functions (key, images) -> images of the same shape.

Each example has a key of its own, so what happens to it does not depend on the others of its batch.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lenet_jax.config import AffineAugmentConfig
from lenet_jax.errors import InputError
from lenet_jax.types import Key, Model, Variables

Augment = Callable[[Key, Array], Array]


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
    for name, value, limit in (
        ("degrees", degrees, 181),
        ("scale", scale, 1),
        ("shear", shear, 1),
        ("shift", shift, 1e9),
    ):
        if not 0 <= value < limit:
            raise InputError(f"random_affine: `{name}` must be 0 or above and below {limit:g}; got {value!r}.")

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
    num_images, height, width, _ = images.shape
    middle = jnp.float32((height - 1) / 2), jnp.float32((width - 1) / 2)
    r, c = (
        axis.reshape(1, -1)
        for axis in jnp.meshgrid(
            jnp.arange(height, dtype=jnp.float32) - middle[0],
            jnp.arange(width, dtype=jnp.float32) - middle[1],
            indexing="ij",
        )
    )
    places = [
        row[0][:, None] * r + row[1][:, None] * c + shift[:, None] + centre
        for row, shift, centre in zip(matrix, offset, middle, strict=True)
    ]
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


def with_augmentation(model: Model, augment: Augment) -> Model:
    """Return the model that changes its images while it trains, and is the same otherwise.

    It needs the `key` of `apply` while it trains; the model inside gets a key of its own.
    """

    def apply(variables: Variables, images: Array, *, train: bool = False, key: Key | None = None) -> Any:
        if not train:
            return model.apply(variables, images, train=False, key=key)
        if key is None:
            raise InputError("with_augmentation: `key` must be given while the model trains; pass a jax.random.key.")
        own, key = jax.random.split(key)
        return model.apply(variables, augment(own, images), train=True, key=key)

    return model._replace(apply=apply)


def augmented(model: Model, config: Any) -> Model:
    """Return the model with the augmentation of one of the augment classes of `lenet_jax.config`."""
    if isinstance(config, AffineAugmentConfig):
        amounts = {key: value for key, value in vars(config).items() if key != "name"}
        return with_augmentation(model, random_affine(**amounts))
    return model
