"""Runs for tests of trackers: their records, their events, and small ones that are trained by a command."""

import json
from pathlib import Path
from typing import Any

import pytest

from lenet_jax import components
from lenet_jax.cli import main
from lenet_jax.config.catalogue import SURROUNDINGS, built_in
from lenet_jax.runs import Evaluated, Event, Interrupted, Started
from lenet_jax.runs.recorder import Recorder
from lenet_jax.runs.run_directory import read_record
from lenet_jax.trackers.replay import replay

STEPS = [4, 8, 12, 16]  # iterations after which these runs are evaluated
TINY = ["model._target_=tests.linear.linear", "data.train_size=200", "trainer.max_epochs=4"]


def lines(directory: Path) -> list[dict]:
    """Return the lines of the metrics log, without its head."""
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()[1:]]


def result(directory: Path) -> dict:
    """Return the content of `result.json`."""
    return json.loads((directory / "result.json").read_text())


# ---- events ---------------------------------------------------------------------------------------------------------


def track(name: str, directory: Path, events: list[Event], **options: Any) -> None:
    """Tell a built-in tracker of some events, one after the other."""
    node = {**built_in("trackers")[name][name], **options}
    tracker = components.build(
        components.complete("trackers", node, SURROUNDINGS["trackers"]), directory=str(directory)
    )
    for event in events:
        tracker(event)


def whole(directory: Path) -> list[Event]:
    """Return the events of a finished run."""
    return list(replay(read_record(directory)))


def killed(directory: Path) -> list[Event]:
    """Return its events if it is killed after the third evaluation, which took longer than it will the next time."""
    started, first, second, third, *_ = whole(directory)
    assert isinstance(third, Evaluated)
    slow = Evaluated({**third.record, "seconds": third.record["seconds"] + 5})
    return [started, first, second, slow, Interrupted()]


def resumed(directory: Path) -> list[Event]:
    """Return the events that follow if it is resumed from a checkpoint at the second evaluation."""
    started, first, second, *rest = whole(directory)
    assert isinstance(started, Started)
    assert isinstance(first, Evaluated)
    assert isinstance(second, Evaluated)
    return [started._replace(previous_evaluations=(first.record, second.record)), *rest]


# ---- commands -------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """As if the process had ended: nothing is saved any more."""


def train_killed_and_resume(directory: str, *overrides: str, allow: tuple[str, ...] = ()) -> Path:
    """Train a run that is killed after its third evaluation, and resume it from its checkpoint at the second."""
    evaluate, evaluations = Recorder.evaluate, []

    def evaluate_some(recorder, *args):
        evaluations.append(args)
        if len(evaluations) == 4:
            raise Killed
        return evaluate(recorder, *args)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Recorder, "evaluate", evaluate_some)
        with pytest.raises(Killed):
            main(["train", *TINY, "trainer.checkpoint_every=2", *overrides, f"hydra.run.dir={directory}"])
    assert len(lines(Path(directory))) == 3
    assert main(["resume", directory, *(f"--allow={package}" for package in ("tests", *allow))]) == 0
    return Path(directory)


def train_sweep(directory: str, *overrides: str) -> Path:
    """Train a sweep of two jobs."""
    assert main(["train", "-m", *TINY, "seed=0,1", *overrides, f"hydra.sweep.dir={directory}"]) == 0
    return Path(directory)


def log(directory: Path, to: str, *options: str) -> None:
    """Record a run or a sweep with a tracker afterwards."""
    assert main(["log", str(directory), "--to", to, *options]) == 0
