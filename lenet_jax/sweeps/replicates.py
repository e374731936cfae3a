"""Replicates: jobs of a sweep that differ in what repeats a configuration, its seed and its fold of cross-validation.

They are judged by their mean, and continue or stop together.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from lenet_jax.storage import to_json

REPLICATES = ("seed", "data.fold")
"""The keys that repeat a configuration."""


def is_replicate(key: str) -> bool:
    """Tell whether the key of an override repeats a configuration; ++seed=1 sets the seed too."""
    return key.lstrip("+") in REPLICATES


def configuration_of(config: Mapping[str, Any]) -> str:
    """Return what the runs of one configuration have in common.

    Args:
        config: of a run, the result of `lenet_jax.config.to_dict`.
    """
    data = config["data"]
    without_fold = {**data, "fold": None} if "fold" in data else data
    return to_json({**config, "data": without_fold, "seed": None, "notes": None, "tags": None})


def replicates_in_words(keys: Iterable[str]) -> str:
    """Return over what a mean is, for captions: seeds, folds, or both.

    Args:
        keys: those that vary.
    """
    varied = set(keys)
    folds, seeds = "data.fold" in varied, "seed" in varied
    return "seeds and folds" if folds and seeds else "folds" if folds else "seeds"
