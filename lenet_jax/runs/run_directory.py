"""The directory of a run: `run.json` (provenance), `metrics.jsonl` (evaluations), `result.json` and checkpoints.

All files but the metrics log are written atomically. The metrics log grows by one line per evaluation. A checkpoint
records the length and SHA-256 of the log, and a run that resumes from the checkpoint truncates the log to that length.
"""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lenet_jax.config import Config, from_dict
from lenet_jax.errors import InputError
from lenet_jax.runs.checkpoints import newest_first
from lenet_jax.storage import (
    SCHEMA,
    dump_with_digest,
    load_verified,
    locked,
    remove_partial,
    to_json,
    write_all,
    write_atomically,
)

RUN = "run.json"
METRICS = "metrics.jsonl"
RESULT = "result.json"
SWEEP = "sweep.json"  # of a sweep, whose jobs have directories of runs
PLAN = "plan.json"  # of a sweep: its jobs, where all are known before it runs
PATCH = "code.patch"
CHECKPOINTS = "checkpoints"
VERIFICATION = "verification.json"  # what `verify` has found
BEST = f"{CHECKPOINTS}/best.safetensors"
LAST = f"{CHECKPOINTS}/last.safetensors"  # where they are kept: trainer.weights=last, both


def file_of_result(weights: str) -> str:
    """Return the file with the weights that are the result of a run, by its option `trainer.weights`."""
    return LAST if weights == "last" else BEST


class LogEnd(NamedTuple):
    """Length and digest of a metrics log at a checkpoint."""

    bytes: int
    sha256: str


class RunDirectory:
    """The files of one run; `path` is the directory."""

    def __init__(self, path: Path, *, resume: bool = False) -> None:
        """Open a directory for a run; nothing is written yet.

        Args:
            path: the directory.
            resume: whether the directory may hold an unfinished run, to be resumed.

        Raises:
            InputError: if the directory holds a run and `resume` is false.
        """
        existing = [name for name in (RUN, METRICS, RESULT) if (path / name).exists()]
        if existing and not resume:
            raise InputError(
                f"`hydra.run.dir` must not hold a run yet; {path} has {', '.join(existing)}; use another, or "
                f"resume that run: lenet-jax resume {path}."
            )
        self.path = path
        self._digest = hashlib.sha256()  # of the metrics log
        self._bytes = 0

    @property
    def checkpoints(self) -> Path:
        """Return the folder of the checkpoints."""
        return self.path / CHECKPOINTS

    @property
    def log_end(self) -> LogEnd:
        """Return the current length and digest of the metrics log."""
        return LogEnd(self._bytes, self._digest.hexdigest())

    def locked(self, *, wait: bool = False) -> contextlib.AbstractContextManager[None]:
        """Lock the directory for this process, the only one that may write to it; see `lenet_jax.storage.locked`."""
        return locked(self.path, "run", wait=wait)

    def write_run(self, provenance: dict[str, Any]) -> None:
        """Write or replace `run.json`."""
        write_atomically(self.path / RUN, dump_with_digest(provenance))

    def read_run(self) -> dict[str, Any] | None:
        """Return the content of `run.json`; None if it does not exist.

        Raises:
            InputError: if the file is damaged.
        """
        path = self.path / RUN
        return load_verified(path, path.read_bytes()) if path.is_file() else None

    def write_result(self, result: dict[str, Any]) -> None:
        """Write `result.json`, which marks the run as finished, and remove its checkpoints, which are now obsolete."""
        write_atomically(self.path / RESULT, dump_with_digest(result))
        _remove_checkpoints(self.path)

    def append_metrics(self, record: dict[str, Any]) -> None:
        """Append a line to `metrics.jsonl`; the first call writes a line with the schema before it.

        Raises:
            OSError: if the line cannot be written completely, for example on a full disk; the log is unchanged.
        """
        head = "" if self._bytes else to_json({"schema": SCHEMA, "kind": "metrics"}) + "\n"
        lines = (head + to_json(record) + "\n").encode()
        with self._open_log() as descriptor:
            try:
                write_all(descriptor, lines)
            except OSError:
                os.ftruncate(descriptor, self._bytes)
                raise
        self._digest.update(lines)
        self._bytes += len(lines)

    def sync_metrics(self) -> None:
        """Flush the metrics log to the disk."""
        with self._open_log() as descriptor:
            os.fsync(descriptor)

    def metrics_until(self, end: LogEnd) -> list[dict[str, Any]]:
        """Return the evaluations in the metrics log up to a recorded end.

        Args:
            end: length and digest of the log when they were recorded.

        Raises:
            InputError: if this part of the log has changed since.
        """
        path = self.path / METRICS
        content = path.read_bytes()[: end.bytes] if path.is_file() else b""
        found = hashlib.sha256(content).hexdigest()
        if found != end.sha256:
            raise InputError(
                f"{path}: is damaged; its first {end.bytes} bytes must have SHA-256 {end.sha256}; got {found}."
            )
        return parse_metrics(path, content)

    def cut_metrics(self, end: LogEnd) -> None:
        """Truncate the metrics log to a recorded end."""
        with self._open_log() as descriptor:
            os.ftruncate(descriptor, end.bytes)
        self._bytes = end.bytes
        self._digest = hashlib.sha256((self.path / METRICS).read_bytes())

    @contextlib.contextmanager
    def _open_log(self) -> Iterator[int]:
        descriptor = os.open(self.path / METRICS, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


def parse_metrics(path: Path, content: bytes) -> list[dict[str, Any]]:
    """Return the evaluations in a metrics log; an incomplete last line is ignored.

    Args:
        path: the path of the log, for the message.
        content: the bytes of the log.

    Raises:
        InputError: if a line is damaged.
    """
    lines = [load_verified(path, line) for line in content.split(b"\n")[:-1]]
    return [line for line in lines if line.get("kind") != "metrics"]


def write_patch(path: Path, patch: bytes) -> None:
    """Write `code.patch` into the directory of a run or a sweep: what the user's project had not committed."""
    write_atomically(path / PATCH, patch)


def clear_run(path: Path) -> None:
    """Remove the files of a run from its directory, so that a new run can start there."""
    for name in (RESULT, METRICS, RUN, PATCH, VERIFICATION):
        (path / name).unlink(missing_ok=True)
    shutil.rmtree(path / CHECKPOINTS, ignore_errors=True)


def remove_partial_writes(path: Path) -> None:
    """Remove the partial writes of a killed process from the directory of a run."""
    remove_partial(path)
    remove_partial(path / CHECKPOINTS)


def remove_leftovers(path: Path, config: Config) -> None:
    """Remove what is left of a finished run whose process was killed just after it had written the result."""
    remove_partial_writes(path)
    if not config.trainer.keep_state:
        _remove_checkpoints(path)


def _remove_checkpoints(path: Path) -> None:
    for checkpoint in newest_first(path / CHECKPOINTS):
        shutil.rmtree(checkpoint, ignore_errors=True)


class Record(NamedTuple):
    """The recorded files of a run."""

    directory: Path
    config: Config  # the recorded configuration; its components are neither checked nor imported
    run: dict[str, Any]  # run.json
    metrics: list[dict[str, Any]]  # the evaluations in metrics.jsonl
    result: dict[str, Any] | None  # result.json; None: the run has not finished


def check_is_run(directory: Path) -> None:
    """Check that a directory is that of a run.

    Raises:
        InputError: if it has no `run.json`.
    """
    if not (directory / RUN).is_file():
        sweep = f", that of a sweep; name a job of it, as {directory / '0'}" if (directory / SWEEP).is_file() else ""
        raise InputError(f"`DIR` must be the directory of a run, with a {RUN} in it; got {directory}{sweep}.")


def read_record(directory: Path) -> Record:
    """Read the directory of a run, finished or not.

    Raises:
        InputError: if the directory holds no run, or a file in it is damaged or has another schema.
    """
    check_is_run(directory)
    run, metrics, result = (directory / name for name in (RUN, METRICS, RESULT))
    description = _read(run, ("config",), "restore it")
    again = f"restore it, or remove it and finish the run again: lenet-jax resume {directory}"
    return Record(
        directory,
        from_dict(description["config"]),
        description,
        parse_metrics(metrics, metrics.read_bytes()) if metrics.is_file() else [],
        _read(result, ("stopped_by", "epochs", "iterations"), again) if result.is_file() else None,
    )


def damaged_files(record: Record) -> list[str]:
    """Return a line for each file of a finished run whose bytes are not those that the run has written.

    A missing file is no damage, unless it is the log: weights may have been removed to save space, and older records
    have no digests.
    """
    return list(filter(None, (_damage(record, name) for name in (METRICS, BEST, LAST, PATCH))))


def missing_files(record: Record) -> list[str]:
    """Return the names of the files that a finished run has written, by its digests, and that are no longer there."""
    return [name for name in _recorded_digests(record) if not (record.directory / name).is_file()]


def check_file(record: Record, name: str) -> bool:
    """Check that a file of a finished run is what the run has written; return whether its digest was recorded.

    Args:
        record: of the run.
        name: of the file, relative to the directory of the run.

    Raises:
        InputError: if its bytes are others.
    """
    if line := _damage(record, name):
        raise InputError(f"{line}; restore it.")
    return name in _recorded_digests(record)


def _damage(record: Record, name: str) -> str:
    """Return a line if a file is there and its bytes are not those that the run has written, or it lacks its log."""
    path, expected = record.directory / name, _recorded_digests(record).get(name)
    if name == METRICS and expected is not None and not path.is_file():
        return f"{path}: is missing; its SHA-256 was {expected}"
    found = digest_file(path) if expected is not None and path.is_file() else expected
    return "" if found == expected else f"{path}: is damaged; it must have SHA-256 {expected}; got {found}"


def _recorded_digests(record: Record) -> dict[str, Any]:
    """Return the SHA-256 of the files of a run that are recorded, by the names of the files."""
    result = record.result or {}
    patch = _mapping(_mapping(_mapping(record.run.get("code")).get("project")).get("patch"))
    others = {METRICS: result.get("metrics_sha256"), PATCH: patch.get("sha256")}
    return {**_mapping(result.get("files_sha256")), **{name: each for name, each in others.items() if each is not None}}


def digest_file(path: Path) -> str:
    """Return the SHA-256 of the bytes of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_log(record: Record) -> None:
    """Check that the metrics log of a run is what the run has written.

    Raises:
        InputError: if it is not.
    """
    check_file(record, METRICS)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _read(path: Path, names: tuple[str, ...], remedy: str) -> dict[str, Any]:
    try:
        content = load_verified(path, path.read_bytes())
    except InputError as error:
        raise InputError(f"{str(error).removesuffix('.')}; {remedy}.") from error
    for name in names:
        if name not in content:
            raise InputError(f"{path}: is damaged, no {name!r}; {remedy}.")
    return content
