"""How examples are checked and divided into training, validation and test sets."""

import numpy as np

from lenet_jax.errors import InputError
from lenet_jax.types import Split


def make_split(images: np.ndarray, labels: np.ndarray, num_classes: int, origin: str) -> Split:
    """Check examples and bring them into the form that training takes: uint8 (N, H, W, C) and int32 (N,).

    Args:
        images: uint8, (N, H, W) or (N, H, W, C).
        labels: integers (N,).
        num_classes: labels must be 0 to num_classes - 1.
        origin: named in errors: the file or the set.

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
    """Divide a training set, in its order, into training and validation: the last `validation_size` examples.

    This is the published split of MNIST: 50,000 and 10,000.

    Raises:
        InputError: if nothing would be left to train on.
    """
    if validation_size >= len(split.labels):
        raise InputError(
            f"`data.validation_size` must be below the number of training examples, {len(split.labels)}; "
            f"got {validation_size}."
        )
    cut = len(split.labels) - validation_size
    return Split(split.images[:cut], split.labels[:cut]), Split(split.images[cut:], split.labels[cut:])


def join(first: Split, second: Split) -> Split:
    """Return the examples of one split followed by those of another."""
    return Split(*(np.concatenate(parts) for parts in zip(first, second, strict=True)))


def take_first(split: Split, size: int | None) -> Split:
    """Keep the first `size` examples; None keeps all.

    Raises:
        InputError: if there are fewer.
    """
    if size is None:
        return split
    if size > len(split.labels):
        raise InputError(
            f"`data.train_size` must be at most the number of training examples, {len(split.labels)}; got {size}."
        )
    return Split(split.images[:size], split.labels[:size])
