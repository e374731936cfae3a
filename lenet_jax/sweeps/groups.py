"""Running the jobs of a sweep: those of a kind together, each with its own directory and its line in the ledger."""

import dataclasses
import functools
import json
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from lenet_jax.config import Config, SweepConfig
from lenet_jax.errors import InputError, describe_error
from lenet_jax.runs.driver import Job, prepare_process, run_jobs
from lenet_jax.runs.events import Event, Failed, Finished, Started
from lenet_jax.runs.programs import choose_slots, kind
from lenet_jax.runs.provenance import differences
from lenet_jax.runs.records import read_record
from lenet_jax.storage import to_json
from lenet_jax.sweeps.ledger import (
    DIVERGED,
    DONE,
    ENDED,
    FAILED,
    PENDING,
    RUNNING,
    Entry,
    Ledger,
    this_process,
)


class SweepJob(NamedTuple):
    """A run of a sweep."""

    number: int
    overrides: tuple[str, ...]  # that make the run from `conf/`
    config: Config
    path: Path  # of its directory
    files: Any = None  # that are written beside those of the run; None: they are there


def enter(jobs: Sequence[SweepJob], ledger: Ledger) -> set[int]:
    """Enter jobs into the ledger and return the numbers of those that have not ended.

    Raises:
        InputError: if a job is not what it was when the sweep began.
    """
    waiting = set()
    for job in jobs:
        config = json.loads(to_json(dataclasses.asdict(job.config)))
        entry, result = ledger.entry(job.number), None
        if entry is not None:
            _check_same(entry, config)
            if entry.state in ENDED:
                continue
            result = _find_result(job, config)
        entry = Entry(job.number, list(job.overrides), _relative(job, ledger), config)
        if result is None:
            waiting.add(job.number)
        else:
            entry = entry._replace(state=_to_state(result), result=result)
        ledger.write(entry)
    return waiting


def _find_result(job: SweepJob, config: dict[str, Any]) -> dict[str, Any] | None:
    """Return what came of a job whose end is not in the ledger: its process was killed just then."""
    try:
        record = read_record(job.path)
    except InputError:
        return None
    return record.result if record.run.get("config") == config else None


def _to_state(result: dict[str, Any]) -> str:
    return DIVERGED if result["stopped_by"] == "diverged" else DONE


def _check_same(entry: Entry, config: dict[str, Any]) -> None:
    for key, then, now in differences(entry.config, config):
        raise InputError(
            f"`{key}` must be what it was when the sweep began; in job {entry.number} it was {then!r} and is {now!r}."
        )


def _relative(job: SweepJob, ledger: Ledger) -> str:
    path, directory = job.path.absolute(), ledger.directory.absolute()
    return str(path.relative_to(directory) if path.is_relative_to(directory) else path)


def execute(
    jobs: Sequence[SweepJob],
    ledger: Ledger,
    options: SweepConfig,
    begin: Callable[[SweepJob], None] = lambda job: None,
    pruned: Callable[[int], bool] | None = None,
) -> Iterator[tuple[SweepJob, Event]]:
    """Run the jobs that have not ended, those of a kind together, and keep the ledger.

    A job that fails does not lose the others: the next ones begin, unless `options.on_failure` is "stop".

    Args:
        jobs: of the sweep.
        ledger: of the sweep.
        options: of the sweep.
        begin: called before a job writes its first file.
        pruned: asked after each evaluation whether the job of this number is to end there; None: none does.

    Yields:
        A job, and what happened to it.
    """
    prepare_process(job.config for job in jobs)
    waiting = enter(jobs, ledger)
    for group in _by_kind(jobs):
        for job, event in _run_group(group, waiting, ledger, options, begin, pruned):
            yield job, event
            if isinstance(event, Failed) and options.on_failure == "stop":
                _let_wait(waiting, ledger)
                return


def side_by_side(options: SweepConfig, num_jobs: int) -> SweepConfig:
    """Return the options with which all jobs of a kind run at the same time."""
    strategy = options.strategy
    if strategy == "auto":
        strategy = "devices" if jax.default_backend() == "cpu" else "vmap"
    return dataclasses.replace(options, strategy=strategy, max_lanes=num_jobs)


def _by_kind(jobs: Sequence[SweepJob]) -> list[list[SweepJob]]:
    groups: dict[Any, list[SweepJob]] = {}
    for job in jobs:
        groups.setdefault(kind(job.config), []).append(job)
    return list(groups.values())


def _run_group(
    group: Sequence[SweepJob],
    waiting: Container[int],
    ledger: Ledger,
    options: SweepConfig,
    begin: Callable[[SweepJob], None],
    pruned: Callable[[int], bool] | None,
) -> Iterator[tuple[SweepJob, Event]]:
    """Run those jobs of a kind that wait, in as many slots as for all: a resumed sweep has the same program."""
    jobs = [job for job in group if job.number in waiting]
    if not jobs:
        return
    running = {job.number: job for job in jobs}
    try:
        batch_size = jobs[0].config.trainer.batch_size
        strategy, num_slots = choose_slots(options.strategy, len(group), batch_size, options.max_lanes)
        runs = [Job(job.config, job.path, functools.partial(begin, job), resume=True) for job in jobs]
        halt = None if pruned is None else lambda index: pruned(jobs[index].number)
        for index, event in run_jobs(runs, strategy=strategy, num_slots=num_slots, pruned=halt):
            job = jobs[index]
            match event:
                case Started():
                    _update(ledger, job.number, state=RUNNING, owner=this_process())
                case Finished():
                    _update(ledger, job.number, state=_to_state(event.result), result=event.result)
                    del running[job.number]
                case Failed():
                    _update(ledger, job.number, state=FAILED, error=describe_error(event.error))
                    del running[job.number]
            yield job, event
    except Exception as error:  # of the program that they share
        for job in running.values():
            _update(ledger, job.number, state=FAILED, error=describe_error(error))
            yield job, Failed(error)


def _update(ledger: Ledger, number: int, **changes: Any) -> None:
    ledger.write(_entry(ledger, number)._replace(**{"owner": None, **changes}))


def _entry(ledger: Ledger, number: int) -> Entry:
    entry = ledger.entry(number)
    if entry is None:
        raise InputError(f"{ledger.directory}: the ledger has lost job {number} while it ran; resume the sweep.")
    return entry


def _let_wait(numbers: Iterable[int], ledger: Ledger) -> None:
    """Enter what runs no more, after a stop, as what is still to be done."""
    for number in numbers:
        if _entry(ledger, number).state == RUNNING:
            _update(ledger, number, state=PENDING)
