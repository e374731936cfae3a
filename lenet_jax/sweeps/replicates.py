"""Replicates: jobs of a sweep that differ in what repeats a configuration, its seed and its fold of cross-validation.

They are judged by their mean, and continue or stop together.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from lenet_jax.config import to_dict
from lenet_jax.storage import to_json
from lenet_jax.sweeps.groups import SweepJob

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


def configurations(jobs: Iterable[SweepJob]) -> list[list[int]]:
    """Return the numbers of the jobs of each configuration: those that differ in `REPLICATES` only."""
    found: dict[str, list[int]] = {}
    for job in jobs:
        found.setdefault(configuration_of(to_dict(job.config)), []).append(job.number)
    return list(found.values())


def replicates_in_words(keys: Iterable[str]) -> str:
    """Return over what a mean is, for captions: seeds, folds, or both.

    Args:
        keys: those of `REPLICATES` that vary.
    """
    folds, seeds = "data.fold" in keys, "seed" in keys
    return "seeds and folds" if folds and seeds else "folds" if folds else "seeds"
