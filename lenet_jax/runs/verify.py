"""Verification: a recorded run is repeated, and its metrics and parameters are compared with the record."""

import json
import logging
import math
import platform
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lenet_jax.errors import InputError
from lenet_jax.runs import Evaluated, Event, Failed, Finished
from lenet_jax.runs.group import Job, run_jobs
from lenet_jax.runs.prepared_run import prepare_run
from lenet_jax.runs.provenance import changed_conditions, digest_parameters, install_line, utc_now
from lenet_jax.runs.run_directory import VERIFICATION, Record, damaged_files, file_of_result, missing_files
from lenet_jax.storage import dump_with_digest, to_json, write_atomically
from lenet_jax.types import Model, Status
from lenet_jax.weights import load_variables

_log = logging.getLogger(__name__)

Line = dict[str, Any]  # a line of metrics.jsonl, or the content of result.json as the last line

_TIMES = ("seconds", "compile_seconds", "images_per_second", "metrics_sha256")  # that of the log, which has times
_DIGESTS = ("parameters_sha256", "state_sha256", "files_sha256")


class Difference(NamedTuple):
    """The first difference between a recorded and a repeated run, and the size of the largest one."""

    epoch: float
    iteration: int
    name: str
    recorded: Any
    repeated: Any
    largest: float  # relative difference of a loss, or difference of a metric


class Damage(NamedTuple):
    """Files that are not what the run has written, known before it is repeated."""

    lines: list[str]


class Verification(NamedTuple):
    """The comparison of a recorded with a repeated run."""

    changed: list[tuple[str, Any, Any]]  # changed conditions: key, recorded value, current value
    evaluations: int
    difference: Difference | None  # None: all values are equal
    same_parameters: bool  # whether the parameters are bit-identical
    result: dict[str, Any]  # of the repeated run
    damaged: Sequence[str] = ()  # a line for each file that is not what the run has written
    install: str = ""  # the command that installs the recorded versions
    digests: Sequence[str] = ()  # "state" and the files with weights, those whose digests differ
    missing: Sequence[str] = ()  # names of files that the run has written and that are no longer there

    @property
    def identical(self) -> bool:
        """Return whether the files are intact, and metrics and parameters bit-identical."""
        return self.difference is None and self.same_parameters and not self.damaged and not self.digests

    def within(self, tolerance: float) -> bool:
        """Return whether the relative difference of losses and the difference of metrics are at most `tolerance`."""
        return not self.damaged and (self.difference is None or self.difference.largest <= tolerance)

    def to_dict(self, tolerance: float) -> dict[str, Any]:
        """Return the content of `verification.json`."""
        return {
            "time": utc_now(),
            "host": platform.node(),
            "identical": self.identical,
            "within_tolerance": self.within(tolerance),
            "tolerance": tolerance,
            "damaged": list(self.damaged),
            "missing": list(self.missing),
            "changed": [{"key": key, "recorded": old, "current": new} for key, old, new in self.changed],
            "evaluations": self.evaluations,
            "difference": self.difference and self.difference._asdict(),
            "same_parameters": self.same_parameters,
            "digests": list(self.digests),
            "parameters_sha256": self.result["parameters_sha256"],
            "install": self.install,
        }


def write_verification(record: Record, verification: Verification, tolerance: float) -> None:
    """Write `verification.json` into the directory of a run; one that cannot be written costs a warning."""
    try:
        path = record.directory / VERIFICATION
        write_atomically(path, dump_with_digest(json.loads(to_json(verification.to_dict(tolerance)))))
    except OSError as error:
        _log.warning("%s is not written: %s", record.directory / VERIFICATION, error.strerror)


def verify_run(record: Record) -> Iterator[Event | Damage | Verification]:
    """Check the files of a finished run, repeat it in a temporary folder, and compare metrics and parameters.

    Args:
        record: the record of the run with a complete configuration, the result of `read_allowed`.

    Yields:
        `Damage`, if there is any; the events of the repeated run, with a `Verification` in place of the last one.

    Raises:
        InputError: if the run has not finished.
    """
    if record.result is None:
        raise InputError(f"`DIR` must hold a finished run; finish it with lenet-jax resume {record.directory}.")
    if differs := (record.run.get("parent") or {}).get("differs"):
        raise InputError(f"`DIR` must hold a run that its configuration repeats; this one extends another: {differs}.")
    damaged = damaged_files(record)
    if damaged:
        yield Damage(damaged)
    prepared = prepare_run(record.config)
    is_known = bool((record.result or {}).get("files_sha256"))  # then the digests of the files have told
    if not damaged and not is_known and (found := _damaged_parameters(record, prepared.task.model)):
        damaged = [found]
        yield Damage(damaged)
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
                    yield Verification(
                        changed,
                        len(record.metrics),
                        # a log that is missing is damage; the results are compared without it
                        _compare(record.metrics, record.result, lines if record.metrics else [], event.result),
                        same,
                        event.result,
                        damaged,
                        install_line(record.run),
                        _other_digests(record.result, event.result, changed),
                        missing_files(record),
                    )
                case _:
                    yield event


def _damaged_parameters(record: Record, model: Model) -> str | None:
    """Return a line if the parameters of the result, where they are, are not those that were recorded."""
    path = record.directory / file_of_result(record.config.trainer.weights)
    if not path.is_file():
        return None
    try:
        found = digest_parameters(load_variables(path, model).params)
    except InputError as error:
        return str(error).rstrip(".")
    expected = (record.result or {})["parameters_sha256"]
    return (
        None if found == expected else f"{path}: is damaged; its parameters must have SHA-256 {expected}; got {found}"
    )


def _other_digests(recorded: Line, repeated: Line, changed: Sequence[tuple[str, Any, Any]]) -> list[str]:
    """Return of what the digests differ; of other code or versions they may, and are not compared."""
    if any(key.startswith(("code", "versions")) for key, _, _ in changed):
        return []
    files = recorded.get("files_sha256")
    old = {"state": recorded.get("state_sha256"), **(files if isinstance(files, dict) else {})}  # of anybody's record
    new = {"state": repeated["state_sha256"], **repeated["files_sha256"]}
    return [name for name, digest in old.items() if digest not in (None, new.get(name))]


def _compare(
    recorded: list[Line], recorded_result: Line, repeated: list[Line], repeated_result: Line
) -> Difference | None:
    """Return the first difference of the values that were recorded; what an older record lacks is not compared."""
    old = [*recorded, {**recorded_result, "iteration": recorded_result["iterations"]}]
    new = [*repeated, {**repeated_result, "iteration": repeated_result["iterations"]}]
    first, largest = None, 0.0
    for one, other in zip(old, new, strict=False):
        compared = (name for name in one if name not in (*_TIMES, *_DIGESTS))
        for name in sorted(compared, key=lambda name: name != "iteration"):  # first, the others in their order
            before, after = one[name], other.get(name)
            if before != after and not (_is_nan(before) and _is_nan(after)):
                first = first or (_epoch(one), one.get("iteration", 0), name, before, after)
                largest = max(largest, _distance(name, before, after))
    if len(old) != len(new):
        end = min(old[-1], new[-1], key=lambda line: line["iteration"])
        first = first or (_epoch(end), end["iteration"], "evaluations", len(old) - 1, len(new) - 1)
        largest = math.inf
    return None if first is None else Difference(*first, largest)


def _epoch(line: Line) -> float:
    return line.get("epoch", line.get("epochs", 0))


def _is_nan(value: Any) -> bool:
    """Return whether a value is NaN or infinite, which JSON records as null."""
    return value is None or (isinstance(value, float) and not math.isfinite(value))


def _distance(name: str, one: Any, other: Any) -> float:
    """Return the relative difference of losses and the difference of metrics; infinity of anything else.

    Which evaluation was the best may depend on a rounding; what that comes to is in the metrics.
    """
    if name == "best_iteration":
        return 0.0
    if not (isinstance(one, float) and isinstance(other, float)) or _is_nan(one) or _is_nan(other):
        return math.inf
    return abs(one - other) / max(abs(one), 1e-12) if name.endswith("loss") else abs(one - other)
