"""Journals: the events of jobs in other processes, as lines of a file that the process of the sweep reads.

A journal is for the screen and for counting progress. What has become of a job stands in its own directory and in the
ledger, so a journal that is lost or cut costs nothing but lines on the screen.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from lenet_jax.config import Config
from lenet_jax.errors import InputError, describe_error
from lenet_jax.runs import Evaluated, Event, Failed, Finished, Monitor, Started
from lenet_jax.storage import to_json, write_all


class JournalWriter:
    """Appends the events of jobs to a journal."""

    def __init__(self, path: Path) -> None:
        """Open a journal, which may have lines already, for appending.

        Args:
            path: of the journal.

        Raises:
            OSError: if it cannot be opened.
        """
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)

    def __enter__(self) -> "JournalWriter":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def write(self, number: int, event: Event) -> None:
        """Append an event.

        Args:
            number: of the job.
            event: of the job.

        Raises:
            OSError: if it cannot be written.
        """
        write_all(self._descriptor, (to_json({"job": number, **_to_line(event)}) + "\n").encode())


class JournalReader:
    """Reads the events that have been appended to a journal since it was read last."""

    def __init__(self, path: Path) -> None:
        """Begin at the first line.

        Args:
            path: of the journal, which need not be there yet.
        """
        self._path, self._descriptor, self._rest = path, None, b""

    @property
    def has_begun(self) -> bool:
        """Tell whether the journal was there when it was read last."""
        return self._descriptor is not None

    def read(self) -> Iterator["Line"]:
        """Yield the complete lines that are new."""
        if self._descriptor is None:
            try:
                self._descriptor = os.open(self._path, os.O_RDONLY)
            except FileNotFoundError:
                return
        while block := os.read(self._descriptor, 1 << 20):
            *lines, self._rest = (self._rest + block).split(b"\n")
            yield from map(_read_line, lines)

    def close(self) -> None:
        """Close the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class Line(NamedTuple):
    """An event of a job, as a journal has it."""

    number: int  # of the job
    content: dict[str, Any]

    @property
    def iteration(self) -> int | None:
        """Return the iteration of an evaluation, None of other events."""
        return self.content["record"]["iteration"] if self.content["event"] == "evaluated" else None

    def to_event(self, config: Config, directory: Path) -> Event:
        """Return the event.

        Args:
            config: of the job.
            directory: of the job's run.
        """
        fields = {name: value for name, value in self.content.items() if name not in ("job", "event")}
        match self.content["event"]:
            case "started":
                fields["monitor"] = Monitor(*fields["monitor"])
                fields["previous_evaluations"] = tuple(fields["previous_evaluations"])
                return Started(config, **fields)
            case "evaluated":
                return Evaluated(fields["record"])
            case "finished":
                return Finished(fields["result"], directory)
        return Failed(InputError(fields["error"]))


def _read_line(line: bytes) -> Line:
    content = json.loads(line)
    return Line(content["job"], content)


def _to_line(event: Event) -> dict[str, Any]:
    match event:
        case Started():
            fields = event._asdict()
            del fields["config"]
            return {"event": "started", **fields}
        case Evaluated():
            return {"event": "evaluated", "record": event.record}
        case Finished():
            return {"event": "finished", "result": event.result}
    assert isinstance(event, Failed)  # a run that is interrupted has no event in a sweep
    return {"event": "failed", "error": describe_error(event.error)}
