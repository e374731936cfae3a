"""What is recorded of a run while the driver drives it."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

from lenet_jax.config import Config
from lenet_jax.runs.events import Evaluated, Finished, Started
from lenet_jax.runs.provenance import digest_parameters
from lenet_jax.runs.run_directory import BEST, RunDirectory
from lenet_jax.runs.weights import save_variables
from lenet_jax.training import Plan
from lenet_jax.types import Evaluation, Metrics, Status, TrainState


class Recorder:
    """Records one run: its files, its times."""

    def __init__(
        self,
        number: int,
        config: Config,
        directory: RunDirectory,
        plan: Plan,
        described: dict[str, Any],
        begin: float,
    ) -> None:
        """Take what is known of the run before it begins.

        Args:
            number: of the run, for whoever drives several.
            config: of the run.
            directory: where it is recorded.
            plan: its lengths.
            described: as `lenet_jax.runs.provenance.describe_run`.
            begin: when it was asked for, by `time.perf_counter`.
        """
        self.number = number
        self.compile_seconds = 0.0  # that the run has waited for
        self._plan = plan
        self._begin = begin
        self._timings: dict[str, float] = {}
        self._training_seconds = 0.0
        self._directory = directory
        self._provenance = {**described, "config": dataclasses.asdict(config), "seed": config.seed}

    def start(self, started: Started, prepare: Callable[[], None]) -> Started:
        """Record what is known of the run before it begins; `prepare` is called before the first file is written."""
        prepare()
        self._directory.write_run(self._provenance)
        return started

    def evaluate(self, evaluation: Evaluation, seconds: float) -> Evaluated:
        """Record an evaluation, and the seconds since the one before."""
        self._training_seconds += seconds
        self._timings.setdefault("first_step", round(self._elapsed() - seconds, 3))
        record = {**_to_record(evaluation, self._plan), "seconds": self._elapsed()}
        self._directory.append_metrics(record)
        return Evaluated(record)

    def finish(self, state: TrainState, train: Metrics, test: Metrics) -> Finished:
        """Record the end of the run; of the state, what is needed for that."""
        result = _to_result(state, train, test, self._plan)
        examples = result["iterations"] * self._plan.batch_size
        result["seconds"] = self._elapsed()
        result["compile_seconds"] = round(self.compile_seconds, 3)
        result["images_per_second"] = round(examples / self._training_seconds, 1)
        timings = {**self._timings, "compile": result["compile_seconds"], "total": result["seconds"]}
        save_variables(self._directory.path / BEST, state.best)
        self._directory.write_run({**self._provenance, "timings": timings})
        self._directory.write_result(result)
        return Finished(result, self._directory.path)

    def _elapsed(self) -> float:
        return round(time.perf_counter() - self._begin, 3)


def _to_record(evaluation: Evaluation, plan: Plan) -> dict[str, Any]:
    iteration = int(evaluation.iteration)
    return {
        "epoch": _to_epochs(iteration, plan),
        "iteration": iteration,
        "train_loss": float(evaluation.train_loss),
        "validation_loss": _mean_loss(evaluation.validation),
        "validation_accuracy": _fraction(evaluation.validation),
    }


def _to_result(state: TrainState, train: Metrics, test: Metrics, plan: Plan) -> dict[str, Any]:
    iterations = int(state.iteration)
    return {
        "test_accuracy": _fraction(test),
        "test_loss": _mean_loss(test),
        "test_examples": int(test.num_examples),
        "train_accuracy": _fraction(train),
        "validation_accuracy": _fraction(state.best_validation),
        "best_iteration": int(state.early_stopping.best_iteration) + 1,
        "epochs": _to_epochs(iterations, plan),
        "iterations": iterations,
        "stopped_by": Status(int(state.status)).name.lower(),
        "parameters_sha256": digest_parameters(state.best.params),
    }


def _mean_loss(metrics: Metrics) -> float:
    return float(metrics.loss_sum) / max(int(metrics.num_examples), 1)


def _fraction(metrics: Metrics) -> float:
    """Return the accuracy in full precision; 0 where nothing was measured: the run diverged at once."""
    return int(metrics.num_correct) / max(int(metrics.num_examples), 1)


def _to_epochs(iterations: int, plan: Plan) -> int | float:
    whole, rest = divmod(iterations, plan.epoch)
    return whole if rest == 0 else round(iterations / plan.epoch, 3)
