"""The ledger of a sweep: files in its directory that record the sweep and the state of each job.

`sweep.json` has the command, the code and the data of the sweep. `plan.json` has the jobs of a grid, written before the
first job starts; a sweeper that chooses jobs from earlier results has no plan. `jobs/N.json` has the configuration and
the state of job N.

Each file is replaced atomically, so the ledger is intact even if the process is killed. A job that was running then
remains recorded as running, by a process that no longer exists.
"""

import contextlib
import os
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from lenet_jax.errors import InputError
from lenet_jax.runs.run_directory import PLAN as PLAN
from lenet_jax.storage import ENVIRONMENTS, dump_with_digest, load_verified, locked, write_atomically

IDENTITY = "sweep.json"
JOBS = "jobs"
JOURNAL = "optuna.journal"
LAUNCHES = ".launches"  # while tasks of an engine run: what they say

_IDENTITY_FIELDS = {
    "arguments": list,
    "config_name": str,
    "folders": dict,
    "base": dict,
    "code": dict,
    "versions": dict,
    "data": list,
}
_OPTIONAL_FIELDS = {"hydra": dict, "sweep": dict}  # the first edition did not record them
_NUMBERS = ("epochs", "iterations", "best_iteration")  # of a result, besides its metrics
_METRICS = ("validation_", "test_", "train_", "last_")  # beginnings of their names
_FOLDERS = ("config_path", "config_dir")

PENDING, RUNNING, DONE, FAILED, DIVERGED = STATES = ("pending", "running", "done", "failed", "diverged")
ENDED = (DONE, FAILED, DIVERGED)


class Entry(NamedTuple):
    """A job in the ledger."""

    number: int
    overrides: list[str]
    directory: str  # directory of its run, relative to that of the sweep and inside it
    config: dict[str, Any]  # the result of `lenet_jax.config.to_dict`
    state: str = PENDING
    owner: dict[str, Any] | None = None  # the process that runs it, while it is running
    result: dict[str, Any] | None = None  # result.json, if it is done or has diverged
    error: str | None = None  # message of one line, if it has failed


class Ledger:
    """Reads and writes the ledger in the directory of a sweep."""

    def __init__(self, directory: Path) -> None:
        """Open the ledger of a sweep.

        Args:
            directory: the directory of the sweep.

        Raises:
            InputError: if the directory has no ledger, or its `sweep.json` is damaged.
        """
        if not (directory / IDENTITY).is_file():
            raise InputError(f"`SWEEP_DIR` must be the directory of a sweep, with a {IDENTITY} in it; got {directory}.")
        self.directory = directory
        self.identity = _read(directory / IDENTITY, _IDENTITY_FIELDS)
        arguments, folders = self.identity["arguments"], self.identity["folders"]
        for name, expected in {**_IDENTITY_FIELDS, **_OPTIONAL_FIELDS}.items():
            if not isinstance(self.identity.get(name, expected()), expected):
                raise InputError(_damaged(directory / IDENTITY, f"{name} is no {expected.__name__}"))
        if not all(isinstance(argument, str) for argument in arguments):
            raise InputError(_damaged(directory / IDENTITY, f"arguments {arguments!r}"))
        if any(name not in _FOLDERS or not isinstance(path, str | None) for name, path in folders.items()):
            raise InputError(_damaged(directory / IDENTITY, f"folders {folders!r}"))

    @classmethod
    def create(cls, directory: Path, identity: Mapping[str, Any]) -> "Ledger":
        """Create the ledger of a new sweep.

        Args:
            directory: the directory of the sweep.
            identity: the content of `sweep.json`.

        Raises:
            InputError: if the directory already holds a sweep.
            OSError: if the ledger cannot be written.
        """
        refuse_taken(directory)
        _write(directory / IDENTITY, identity)
        return cls(directory)

    def locked(self, *, shared: bool = False) -> contextlib.AbstractContextManager[None]:
        """Lock the directory of the sweep for this process; see `lenet_jax.storage.locked`.

        Args:
            shared: whether the process works on one job only, so that others may work on other jobs.
        """
        return locked(self.directory, "sweep", shared=shared)

    def entries(self) -> list[Entry]:
        """Return the jobs in the ledger, in the order of their numbers.

        Raises:
            InputError: if a file is damaged; the message names it.
        """
        names = (path.stem for path in (self.directory / JOBS).glob("*.json") if path.stem.isdecimal())
        found = (self.entry(number) for number in sorted(map(int, names)))
        return [entry for entry in found if entry is not None]

    def entry(self, number: int) -> Entry | None:
        """Return the job with a number; None if it is not in the ledger.

        Raises:
            InputError: if the job's file is damaged.
        """
        path = self._path(number)
        if not path.is_file():
            return None
        entry = _to_entry(path, _read(path, Entry._fields))
        if entry.number != number:
            raise InputError(_damaged(path, f"number {entry.number!r}, state {entry.state!r}"))
        return entry

    def write(self, entry: Entry) -> None:
        """Write a job or its new state.

        The file is flushed to disk only if the job is done, failed or diverged; a power failure may undo other writes.

        Raises:
            OSError: if the file cannot be written.
        """
        _write(self._path(entry.number), entry._asdict(), durable=entry.state in ENDED)

    def write_plan(self, entries: Iterable[Entry]) -> None:
        """Write `plan.json`: the jobs that are known before the sweep runs."""
        _write(self.directory / PLAN, {"jobs": [entry._asdict() for entry in entries]})

    def planned_entries(self) -> list[Entry]:
        """Return the jobs in the plan, as they were before the sweep ran; none if there is no plan.

        Raises:
            InputError: if the plan is damaged.
        """
        path = self.directory / PLAN
        planned = _read(path, ("jobs",))["jobs"] if path.is_file() else []
        return [_to_entry(path, content) for content in planned]

    def known_entries(self) -> list[Entry]:
        """Return the jobs in the ledger or only in the plan, in the order of their numbers.

        Raises:
            InputError: if a file is damaged; the message names it.
        """
        found = {entry.number: entry for entry in self.entries()}
        for entry in self.planned_entries():
            recorded = found.setdefault(entry.number, entry)
            for name in ("overrides", "directory", "config"):
                if getattr(recorded, name) != getattr(entry, name):
                    raise InputError(_damaged(self._path(entry.number), f"{name} differs from that in {PLAN}"))
        return [found[number] for number in sorted(found)]

    def run_directory(self, entry: Entry) -> Path:
        """Return the directory of a job's run.

        Raises:
            InputError: if, after following symbolic links, it is outside the directory of the sweep.
        """
        path = self.directory / entry.directory
        if not path.resolve().is_relative_to(self.directory.resolve()):
            raise InputError(
                _damaged(self._path(entry.number), f"directory {entry.directory!r} leads out of the sweep")
            )
        return path

    def _path(self, number: int) -> Path:
        return self.directory / JOBS / f"{number}.json"


def _to_entry(path: Path, content: Any) -> Entry:
    if not isinstance(content, dict) or not set(Entry._fields) <= set(content):
        raise InputError(_damaged(path, "an entry lacks a key"))
    entry = Entry(**{name: content[name] for name in Entry._fields})
    if not isinstance(entry.number, int) or isinstance(entry.number, bool) or entry.state not in STATES:
        raise InputError(_damaged(path, f"number {entry.number!r}, state {entry.state!r}"))
    invalid = _invalid_field(entry)
    if invalid is not None:
        raise InputError(_damaged(path, f"{invalid} {content[invalid]!r}"))
    return entry


def _invalid_field(entry: Entry) -> str | None:
    """Return the name of the first field with an invalid value; None if all fields are valid."""
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
    numbers = (value for name, value in result.items() if name in _NUMBERS or name.startswith(_METRICS))
    return all(isinstance(value, int | float | None) for value in numbers)


def is_inside(path: str) -> bool:
    """Return whether a relative path, without regard to symbolic links, leads to a place inside its folder."""
    parts = PurePosixPath(path).parts
    outside = path.startswith("/") or ".." in parts or "\0" in path
    return bool(parts) and not outside and parts[0] not in ENVIRONMENTS  # whose links may lead anywhere


def refuse_taken(directory: Path) -> None:
    """Check that a directory holds no sweep, nor jobs of one, which would count as those of a new one.

    Raises:
        InputError: if it holds one, or what is left of one.
    """
    if (directory / IDENTITY).exists():
        raise InputError(
            f"`hydra.sweep.dir` must not hold a sweep yet; {directory} does: resume it by "
            f"lenet-jax resume {directory}, or use another."
        )
    left = [name for name in (PLAN, JOURNAL, LAUNCHES) if (directory / name).exists()]
    left += [f"{JOBS}/{path.name}" for path in sorted((directory / JOBS).glob("*.json"))[:1]]
    if left:
        raise InputError(
            f"`hydra.sweep.dir` must not hold jobs of another sweep; {directory} has {', '.join(left)} without "
            f"{IDENTITY}; restore it, or use another directory."
        )


def locked_sweep_of(directory: Path) -> contextlib.AbstractContextManager[None]:
    """Keep the sweep to which a run belongs, if to any, from running while this process works on the run.

    Args:
        directory: the directory of the run.
    """
    folder = next((each for each in directory.resolve().parents if (each / IDENTITY).is_file()), None)
    return contextlib.nullcontext() if folder is None else locked(folder, "sweep", shared=True)


def this_process() -> dict[str, Any]:
    """Return the host name and process id of this process, for `Entry.owner`."""
    return {"host": socket.gethostname(), "pid": os.getpid()}


def _write(path: Path, content: Mapping[str, Any], *, durable: bool = True) -> None:
    write_atomically(path, dump_with_digest(content), durable=durable)


def _read(path: Path, names: Any) -> dict[str, Any]:
    try:
        content = load_verified(path, path.read_bytes())
    except InputError as error:
        raise InputError(f"{str(error).removesuffix('.')}; {_remedy(path)}.") from error
    missing = [name for name in names if name not in content]
    if missing:
        raise InputError(_damaged(path, f"no {missing[0]!r}"))
    return content


def _damaged(path: Path, reason: str) -> str:
    return f"{path}: is damaged, {reason}; {_remedy(path)}."


def _remedy(path: Path) -> str:
    return "restore it" if path.name in (IDENTITY, PLAN) else "restore it, or remove it to run the job again"
