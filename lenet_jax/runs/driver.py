"""The loop that drives a run from the host: one dispatch a validation, and a log of what came of it.

It computes what the one pure function of `lenet_jax.training.make_train` computes, bit for bit on the same devices, and
yields events, so that whoever runs it can show progress as they like.
"""

import collections
import functools
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax

from lenet_jax.augment import augmented
from lenet_jax.config import Config, ConstantScheduleConfig, DataConfig, ScaledConjugateGradientConfig
from lenet_jax.data import load
from lenet_jax.environment import make_deterministic
from lenet_jax.errors import InputError
from lenet_jax.models import build_model
from lenet_jax.runs.events import Event, Failed
from lenet_jax.runs.group import Job, Queue, Shared, Slots
from lenet_jax.runs.programs import state_shapes
from lenet_jax.runs.provenance import describe_run
from lenet_jax.runs.run_directory import RunDirectory
from lenet_jax.runs.signals import postponed_signals
from lenet_jax.training import Plan, plan_run
from lenet_jax.types import Dataset, Model

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
    prepare_process([config])
    _prepare(config)


def prepare_process(configs: Iterable[Config]) -> None:
    """Do what must be done before JAX looks for devices."""
    if any(config.trainer.deterministic for config in configs):
        make_deterministic()


def describe(config: Config) -> dict[str, Any]:
    """Return what `run.json` records of a run before it starts.

    Raises:
        InputError: if its data cannot be had.
    """
    prepare_process([config])
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


def run_experiment(config: Config, path: Path, *, resume: bool = False) -> Iterator[Event]:
    """Run a configuration and record it in a directory; the events are to be consumed to the end.

    Everything that can be wrong with the configuration or the data is found before the first file is written. Asked by
    a signal to end, the run goes on to its next evaluation and saves a checkpoint.

    Args:
        config: of the run.
        path: of the directory.
        resume: whether to go on with what the directory holds of the run, from its newest good checkpoint.

    Raises:
        InputError: if the directory already holds a run, the data cannot be had, or data and configuration do not fit.
        OSError: if the directory cannot be written.
        KeyboardInterrupt: if a signal has asked the run to end.
    """
    directory = RunDirectory(path, resume=resume)
    check_inputs(config)
    with directory.locked():
        for _, event in run_jobs([Job(config, path, resume=resume)]):
            if isinstance(event, Failed):
                raise event.error
            yield event


def run_jobs(
    jobs: Sequence[Job],
    *,
    strategy: str = "map",
    num_slots: int = 1,
    pruned: Callable[[int], bool] | None = None,
) -> Iterator[tuple[int, Event]]:
    """Run jobs of one kind, `num_slots` at a time, each recorded as if it ran alone.

    The programs are compiled once. A job starts as soon as the one before it in its slot has ended. If the memory of
    the device is too small for so many, half as many are tried, and the jobs at work go on from their checkpoints.

    Args:
        jobs: with configurations of one `lenet_jax.runs.programs.kind`.
        strategy: as in `compile_programs`.
        num_slots: as in `compile_programs`.
        pruned: asked after each evaluation whether a job is to end there. As that depends on how far the others are,
            jobs that are resumed go on from the same iteration.

    Yields:
        The number of a job, and what happened to it.

    Raises:
        InputError: as `run_experiment`.
        KeyboardInterrupt: as `run_experiment`.
    """
    begin = time.perf_counter()
    directories = [RunDirectory(job.path, resume=job.resume) for job in jobs]
    queue = Queue(list(jobs), directories, collections.deque(range(len(jobs))), {})
    shared = _share(jobs[0].config)
    with postponed_signals() as interrupted:
        while queue.waiting:
            try:
                yield from Slots(queue, shared, strategy, num_slots, begin).run(pruned, interrupted)
            except jax.errors.JaxRuntimeError as error:
                if "RESOURCE_EXHAUSTED" not in str(error) or num_slots == 1:
                    raise
                num_slots //= 2
                reason = str(error).splitlines()[0]
                _log.warning("out of memory; going on with %d runs at a time: %s", num_slots, reason)
                queue.put_back()


def _share(config: Config) -> Shared:
    data, model, plan = _prepare(config)
    return Shared(data, model, plan, describe_run(config, data), state_shapes(config, model, plan))
