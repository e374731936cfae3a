"""Running the jobs of a sweep in groups that share a program; each job has a directory and an entry in the ledger."""

import dataclasses
import functools
import json
import math
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from lenet_jax.components import complete_like
from lenet_jax.config import Config, SweepConfig, from_dict, to_dict
from lenet_jax.data.streams import is_streamed
from lenet_jax.errors import InputError, describe_error
from lenet_jax.runs import Event, Failed, Finished, Started
from lenet_jax.runs.group import Job, run_jobs
from lenet_jax.runs.prepared_run import PreparedRun, prepare_run, program_signature
from lenet_jax.runs.programs import MAX_VMAPPED, choose_lanes
from lenet_jax.runs.provenance import differences
from lenet_jax.runs.run_directory import read_record, remove_leftovers
from lenet_jax.storage import to_json
from lenet_jax.sweeps.configurations import group_by_configuration
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
    """A run that a sweep schedules."""

    number: int
    overrides: tuple[str, ...]  # with which the configuration is composed from `conf/`
    config: Config  # complete
    path: Path  # directory of the run


def register(jobs: Sequence[SweepJob], ledger: Ledger) -> set[int]:
    """Record jobs in the ledger, and return the numbers of the pending ones.

    Args:
        jobs: jobs of the sweep.
        ledger: the ledger of the sweep.

    Raises:
        InputError: if the configuration of a job differs from the recorded one.
    """

    @functools.cache
    def planned() -> dict[int, Entry]:  # all jobs of the sweep, which some of them seldom need
        return {entry.number: entry for entry in ledger.planned_entries()}

    pending = set()
    for job in jobs:
        entry, result = ledger.entry(job.number), None
        if entry is not None:
            _check_same(entry, job)
            if entry.state in ENDED:
                continue
            result = _find_result(job)
        recorded = entry or planned().get(job.number) or to_entry(job, ledger)  # of an older edition it has fewer keys
        entry = recorded._replace(state=PENDING, owner=None, result=None, error=None)
        if result is None:
            pending.add(job.number)
        else:
            remove_leftovers(job.path, job.config)
            entry = entry._replace(state=_to_state(result), result=result)
        ledger.write(entry)
    return pending


def _find_result(job: SweepJob) -> dict[str, Any] | None:
    """Return the result of a job that finished before its process was killed, but is not finished in the ledger."""
    try:
        record = read_record(job.path)
    except InputError:
        return None
    recorded = complete_like(record.config, job.config)
    return record.result if to_dict(recorded) == to_dict(job.config) else None


def _to_state(result: dict[str, Any]) -> str:
    return DIVERGED if result["stopped_by"] == "diverged" else DONE


def _check_same(entry: Entry, job: SweepJob) -> None:
    recorded = to_dict(complete_like(from_dict(entry.config), job.config))
    for key, old, new in differences(recorded, to_dict(job.config)):
        raise InputError(
            f"`{key}` must be what it was when the sweep began; in job {entry.number} it was {old!r} and is {new!r}."
        )


def to_entry(job: SweepJob, ledger: Ledger) -> Entry:
    """Return the ledger entry of a pending job."""
    config = json.loads(to_json(to_dict(job.config)))
    return Entry(job.number, list(job.overrides), _relative(job, ledger), config)


def _relative(job: SweepJob, ledger: Ledger) -> str:
    path, directory = job.path.absolute(), ledger.directory.absolute()
    return str(path.relative_to(directory) if path.is_relative_to(directory) else path)


def execute(
    jobs: Sequence[SweepJob],
    ledger: Ledger,
    options: SweepConfig,
    prepared: Mapping[str, PreparedRun],
    on_start: Callable[[SweepJob], None] = lambda job: None,
    should_prune: Callable[[int], bool] | None = None,
    in_order: bool = False,
) -> Iterator[tuple[SweepJob, Event]]:
    """Run the pending jobs in groups that share a program, and update the ledger.

    A job that fails does not affect the others, unless `options.on_failure` is "stop".

    Args:
        jobs: jobs of the sweep.
        ledger: the ledger of the sweep.
        options: the options of the sweep.
        prepared: prepared runs by their program signatures; a run that is missing is prepared when its group starts.
        on_start: called before a job writes its first file.
        should_prune: called with the number of a job after each of its evaluations; returns whether to stop the job.
            None: no job is stopped.
        in_order: as in `run_jobs`.

    Yields:
        A job, and an event of that job.

    Raises:
        InputError: as `register`.
    """
    pending = register(jobs, ledger)
    for signature, group in by_signature(jobs).items():
        events = _run_group(group, pending, ledger, options, prepared.get(signature), on_start, should_prune, in_order)
        for job, event in events:
            yield job, event
            if isinstance(event, Failed) and options.on_failure == "stop":
                mark_pending(pending, ledger)
                return


def configurations(jobs: Iterable[SweepJob]) -> list[list[int]]:
    """Return the numbers of the jobs of each configuration: those that differ in their seeds and folds only."""
    jobs = list(jobs)
    groups = group_by_configuration([to_dict(job.config) for job in jobs])
    return [[jobs[index].number for index in group] for group in groups]


def in_parallel(options: SweepConfig, num_jobs: int) -> SweepConfig:
    """Return options with which all jobs of a group run in parallel.

    Args:
        options: the options of the sweep.
        num_jobs: number of jobs in the group.
    """
    strategy = options.strategy
    if strategy == "auto":
        strategy = "devices" if jax.default_backend() == "cpu" else "vmap"
    return dataclasses.replace(options, strategy=strategy, max_parallel=num_jobs)


def whole_configurations(options: SweepConfig, num_jobs: int) -> SweepConfig:
    """Return options with which the jobs of a configuration, its seeds and folds, run in parallel with each other.

    Args:
        options: the options of the sweep.
        num_jobs: number of jobs in a configuration.

    Raises:
        InputError: if the options are for fewer lanes.
    """
    strategy, devices = in_parallel(options, num_jobs).strategy, jax.local_device_count()
    lanes = {"map": 1, "devices": devices, "vmap": MAX_VMAPPED * devices}[strategy]
    if strategy != "map":
        lanes = options.max_parallel or max(lanes, math.lcm(num_jobs, devices))
    possible = [n for n in range(num_jobs, lanes + 1, num_jobs) if n <= devices or n % devices == 0]
    if not possible:
        raise InputError(
            f"`hydra.sweeper.asynchronous` must have the {num_jobs} jobs of a configuration in parallel; got "
            f"sweep.strategy={options.strategy}, sweep.max_parallel={options.max_parallel}; use auto and null."
        )
    return dataclasses.replace(options, strategy=strategy, max_parallel=possible[-1])


def by_signature(jobs: Iterable[SweepJob]) -> dict[str, list[SweepJob]]:
    """Return the groups of jobs that share a program, by the program's signature."""
    groups: dict[str, list[SweepJob]] = {}
    for job in jobs:
        groups.setdefault(program_signature(job.config), []).append(job)
    return groups


def _run_group(
    group: Sequence[SweepJob],
    pending: Container[int],
    ledger: Ledger,
    options: SweepConfig,
    prepared: PreparedRun | None,
    on_start: Callable[[SweepJob], None],
    should_prune: Callable[[int], bool] | None,
    in_order: bool,
) -> Iterator[tuple[SweepJob, Event]]:
    """Run the pending jobs of a group; the number of lanes depends on all its jobs, so resuming changes no program."""
    jobs = [job for job in group if job.number in pending]
    if not jobs:
        return
    running = {job.number: job for job in jobs}
    try:
        prepared = prepared or prepare_run(jobs[0].config)
        strategy, num_lanes = choose_lanes(
            options.strategy,
            len(group),
            options.max_parallel,
            may_divide=prepared.may_divide,
            streamed=is_streamed(prepared.data),
            is_sharded=prepared.mesh is not None,
        )
        runs = [Job(job.config, job.path, functools.partial(on_start, job), resume=True) for job in jobs]
        prune = None if should_prune is None else lambda index: should_prune(jobs[index].number)
        events = run_jobs(runs, prepared, strategy=strategy, num_lanes=num_lanes, should_prune=prune, in_order=in_order)
        for index, event in events:
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
    except Exception as error:  # an error of the shared program fails all of its unfinished jobs
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


def record_failure(ledger: Ledger, number: int, error: Exception) -> None:
    """Record that a job has failed outside of its run, as in its launcher, unless it has ended already.

    Args:
        ledger: the ledger of the sweep.
        number: of the job.
        error: what was raised.
    """
    if _entry(ledger, number).state not in ENDED:
        _update(ledger, number, state=FAILED, error=describe_error(error))


def mark_pending(numbers: Iterable[int], ledger: Ledger) -> None:
    """Mark those of some jobs that are running as pending, after they have stopped.

    Args:
        numbers: of the jobs.
        ledger: the ledger of the sweep.
    """
    for number in numbers:
        if _entry(ledger, number).state == RUNNING:
            _update(ledger, number, state=PENDING)
