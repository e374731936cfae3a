"""Going on with a run that was interrupted, and running one again to prove its result."""

import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from lenet_jax.errors import InputError
from lenet_jax.runs.driver import Job, describe, run_experiment, run_jobs
from lenet_jax.runs.events import Evaluated, Event, Failed, Finished
from lenet_jax.runs.provenance import changed_conditions, changed_since
from lenet_jax.runs.records import read_record
from lenet_jax.types import Status

Line = dict[str, Any]  # of metrics.jsonl; and result.json, as the last one

_COMPARED = ("iteration", "train_loss", "validation_loss", "validation_accuracy")  # of a line of metrics.jsonl


def resume_run(directory: Path, *, allow_changed: bool = False) -> Iterator[Event]:
    """Go on with a run from its newest good checkpoint; of one that has ended, only its end is told.

    Args:
        directory: of the run.
        allow_changed: whether it may go on if code, versions, data or devices are not what they were.

    Raises:
        InputError: if there is no run, a file of it is damaged, or something has changed; the message names it.
        OSError, KeyboardInterrupt: as `run_experiment`.
    """
    record = read_record(directory)
    if record.result is not None:
        yield Finished(record.result, directory)
        return
    for key, then, now in changed_conditions(record.run, describe(record.config)):
        if not allow_changed:
            raise changed_since("run", key, then, now)
    yield from run_experiment(record.config, directory, resume=True)


class Difference(NamedTuple):
    """Where a run that was repeated differs first, and how far the two come apart at most."""

    iteration: int
    name: str
    then: Any
    now: Any
    largest: float  # relative difference of a loss, or difference of an accuracy


class Verification(NamedTuple):
    """What came of running a recorded configuration again."""

    changed: list[tuple[str, Any, Any]]  # conditions: key, value then, value now
    evaluations: int
    difference: Difference | None  # None: every number is the same
    same_parameters: bool  # bit for bit
    result: dict[str, Any]  # of the new run

    @property
    def identical(self) -> bool:
        """Tell whether metrics and parameters are the same, bit for bit."""
        return self.difference is None and self.same_parameters

    def within(self, tolerance: float) -> bool:
        """Tell whether losses, relatively, and accuracies differ by no more than that."""
        return self.difference is None or self.difference.largest <= tolerance


def verify_run(directory: Path) -> Iterator[Event | Verification]:
    """Run the configuration of a finished run again, elsewhere, and compare metrics and parameters.

    Yields:
        The events of the new run but its end, then a `Verification`.

    Raises:
        InputError: if there is no finished run, or a file of it is damaged.
    """
    record = read_record(directory)
    if record.result is None:
        raise InputError(f"`RUN_DIR` must be of a run that has ended; go on with it: lenet-jax resume {directory}.")
    changed = changed_conditions(record.run, describe(record.config))
    strategy = record.run.get("execution", {}).get("strategy", "map")
    lines: list[Line] = []

    def reached_its_end(number: int) -> bool:
        return len(lines) == len(record.metrics)

    was_pruned = record.result["stopped_by"] == Status.PRUNED.name.lower()
    pruned = reached_its_end if was_pruned else None
    with tempfile.TemporaryDirectory(prefix="lenet-jax-verify-") as scratch:
        for _, event in run_jobs([Job(record.config, Path(scratch))], strategy=strategy, pruned=pruned):
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
    metrics_then: list[Line], result_then: Line, metrics_now: list[Line], result_now: Line
) -> Difference | None:
    then = [*metrics_then, {**result_then, "iteration": result_then["iterations"]}]
    now = [*metrics_now, {**result_now, "iteration": result_now["iterations"]}]
    first, largest = None, 0.0
    names = [*_COMPARED, "test_accuracy", "test_loss"]
    for one, other in zip(then, now, strict=False):
        for name in names:
            before, after = one.get(name), other.get(name)
            if before != after and not (_is_nan(before) and _is_nan(after)):
                first = first or (one["iteration"], name, before, after)
                largest = max(largest, _distance(name, before, after))
    if len(then) != len(now):
        first = first or (min(then[-1]["iteration"], now[-1]["iteration"]), "evaluations", len(then) - 1, len(now) - 1)
        largest = math.inf
    return None if first is None else Difference(*first, largest)


def _is_nan(value: Any) -> bool:
    """Tell whether a number was not finite: JSON has null for it."""
    return value is None or (isinstance(value, float) and not math.isfinite(value))


def _distance(name: str, one: Any, other: Any) -> float:
    if _is_nan(one) or _is_nan(other) or name == "iteration":
        return math.inf
    return abs(one - other) if name.endswith("accuracy") else abs(one - other) / max(abs(one), 1e-12)
