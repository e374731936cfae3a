"""Augmentations: random changes of the training examples, made on the device.

An augmentation is a pure function (key, example) -> example of the same shape; an example is an image (H, W, C) of
floats. Each example has a key of its own, so its changes depend neither on the batch that it is in nor on the number of
devices. `Mixup`, which needs two examples, is applied by `lenet_jax.objective`.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from lenet_jax.config.checks import AtLeast, Count, Fraction, NonNegative, NonNegativeInt, Positive
from lenet_jax.errors import InputError
from lenet_jax.types import Key

Augment = Callable[[Key, Any], Any]
"""(key, example) -> example of the same shape; consumes the key."""


class Mixup(NamedTuple):
    """Mix each example, and its target, with another one of the minibatch.

    The weight of the example itself is drawn from Beta(alpha, alpha). Source: Zhang et al. 2018, "mixup: beyond
    empirical risk minimization", section 2.
    """

    alpha: float

    def draw_weights(self, keys: Key) -> Float[Array, "N"]:  # noqa: F821
        """Return the weight of each example by its own key (N,)."""
        return jax.vmap(lambda key: jax.random.beta(key, self.alpha, self.alpha, dtype=jnp.float32))(keys)


def mixup(*, alpha: Positive = 0.2) -> Mixup:
    """Return the augmentation that mixes examples in pairs; see `Mixup`.

    Args:
        alpha: of the Beta distribution of the weights, above 0; 0.2 for ImageNet.
    """
    _check_range("mixup", "alpha", alpha, 1e9, above=True)
    return Mixup(alpha)


def chain(*augments: Augment) -> Augment:
    """Return the augmentation that applies others one after another, each with a key of its own."""

    def augment(key: Key, image: Any) -> Any:
        for own, each in zip(jax.random.split(key, max(len(augments), 1)), augments, strict=False):
            image = each(own, image)
        return image

    return augment


def random_affine(
    *, degrees: NonNegative = 0.0, scale: Fraction = 0.0, shear: Fraction = 0.0, shift: NonNegative = 0.0
) -> Augment:
    """Return the augmentation that rotates, scales, shears and shifts an image by random amounts, about its middle.

    Amounts are uniform: the angle within +-degrees, each axis scaled by a factor within 1 +- scale and sheared by
    within +-shear of the other, shifts within +-shift pixels. Pixels are interpolated linearly; outside is 0.

    Args:
        degrees: largest rotation to either side, 0 to below 181; 5 to 20 for digits.
        scale: largest relative change of either axis, 0 to below 1.
        shear: rows, and columns, are shifted by up to this fraction of their distance; 0 to below 1.
        shift: pixels along either axis, 0 or above.

    Raises:
        InputError: if an argument is out of its range.

    >>> random_affine(degrees=10, shift=2)(jax.random.key(0), jnp.ones((28, 28, 1))).shape
    (28, 28, 1)
    """
    _check_range("random_affine", "degrees", degrees, 181)
    _check_range("random_affine", "scale", scale, 1)
    _check_range("random_affine", "shear", shear, 1)
    _check_range("random_affine", "shift", shift, 1e9)

    def augment(key: Key, image: Float[Array, "H W C"]) -> Float[Array, "H W C"]:
        _check_image("random_affine", image)
        draws = jax.random.uniform(key, (7,), jnp.float32, -1.0, 1.0)
        angle = draws[0] * jnp.deg2rad(jnp.float32(degrees))
        tall, wide = (jnp.float32(1) + draw * jnp.float32(scale) for draw in draws[1:3])
        down, right = (draw * jnp.float32(shear) for draw in draws[3:5])
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        matrix = (
            (cos * tall - sin * right, cos * down - sin * wide),
            (sin * tall + cos * right, sin * down + cos * wide),
        )
        return _transform(image, matrix, draws[5:7] * jnp.float32(shift))

    return augment


def _check_image(name: str, image: Array) -> None:
    if image.ndim != 3:
        raise InputError(
            f"{name}: `image` must be one image (H, W, C); got shape {image.shape}; map over a batch with a key "
            "for each: jax.vmap(augment)(keys, images)."
        )


def _transform(image: Array, matrix: Any, offset: Array) -> Array:
    """Sample each pixel (r, c), counted from the middle, at matrix @ (r, c) + offset."""
    height, width, _ = image.shape
    middle = jnp.float32((height - 1) / 2), jnp.float32((width - 1) / 2)
    r, c = (axis - centre for axis, centre in zip(_pixels(height, width), middle, strict=True))
    coordinates = [
        row[0] * r + row[1] * c + shift + centre for row, shift, centre in zip(matrix, offset, middle, strict=True)
    ]
    return _sample_bilinear(image, coordinates)


def _pixels(height: int, width: int) -> list[Array]:
    """Return row and column of each pixel, (height * width,)."""
    axes = jnp.arange(height, dtype=jnp.float32), jnp.arange(width, dtype=jnp.float32)
    return [axis.reshape(-1) for axis in jnp.meshgrid(*axes, indexing="ij")]


def _sample_bilinear(image: Array, coordinates: list[Array]) -> Array:
    """Return the image at these rows and columns, (H * W,) each, interpolated linearly; outside is 0."""
    height, width, channels = image.shape
    floors = [jnp.floor(coordinate) for coordinate in coordinates]
    flat = image.reshape(height * width, channels)
    total = jnp.zeros_like(flat)
    for row in (0, 1):
        for column in (0, 1):
            corner = [floor.astype(jnp.int32) + step for floor, step in zip(floors, (row, column), strict=True)]
            near = [1 - jnp.abs(at - c.astype(jnp.float32)) for at, c in zip(coordinates, corner, strict=True)]
            weight = near[0] * near[1]
            inside = (corner[0] >= 0) & (corner[0] < height) & (corner[1] >= 0) & (corner[1] < width)
            index = jnp.clip(corner[0], 0, height - 1) * width + jnp.clip(corner[1], 0, width - 1)
            values = jnp.take(flat, index, axis=0, mode="clip")
            total += values * jnp.where(inside, weight, jnp.zeros_like(weight))[:, None].astype(flat.dtype)
    return total.reshape(image.shape)


def random_elastic(*, strength: NonNegative = 8.0, smoothness: Positive = 4.0) -> Augment:
    """Return the augmentation that displaces the pixels of an image by smooth random distances, as handwriting varies.

    Distances down and right are uniform within +-1 at each pixel, smoothed by a Gaussian and multiplied by `strength`.
    Pixels are interpolated linearly; outside is 0.

    Args:
        strength: factor on the smoothed distances, 0 or above; alpha of the paper.
        smoothness: standard deviation of the Gaussian in pixels, above 0; sigma of the paper.

    Raises:
        InputError: if an argument is out of its range.

    Source: Simard, Steinkraus and Platt 2003, "Best practices for convolutional neural networks applied to visual
    document analysis", section 2.
    """
    _check_range("random_elastic", "strength", strength, 1e9)
    _check_range("random_elastic", "smoothness", smoothness, 1e9, above=True)

    def augment(key: Key, image: Float[Array, "H W C"]) -> Float[Array, "H W C"]:
        _check_image("random_elastic", image)
        height, width, _ = image.shape
        distances = jax.random.uniform(key, (2, height, width), jnp.float32, -1.0, 1.0)
        down, across = _gaussian(height, smoothness), _gaussian(width, smoothness)
        distances = jnp.float32(strength) * jnp.einsum("ij,ajk,lk->ail", down, distances, across)
        moved = distances.reshape(2, height * width)
        return _sample_bilinear(image, [at + by for at, by in zip(_pixels(height, width), moved, strict=True)])

    return augment


def _gaussian(length: int, deviation: float) -> Array:
    """Return the matrix that smooths along an axis, beyond which everything is 0."""
    distance = jnp.arange(length, dtype=jnp.float32)[:, None] - jnp.arange(length, dtype=jnp.float32)[None]
    weights = jnp.exp(-0.5 * jnp.square(distance / jnp.float32(deviation)))
    everywhere = jnp.arange(-8 * length, 8 * length + 1, dtype=jnp.float32)
    return weights / jnp.sum(jnp.exp(-0.5 * jnp.square(everywhere / jnp.float32(deviation))))


def random_crop(margin: NonNegativeInt) -> Augment:
    """Return the augmentation that shifts an image by up to `margin` whole pixels either way, down and across.

    It is a crop, of the size of the image, of the image with a margin of zeros: Krizhevsky et al. 2012, section 4.1, as
    He et al. 2016, section 4.2, have it for small images.

    Raises:
        InputError: if `margin` is no integer, 0 or above.
    """
    _check_range("random_crop", "margin", margin, 1e9, integer=True)

    def augment(key: Key, image: Float[Array, "H W C"]) -> Float[Array, "H W C"]:
        _check_image("random_crop", image)
        padded = jnp.pad(image, [(margin, margin), (margin, margin), (0, 0)])
        down, right = jax.random.randint(key, (2,), 0, 2 * margin + 1)
        return lax.dynamic_slice(padded, (down, right, jnp.zeros_like(down)), image.shape)

    return augment


def random_resized_crop(
    *,
    crop_size: Count | None = None,
    min_area: Fraction = 0.08,
    max_aspect: Annotated[float, AtLeast(1)] = 1.3333333333333333,
) -> Augment:
    """Return the augmentation that resizes a random rectangle of an image to a square, as for ImageNet.

    The rectangle's area is a uniform fraction of the image's, from `min_area` to 1, the logarithm of its aspect uniform
    within +-log(max_aspect), its place uniform; a side that is longer than the image's is cut. The square is put into
    the middle of an image of zeros of the same shape, of which a network with `crop_size` sees that part alone. Pixels
    are interpolated linearly, with antialiasing where they become fewer.

    Args:
        crop_size: pixels of a side of the square, at most those of the image; None: the whole image, not only a square.
        min_area: smallest area, 0 to 1.
        max_aspect: largest ratio of the sides, 1 or above.

    Raises:
        InputError: if an argument is out of its range, or, when it is used, the square is larger than the image.

    Source: Szegedy et al. 2015, "Going deeper with convolutions", section 6.
    """
    if crop_size is not None:
        _check_range("random_resized_crop", "crop_size", crop_size, 1e9, above=True, integer=True)
    _check_range("random_resized_crop", "min_area", min_area, 1.000001)
    if max_aspect < 1:
        raise InputError(f"random_resized_crop: `max_aspect` must be 1 or above; got {max_aspect!r}.")

    def augment(key: Key, image: Float[Array, "H W C"]) -> Float[Array, "H W C"]:
        _check_image("random_resized_crop", image)
        shape = image.shape[:2]
        square = shape if crop_size is None else (crop_size, crop_size)
        margins = [whole - part for whole, part in zip(shape, square, strict=True)]
        if min(margins) < 0:
            raise InputError(
                f"random_resized_crop: `crop_size` must be at most the size of the images, {shape}; got {crop_size}."
            )
        draws = jax.random.uniform(key, (4,), jnp.float32)
        low, stretch = jnp.float32(min_area), jnp.log(jnp.float32(max_aspect))
        side = jnp.sqrt((low + (1 - low) * draws[0]) * jnp.float32(shape[0] * shape[1]))
        aspect = jnp.exp(0.5 * stretch * (2 * draws[1] - 1))
        whole = jnp.asarray(shape, jnp.float32)
        sides = jnp.minimum(jnp.stack([side / aspect, side * aspect]), whole)
        scale = jnp.asarray(square, jnp.float32) / sides
        start = draws[2:] * (whole - sides)
        resized = jax.image.scale_and_translate(
            image, (*square, image.shape[2]), (0, 1), scale, -start * scale, method="linear", antialias=True
        )
        return jnp.pad(resized, [*((margin // 2, margin - margin // 2) for margin in margins), (0, 0)])

    return augment


def random_flip() -> Augment:
    """Return the augmentation that mirrors an image, left for right, with probability 1/2."""

    def augment(key: Key, image: Float[Array, "H W C"]) -> Float[Array, "H W C"]:
        _check_image("random_flip", image)
        return jnp.where(jax.random.bernoulli(key), image[:, ::-1], image)

    return augment


# Principal components of the pixels of ImageNet, red, green and blue from 0 to 1: variances and directions, by rows.
_VARIANCES = (0.2175, 0.0188, 0.0045)
_DIRECTIONS = ((-0.5675, -0.5808, -0.5836), (0.7192, -0.0045, -0.6948), (0.4009, -0.8140, 0.4203))


def random_lighting(deviation: NonNegative = 0.1) -> Augment:
    """Return the augmentation that changes the lighting of a colour image: it adds one colour to all of its pixels.

    The colour is a sum of the principal components of the colours of ImageNet, each times its variance and a normal
    random number.

    Args:
        deviation: standard deviation of these numbers, 0 or above.

    Raises:
        InputError: if it is out of its range, or, when it is used, the images have not three channels.

    Source: Krizhevsky et al. 2012, "ImageNet classification with deep convolutional neural networks", section 4.1.
    """
    _check_range("random_lighting", "deviation", deviation, 1e9)

    def augment(key: Key, image: Float[Array, "H W C"]) -> Float[Array, "H W C"]:
        _check_image("random_lighting", image)
        if image.shape[-1] != 3:
            raise InputError(
                f"random_lighting: `images` must have 3 channels; got shape {image.shape}; leave the lighting out."
            )
        draws = jnp.float32(deviation) * jax.random.normal(key, (3,), jnp.float32)
        light = (draws * jnp.asarray(_VARIANCES, jnp.float32)) @ jnp.asarray(_DIRECTIONS, jnp.float32)
        return image + light[None, None].astype(image.dtype)

    return augment


def random_cutout(size: Count) -> Augment:
    """Return the augmentation that sets a square of `size` pixels, about a random one, to 0 in an image.

    Raises:
        InputError: if `size` is no integer, 1 or above.

    Source: DeVries and Taylor 2017, "Improved regularization of convolutional neural networks with cutout", section 3.
    """
    _check_range("random_cutout", "size", size, 1e9, above=True, integer=True)

    def augment(key: Key, image: Float[Array, "H W C"]) -> Float[Array, "H W C"]:
        _check_image("random_cutout", image)
        height, width, _ = image.shape
        centre = jax.random.randint(key, (2,), 0, jnp.array([height, width]))

        def inside(length: int, centre: Array) -> Array:
            first = centre - size // 2
            pixels = jnp.arange(length)
            return (pixels >= first) & (pixels < first + size)

        hole = inside(height, centre[0])[:, None] & inside(width, centre[1])[None]
        return jnp.where(hole[..., None], jnp.zeros_like(image), image)

    return augment


# ---- those that files in conf/ name ---------------------------------------------------------------------------------


def elastic(
    *,
    degrees: NonNegative = 10.0,
    scale: Fraction = 0.1,
    shear: Fraction = 0.1,
    shift: NonNegative = 2.0,
    strength: NonNegative = 34.0,
    smoothness: Positive = 4.0,
) -> Augment:
    """Return affine and then elastic distortions, for handwriting.

    Args:
        degrees: of rotation; see `random_affine`.
        scale: likewise.
        shear: likewise.
        shift: pixels; likewise.
        strength: of the distortion; see `random_elastic`.
        smoothness: pixels; likewise.
    """
    affine = random_affine(degrees=degrees, scale=scale, shear=shear, shift=shift)
    return chain(affine, random_elastic(strength=strength, smoothness=smoothness))


def photo(
    *,
    flip: bool = True,
    margin: NonNegativeInt = 4,
    degrees: NonNegative = 0.0,
    lighting: NonNegative = 0.1,
    cutout: Count | None = None,
    mixup: Positive | None = None,
) -> Sequence[Augment | Mixup]:
    """Return what photographs are augmented with: flips, shifts and lighting; rotations, cutout and mixup on request.

    Args:
        flip: whether images are mirrored; see `random_flip`.
        margin: pixels; see `random_crop`; 0: no shifts.
        degrees: largest rotation to either side; see `random_affine`; 0: no rotations.
        lighting: see `random_lighting`; 0 for grey images.
        cutout: pixels; see `random_cutout`; None: no holes.
        mixup: alpha; see `Mixup`; None: images are not mixed.

    Raises:
        InputError: if an argument is out of its range; when the lighting is used, if images have not three channels.
    """
    parts = [
        random_flip() if flip else None,
        random_crop(margin) if margin else None,
        random_affine(degrees=degrees) if degrees else None,
        _lighting_of_photo(lighting) if lighting else None,
        random_cutout(cutout) if cutout else None,
        Mixup(mixup) if mixup else None,
    ]
    return [part for part in parts if part is not None]


def imagenet(
    *,
    crop_size: Count | None = None,
    min_area: Fraction = 0.08,
    max_aspect: Annotated[float, AtLeast(1)] = 1.3333333333333333,
    flip: bool = True,
    lighting: NonNegative = 0.0,
    mixup: Positive | None = None,
) -> Sequence[Augment | Mixup]:
    """Return what large photographs are augmented with: random resized crops and flips; the rest on request.

    Args:
        crop_size: pixels; see `random_resized_crop`; give it to the model too.
        min_area: fraction of the image; likewise.
        max_aspect: ratio of the sides; likewise.
        flip: whether images are mirrored; see `random_flip`.
        lighting: see `random_lighting`; 0: none.
        mixup: alpha; see `Mixup`; None: images are not mixed.

    Raises:
        InputError: as the augmentations that it is made of.
    """
    parts = [
        random_resized_crop(crop_size=crop_size, min_area=min_area, max_aspect=max_aspect),
        random_flip() if flip else None,
        random_lighting(lighting) if lighting else None,
        Mixup(mixup) if mixup else None,
    ]
    return [part for part in parts if part is not None]


def _lighting_of_photo(lighting: float) -> Augment:
    change = random_lighting(lighting)

    def augment(key: Key, image: Float[Array, "H W C"]) -> Float[Array, "H W C"]:
        if image.shape[-1] != 3:
            raise InputError(
                f"photo: `lighting` must be 0 for images that have not 3 channels; got {lighting!r} and an image of "
                f"shape {image.shape}."
            )
        return change(key, image)

    return augment


def flatten(augments: Sequence[Any]) -> tuple[Augment | Mixup, ...]:
    """Return augmentations, and lists of them, as one list.

    Raises:
        InputError: if more than one of them is a `Mixup`.
    """
    found: list[Augment | Mixup] = []
    for each in augments:
        if isinstance(each, Sequence) and not isinstance(each, Mixup):
            found += flatten(each)
        else:
            found.append(each)
    mixups = [each for each in found if isinstance(each, Mixup)]
    if len(mixups) > 1:
        raise InputError(f"augment: at most one may be a Mixup; got {len(mixups)}: {mixups}; remove the others.")
    return tuple(found)


def _check_range(
    function: str, name: str, value: float, limit: float, *, above: bool = False, integer: bool = False
) -> None:
    """Check that an argument is 0 or above, or `above` 0, and below a limit.

    Raises:
        InputError: if it is not.
    """
    if not 0 <= value < limit or (above and value == 0) or (integer and not isinstance(value, int)):
        noun = "an integer, " if integer else ""
        least = "above 0" if above else "0 or above"
        below = "" if limit >= 1e9 else f" and below {limit:g}"
        raise InputError(f"{function}: `{name}` must be {noun}{least}{below}; got {value!r}.")
