"""The ledger of a sweep: `sweep.json`, what the sweep is, and `jobs/N.json`, how far job N has come.

Each file is replaced atomically, so the ledger is whole whenever the process dies. A job that was running then is still
entered as running, by a process that is no more.
"""

import contextlib
import os
import socket
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from lenet_jax.errors import InputError
from lenet_jax.storage import locked, seal, unseal, write_atomically

IDENTITY = "sweep.json"
JOBS = "jobs"

_IDENTITY_FIELDS = {
    "arguments": list,
    "config_name": str,
    "folders": dict,
    "base": dict,
    "code": dict,
    "versions": dict,
    "data": list,
}
_NUMBERS = (
    *("validation_accuracy", "test_accuracy", "train_accuracy", "test_loss"),
    *("epochs", "iterations", "best_iteration"),
)
_FOLDERS = ("config_path", "config_dir")

PENDING, RUNNING, DONE, FAILED, DIVERGED = STATES = ("pending", "running", "done", "failed", "diverged")
ENDED = (DONE, FAILED, DIVERGED)


class Entry(NamedTuple):
    """A job in the ledger."""

    number: int
    overrides: list[str]
    directory: str  # of its run; relative to that of the sweep, and inside it
    config: dict[str, Any]  # as `dataclasses.asdict` of its configuration
    state: str = PENDING
    owner: dict[str, Any] | None = None  # the process that runs it
    result: dict[str, Any] | None = None  # result.json, once it is done or has diverged
    error: str | None = None  # one line, once it has failed


class Ledger:
    """Reads and writes the ledger in the directory of a sweep."""

    def __init__(self, directory: Path) -> None:
        """Open the ledger of a sweep.

        Raises:
            InputError: if there is none, or it is damaged.
        """
        if not (directory / IDENTITY).is_file():
            raise InputError(f"`SWEEP_DIR` must be the directory of a sweep, with a {IDENTITY} in it; got {directory}.")
        self.directory = directory
        self.identity = _read(directory / IDENTITY, _IDENTITY_FIELDS)
        arguments, folders = self.identity["arguments"], self.identity["folders"]
        for name, kind in _IDENTITY_FIELDS.items():
            if not isinstance(self.identity[name], kind):
                raise InputError(_damaged(directory / IDENTITY, f"{name} is no {kind.__name__}"))
        if not all(isinstance(argument, str) for argument in arguments):
            raise InputError(_damaged(directory / IDENTITY, f"arguments {arguments!r}"))
        if any(name not in _FOLDERS or not isinstance(path, str | None) for name, path in folders.items()):
            raise InputError(_damaged(directory / IDENTITY, f"folders {folders!r}"))

    @classmethod
    def create(cls, directory: Path, identity: Mapping[str, Any]) -> "Ledger":
        """Begin the ledger of a new sweep.

        Raises:
            InputError: if the directory holds a sweep already.
            OSError: if it cannot be written.
        """
        refuse_taken(directory)
        _write(directory / IDENTITY, identity)
        return cls(directory)

    def locked(self) -> contextlib.AbstractContextManager[None]:
        """Keep every other process out of the sweep; see `lenet_jax.storage.locked`."""
        return locked(self.directory, "sweep")

    def entries(self) -> list[Entry]:
        """Return the jobs by their numbers.

        Raises:
            InputError: if a file is damaged; it is named.
        """
        names = (path.stem for path in (self.directory / JOBS).glob("*.json") if path.stem.isdecimal())
        found = (self.entry(number) for number in sorted(map(int, names)))
        return [entry for entry in found if entry is not None]

    def entry(self, number: int) -> Entry | None:
        """Return a job; None if it is not in the ledger.

        Raises:
            InputError: if its file is damaged.
        """
        path = self._path(number)
        if not path.is_file():
            return None
        content = _read(path, Entry._fields)
        if content["number"] != number or content["state"] not in STATES:
            raise InputError(_damaged(path, f"number {content['number']!r}, state {content['state']!r}"))
        entry = Entry(**{name: content[name] for name in Entry._fields})
        wrong = _wrong_field(entry)
        if wrong is not None:
            raise InputError(_damaged(path, f"{wrong} {content[wrong]!r}"))
        return entry

    def write(self, entry: Entry) -> None:
        """Enter a job, or its new state; one that has not ended need not survive a loss of power."""
        _write(self._path(entry.number), entry._asdict(), durable=entry.state in ENDED)

    def run_directory(self, entry: Entry) -> Path:
        """Return the directory of a job's run.

        Raises:
            InputError: if it is not inside that of the sweep, links followed.
        """
        path = self.directory / entry.directory
        if not path.resolve().is_relative_to(self.directory.resolve()):
            raise InputError(
                _damaged(self._path(entry.number), f"directory {entry.directory!r} leads out of the sweep")
            )
        return path

    def _path(self, number: int) -> Path:
        return self.directory / JOBS / f"{number}.json"


def _wrong_field(entry: Entry) -> str | None:
    """Return the name of a field that cannot be what a sweep has written; None if there is none."""
    if not isinstance(entry.overrides, list) or not all(isinstance(override, str) for override in entry.overrides):
        return "overrides"
    if not isinstance(entry.directory, str) or not is_inside(entry.directory):
        return "directory"
    if not isinstance(entry.config, dict):
        return "config"
    if not isinstance(entry.owner, dict | None):
        return "owner"
    if not (entry.result is None or _is_result(entry.result)):
        return "result"
    return None if isinstance(entry.error, str | None) else "error"


def _is_result(result: Any) -> bool:
    if not isinstance(result, dict) or not isinstance(result.get("stopped_by"), str | None):
        return False
    return all(isinstance(result.get(name), int | float | None) for name in _NUMBERS)


def is_inside(path: str) -> bool:
    """Tell whether a path, links left aside, is of something inside the folder that it is relative to."""
    parts = PurePosixPath(path).parts
    return bool(parts) and not path.startswith("/") and ".." not in parts and "\0" not in path


def refuse_taken(directory: Path) -> None:
    """Raise `InputError` if a directory holds a sweep."""
    if (directory / IDENTITY).exists():
        raise InputError(
            f"`hydra.sweep.dir` must not hold a sweep yet; {directory} does: go on with it by "
            f"lenet-jax resume {directory}, or use another."
        )


def this_process() -> dict[str, Any]:
    """Return what tells this process from any other, for `Entry.owner`."""
    return {"host": socket.gethostname(), "pid": os.getpid()}


def _write(path: Path, content: Mapping[str, Any], *, durable: bool = True) -> None:
    write_atomically(path, seal(content), durable=durable)


def _read(path: Path, names: Any) -> dict[str, Any]:
    try:
        content = unseal(path, path.read_bytes())
    except InputError as error:
        raise InputError(f"{str(error).removesuffix('.')}; {_remedy(path)}.") from error
    missing = [name for name in names if name not in content]
    if missing:
        raise InputError(_damaged(path, f"no {missing[0]!r}"))
    return content


def _damaged(path: Path, reason: str) -> str:
    return f"{path}: is damaged, {reason}; {_remedy(path)}."


def _remedy(path: Path) -> str:
    return "restore it" if path.name == IDENTITY else "restore it, or remove it to run the job again"
