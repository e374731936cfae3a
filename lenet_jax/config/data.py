"""The keys of `data` and `augment`."""

from lenet_jax.rules import COUNT, FRACTION, NON_NEGATIVE, POSITIVE, SWITCH, TEXT, Rule, one_of, optional
from lenet_jax.sections import key, section


@section("data")
class DataConfig:
    """Which images, from where, and how they are split."""

    name: str = key(TEXT, default="mnist_5k")  # of the data set; a TFDS name may be "name/config:version"
    source: str = key(one_of("embedded", "tfds", "idx", "pickle_archive"), default="embedded")
    directory: str | None = key(optional(TEXT), default=None)  # where the data is; null: the usual place
    manual_dir: str | None = key(optional(TEXT), default=None)  # files downloaded by hand
    num_classes: int | None = key(optional(COUNT), default=10)  # labels from 0; null: as TFDS declares
    train_size: int | None = key(optional(COUNT), default=None)  # use the first so many training images; null: all
    validation_size: int = key(COUNT, default=10_000)  # last training images, where there is no such split
    train_on_validation: bool = key(SWITCH, default=False)  # as well, for systems published without a validation set
    pixel_divisor: float = key(POSITIVE, default=256.0)  # uint8 pixels are divided by it: 256 (Theano) or 255 (Keras)


# ---- augment: random changes of the training images ------------------------------------------------------------------


@section("augment")
class NoAugmentConfig:
    """The training images as they are."""

    name: str = key(one_of("none"), default="none")


@section("augment")
class AffineAugmentConfig:
    """Each training image rotated, scaled, sheared and shifted by random amounts, uniform within these."""

    name: str = key(one_of("affine"), default="affine")
    degrees: float = key(NON_NEGATIVE, default=10.0)  # of rotation to either side; 5 to 20 for digits
    scale: float = key(FRACTION, default=0.1)  # either axis smaller or larger by up to this fraction
    shear: float = key(FRACTION, default=0.1)  # rows shifted by up to this fraction of their distance, and columns
    shift: float = key(NON_NEGATIVE, default=2.0)  # pixels, along either axis


@section("augment")
class ElasticAugmentConfig:
    """What affine does, and pixels moved by smooth random distances, as handwriting differs (Simard et al. 2003)."""

    name: str = key(one_of("elastic"), default="elastic")
    degrees: float = key(NON_NEGATIVE, default=10.0)  # of rotation to either side; 5 to 20 for digits
    scale: float = key(FRACTION, default=0.1)  # either axis smaller or larger by up to this fraction
    shear: float = key(FRACTION, default=0.1)  # rows shifted by up to this fraction of their distance, and columns
    shift: float = key(NON_NEGATIVE, default=2.0)  # pixels, along either axis
    strength: float = key(NON_NEGATIVE, default=34.0)  # of the distances, before they are smoothed
    smoothness: float = key(POSITIVE, default=4.0)  # pixels; standard deviation of the Gaussian that smooths them


@section("augment")
class PhotoAugmentConfig:
    """Each training image mirrored, shifted, in other light, with a hole, mixed with another: any of these."""

    name: str = key(one_of("photo"), default="photo")
    flip: bool = key(SWITCH, default=True)  # left for right, with probability 1/2
    margin: int = key(Rule(lambda v: isinstance(v, int) and v >= 0, "an integer, 0 or above"), default=4)  # pixels
    lighting: float = key(NON_NEGATIVE, default=0.1)  # along the principal components of ImageNet's colours; 0 for grey
    cutout: int | None = key(optional(COUNT), default=None)  # pixels; side of a square that is set to 0
    mixup: float | None = key(optional(POSITIVE), default=None)  # alpha of the weights' distribution; 0.2 for ImageNet
