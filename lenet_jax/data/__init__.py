"""Data sets: where they come from, how they are checked, split and cached."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from lenet_jax.config import DataConfig
from lenet_jax.data.embedded import NAMES, read_embedded
from lenet_jax.data.idx import read_idx_folder
from lenet_jax.data.pickle_archive import read_pickle_archive
from lenet_jax.data.splits import hold_out, join, make_split, take_first
from lenet_jax.data.tfds import read_tfds
from lenet_jax.errors import InputError, unknown_name
from lenet_jax.types import Dataset


def load_dataset(name: str = "mnist_5k", source: str = "embedded", **options: Any) -> Dataset:
    """Load a data set.

    Args:
        name: of the set.
        source: "embedded" (5,000 MNIST digits, always there), "tfds" (mnist, fashion_mnist, kmnist, or any prepared
            TFDS image-classification set), "idx" (a folder of the four IDX files), "pickle_archive" (`mnist.pkl.gz`).
        **options: other fields of `lenet_jax.config.DataConfig`: directory, manual_dir, num_classes, train_size,
            validation_size, train_on_validation, pixel_divisor.

    Returns:
        uint8 images (N, H, W, C) and int32 labels (N,) for training, validation and test.

    Raises:
        InputError: if an option breaks its rule, or the files are missing, damaged or not what they should be.

    >>> load_dataset().train.images.shape
    (4000, 28, 28, 1)
    """
    unknown = sorted(set(options) - set(DataConfig.__dataclass_fields__))
    if unknown:
        raise unknown_name("data", unknown[0], DataConfig.__dataclass_fields__)
    return load(DataConfig(name=name, source=source, **options))


def load(config: DataConfig) -> Dataset:
    """Load the data set that a configuration describes; see `load_dataset`."""
    arrays, declared_classes = _read(config)
    num_classes = config.num_classes or declared_classes
    if num_classes is None:
        raise InputError(f"`data.num_classes` must be given for the source {config.source}; got null.")
    splits = {
        part: make_split(
            arrays[f"{part}_images"], arrays[f"{part}_labels"], num_classes, f"data {config.name} ({part})"
        )
        for part in ("train", "validation", "test")
        if f"{part}_images" in arrays
    }
    for part in ("train", "test"):
        if part not in splits:
            raise InputError(f"`data.name` {config.name} must have a {part} split; it has {', '.join(splits)}.")
    if "validation" not in splits:
        splits["train"], splits["validation"] = hold_out(splits["train"], config.validation_size)
    shapes = {part: split.images.shape[1:] for part, split in splits.items()}
    if len(set(shapes.values())) != 1:
        raise InputError(f"data {config.name}: the images of all splits must have one shape; got {shapes}.")
    if config.train_on_validation:
        splits["train"] = join(splits["train"], splits["validation"])
    splits["train"] = take_first(splits["train"], config.train_size)
    return Dataset(**splits, num_classes=num_classes, pixel_divisor=config.pixel_divisor)


def _read(config: DataConfig) -> tuple[dict[str, np.ndarray], int | None]:
    match config.source:
        case "embedded":
            if config.name not in NAMES:
                raise unknown_name("data.name", config.name, NAMES)
            return read_embedded(), None
        case "tfds":
            return read_tfds(config.name, config.directory, config.manual_dir)
        case "idx":
            return read_idx_folder(_required_path(config, "a folder of IDX files")), None
        case _:  # pickle_archive; DataConfig admits no other
            path = _required_path(config, "the archive or its folder")
            return read_pickle_archive(path / f"{config.name}.pkl.gz" if path.is_dir() else path), None


def _required_path(config: DataConfig, what: str) -> Path:
    if config.directory is None:
        raise InputError(f"`data.directory` must be {what} for the source {config.source}; got null.")
    return Path(config.directory).expanduser()


def digest_dataset(dataset: Dataset) -> str:
    """Return the SHA-256 over the images and labels of all splits, in order, with their shapes."""
    digest = hashlib.sha256()
    for part in ("train", "validation", "test"):
        for array in getattr(dataset, part):
            array = np.ascontiguousarray(array)
            digest.update(f"{part} {array.dtype} {array.shape}".encode())
            digest.update(array.data)
    return digest.hexdigest()
