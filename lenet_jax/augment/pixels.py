"""What the pixels of an image are: its light, and holes in it."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lenet_jax.augment.base import Augment, check_range
from lenet_jax.errors import InputError
from lenet_jax.types import Key

# Principal components of the pixels of ImageNet, red, green and blue from 0 to 1: variances and directions, by rows.
_VARIANCES = (0.2175, 0.0188, 0.0045)
_DIRECTIONS = ((-0.5675, -0.5808, -0.5836), (0.7192, -0.0045, -0.6948), (0.4009, -0.8140, 0.4203))


def random_lighting(deviation: float = 0.1) -> Augment:
    """Return a function that adds to all pixels of each colour image what other light would.

    It is a sum of the principal components of the colours of ImageNet, each times its variance and a normal number.

    Args:
        deviation: standard deviation of these numbers, 0 or above.

    Raises:
        InputError: if it is out of its range, or, when it is used, the images have not three channels.

    Source: Krizhevsky et al. 2012, "ImageNet classification with deep convolutional neural networks", section 4.1.
    """
    check_range("random_lighting", "deviation", deviation, 1e9)

    def augment(key: Key, images: Float[Array, "N H W C"]) -> Float[Array, "N H W C"]:
        if images.shape[-1] != 3:
            raise InputError(f"random_lighting: `images` must have 3 channels; got shape {images.shape}.")
        keys = jax.random.split(key, images.shape[0])
        numbers = jnp.float32(deviation) * jax.vmap(lambda key: jax.random.normal(key, (3,), jnp.float32))(keys)
        light = (numbers * jnp.asarray([_VARIANCES], jnp.float32)) @ jnp.asarray(_DIRECTIONS, jnp.float32)
        return images + light[:, None, None].astype(images.dtype)

    return augment


def random_cutout(size: int) -> Augment:
    """Return a function that sets a square of `size` pixels, about a random one, to 0 in each image.

    Raises:
        InputError: if `size` is no integer, 1 or above.

    Source: DeVries and Taylor 2017, "Improved regularization of convolutional neural networks with cutout", section 3.
    """
    check_range("random_cutout", "size", size, 1e9, above=True, integer=True)

    def augment(key: Key, images: Float[Array, "N H W C"]) -> Float[Array, "N H W C"]:
        num_images, height, width, _ = images.shape
        keys = jax.random.split(key, num_images)
        limits = jnp.array([height, width])
        centres = jax.vmap(lambda key: jax.random.randint(key, (2,), 0, limits))(keys)

        def inside(length: int, centre: Array) -> Array:
            first = centre[:, None] - size // 2
            pixels = jnp.arange(length)[None]
            return (pixels >= first) & (pixels < first + size)

        hole = inside(height, centres[:, 0])[:, :, None] & inside(width, centres[:, 1])[:, None, :]
        return jnp.where(hole[..., None], jnp.zeros_like(images), images)

    return augment
