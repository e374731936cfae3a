"""Extending a finished run by more epochs: a run of its own, which goes on from the last state of its parent.

The directory of the new run gets the parent's log and state, as if it had been interrupted there, and is resumed. Its
evaluations, weights and state are then those of a run of so many epochs from the start, bit for bit, unless something
in the parent depended on how long it was to be.
"""

import contextlib
import dataclasses
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from lenet_jax import components
from lenet_jax.config import to_dict
from lenet_jax.errors import InputError
from lenet_jax.runs import Event
from lenet_jax.runs.checkpoints import newest_first, read_checkpoint, save_checkpoint
from lenet_jax.runs.prepared_run import PreparedRun, prepare_run
from lenet_jax.runs.provenance import (
    changed_conditions,
    changed_since,
    describe_start,
    digest_parameters,
    reproducibility,
)
from lenet_jax.runs.run import run_locked
from lenet_jax.runs.run_directory import METRICS, RESULT, RUN, Record, RunDirectory, check_log, clear_run
from lenet_jax.storage import write_atomically
from lenet_jax.types import Status
from lenet_jax.weights import Tensors, count_bytes, from_tensors, unwrap_keys


class Extension(NamedTuple):
    """An extension of a run that is ready to start; nothing is written yet."""

    prepared: PreparedRun  # of the new run
    parent: Record
    state: Tensors  # the parent's last one, of a run that goes on
    metadata: dict[str, Any]  # of the parent's last checkpoint
    differs: str  # why the new run is not one from the start, bit for bit; "": it is


def prepare_extension(
    parent: Record, max_epochs: int, *, keep_state: bool | None = None, allow_changed: bool = False
) -> Extension:
    """Check that a finished run can be extended, and prepare the run that goes on from its last state.

    Args:
        parent: the record of the run, with a complete configuration, as `read_allowed` returns it.
        max_epochs: of the new run, its parent's included.
        keep_state: `trainer.keep_state` of the new run; None: as in the parent.
        allow_changed: whether to go on although code, versions, data or devices have changed.

    Raises:
        InputError: if the run has not ended by its number of epochs, has kept no state or one that is damaged, or
            something has changed.
    """
    directory, trainer, result = parent.directory, parent.config.trainer, parent.result
    if result is None:
        raise InputError(f"extend: `DIR` must hold a finished run; finish it: lenet-jax resume {directory}.")
    if result["stopped_by"] != Status.MAX_EPOCHS.name.lower():
        raise InputError(
            f"extend: `DIR` must hold a run that has ended by trainer.max_epochs; {directory} has ended by "
            f"{result['stopped_by']}, which more epochs do not change."
        )
    if max_epochs <= trainer.max_epochs:
        raise InputError(
            f"extend: `trainer.max_epochs` must be above the {trainer.max_epochs} of {directory}; got {max_epochs}."
        )
    saved = newest_first(directory / "checkpoints")
    if not saved or int(saved[0].name) != result["iterations"]:
        raise InputError(
            f"extend: `DIR` must have the last state of its run, which trainer.keep_state=true keeps; {directory} has "
            f"none; train anew with trainer.max_epochs={max_epochs} trainer.keep_state=true."
        )
    check_log(parent)
    keep = trainer.keep_state if keep_state is None else keep_state
    changes = {"max_epochs": max_epochs, "keep_state": keep}
    config = dataclasses.replace(parent.config, trainer=dataclasses.replace(trainer, **changes))
    prepared = prepare_run(config)
    changed = changed_conditions(parent.run, prepared.describe())
    if changed and not allow_changed:
        raise changed_since("run", *changed[0])
    expected = jax.eval_shape(unwrap_keys, prepared.state)
    checkpoint = read_checkpoint(saved[0], count_bytes(expected))
    state = from_tensors(checkpoint.tensors, expected, saved[0])
    found, recorded = digest_parameters(state), result["state_sha256"]
    if found != recorded or checkpoint.metadata.get("run") != parent.run.get("id"):
        raise InputError(
            f"{saved[0]}: is damaged or of another run; the state must have SHA-256 {recorded}; got {found}."
        )
    tensors = {**checkpoint.tensors, "status": np.asarray(Status.RUNNING, np.int32)}
    differs = _difference(parent, [key for key, _, _ in changed])
    return Extension(prepared, parent, tensors, checkpoint.metadata, differs)


def _difference(parent: Record, changed: list[str]) -> str:
    """Return why the extension of a run is not a run from the start, bit for bit; "" if it is."""
    of_parent = (parent.run.get("parent") or {}).get("differs", "")
    schedule = parent.config.schedule
    if of_parent:
        return f"its parent was extended itself: {of_parent}"
    if "num_steps" in components.signature(schedule["_target_"]).parameters:
        epochs = parent.config.trainer.max_epochs
        return (
            f"the schedule, {components.short_name(schedule)}, depends on trainer.max_epochs: the first {epochs} "
            "epochs had another one"
        )
    if changed:
        return f"{', '.join(changed)} has changed"
    if parent.run.get("execution", {}).get("strategy") == "vmap":
        return "its parent was trained beside other runs, by vmap, which rounds otherwise"
    return ""


def extend_run(extension: Extension, path: Path) -> Iterator[Event]:
    """Run an extension and record it in a directory; the events have to be consumed to the end.

    If it is interrupted, `lenet_jax.runs.run.resume_run` resumes it as any other run.

    Args:
        extension: the result of `prepare_extension`.
        path: of the new directory.

    Raises:
        InputError: if the directory already holds a run, or another process works on it.
        OSError: if the directory cannot be written.
        KeyboardInterrupt: if a signal has asked the run to stop.
    """
    if path.is_dir() and not any((path / name).exists() for name in (RUN, RESULT)):
        clear_run(path)  # what a process that was killed while it began has left
    directory = RunDirectory(path)
    with directory.locked():
        directory = RunDirectory(path)
        try:
            _begin(extension, directory)
        except BaseException:
            with contextlib.suppress(OSError):
                clear_run(path)
            raise
        yield from run_locked(extension.prepared, path, resume=True)


def _begin(extension: Extension, directory: RunDirectory) -> None:
    """Write what an interrupted run has, `run.json` last: before it, the directory holds no run."""
    prepared, parent = extension.prepared, extension.parent
    number, described = secrets.token_hex(8), prepared.describe()
    metadata = {**extension.metadata, "run": number}
    write_atomically(directory.path / METRICS, (parent.directory / METRICS).read_bytes())
    save_checkpoint(directory.checkpoints, (parent.result or {})["iterations"], extension.state, metadata)
    directory.write_run(
        {
            "id": number,
            **describe_start(),
            **described,
            "execution": {"strategy": "map", "lanes": 1},
            "reproducibility": reproducibility(described, "map"),
            "config": to_dict(prepared.config),
            "resumed": parent.run.get("resumed", []),
            "parent": describe_parent(extension),
        }
    )


def describe_parent(extension: Extension) -> dict[str, Any]:
    """Return what `run.json` records of the run that is extended."""
    parent, result = extension.parent, extension.parent.result or {}
    return {
        "directory": str(parent.directory.absolute()),
        "id": parent.run.get("id"),
        "epochs": result["epochs"],
        "iterations": result["iterations"],
        "state_sha256": result["state_sha256"],
        "metrics_sha256": result.get("metrics_sha256"),
        "differs": extension.differs,
    }
