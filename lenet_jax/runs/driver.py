"""The loop that drives a run from the host: one dispatch a validation, and a log of what came of it.

It computes what the one pure function of `lenet_jax.training.make_train` computes, bit for bit on the same devices, and
yields events, so that whoever runs it can show progress as they like.
"""

import functools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax

from lenet_jax.config import Config, ConstantScheduleConfig, DataConfig, ScaledConjugateGradientConfig
from lenet_jax.data import load
from lenet_jax.data.augment import augmented
from lenet_jax.devices import choose_devices, jit_on, put_on
from lenet_jax.errors import InputError
from lenet_jax.evaluation import evaluate
from lenet_jax.models import build_model
from lenet_jax.optimizers import make_optimizer
from lenet_jax.runs.compilation_cache import use_compilation_cache
from lenet_jax.runs.provenance import describe_run, digest_parameters
from lenet_jax.runs.run_directory import BEST, RunDirectory
from lenet_jax.runs.weights import save_variables
from lenet_jax.training import Plan, init_train_state, plan_run, train_interval
from lenet_jax.types import Dataset, Evaluation, Metrics, Model, Status, TrainState, Variables

_KEY = jax.eval_shape(lambda: jax.random.key(0))  # shape and type of any key


class Started(NamedTuple):
    """The data are loaded and fit; compilation begins."""

    config: Config
    num_train: int
    num_parameters: int
    num_evaluations: int  # at most
    device: str


class Evaluated(NamedTuple):
    """A line of `metrics.jsonl`."""

    record: dict[str, Any]


class Finished(NamedTuple):
    """The content of `result.json`, and where it is."""

    result: dict[str, Any]
    directory: Path


Event = Started | Evaluated | Finished


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


def run_experiment(config: Config, path: Path) -> Iterator[Event]:
    """Run a configuration and record it in a directory; the events are to be consumed to the end.

    Everything that can be wrong with the configuration or the data is found before the first file is written.

    Raises:
        InputError: if the directory already holds a run, the data cannot be had, or data and configuration do not fit.
        OSError: if the directory cannot be written.
    """
    begin = time.perf_counter()
    directory = RunDirectory(path)
    data, model, plan = _prepare(config)
    provenance = describe_run(config, data)
    directory.write_run(provenance)
    yield Started(
        config=config,
        num_train=len(data.train.labels),
        num_parameters=sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(model.init, _KEY).params)),
        num_evaluations=plan.num_intervals,
        device=jax.devices()[0].device_kind,
    )

    devices = choose_devices(plan.batch_size)
    programs, compile_seconds = _compile(config, model, plan, data, devices)
    data = put_on(devices, data)
    state = put_on(devices, programs.init(jax.random.key(config.seed)))
    first_step = time.perf_counter() - begin
    training_seconds = 0.0
    while int(state.status) == Status.RUNNING:
        start = time.perf_counter()
        state, evaluation = programs.train_interval(state, data)
        record = _to_record(evaluation, plan)
        training_seconds += time.perf_counter() - start
        record["seconds"] = round(time.perf_counter() - begin, 3)
        directory.append_metrics(record)
        yield Evaluated(record)

    train, test = programs.evaluate(state.best, data)
    result = _to_result(state, train, test, plan)
    result["seconds"] = round(time.perf_counter() - begin, 3)
    result["compile_seconds"] = round(compile_seconds, 3)
    result["images_per_second"] = round(result["iterations"] * plan.batch_size / training_seconds, 1)
    timings = {"first_step": round(first_step, 3), "compile": result["compile_seconds"], "total": result["seconds"]}
    save_variables(path / BEST, state.best)
    directory.write_run({**provenance, "timings": timings})
    directory.write_result(result)
    yield Finished(result, path)


class _Programs(NamedTuple):
    init: Callable[..., Any]  # key -> TrainState
    train_interval: Callable[..., Any]  # (state, data) -> (state, Evaluation); takes over the state's memory
    evaluate: Callable[..., Any]  # (variables, data) -> Metrics of the training and the test set


def _compile(config: Config, model: Model, plan: Plan, data: Dataset, devices: list[Any]) -> tuple[_Programs, float]:
    """Compile the programs of a run; return them and the seconds that it took."""
    begin = time.perf_counter()
    trainer = config.trainer
    optimizer = make_optimizer(
        config.optimizer, config.schedule, epoch_iterations=plan.epoch, num_epochs=trainer.max_epochs
    )
    init = jax.jit(lambda key: init_train_state(model, optimizer, trainer, key, {}))
    step = jit_on(devices, functools.partial(train_interval, model, optimizer, trainer), donate_argnums=0)
    final = jit_on(devices, functools.partial(_evaluate_ends, model))
    state, shapes = jax.eval_shape(init, _KEY), jax.eval_shape(lambda: data)
    with use_compilation_cache(), jax.default_matmul_precision(trainer.matmul_precision):
        programs = _Programs(
            init.lower(_KEY).compile(),
            step.lower(state, shapes).compile(),
            final.lower(state.best, shapes).compile(),
        )
    return programs, time.perf_counter() - begin


def _evaluate_ends(
    model: Model, variables: Variables, data: Dataset, *, axis_name: str | None = None
) -> tuple[Metrics, Metrics]:
    """Measure a network on the images that it was trained on and on those that it has never seen."""
    train, test = (
        evaluate(model, variables, split, data.pixel_divisor, axis_name=axis_name) for split in (data.train, data.test)
    )
    return train, test


def _to_record(evaluation: Evaluation, plan: Plan) -> dict[str, Any]:
    iteration = int(evaluation.iteration)
    return {
        "epoch": _to_epochs(iteration, plan),
        "iteration": iteration,
        "train_loss": float(evaluation.train_loss),
        "validation_loss": float(evaluation.validation.loss),
        "validation_accuracy": _fraction(evaluation.validation),
    }


def _to_result(state: TrainState, train: Metrics, test: Metrics, plan: Plan) -> dict[str, Any]:
    iterations = int(state.iteration)
    return {
        "test_accuracy": _fraction(test),
        "test_loss": float(test.loss),
        "test_examples": int(test.num_examples),
        "train_accuracy": _fraction(train),
        "validation_accuracy": _fraction(state.best_validation),
        "best_iteration": int(state.early_stopping.best_iteration) + 1,
        "epochs": _to_epochs(iterations, plan),
        "iterations": iterations,
        "stopped_by": Status(int(state.status)).name.lower(),
        "parameters_sha256": digest_parameters(state.best.params),
    }


def _fraction(metrics: Metrics) -> float:
    """Return the accuracy in full precision; 0 where nothing was measured: the run diverged at once."""
    return int(metrics.num_correct) / max(int(metrics.num_examples), 1)


def _to_epochs(iterations: int, plan: Plan) -> int | float:
    whole, rest = divmod(iterations, plan.epoch)
    return whole if rest == 0 else round(iterations / plan.epoch, 3)
