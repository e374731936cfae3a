"""What is recorded of a run while the driver drives it, and how it goes on from there."""

import dataclasses
import json
import logging
import secrets
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from lenet_jax.config import Config
from lenet_jax.errors import InputError
from lenet_jax.runs.checkpoints import Checkpoint, newest_first, read_checkpoint, save_checkpoint
from lenet_jax.runs.events import Evaluated, Finished, Started
from lenet_jax.runs.provenance import changed_conditions, digest_parameters
from lenet_jax.runs.run_directory import BEST, LogEnd, RunDirectory, clear_run, remove_leftovers
from lenet_jax.storage import to_json
from lenet_jax.training import Plan
from lenet_jax.types import Evaluation, Metrics, Status, TrainState
from lenet_jax.weights import count_bytes, from_tensors, named_leaves, save_variables

_log = logging.getLogger(__name__)


class Found(NamedTuple):
    """What a run can go on from."""

    checkpoint: Checkpoint
    state: TrainState  # of NumPy arrays
    earlier: list[dict[str, Any]]  # the evaluations until then
    described: dict[str, Any]  # what run.json holds


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
        self._provenance = {
            "id": secrets.token_hex(8),
            **described,
            "config": dataclasses.asdict(config),
            "seed": config.seed,
            "resumed": [],  # from which iterations, and what had changed
        }
        every = config.trainer.checkpoint_every
        # Validations from one checkpoint to the next.
        self._checkpoint_every = None if every is None else max(every * plan.epoch // plan.interval, 1)

    def start(self, started: Started, prepare: Callable[[], None]) -> Started:
        """Record what is known of the run before it begins; `prepare` is called before the first file is written."""
        prepare()
        clear_run(self._directory.path)
        self._directory.write_run(self._provenance)
        return started

    def find_checkpoint(self, expected: TrainState, at_most: int | None = None) -> Found | None:
        """Return the newest good checkpoint of the run in the directory; None: there is none, the run is to `start`.

        A damaged one is reported, and the one before it taken.

        Args:
            expected: shapes and dtypes of the state.
            at_most: the iteration of the newest one that will do.

        Raises:
            InputError: if `run.json` is damaged, or of another configuration.
        """
        described = self._directory.read_run()
        if described is None:
            return None
        if described.get("config") != json.loads(to_json(self._provenance["config"])):
            raise InputError(f"{self._directory.path}: must hold a run of this configuration; it has another; move it.")
        found = [
            path for path in newest_first(self._directory.checkpoints) if at_most is None or int(path.name) <= at_most
        ]
        for path in found:
            try:
                checkpoint = read_checkpoint(path, count_bytes(expected))
                if checkpoint.facts.get("run") != described.get("id"):
                    raise InputError(f"{path}: belongs to another run.")
                earlier = self._directory.metrics_until(LogEnd(**checkpoint.facts["log"]))
                state = from_tensors(checkpoint.tensors, expected, path)
            except (InputError, KeyError, TypeError) as error:
                _log.warning("%s; trying the checkpoint before it", str(error).removesuffix("."))
            else:
                return Found(checkpoint, state, earlier, described)
        if found:
            _log.warning("%s: has no good checkpoint; the run begins again", self._directory.path)
        return None

    def resume(self, found: Found) -> None:
        """Go on from a checkpoint."""
        facts, directory = found.checkpoint.facts, self._directory
        remove_leftovers(directory.path)
        directory.cut_metrics(LogEnd(**facts["log"]))
        self._begin -= facts["seconds"]
        self._training_seconds, self._timings = facts["training_seconds"], facts["timings"]
        self.compile_seconds = facts["compile_seconds"]
        changed = [key for key, _, _ in changed_conditions(found.described, self._provenance)]
        resumed = [
            *found.described.get("resumed", []),
            {"iteration": found.checkpoint.iteration, "changed": changed},
        ]
        self._provenance = {**found.described, "resumed": resumed}
        directory.write_run(self._provenance)

    def evaluate(self, evaluation: Evaluation, seconds: float) -> Evaluated:
        """Record an evaluation, and the seconds since the one before."""
        self._training_seconds += seconds
        self._timings.setdefault("first_step", round(self._elapsed() - seconds, 3))
        record = {**_to_record(evaluation, self._plan), "seconds": self._elapsed()}
        self._directory.append_metrics(record)
        return Evaluated(record)

    def is_due(self, iteration: int) -> bool:
        """Tell whether a checkpoint is to be saved after an iteration, at which the run is evaluated."""
        return self._checkpoint_every is not None and iteration // self._plan.interval % self._checkpoint_every == 0

    def save(self, state: TrainState) -> None:
        """Save a checkpoint: a state of NumPy arrays, as `lenet_jax.runs.programs.to_numbers` has them."""
        directory = self._directory
        directory.sync_metrics()
        facts = {
            "run": self._provenance["id"],
            "log": directory.log_end._asdict(),
            "seconds": self._elapsed(),
            "training_seconds": self._training_seconds,
            "compile_seconds": self.compile_seconds,
            "timings": self._timings,
        }
        save_checkpoint(directory.checkpoints, int(state.iteration), named_leaves(state), facts)

    def finish(self, state: TrainState, train: Metrics, test: Metrics) -> Finished:
        """Record the end of the run."""
        result = _to_result(state, train, test, self._plan)
        examples = result["iterations"] * self._plan.batch_size
        result["metrics_sha256"] = self._directory.log_end.sha256
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
    iterations, status = int(state.iteration), Status(int(state.status))
    diverged = {"diverged_at": iterations + 1} if status == Status.DIVERGED else {}  # that iteration was not done
    return {
        "test_accuracy": _fraction(test),
        "test_loss": _mean_loss(test),
        "test_examples": int(test.num_examples),
        "train_accuracy": _fraction(train),
        "validation_accuracy": _fraction(state.best_validation),
        "best_iteration": int(state.early_stopping.best_iteration) + 1,
        "epochs": _to_epochs(iterations, plan),
        "iterations": iterations,
        "stopped_by": status.name.lower(),
        **diverged,
        "parameters_sha256": digest_parameters(state.best.params),
        "state_sha256": digest_parameters(state),  # of all that a run carries: parameters, optimizer, key, ...
    }


def _mean_loss(metrics: Metrics) -> float:
    return float(metrics.loss_sum) / max(int(metrics.num_examples), 1)


def _fraction(metrics: Metrics) -> float:
    """Return the accuracy in full precision; 0 where nothing was measured: the run diverged at once."""
    return int(metrics.num_correct) / max(int(metrics.num_examples), 1)


def _to_epochs(iterations: int, plan: Plan) -> int | float:
    whole, rest = divmod(iterations, plan.epoch)
    return whole if rest == 0 else round(iterations / plan.epoch, 3)
