"""What happens to a run, for whoever shows it or keeps a ledger of it."""

from pathlib import Path
from typing import Any, NamedTuple

from lenet_jax.config import Config


class Started(NamedTuple):
    """The data are loaded and fit; compilation begins."""

    config: Config
    num_train: int
    num_parameters: int
    num_evaluations: int  # at most
    device: str
    earlier: tuple[dict[str, Any], ...] = ()  # lines of `metrics.jsonl` from before the run was interrupted


class Evaluated(NamedTuple):
    """A line of `metrics.jsonl`."""

    record: dict[str, Any]


class Finished(NamedTuple):
    """The content of `result.json`, and where it is."""

    result: dict[str, Any]
    directory: Path


class Failed(NamedTuple):
    """The run cannot be recorded; the others go on."""

    error: Exception


Event = Started | Evaluated | Finished | Failed
