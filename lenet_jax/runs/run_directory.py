"""The directory of a run: `run.json` (provenance), `metrics.jsonl` (one line an evaluation), `result.json`, weights.

Whole files are written atomically. The metrics log is only ever appended to, a whole line at a time.
"""

from pathlib import Path
from typing import Any

from lenet_jax.errors import InputError
from lenet_jax.storage import to_json, write_atomically

SCHEMA = 1

RUN = "run.json"
METRICS = "metrics.jsonl"
RESULT = "result.json"
BEST = "checkpoints/best.safetensors"


class RunDirectory:
    """Writes the files of one run; `path` is the directory."""

    def __init__(self, path: Path) -> None:
        """Take a directory for a new run.

        Raises:
            InputError: if there is a run in it already.
        """
        existing = [name for name in (RUN, METRICS, RESULT) if (path / name).exists()]
        if existing:
            raise InputError(f"`hydra.run.dir` must not hold a run yet; {path} has {', '.join(existing)}; use another.")
        self.path = path

    def write_run(self, provenance: dict[str, Any]) -> None:
        """Write or replace `run.json`."""
        self._write(RUN, provenance)

    def write_result(self, result: dict[str, Any]) -> None:
        """Write `result.json`."""
        self._write(RESULT, result)

    def append_metrics(self, record: dict[str, Any]) -> None:
        """Append a line to `metrics.jsonl`; the first call writes the line with the schema before it.

        Raises:
            OSError: if it cannot be written whole, as on a full disk; then nothing of it stays.
        """
        with (self.path / METRICS).open("ab", buffering=0) as file:
            end = file.tell()
            head = "" if end else to_json({"schema": SCHEMA, "kind": "metrics"}) + "\n"
            lines = memoryview((head + to_json(record) + "\n").encode())
            try:
                while lines:
                    lines = lines[file.write(lines) :]
            except OSError:
                file.truncate(end)
                raise

    def _write(self, name: str, content: dict[str, Any]) -> None:
        write_atomically(self.path / name, (to_json({"schema": SCHEMA, **content}, indent=2) + "\n").encode())


def clear_run(path: Path) -> None:
    """Remove what a run has written into a directory, for another to begin there."""
    for name in (RESULT, METRICS, BEST, RUN):
        (path / name).unlink(missing_ok=True)
