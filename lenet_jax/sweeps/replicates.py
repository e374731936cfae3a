"""Replicates: jobs of a sweep that differ in what repeats a configuration, its seed and its fold of cross-validation.

They are judged by their mean, and continue or stop together.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from lenet_jax.config import without_seed

REPLICATES = ("seed", "data.fold")
"""The keys that repeat a configuration."""


def is_replicate(key: str) -> bool:
    """Tell whether the key of an override repeats a configuration; ++seed=1 sets the seed too."""
    return key.lstrip("+") in REPLICATES


def without_replicate(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the runs of one configuration have in common: all but seed, fold, notes and tags.

    Args:
        config: of a run, the result of `lenet_jax.config.to_dict`.
    """
    common, data = without_seed(config), config.get("data")
    if isinstance(data, Mapping) and "fold" in data:
        common["data"] = {**data, "fold": None}
    return common


def replicate_of(config: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return the seed and the fold of a run, None where it has none."""
    data = config.get("data")
    return config.get("seed"), data.get("fold") if isinstance(data, Mapping) else None


def replicates_in_words(keys: Iterable[str]) -> str:
    """Return over what a mean is, for captions: seeds, folds, or both.

    Args:
        keys: those that vary.
    """
    varied = set(keys)
    folds, seeds = "data.fold" in varied, "seed" in varied
    return "seeds and folds" if folds and seeds else "folds" if folds else "seeds"


def replicate_in_words(replicate: tuple[Any, Any]) -> str:
    """Return seed and fold, the result of `replicate_of`, as "seed 0" or "seed 0, fold 2"."""
    seed, fold = replicate
    return f"seed {seed}" if fold is None else f"seed {seed}, fold {fold}"
