"""The directory of a run: `run.json` (provenance), `metrics.jsonl` (a line an evaluation), `result.json`, checkpoints.

Whole files are written atomically. The metrics log is only ever appended to, a whole line at a time; a checkpoint
records how long it was and its SHA-256, and a run that goes on from there begins with that much of it.
"""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from lenet_jax.errors import InputError
from lenet_jax.runs.checkpoints import newest_first
from lenet_jax.storage import SCHEMA, locked, remove_partial, seal, to_json, unseal, write_all, write_atomically

RUN = "run.json"
METRICS = "metrics.jsonl"
RESULT = "result.json"
CHECKPOINTS = "checkpoints"
BEST = f"{CHECKPOINTS}/best.safetensors"


class LogEnd(NamedTuple):
    """How far a metrics log goes, and what it is up to there."""

    bytes: int
    sha256: str


class RunDirectory:
    """Writes the files of one run; `path` is the directory."""

    def __init__(self, path: Path, *, resume: bool = False) -> None:
        """Take a directory for a new run, or one with a run that has not ended, to go on with it.

        Raises:
            InputError: if there is a run in it already, and it is not to be resumed.
        """
        existing = [name for name in (RUN, METRICS, RESULT) if (path / name).exists()]
        if existing and not resume:
            raise InputError(
                f"`hydra.run.dir` must not hold a run yet; {path} has {', '.join(existing)}; use another, or go on: "
                f"lenet-jax resume {path}."
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
        """Return how far the metrics log goes."""
        return LogEnd(self._bytes, self._digest.hexdigest())

    def locked(self) -> contextlib.AbstractContextManager[None]:
        """Keep every other process out of the run; see `lenet_jax.storage.locked`."""
        return locked(self.path, "run")

    def write_run(self, provenance: dict[str, Any]) -> None:
        """Write or replace `run.json`."""
        write_atomically(self.path / RUN, seal(provenance))

    def read_run(self) -> dict[str, Any] | None:
        """Return what `run.json` holds; None if there is none.

        Raises:
            InputError: if it is damaged.
        """
        path = self.path / RUN
        return unseal(path, path.read_bytes()) if path.is_file() else None

    def write_result(self, result: dict[str, Any]) -> None:
        """Write `result.json`, with which the run has ended, and remove what was kept to go on with it."""
        write_atomically(self.path / RESULT, seal(result))
        for path in newest_first(self.checkpoints):
            shutil.rmtree(path, ignore_errors=True)

    def append_metrics(self, record: dict[str, Any]) -> None:
        """Append a line to `metrics.jsonl`; the first call writes the line with the schema before it.

        Raises:
            OSError: if it cannot be written whole, as on a full disk; then nothing of it stays.
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
        """Have the metrics log on the disk before this returns."""
        with self._open_log() as descriptor:
            os.fsync(descriptor)

    def metrics_until(self, end: LogEnd) -> list[dict[str, Any]]:
        """Return the lines of the metrics log up to where it ended once.

        Raises:
            InputError: if it is not what it was then.
        """
        path = self.path / METRICS
        content = path.read_bytes()[: end.bytes] if path.is_file() else b""
        found = hashlib.sha256(content).hexdigest()
        if found != end.sha256:
            raise InputError(
                f"{path}: is damaged, its first {end.bytes} bytes must have SHA-256 {end.sha256}; got {found}."
            )
        return parse_metrics(path, content)

    def cut_metrics(self, end: LogEnd) -> None:
        """Remove what has been appended to the metrics log since it ended there."""
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
    """Return the evaluations in a metrics log; a line that its process died in is left out.

    Args:
        path: of the log, for the message.
        content: of the log.

    Raises:
        InputError: if a line is damaged.
    """
    lines = [unseal(path, line) for line in content.split(b"\n")[:-1]]
    return [line for line in lines if line.get("kind") != "metrics"]


def clear_run(path: Path) -> None:
    """Remove what a run has written into a directory, for another to begin there."""
    for name in (RESULT, METRICS, RUN):
        (path / name).unlink(missing_ok=True)
    shutil.rmtree(path / CHECKPOINTS, ignore_errors=True)


def remove_leftovers(path: Path) -> None:
    """Remove what a process left half-written in the directory of a run when it was killed."""
    remove_partial(path)
    remove_partial(path / CHECKPOINTS)
