"""Verification: a recorded run is repeated, and its metrics and parameters are compared with the record."""

import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from lenet_jax.errors import InputError
from lenet_jax.runs import Evaluated, Event, Failed, Finished
from lenet_jax.runs.group import Job, run_jobs
from lenet_jax.runs.prepared_run import prepare_run
from lenet_jax.runs.provenance import changed_conditions
from lenet_jax.runs.run_directory import Record
from lenet_jax.types import Status

Line = dict[str, Any]  # a line of metrics.jsonl, or the content of result.json as the last line

_COMPARED = ("train_loss", "validation_", "test_")  # prefixes of the names of the values that are compared


class Difference(NamedTuple):
    """The first difference between a recorded and a repeated run, and the size of the largest one."""

    iteration: int
    name: str
    recorded: Any
    repeated: Any
    largest: float  # relative difference of a loss, or difference of a metric


class Verification(NamedTuple):
    """The comparison of a recorded with a repeated run."""

    changed: list[tuple[str, Any, Any]]  # changed conditions: key, recorded value, current value
    evaluations: int
    difference: Difference | None  # None: all values are equal
    same_parameters: bool  # whether the parameters are bit-identical
    result: dict[str, Any]  # of the repeated run

    @property
    def identical(self) -> bool:
        """Return whether metrics and parameters are bit-identical."""
        return self.difference is None and self.same_parameters

    def within(self, tolerance: float) -> bool:
        """Return whether the relative difference of losses and the difference of metrics are at most `tolerance`."""
        return self.difference is None or self.difference.largest <= tolerance


def verify_run(record: Record) -> Iterator[Event | Verification]:
    """Repeat a finished run in a temporary folder, and compare metrics and parameters with its record.

    Args:
        record: the record of the run with a complete configuration, the result of `read_allowed`.

    Yields:
        The events of the repeated run, with a `Verification` in place of the last one.

    Raises:
        InputError: if the run has not finished.
    """
    if record.result is None:
        raise InputError(f"`RUN_DIR` must hold a finished run; finish it with lenet-jax resume {record.directory}.")
    prepared = prepare_run(record.config)
    changed = changed_conditions(record.run, prepared.describe())
    strategy = record.run.get("execution", {}).get("strategy", "map")
    lines: list[Line] = []

    def is_as_long(number: int) -> bool:
        return len(lines) == len(record.metrics)

    was_pruned = record.result["stopped_by"] == Status.PRUNED.name.lower()
    should_prune = is_as_long if was_pruned else None
    with tempfile.TemporaryDirectory(prefix="lenet-jax-verify-") as scratch:
        job = Job(prepared.config, Path(scratch))
        for _, event in run_jobs([job], prepared, strategy=strategy, should_prune=should_prune):
            match event:
                case Evaluated():
                    lines.append(event.record)
                    yield event
                case Failed():
                    raise event.error
                case Finished():
                    same = event.result["parameters_sha256"] == record.result["parameters_sha256"]
                    found = _compare(record.metrics, record.result, lines, event.result)
                    yield Verification(changed, len(record.metrics), found, same, event.result)
                case _:
                    yield event


def _compare(
    recorded: list[Line], recorded_result: Line, repeated: list[Line], repeated_result: Line
) -> Difference | None:
    old = [*recorded, {**recorded_result, "iteration": recorded_result["iterations"]}]
    new = [*repeated, {**repeated_result, "iteration": repeated_result["iterations"]}]
    first, largest = None, 0.0
    names = ["iteration", *(name for name in old[0] | old[-1] if name.startswith(_COMPARED))]
    for one, other in zip(old, new, strict=False):
        for name in names:
            if name not in one:  # an older record lacks it
                continue
            before, after = one.get(name), other.get(name)
            if before != after and not (_is_nan(before) and _is_nan(after)):
                first = first or (one["iteration"], name, before, after)
                largest = max(largest, _distance(name, before, after))
    if len(old) != len(new):
        first = first or (min(old[-1]["iteration"], new[-1]["iteration"]), "evaluations", len(old) - 1, len(new) - 1)
        largest = math.inf
    return None if first is None else Difference(*first, largest)


def _is_nan(value: Any) -> bool:
    """Return whether a value is NaN or infinite, which JSON records as null."""
    return value is None or (isinstance(value, float) and not math.isfinite(value))


def _distance(name: str, one: Any, other: Any) -> float:
    if _is_nan(one) or _is_nan(other) or name == "iteration":
        return math.inf
    return abs(one - other) / max(abs(one), 1e-12) if name.endswith("loss") else abs(one - other)
