"""The loop that drives a run from the host: one dispatch a validation, and a log of what came of it.

It computes what the one pure function of `lenet_jax.training.make_train` computes, bit for bit on the same devices, and
yields events, so that whoever runs it can show progress as they like.
"""

import collections
import functools
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from lenet_jax.config import Config, ConstantScheduleConfig, DataConfig, ScaledConjugateGradientConfig
from lenet_jax.data import load
from lenet_jax.data.augment import augmented
from lenet_jax.errors import InputError
from lenet_jax.models import build_model
from lenet_jax.runs.events import Event, Failed, Started
from lenet_jax.runs.programs import KEY_SHAPE, compile_programs, slot_values
from lenet_jax.runs.provenance import describe_run
from lenet_jax.runs.recorder import Recorder
from lenet_jax.runs.run_directory import RunDirectory, clear_run
from lenet_jax.training import Plan, plan_run
from lenet_jax.types import Dataset, Model, Status

_log = logging.getLogger(__name__)


@functools.lru_cache(maxsize=1)
def _load(config: DataConfig) -> Dataset:
    """Load a data set; the jobs of a sweep usually share it."""
    return load(config)


def check_inputs(config: Config) -> None:
    """Find the data and check that data, model and trainer fit together, without writing or compiling anything.

    Raises:
        InputError: if they do not.
    """
    _prepare(config)


def describe(config: Config) -> dict[str, Any]:
    """Return what `run.json` records of a run before it starts.

    Raises:
        InputError: if its data cannot be had.
    """
    return describe_run(config, _load(config.data))


def _prepare(config: Config) -> tuple[Dataset, Model, Plan]:
    """Load the data and fit model and lengths to them; whatever can be wrong is found here."""
    data = _load(config.data)
    model = build_model(config.model, data.train.images.shape[1:], data.num_classes)
    return data, augmented(model, config.augment), _plan(config, data)


def _plan(config: Config, data: Dataset) -> Plan:
    """Work out the lengths of a run, and check that its optimizer can work with them."""
    plan = plan_run(config.trainer, len(data.train.labels))
    if isinstance(config.optimizer, ScaledConjugateGradientConfig):
        if plan.epoch > 1:  # it needs the same loss in each step
            raise InputError(
                f"`trainer.batch_size` must be null, the whole training set, for {config.optimizer.name}; "
                f"got {plan.batch_size}."
            )
        if not isinstance(config.schedule, ConstantScheduleConfig):
            raise InputError(
                f"`schedule` must be constant for {config.optimizer.name}, which has no learning rate; "
                f"got {config.schedule.name}."
            )
    return plan


class Job(NamedTuple):
    """A run to do, and the directory that records it."""

    config: Config
    path: Path
    begin: Callable[[], None] = lambda: None  # called before the first file is written; may raise OSError


def run_experiment(config: Config, path: Path) -> Iterator[Event]:
    """Run a configuration and record it in a directory; the events are to be consumed to the end.

    Everything that can be wrong with the configuration or the data is found before the first file is written.

    Raises:
        InputError: if the directory already holds a run, the data cannot be had, or data and configuration do not fit.
        OSError: if the directory cannot be written.
    """
    for _, event in run_jobs([Job(config, path)]):
        if isinstance(event, Failed):
            raise event.error
        yield event


def run_jobs(
    jobs: Sequence[Job],
    *,
    strategy: str = "map",
    num_slots: int = 1,
    pruned: Callable[[int], bool] = lambda number: False,
) -> Iterator[tuple[int, Event]]:
    """Run jobs of one kind, `num_slots` at a time, each recorded as if it ran alone.

    The programs are compiled once. A job starts as soon as the one before it in its slot has ended. If the memory of
    the device is too small for so many, half as many are tried, and the jobs at work begin again.

    Args:
        jobs: with configurations of one `lenet_jax.runs.programs.kind`.
        strategy: as in `compile_programs`.
        num_slots: as in `compile_programs`.
        pruned: asked after each evaluation whether a job is to end there.

    Yields:
        The number of a job, and what happened to it.

    Raises:
        InputError: as `run_experiment`.
    """
    begin = time.perf_counter()
    queue = _Queue(jobs, [RunDirectory(job.path) for job in jobs], collections.deque(range(len(jobs))), {})
    shared = _share(jobs[0].config)
    while queue.waiting:
        try:
            yield from _run_in_slots(queue, shared, strategy, num_slots, pruned, begin)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error) or num_slots == 1:
                raise
            num_slots //= 2
            _log.warning("out of memory; going on with %d runs at a time: %s", num_slots, str(error).splitlines()[0])
            queue.put_back()


class _Queue(NamedTuple):
    """The jobs, by number: which of them wait, and which run in which slot."""

    jobs: Sequence[Job]
    directories: Sequence[RunDirectory]
    waiting: collections.deque[int]
    running: dict[int, Recorder]

    def put_back(self) -> None:
        """Let the jobs that run wait again, as if they had never begun."""
        numbers = sorted(recorder.number for recorder in self.running.values())
        for number in numbers:
            clear_run(self.directories[number].path)
        self.waiting.extendleft(reversed(numbers))
        self.running.clear()


class _Shared(NamedTuple):
    """What the jobs of one kind have in common."""

    data: Dataset
    model: Model
    plan: Plan
    described: dict[str, Any]  # as `describe_run`
    num_parameters: int


def _share(config: Config) -> _Shared:
    data, model, plan = _prepare(config)
    num_parameters = sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(model.init, KEY_SHAPE).params))
    return _Shared(data, model, plan, describe_run(config, data), num_parameters)


def _run_in_slots(
    queue: _Queue, shared: _Shared, strategy: str, num_slots: int, pruned: Callable[[int], bool], begin: float
) -> Iterator[tuple[int, Event]]:
    """Run the jobs that wait; `begin` is when the first of them did."""
    jobs, directories, waiting, running = queue
    data, model, plan, described, num_parameters = shared
    num_train, device = len(data.train.labels), jax.devices()[0].device_kind
    configs = [jobs[0].config] * num_slots  # of what was last started in each slot
    programs = None
    while waiting or running:
        fresh = [slot for slot in range(num_slots) if slot not in running][: len(waiting)]
        for slot in fresh:
            number = waiting.popleft()
            configs[slot] = jobs[number].config
            running[slot] = Recorder(number, configs[slot], directories[number], plan, described, begin)
            started = Started(configs[slot], num_train, num_parameters, plan.num_intervals, device)
            start = functools.partial(running[slot].start, started, jobs[number].begin)
            yield from _unless_unwritable(running, slot, start)
        if programs is None:
            programs = compile_programs(jobs[0].config, model, plan, data, strategy=strategy, num_slots=num_slots)
            states = programs.states
            for recorder in running.values():
                recorder.compile_seconds = programs.compile_seconds
        if fresh:
            states = programs.start((states, _mask(fresh, num_slots), *slot_values(configs)), None)

        begin = time.perf_counter()
        states, evaluations = programs.advance(states, programs.data)
        evaluations, status = jax.device_get((evaluations, states.status))
        seconds = time.perf_counter() - begin
        for slot, recorder in list(running.items()):
            evaluate = functools.partial(recorder.evaluate, _at(evaluations, slot), seconds)
            yield from _unless_unwritable(running, slot, evaluate)

        halted = [slot for slot in running if pruned(running[slot].number) and status[slot] == Status.RUNNING]
        if halted:
            status = np.where(_mask(halted, num_slots), np.int32(Status.PRUNED), status)
            states = states._replace(status=jax.device_put(status, states.status.sharding))
        ended = [slot for slot in running if status[slot] != Status.RUNNING]
        if ended:
            measured = programs.measure((states.best, _mask(ended, num_slots)), programs.data)
            measured, rest = jax.device_get((measured, states._replace(variables=None, opt_state=None, key=None)))
            for slot in ended:
                finish = functools.partial(running[slot].finish, _at(rest, slot), *_at(measured, slot))
                yield from _unless_unwritable(running, slot, finish)
                running.pop(slot, None)
        begin = time.perf_counter()


def _unless_unwritable(
    running: dict[int, Recorder], slot: int, record: Callable[[], Event]
) -> Iterator[tuple[int, Event]]:
    """Yield what a recorder has written; if it cannot write, the job fails and its slot is free for the next."""
    number = running[slot].number
    try:
        event = record()
    except OSError as error:
        del running[slot]
        event = Failed(error)
    yield number, event


def _mask(slots: Sequence[int], num_slots: int) -> np.ndarray:
    return np.isin(np.arange(num_slots), slots)


def _at(tree: Any, slot: int) -> Any:
    return jax.tree.map(lambda x: x[slot], tree)
