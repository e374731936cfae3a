"""k-fold cross-validation: the examples for training and validation, divided into parts of which each validates once.

The test set is untouched. A part is a set of indices into the same arrays, so that all folds of one size share a
compiled program, in which the fold of each lane is an input; the program gathers the lane's examples at each call.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from lenet_jax import components
from lenet_jax.config.folds import Fold
from lenet_jax.data.splits import is_labels
from lenet_jax.data.streams import check_in_memory
from lenet_jax.errors import InputError
from lenet_jax.types import Dataset, Split, has_weights


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["examples", "test", "train_indices", "validation_indices"],
    meta_fields=["num_classes", "pixel_divisor"],
)
@dataclasses.dataclass(frozen=True)
class FoldedData:
    """Examples and the folds of one size; a pytree."""

    examples: Split  # for training and validation
    test: Split
    train_indices: Any  # (folds, examples of the training set), int32; zeros for folds of the other size
    validation_indices: Any  # (folds, examples of the validation set), the same
    num_classes: int
    pixel_divisor: float

    def at(self, fold: Any) -> Dataset:
        """Return the data set in which a fold validates.

        Args:
            fold: its number; may be traced.
        """
        parts = [self.train_indices[fold], self.validation_indices[fold]]
        train, validation = (jax.tree.map(lambda x, i=indices: x[i], self.examples) for indices in parts)
        return Dataset(train, validation, self.test, self.num_classes, self.pixel_divisor)


def build_data(node: Mapping[str, Any]) -> Any:
    """Return what the data of a configuration are, of their fold if they name one.

    Args:
        node: the component, complete.

    Raises:
        InputError: as its function does, or if the examples cannot be divided.
    """
    whole, fold = components.split_fold(node)
    data = components.build(whole)
    if fold is not None:
        check_in_memory(data, "`data.folds`: cross-validation")
    return data if fold is None else divide(data, fold).at(fold.number)


def divide(data: Dataset, fold: Fold) -> FoldedData:
    """Divide the examples for training and validation of a data set.

    The sizes of the folds differ by at most one example. Where targets are labels, integers (N,), so do the numbers of
    examples of each label: small sets would otherwise differ in how often a class occurs, and their results with it.
    The choice depends on nothing but the data and the number of folds, not on a seed, so that all runs of a sweep
    have the same folds.

    Args:
        data: the data set, of NumPy arrays.
        fold: the number of folds, and one of the size that is wanted.

    Raises:
        InputError: if there are fewer examples than folds.

    >>> from lenet_jax.data import load_dataset
    >>> divide(load_dataset(), Fold(5, 0)).at(2).validation.inputs.shape
    (900, 28, 28, 1)
    """
    examples = Split(*jax.tree.map(_join, tuple(data.train), tuple(data.validation)))
    labels = examples.targets["targets"] if has_weights(examples.targets) else examples.targets
    total = len(jax.tree.leaves(examples.inputs)[0])
    if fold.folds > total:
        raise InputError(f"`data.folds` must be at most the number of examples, {total}; got {fold.folds}.")
    is_classes = isinstance(labels, np.ndarray) and is_labels(labels)
    parts = assign_folds(labels if is_classes else np.zeros(total, np.int32), fold.folds)
    size = int((parts == fold.number).sum())
    train = np.zeros((fold.folds, total - size), np.int32)
    validation = np.zeros((fold.folds, size), np.int32)
    for number in range(fold.folds):
        chosen = parts == number
        if chosen.sum() == size:
            train[number], validation[number] = np.flatnonzero(~chosen), np.flatnonzero(chosen)
    return FoldedData(examples, data.test, train, validation, data.num_classes, data.pixel_divisor)


def _join(first: Any, second: Any) -> np.ndarray:
    return np.concatenate([np.asarray(first), np.asarray(second)])


def assign_folds(labels: np.ndarray, folds: int) -> np.ndarray:
    """Return the fold of each example.

    The examples are put into a fixed random order, sorted by their labels, and dealt to the folds in turn.

    Args:
        labels: integers (N,).
        folds: number of folds, 2 or above.
    """
    order = np.random.default_rng(0).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    parts = np.empty(len(labels), np.int32)
    parts[order] = np.arange(len(labels)) % folds
    return parts
