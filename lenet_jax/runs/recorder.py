"""Recording a run while it trains, and restoring it from its records."""

import logging
import math
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from lenet_jax.components import complete_like
from lenet_jax.config import Config, from_dict, to_dict
from lenet_jax.config.first_edition import rename_tensors
from lenet_jax.errors import InputError
from lenet_jax.runs import Evaluated, Finished, Started
from lenet_jax.runs.checkpoints import Checkpoint, is_intact, newest_first, read_checkpoint, save_checkpoint
from lenet_jax.runs.programs import Measured
from lenet_jax.runs.provenance import changed_conditions, describe_start, digest_parameters, utc_now
from lenet_jax.runs.run_directory import (
    BEST,
    LAST,
    LogEnd,
    RunDirectory,
    clear_run,
    digest_file,
    remove_partial_writes,
    write_patch,
)
from lenet_jax.train_plan import TrainPlan
from lenet_jax.training import Evaluation, TrainState
from lenet_jax.types import Metrics, Objective, Status
from lenet_jax.weights import Tensors, count_bytes, from_tensors, named_leaves, save_variables

_log = logging.getLogger(__name__)


class RestoredRun(NamedTuple):
    """A checkpoint that was read, with the records of the run up to it."""

    checkpoint: Checkpoint
    state: TrainState  # of NumPy arrays
    previous_evaluations: list[dict[str, Any]]
    description: dict[str, Any]  # the content of run.json


class Recorder:
    """Writes the files of one run, and measures its times."""

    def __init__(
        self,
        number: int,
        config: Config,
        directory: RunDirectory,
        plan: TrainPlan,
        objective: Objective,
        description: dict[str, Any],
        start_time: float,
        *,
        patch: bytes | None = None,
    ) -> None:
        """Prepare the records of a run; nothing is written yet.

        Args:
            number: number of the run in its group.
            config: configuration of the run.
            directory: directory of the run.
            plan: lengths of the run, its epochs and its intervals.
            objective: loss and metrics of the run.
            description: the result of `lenet_jax.runs.provenance.describe_run`.
            start_time: when the run got its lane, by `time.perf_counter`: its seconds are its own.
            patch: the result of `lenet_jax.runs.source_code.uncommitted_changes`.
        """
        self.number = number
        self.compile_seconds = 0.0  # compilation time that the run waited for
        self._plan = plan
        self._objective = objective
        self._config = config
        self._start_time = start_time
        self._patch = patch
        self._timings: dict[str, float] = {}
        self._training_seconds = 0.0
        self._last: Evaluation | None = None
        self._directory = directory
        self._provenance = {
            "id": secrets.token_hex(8),
            **describe_start(),
            **description,
            "config": to_dict(config),
            "seed": config.seed,
            "resumed": [],  # the iterations from which the run resumed, and the conditions that had changed
        }
        every = config.trainer.checkpoint_every
        # Validations between checkpoints.
        self._checkpoint_every = None if every is None else max(every * plan.epoch // plan.interval, 1)

    def start(self, started: Started, on_start: Callable[[], None]) -> Started:
        """Remove an earlier run from the directory and write `run.json`.

        Args:
            started: the event to return.
            on_start: called before the first file is written.
        """
        on_start()
        clear_run(self._directory.path)
        if self._patch is not None:
            write_patch(self._directory.path, self._patch)
        self._directory.write_run(self._provenance)
        return started

    def find_checkpoint(self, expected: TrainState, max_iteration: int | None = None) -> RestoredRun | None:
        """Return the newest intact checkpoint of the run; None if there is none, so that the run has to `start`.

        A damaged checkpoint is reported in the log, and the one before it is tried.

        Args:
            expected: shapes and dtypes of the state.
            max_iteration: later checkpoints are ignored; None: no limit.

        Raises:
            InputError: if `run.json` is damaged, or belongs to another configuration; or if an intact checkpoint is of
                other settings.
        """
        description = self._directory.read_run()
        if description is None:
            return None
        parent = description.get("parent")
        recorded = complete_like(from_dict(description.get("config", {})), self._config)
        if to_dict(recorded) != self._provenance["config"]:
            raise InputError(f"{self._directory.path}: must hold a run of this configuration; it has another; move it.")
        found = [
            path
            for path in newest_first(self._directory.checkpoints)
            if max_iteration is None or int(path.name) <= max_iteration
        ]
        for path in found:
            try:
                checkpoint = _read_fitting(path, expected)
                if checkpoint.metadata.get("run") != description.get("id"):
                    raise InputError(f"{path}: belongs to another run.")
                previous = self._directory.metrics_until(LogEnd(**checkpoint.metadata["log"]))
                state = from_tensors(_rename_tensors(checkpoint.tensors, expected), expected, path)
            except _DoesNotFit:
                raise
            except (InputError, KeyError, TypeError) as error:
                _log.warning("%s; trying the checkpoint before it", str(error).removesuffix("."))
            else:
                return RestoredRun(checkpoint, state, previous, description)
        if parent is not None and max_iteration is None:
            raise InputError(
                f"{self._directory.path}: must have an intact checkpoint: it goes on from a state of "
                f"{parent.get('directory')}; extend that again, into another directory."
            )
        if found:
            _log.warning("%s: has no intact checkpoint; the run restarts", self._directory.path)
        return None

    def resume(self, restored: RestoredRun) -> None:
        """Restore the files and times of the run to those at a checkpoint, and record that it was resumed."""
        metadata, directory = restored.checkpoint.metadata, self._directory
        remove_partial_writes(directory.path)
        directory.cut_metrics(LogEnd(**metadata["log"]))
        self._start_time -= metadata["seconds"]
        self._training_seconds, self._timings = metadata["training_seconds"], metadata["timings"]
        self.compile_seconds = metadata["compile_seconds"]
        changed = [key for key, _, _ in changed_conditions(restored.description, self._provenance)]
        resumed = [
            *restored.description.get("resumed", []),
            {"iteration": restored.checkpoint.iteration, "changed": changed, **describe_start()},
        ]
        self._provenance = {**restored.description, "resumed": resumed}
        directory.write_run(self._provenance)

    def evaluate(self, evaluation: Evaluation, seconds: float) -> Evaluated:
        """Record an evaluation.

        Args:
            evaluation: losses and metrics after an interval.
            seconds: the time since the evaluation before.
        """
        self._training_seconds += seconds
        self._timings.setdefault("first_step", round(self._elapsed() - seconds, 3))
        self._last = evaluation
        record = {**to_record(evaluation, self._plan, self._objective), "seconds": self._elapsed()}
        self._directory.append_metrics(record)
        return Evaluated(record)

    def is_due(self, iteration: int) -> bool:
        """Return whether a checkpoint is due at the validation after an iteration."""
        return self._checkpoint_every is not None and iteration // self._plan.interval % self._checkpoint_every == 0

    def save(self, state: TrainState) -> None:
        """Save a checkpoint.

        Args:
            state: of NumPy arrays; its keys are unwrapped by `lenet_jax.weights.unwrap_keys`.
        """
        directory = self._directory
        directory.sync_metrics()
        metadata = {
            "run": self._provenance["id"],
            "log": directory.log_end._asdict(),
            "seconds": self._elapsed(),
            "training_seconds": self._training_seconds,
            "compile_seconds": self.compile_seconds,
            "timings": self._timings,
        }
        save_checkpoint(directory.checkpoints, int(state.iteration), named_leaves(state), metadata)

    def finish(self, state: TrainState, measured: Measured) -> Finished:
        """Record the result of the run, and save its best weights; also the last ones, where they are kept.

        Args:
            state: the last state, of NumPy arrays.
            measured: the resulting weights and their metrics.
        """
        is_last = self._config.trainer.weights == "last"
        result = to_result(state, measured, self._last, self._plan, self._objective, is_last=is_last)
        if self._last is not None:
            result |= _running(self._last)
            if int(state.status) == Status.PRUNED:  # its result is of its best weights; this is where it stood
                name = self._objective.monitor
                result[f"last_validation_{name}"] = _mean(self._last.validation, name)
        examples = result["iterations"] * self._plan.batch_size
        result["metrics_sha256"] = self._directory.log_end.sha256
        result["seconds"] = self._elapsed()
        result["compile_seconds"] = round(self.compile_seconds, 3)
        result["images_per_second"] = round(examples / self._training_seconds, 1)
        timings = {**self._timings, "compile": result["compile_seconds"], "total": result["seconds"]}
        save_variables(self._directory.path / BEST, state.best)
        if measured.last is not None:
            save_variables(self._directory.path / LAST, measured.last)
        names = [name for name in (BEST, LAST) if (self._directory.path / name).is_file()]
        result["files_sha256"] = {name: digest_file(self._directory.path / name) for name in names}
        self._directory.write_run({**self._provenance, "timings": timings, "ended": utc_now()})
        self._directory.write_result(result)
        if self._config.trainer.keep_state:
            try:
                self.save(state)
            except OSError as error:
                _log.warning("%s: the last state is not kept: %s", self._directory.path, error.strerror)
        return Finished(result, self._directory.path)

    def _elapsed(self) -> float:
        return round(time.perf_counter() - self._start_time, 3)


class _DoesNotFit(InputError):
    """A checkpoint is intact, and yet its state is none of this run: its epochs must not be lost."""


def _read_fitting(path: Path, expected: TrainState) -> Checkpoint:
    """Read a checkpoint whose tensors must have the shapes and dtypes of a state."""
    try:
        checkpoint = read_checkpoint(path, count_bytes(expected))
        from_tensors(_rename_tensors(checkpoint.tensors, expected), expected, path)
    except InputError as error:
        if not is_intact(path):
            raise
        raise _DoesNotFit(
            f"{str(error).rstrip('.')}; it is intact, but of other settings, as JAX_ENABLE_X64 or the kind of random "
            "keys; resume with those in run.json, or train anew in another directory."
        ) from error
    return checkpoint


def _rename_tensors(tensors: Tensors, expected: TrainState) -> Tensors:
    """Return the tensors of a checkpoint with the names and dtypes of this edition."""
    leaves = named_leaves(expected)
    renamed = {}
    for old, new in rename_tensors(tensors).items():
        changes = old != new and new in leaves
        renamed[new] = tensors[old].astype(leaves[new].dtype) if changes else tensors[old]
    return renamed


def to_record(evaluation: Evaluation, plan: TrainPlan, objective: Objective) -> dict[str, Any]:
    """Return the line of `metrics.jsonl` of an evaluation, without its time."""
    iteration = int(evaluation.iteration)
    return {
        "epoch": _to_epochs(iteration, plan),
        "iteration": iteration,
        "train_loss": float(evaluation.train_loss),
        "validation_loss": _mean(evaluation.validation, "loss"),
        **{f"validation_{name}": _mean(evaluation.validation, name) for name in objective.metrics},
        **_running(evaluation),
    }


def _running(evaluation: Evaluation) -> dict[str, float]:
    return {f"running_train_{name}": float(mean) for name, mean in evaluation.running.items()}


def to_result(
    state: TrainState,
    measured: Measured,
    last: Evaluation | None,
    plan: TrainPlan,
    objective: Objective,
    *,
    is_last: bool,
) -> dict[str, Any]:
    """Return the content of `result.json` but for times and digests of files.

    Args:
        state: the last state.
        measured: the resulting weights and their metrics.
        last: the last evaluation.
        plan: lengths of the run.
        objective: its metrics.
        is_last: whether the last weights are the result, not the best ones.
    """
    train, test = measured.train, measured.test
    validations = [state.best_validation, state.best_validation if last is None else last.validation]
    validation, of_other = validations[is_last], {}
    if measured.other is not None:
        parts = {"train": measured.other[0], "validation": validations[not is_last], "test": measured.other[1]}
        other = "best" if is_last else "last"
        of_other = {
            f"{other}_{part}_{name}": _mean(each, name) for part, each in parts.items() for name in objective.metrics
        }
    iterations, status = int(state.iteration), Status(int(state.status))
    diverged = {"diverged_at": iterations + 1} if status == Status.DIVERGED else {}  # that iteration was skipped
    names = (*objective.metrics, *_own_loss(objective))
    worst = 0.0 if objective.mode == "max" else math.nan  # no evaluation was finite, so none was the best
    return {
        **{f"test_{name}": _mean(test, name) for name in (*objective.metrics, "loss")},
        "test_examples": int(test.num_examples),
        **{f"train_{name}": _mean(train, name) for name in objective.metrics},
        "train_loss": _mean(train, "loss"),
        **{f"validation_{name}": _mean(validation, name, of_none=worst) for name in names},
        **of_other,
        "monitor": objective.monitor,
        "mode": objective.mode,
        "best_iteration": int(state.early_stopping.best_iteration) + 1,
        "epochs": _to_epochs(iterations, plan),
        "iterations": iterations,
        "stopped_by": status.name.lower(),
        **diverged,
        "parameters_sha256": digest_parameters(measured.variables.params),
        "state_sha256": digest_parameters(state),  # of the whole training state: parameters, optimizer state, key, ...
    }


def _own_loss(objective: Objective) -> list[str]:
    """Return the loss as a metric, where it is what is monitored."""
    return ["loss"] if objective.monitor == "loss" else []


def _mean(metrics: Metrics, name: str, *, of_none: float = 0.0) -> float:
    """Return a mean in double precision; `of_none` if nothing was evaluated, as of a run that diverged before."""
    total, count = metrics.loss_sum if name == "loss" else metrics.sums[name], int(metrics.num_examples)
    return float(total) / count if count else of_none


def _to_epochs(iterations: int, plan: TrainPlan) -> int | float:
    whole, rest = divmod(iterations, plan.epoch)
    return whole if rest == 0 else round(iterations / plan.epoch, 3)
