"""Checking examples and dividing them into training, validation and test sets."""

from collections.abc import Sequence

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
        remedy = f"set `data.num_classes={high + 1}` if the set has more classes" if low >= 0 else "count from 0"
        raise InputError(f"{origin}: labels must be 0 to {num_classes - 1}; got {low} to {high}; {remedy}.")
    images = images[..., None] if images.ndim == 3 else images
    return Split(np.ascontiguousarray(images), labels.astype(np.int32))


def make_examples(inputs: np.ndarray, targets: np.ndarray, num_classes: int, origin: str) -> Split:
    """Check examples of any kind and convert them to what is trained on.

    Args:
        inputs: uint8 images (N, H, W) or (N, H, W, C), which get a channel axis; or floats (N, ...), which are taken as
            they are, as float32.
        targets: labels, integers of any dtype (N,) or, as Keras has them, (N, 1); or floats (N, ...), which become
            float32; or integers (N, ...) of more axes.
        num_classes: labels are 0 to num_classes - 1.
        origin: the file or the data set, for messages.

    Raises:
        InputError: if a dtype or rank is wrong, the lengths differ, there is no example, a label is out of range or a
            float target is not finite.
    """
    targets = labels_without_axis(targets)
    is_float = inputs.dtype.kind == "f" and inputs.ndim >= 2
    if not is_float and (inputs.dtype != np.uint8 or inputs.ndim not in (3, 4)):
        raise InputError(
            f"{origin}: inputs must be uint8 images of shape (N, H, W) or (N, H, W, C), or floats (N, ...); "
            f"got {describe(inputs)}."
        )
    if targets.dtype.kind not in "biuf" or targets.ndim == 0:
        raise InputError(f"{origin}: targets must be integers or floats of shape (N, ...); got {describe(targets)}.")
    if is_labels(targets) and not is_float:
        return make_split(inputs, targets.astype(np.uint8) if targets.dtype == bool else targets, num_classes, origin)
    if len(inputs) != len(targets):
        raise InputError(f"{origin}: there must be one target an input; got {len(inputs)} and {len(targets)}.")
    if len(inputs) == 0:
        raise InputError(f"{origin}: there must be at least one example; got none.")
    inputs = inputs.astype(np.float32) if is_float else inputs[..., None] if inputs.ndim == 3 else inputs
    return Split(np.ascontiguousarray(inputs), _convert_targets(targets, num_classes, origin))


def is_labels(targets: np.ndarray) -> bool:
    """Tell whether targets are labels, integers (N,)."""
    return targets.dtype.kind in "biu" and targets.ndim == 1


def labels_without_axis(targets: np.ndarray) -> np.ndarray:
    """Return labels (N, 1), as Keras and MedMNIST have them, as (N,); all other targets are unchanged."""
    return targets[:, 0] if targets.dtype.kind in "biu" and targets.shape[1:] == (1,) else targets


def count_outputs(parts: Sequence[np.ndarray]) -> int:
    """Return how many outputs targets need: one a class; of floats and of rows of integers, the size of a target.

    Integers (N, ...) of more axes are labels of places, such as pixels.
    """
    first = labels_without_axis(parts[0])
    if first.dtype.kind not in "biu" or first.ndim == 2:
        return max(1, int(np.prod(first.shape[1:])))
    return max(1, 1 + max(int(part.max(initial=0)) for part in parts))


def _convert_targets(targets: np.ndarray, num_classes: int, origin: str) -> np.ndarray:
    if targets.dtype.kind == "f":
        if not np.isfinite(targets).all():
            raise InputError(f"{origin}: targets must be finite numbers; got others.")
        return targets.astype(np.float32)
    low, high = int(targets.min()), int(targets.max())
    last = np.iinfo(np.int32).max if targets.ndim == 2 else num_classes - 1
    if low < 0 or high > last:
        what = "targets" if targets.ndim == 2 else "labels"
        raise InputError(f"{origin}: {what} must be 0 to {last}; got {low} to {high}; see `data.num_classes`.")
    return targets.astype(np.int32)


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


def hold_out_at_random(split: Split, size: int, seed: int, option: str) -> tuple[Split, Split]:
    """Hold out `size` examples that a seed chooses, of each label its share; both parts keep their order.

    The shares are rounded by largest remainders (ties: the smaller label), so that their sum is `size`. Targets that
    are no labels are one class.

    Args:
        split: the examples.
        size: how many are held out, 1 or above.
        seed: of the choice.
        option: the option that gives the size, for the message.

    Returns:
        The rest, and what is held out.

    Raises:
        InputError: if no example would remain.
    """
    total = len(split.targets)
    if not 0 < size < total:
        raise InputError(f"`{option}` must hold out at least 1 and leave at least 1 of {total} examples; got {size}.")
    labels = split.targets if is_labels(split.targets) else np.zeros(total, np.int32)
    classes, members = np.unique(labels, return_inverse=True)
    exact = size * np.bincount(members) / total
    counts = np.floor(exact).astype(int)
    largest = np.argsort(-(exact - counts), kind="stable")
    counts[largest[: size - counts.sum()]] += 1
    rng = np.random.default_rng(seed)
    held = np.zeros(total, bool)
    for number in range(len(classes)):
        held[rng.permutation(np.flatnonzero(members == number))[: counts[number]]] = True
    return Split(split.inputs[~held], split.targets[~held]), Split(split.inputs[held], split.targets[held])


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
