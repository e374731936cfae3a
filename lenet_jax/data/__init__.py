"""Data sets: they are loaded from several sources, checked, split and cached.

The functions `load_*` are components: the files in `conf/data` name them. A user's own loader may have any options; it
returns a `Dataset`.
"""

from pathlib import Path
from typing import Any, Literal

import numpy as np

from lenet_jax import components
from lenet_jax.config.catalogue import TARGET
from lenet_jax.config.checks import Count, Positive, Text
from lenet_jax.data.embedded import read_embedded
from lenet_jax.data.idx import read_idx_folder
from lenet_jax.data.pickle_archive import read_pickle_archive
from lenet_jax.data.splits import hold_out, join, make_split, take_first
from lenet_jax.data.tfds import read_tfds
from lenet_jax.errors import InputError, unknown_name
from lenet_jax.types import Dataset

SOURCES = ("embedded", "tfds", "idx", "pickle_archive")


def load_dataset(name: str = "mnist_5k", source: str = "embedded", **options: Any) -> Dataset:
    """Load a data set.

    Args:
        name: name of the data set.
        source: "embedded" (5,000 MNIST digits that are part of the package), "tfds" (mnist, fashion_mnist, kmnist, or
            any prepared TFDS image-classification set), "idx" (a folder of the four IDX files) or "pickle_archive"
            (`mnist.pkl.gz`).
        **options: options of `load_embedded`, `load_tfds`, `load_idx` or `load_pickle_archive`.

    Returns:
        uint8 images (N, H, W, C) and int32 labels (N,) for training, validation and test.

    Raises:
        InputError: if an option is unknown or out of its range, or a file is missing, damaged or has other content.

    >>> load_dataset().train.inputs.shape
    (4000, 28, 28, 1)
    """
    if source not in SOURCES:
        raise unknown_name("data source", source, SOURCES)
    node = {TARGET: f"{__name__}.load_{source}", "name": name, **options}
    return components.build(components.complete("data", node))


# ---- components -----------------------------------------------------------------------------------------------------


def load_embedded(
    *,
    name: Literal["mnist_5k", "mnist"] = "mnist_5k",
    num_classes: Count | None = 10,
    train_size: Count | None = None,
    train_on_validation: bool = False,
    pixel_divisor: Positive = 256.0,
) -> Dataset:
    """Load the 5,000 MNIST digits of the package: 4,000 for training, 500 for validation and 500 for test.

    Args:
        name: name of the data set.
        num_classes: labels are 0 to num_classes - 1; None: 10.
        train_size: use only the first `train_size` training images; None: all.
        train_on_validation: whether to train on the validation images as well, for systems that were published
            without a validation set.
        pixel_divisor: divisor of the uint8 pixels: 256 (Theano) or 255 (Keras).
    """
    return _assemble(name, read_embedded(), num_classes or 10, None, train_size, train_on_validation, pixel_divisor)


def load_tfds(
    *,
    name: Text = "mnist",
    directory: Text | None = None,
    manual_dir: Text | None = None,
    num_classes: Count | None = None,
    train_size: Count | None = None,
    validation_size: Count = 10_000,
    train_on_validation: bool = False,
    pixel_divisor: Positive = 256.0,
) -> Dataset:
    """Load an image-classification set of TensorFlow Datasets, without TensorFlow.

    Args:
        name: mnist, fashion_mnist or kmnist, which are prepared when first used; or a set that TFDS has prepared in
            the array_record format, as "name", "name/config" or "name:1.0.0".
        directory: folder of the prepared sets; None: $TFDS_DATA_DIR or ~/tensorflow_datasets.
        manual_dir: folder of the official files, if the user has downloaded them; None: they are downloaded.
        num_classes: labels are 0 to num_classes - 1; None: the number that the set declares.
        train_size: use only the first `train_size` training images; None: all.
        validation_size: hold out the last `validation_size` training images, if the set has no validation split.
        train_on_validation: whether to train on the validation images as well.
        pixel_divisor: divisor of the uint8 pixels.
    """
    arrays, declared = read_tfds(name, directory, manual_dir)
    classes = num_classes or declared
    return _assemble(name, arrays, classes, validation_size, train_size, train_on_validation, pixel_divisor)


def load_idx(
    *,
    name: Text = "idx",
    directory: Text | None = None,
    num_classes: Count = 10,
    train_size: Count | None = None,
    validation_size: Count = 10_000,
    train_on_validation: bool = False,
    pixel_divisor: Positive = 256.0,
) -> Dataset:
    """Load a folder of the four IDX files of the MNIST family, with or without gzip.

    Args:
        name: name of the data set in records and reports.
        directory: the folder; required.
        num_classes: labels are 0 to num_classes - 1.
        train_size: use only the first `train_size` training images; None: all.
        validation_size: hold out the last `validation_size` training images.
        train_on_validation: whether to train on the validation images as well.
        pixel_divisor: divisor of the uint8 pixels.
    """
    arrays = read_idx_folder(_required_path(directory, "a folder of IDX files"))
    return _assemble(name, arrays, num_classes, validation_size, train_size, train_on_validation, pixel_divisor)


def load_pickle_archive(
    *,
    name: Text = "mnist",
    directory: Text | None = None,
    num_classes: Count = 10,
    train_size: Count | None = None,
    train_on_validation: bool = False,
    pixel_divisor: Positive = 256.0,
) -> Dataset:
    """Load the classic mnist.pkl.gz of the Theano tutorials, with an unpickler that allows NumPy arrays only.

    Args:
        name: name of the archive in its folder, without .pkl.gz.
        directory: the archive or its folder; required.
        num_classes: labels are 0 to num_classes - 1.
        train_size: use only the first `train_size` training images; None: all.
        train_on_validation: whether to train on the validation images as well.
        pixel_divisor: divisor of the uint8 pixels.
    """
    path = _required_path(directory, "the archive or its folder")
    arrays = read_pickle_archive(path / f"{name}.pkl.gz" if path.is_dir() else path)
    return _assemble(name, arrays, num_classes, None, train_size, train_on_validation, pixel_divisor)


def _assemble(
    name: str,
    arrays: dict[str, np.ndarray],
    num_classes: int,
    validation_size: int | None,
    train_size: int | None,
    train_on_validation: bool,
    pixel_divisor: float,
) -> Dataset:
    """Check the arrays {split}_images and {split}_labels and divide them into training, validation and test."""
    splits = {
        part: make_split(arrays[f"{part}_images"], arrays[f"{part}_labels"], num_classes, f"data {name} ({part})")
        for part in ("train", "validation", "test")
        if f"{part}_images" in arrays
    }
    for part in ("train", "test"):
        if part not in splits:
            raise InputError(f"`data.name` {name} must have a {part} split; it has {', '.join(splits)}.")
    if "validation" not in splits and validation_size is not None:
        splits["train"], splits["validation"] = hold_out(splits["train"], validation_size)
    shapes = {part: split.inputs.shape[1:] for part, split in splits.items()}
    if len(set(shapes.values())) != 1:
        raise InputError(f"data {name}: the images of all splits must have the same shape; got {shapes}.")
    if train_on_validation:
        splits["train"] = join(splits["train"], splits["validation"])
    splits["train"] = take_first(splits["train"], train_size)
    return Dataset(**splits, num_classes=num_classes, pixel_divisor=pixel_divisor)


def _required_path(directory: str | None, what: str) -> Path:
    if directory is None:
        raise InputError(f"`data.directory` must be {what}; got null.")
    return Path(directory).expanduser()
