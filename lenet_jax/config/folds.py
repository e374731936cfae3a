"""Cross-validation: the options `folds` and `fold`, which data of any component have besides their function's own."""

from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

from lenet_jax.config.checks import AtLeast, NonNegativeInt, convert
from lenet_jax.errors import InputError

FOLD_OPTIONS: Mapping[str, Any] = {"folds": Annotated[int, AtLeast(2)], "fold": NonNegativeInt}


class Fold(NamedTuple):
    """One of the parts into which the examples for training and validation are divided."""

    folds: int  # number of parts
    number: int  # of the part that validates


def fold_of(node: Mapping[str, Any]) -> Fold | None:
    """Return the fold that the data of a configuration name; None if they name none.

    Raises:
        InputError: if `folds` or `fold` is missing or out of its range, or the validation examples are trained on.
    """
    given = {name: convert(f"data.{name}", kind, node[name]) for name, kind in FOLD_OPTIONS.items() if name in node}
    if not given:
        return None
    if "folds" not in given:
        raise InputError(f"`data.fold` must have the number of folds beside it, as data.folds=5; got {given['fold']}.")
    last = given["folds"] - 1
    if "fold" not in given:
        raise InputError(
            f"`data.folds` must have the fold that validates beside it, data.fold=0 to {last}; in a sweep all of them "
            f"are data.fold=range({last + 1})."
        )
    if given["fold"] > last:
        raise InputError(f"`data.fold` must be 0 to {last}, as data.folds is {last + 1}; got {given['fold']}.")
    if node.get("train_on_validation"):
        raise InputError("`data.train_on_validation` must be false with data.folds, where each example validates once.")
    return Fold(given["folds"], given["fold"])


def without_fold(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return the data of a configuration as their function knows them."""
    return {name: value for name, value in node.items() if name not in FOLD_OPTIONS}
