"""Runs: prepared, recorded, resumed, verified. Here: the events of a run, for what shows it or keeps a ledger of it."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lenet_jax.config import Config

FRACTIONS = ("accuracy", "exact_match")  # metrics that are means of zeros and ones, and shown in percent


class Monitor(NamedTuple):
    """The metric that decides which weights, jobs and settings are best."""

    metric: str = "accuracy"  # or "loss"
    mode: str = "max"  # "max" or "min": which values are better

    @classmethod
    def of(cls, result: Mapping[str, Any]) -> "Monitor":
        """Return the monitor of a run by its `result.json`; the first edition recorded none, and had the accuracy."""
        return cls(result.get("monitor", cls().metric), result.get("mode", cls().mode))

    @property
    def key(self) -> str:
        """Return the name of its value on the validation set, in `metrics.jsonl` and `result.json`."""
        return f"validation_{self.metric}"

    def last(self, result: Mapping[str, Any]) -> float | None:
        """Return its value where a pruned run was stopped, by its `result.json`; older ones have its best."""
        return result.get(f"last_{self.key}", result.get(self.key))

    def error(self, record: Mapping[str, Any]) -> float:
        """Return what is to be small of a line of `metrics.jsonl` or of `result.json`; infinity if missing or NaN.

        Of a metric to maximize, as the accuracy, it is 1 minus the metric.
        """
        value = record.get(self.key)
        if value is None or math.isnan(value):
            return math.inf
        return 1 - value if self.mode == "max" else value


class Started(NamedTuple):
    """A run that is about to start: its data are loaded and fit."""

    config: Config
    num_train: int
    num_parameters: int
    num_evaluations: int  # at most
    device: str
    monitor: Monitor = Monitor()
    previous_evaluations: tuple[dict[str, Any], ...] = ()  # lines of `metrics.jsonl` from before an interruption
    compiles: bool = False  # whether its program is compiled next; else an earlier run's goes on


class Evaluated(NamedTuple):
    """A line of `metrics.jsonl`."""

    record: dict[str, Any]


class Finished(NamedTuple):
    """The content of `result.json`, and the directory of the run."""

    result: dict[str, Any]
    directory: Path


class Failed(NamedTuple):
    """A run that cannot be recorded; the others go on."""

    error: Exception


class Interrupted(NamedTuple):
    """A run that stops before its end, and can be resumed; trackers get it, when nothing more will follow."""


Event = Started | Evaluated | Finished | Failed | Interrupted
