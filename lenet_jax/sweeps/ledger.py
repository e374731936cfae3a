"""The ledger of a sweep: `sweep.json`, what the sweep is, and `jobs/N.json`, how far job N has come.

Each file is replaced atomically, so the ledger is whole whenever the process dies. A job that was running then is still
entered as running, by a process that is no more.
"""

import contextlib
import fcntl
import json
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lenet_jax.errors import InputError
from lenet_jax.storage import to_json, write_atomically

SCHEMA = 1

IDENTITY = "sweep.json"
JOBS = "jobs"
LOCK = ".lock"

_IDENTITY_FIELDS = ("arguments", "config_name", "folders", "base", "code", "versions", "data")

PENDING, RUNNING, DONE, FAILED, DIVERGED = STATES = ("pending", "running", "done", "failed", "diverged")
ENDED = (DONE, FAILED, DIVERGED)


class Entry(NamedTuple):
    """A job in the ledger."""

    number: int
    overrides: list[str]
    directory: str  # of its run; relative to that of the sweep, or absolute
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

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep every other process out of the sweep; the system forgets the lock when this one ends, however it does.

        Raises:
            InputError: if another process works on the sweep.
        """
        with (self.directory / LOCK).open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise InputError(f"{self.directory}: another process works on this sweep; wait for its end.") from error
            yield

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
        return Entry(**{name: content[name] for name in Entry._fields})

    def write(self, entry: Entry) -> None:
        """Enter a job, or its new state; one that has not ended need not survive a loss of power."""
        _write(self._path(entry.number), entry._asdict(), durable=entry.state in ENDED)

    def run_directory(self, entry: Entry) -> Path:
        """Return the directory of a job's run."""
        return self.directory / entry.directory

    def _path(self, number: int) -> Path:
        return self.directory / JOBS / f"{number}.json"


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


def differences(then: Any, now: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield the full key of each value that differs between nested dictionaries, and both values."""
    if isinstance(then, dict) and isinstance(now, dict):
        for key in [*then, *(key for key in now if key not in then)]:
            yield from differences(then.get(key), now.get(key), f"{path}.{key}" if path else str(key))
    elif then != now:
        yield path, then, now


def _write(path: Path, content: Mapping[str, Any], *, durable: bool = True) -> None:
    write_atomically(path, (to_json({"schema": SCHEMA, **content}, indent=2) + "\n").encode(), durable=durable)


def _read(path: Path, names: Any) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise InputError(_damaged(path, str(error))) from error
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise InputError(_damaged(path, f"no object of schema {SCHEMA}"))
    missing = [name for name in names if name not in content]
    if missing:
        raise InputError(_damaged(path, f"no {missing[0]!r}"))
    return content


def _damaged(path: Path, reason: str) -> str:
    remedy = "restore it" if path.name == IDENTITY else "restore it, or remove it to run the job again"
    return f"{path}: is damaged, {reason}; {remedy}."
