"""One run, from its configuration to `result.json`: a group of one."""

import contextlib
import logging
from collections.abc import Generator, Iterator
from pathlib import Path

from lenet_jax.runs import Event, Failed, Finished
from lenet_jax.runs.group import Job, run_jobs
from lenet_jax.runs.prepared_run import PreparedRun, prepare_run
from lenet_jax.runs.processes import is_writer
from lenet_jax.runs.provenance import changed_conditions, changed_since
from lenet_jax.runs.run_directory import Record, RunDirectory, read_record, remove_leftovers


def run(prepared: PreparedRun, path: Path, *, resume: bool = False) -> Iterator[Event]:
    """Run a configuration and record it in a directory; the events have to be consumed to the end.

    Asked by a signal to stop, the run continues to its next evaluation and saves a checkpoint.

    Args:
        prepared: the run.
        path: of the directory.
        resume: whether to resume the run in the directory from its newest intact checkpoint.

    Raises:
        InputError: if the directory already holds a run, or another process works on it.
        OSError: if the directory cannot be written.
        KeyboardInterrupt: if a signal has asked the run to stop.
    """
    with RunDirectory(path, resume=resume).locked():
        yield from run_locked(prepared, path, resume=resume)


def run_locked(prepared: PreparedRun, path: Path, *, resume: bool = False) -> Generator[Event]:
    """Do the same in a directory that the caller has locked."""
    for _, event in run_jobs([Job(prepared.config, path, resume=resume)], prepared):
        if isinstance(event, Failed):
            raise event.error
        yield event


def resume_run(record: Record, *, allow_changed: bool = False) -> Generator[Event]:
    """Resume a run from its newest intact checkpoint; for a finished run, only yield `Finished`.

    Args:
        record: of the run, with a complete configuration, as `read_allowed` returns it.
        allow_changed: whether to resume although code, versions, data or devices have changed.

    Raises:
        InputError: if a file of it is damaged, or something has changed; the message names it.
        OSError, KeyboardInterrupt: as `run`.
    """
    alone = contextlib.nullcontext() if not is_writer() else RunDirectory(record.directory, resume=True).locked()
    with alone:
        result = record.result or read_record(record.directory).result  # of another process, since it was read
        if result is not None:
            if is_writer():
                remove_leftovers(record.directory, record.config)
            yield Finished(result, record.directory)
            return
        prepared = prepare_run(record.config)
        for key, old, new in changed_conditions(record.run, prepared.describe()):
            if not allow_changed:
                raise changed_since("run", key, old, new)
        yield from run_locked(prepared, record.directory, resume=True)


def log_to(directory: Path) -> None:
    """Log to the file that the run has begun, and warn on the terminal."""
    name = next((path.name for path in sorted(directory.glob("*.log"))), "train.log")
    handler, terminal = logging.FileHandler(directory / name, delay=True), logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    terminal.setFormatter(logging.Formatter("lenet-jax: %(message)s"))
    terminal.setLevel(logging.WARNING)
    logging.basicConfig(level=logging.INFO, handlers=[handler, terminal], force=True)
