"""Checking examples and dividing them into training, validation and test sets."""

import numpy as np

from lenet_jax.errors import InputError
from lenet_jax.types import Split


def make_split(images: np.ndarray, labels: np.ndarray, num_classes: int, origin: str) -> Split:
    """Check examples and convert them to uint8 images (N, H, W, C) and int32 labels (N,).

    Args:
        images: uint8, (N, H, W) or (N, H, W, C).
        labels: integers (N,), 0 to num_classes - 1.
        num_classes: number of classes.
        origin: the file or the data set, for messages.

    Raises:
        InputError: if a dtype or rank is wrong, the lengths differ, there is no example or a label is out of range.
    """
    if images.dtype != np.uint8 or images.ndim not in (3, 4):
        raise InputError(f"{origin}: images must be uint8 of shape (N, H, W) or (N, H, W, C); got {describe(images)}.")
    if not np.issubdtype(labels.dtype, np.integer) or labels.ndim != 1:
        raise InputError(f"{origin}: labels must be integers of shape (N,); got {describe(labels)}.")
    if len(images) != len(labels):
        raise InputError(f"{origin}: there must be one label an image; got {len(images)} and {len(labels)}.")
    if len(images) == 0:
        raise InputError(f"{origin}: there must be at least one example; got none.")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= num_classes:
        raise InputError(
            f"{origin}: labels must be 0 to {num_classes - 1}; got {low} to {high}; set `data.num_classes` if the set "
            "has more classes."
        )
    images = images[..., None] if images.ndim == 3 else images
    return Split(np.ascontiguousarray(images), labels.astype(np.int32))


def describe(array: np.ndarray) -> str:
    """Return dtype and shape for a message."""
    return f"{array.dtype} {array.shape}"


def hold_out(split: Split, validation_size: int) -> tuple[Split, Split]:
    """Hold out the last `validation_size` examples of a training set as a validation set.

    This is the published split of MNIST: 50,000 and 10,000.

    Returns:
        The training set and the validation set.

    Raises:
        InputError: if no training example would remain.
    """
    if validation_size >= len(split.targets):
        raise InputError(
            f"`data.validation_size` must be below the number of training examples, {len(split.targets)}; "
            f"got {validation_size}."
        )
    cut = len(split.targets) - validation_size
    return Split(split.inputs[:cut], split.targets[:cut]), Split(split.inputs[cut:], split.targets[cut:])


def join(first: Split, second: Split) -> Split:
    """Return the examples of one split followed by those of another."""
    return Split(*(np.concatenate(parts) for parts in zip(first, second, strict=True)))


def take_first(split: Split, size: int | None) -> Split:
    """Return the first `size` examples of a split, or all of them if `size` is None.

    Raises:
        InputError: if the split has fewer examples.
    """
    if size is None:
        return split
    if size > len(split.targets):
        raise InputError(
            f"`data.train_size` must be at most the number of training examples, {len(split.targets)}; got {size}."
        )
    return Split(split.inputs[:size], split.targets[:size])
