"""The terminal: a line an evaluation, a progress bar below them where there is a terminal, a table at the end.

The lines go to the run's log as well.
"""

import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from lenet_jax.errors import describe_error
from lenet_jax.runs.events import Evaluated, Event, Failed, Finished, Started
from lenet_jax.runs.resumption import Verification


def show(events: Iterable[Event], console: Console | None = None) -> Finished | None:
    """Print the events of a run as they come and return its result; None if it has failed."""
    console = Console(highlight=False) if console is None else console
    bar = Progress(
        TextColumn("evaluation"),
        MofNCompleteColumn(),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task("", total=None)
        for event in events:
            match event:
                case Started():
                    bar.update(task, total=event.num_evaluations, completed=len(event.earlier))
                case Evaluated():
                    bar.advance(task)
                case _:
                    bar.stop()
            for line in describe(event):
                _print(console, line)
            if isinstance(event, Finished):
                return event
    return None


class SweepDisplay:
    """A line for each job that ends, and below them, where there is a terminal, how far the sweep is."""

    def __init__(self, num_jobs: int, console: Console | None = None) -> None:
        """Begin with no job done."""
        self._console = Console(highlight=False) if console is None else console
        self._num_jobs = num_jobs
        self._alive: dict[int, Started] = {}
        self._evaluations: dict[int, int] = {}
        self._ended = 0
        self._best: tuple[float, int] | None = None  # validation accuracy and number of a job
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("", total=num_jobs)

    def __enter__(self) -> "SweepDisplay":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, number: int, overrides: Sequence[str], event: Event) -> None:
        """Show what happened to a job."""
        match event:
            case Started():
                self._alive[number], self._evaluations[number] = event, len(event.earlier)
            case Evaluated():
                self._evaluations[number] += 1
            case _:
                self._alive.pop(number, None)
                self._ended += 1
                self._console.print(describe_job(number, overrides, event), markup=False, soft_wrap=True)
        if isinstance(event, Finished) and event.result["stopped_by"] != "diverged":
            candidate = event.result["validation_accuracy"], -number
            self._best = candidate if self._best is None else max(self._best, candidate)
        self._refresh()

    def _refresh(self) -> None:
        best = "" if self._best is None else f", best {self._best[0]:.2%} (job {-self._best[1]})"
        parts = sum(self._evaluations[number] / alive.num_evaluations for number, alive in self._alive.items())
        self._bar.update(
            self._task,
            completed=self._ended + parts,
            description=f"jobs {self._ended}/{self._num_jobs}, {len(self._alive)} running{best}",
        )


def show_end(number: int, overrides: Sequence[str], events: Iterable[Event]) -> None:
    """Print one line when a job ends, for a process whose terminal is that of others; its log has all lines."""
    for event in events:
        for line in filter(None, describe(event)):
            logging.getLogger(__name__).info(line)
        if isinstance(event, Finished | Failed):
            print(describe_job(number, overrides, event), flush=True)


def describe_job(number: int, overrides: Sequence[str], event: Event) -> str:
    """Return one line about the end of a job."""
    return f"job {number:>3}  {_describe_end(event)}  {' '.join(overrides)}"


def _describe_end(event: Event) -> str:
    if isinstance(event, Failed):
        return f"failed: {describe_error(event.error)}"
    if not isinstance(event, Finished):
        return ""
    result = event.result
    if result["stopped_by"] == "diverged":
        return f"diverged after {result['iterations']:,} iterations"
    return (
        f"validation {result['validation_accuracy']:7.2%}  test {result['test_accuracy']:7.2%}  "
        f"{result['epochs']:>4} epochs, {result['stopped_by']}  {result['seconds']:6.1f} s"
    )


def describe(event: Event) -> list[str]:
    """Return the lines that a run's log has of an event."""
    match event:
        case Started():
            return [describe_start(event), *(f"goes on after epoch {line['epoch']}" for line in event.earlier[-1:])]
        case Evaluated():
            return [describe_evaluation(event)]
        case Finished():
            return describe_result(event)
        case Failed():
            return [f"failed: {describe_error(event.error)}"]


def describe_start(event: Started) -> str:
    """Return one line about a run that begins."""
    config = event.config
    optimizer, batch_size = config.optimizer, config.trainer.batch_size
    rate = f", learning rate {optimizer.learning_rate:g}" if hasattr(optimizer, "learning_rate") else ""
    return (
        f"{config.model.name}, {event.num_parameters:,} parameters; {event.num_train:,} images of {config.data.name}; "
        f"{optimizer.name}{rate}, {'full batch' if batch_size is None else f'batch {batch_size}'}; {event.device}"
    )


def describe_evaluation(event: Evaluated) -> str:
    """Return one line about an evaluation."""
    record = event.record
    return (
        f"epoch {record['epoch']:>4}  train loss {record['train_loss']:.4f}  "
        f"validation loss {record['validation_loss']:.4f}  accuracy {record['validation_accuracy']:7.2%}  "
        f"{record['seconds']:6.1f} s"
    )


def describe_result(event: Finished) -> list[str]:
    """Return the lines of the final table."""
    result = event.result
    rows = {
        "validation accuracy": f"{result['validation_accuracy']:.2%}",
        "test accuracy": f"{result['test_accuracy']:.2%} of {result['test_examples']:,} images",
        "epochs": f"{result['epochs']} ({result['iterations']:,} iterations, best {result['best_iteration']:,})",
        "stopped by": result["stopped_by"],
        "seconds": f"{result['seconds']:.1f} (compilation {result['compile_seconds']:.1f})",
        "images a second": f"{result['images_per_second']:,.0f}",
        "run directory": shortened(event.directory),
    }
    return ["", *(f"{name:<21}{value}" for name, value in rows.items())]


def verification_lines(verification: Verification, tolerance: float) -> list[str]:
    """Return what came of running a run again; `tolerance` as `Verification.within`."""
    conditions = [f"{key}: {then!r} -> {now!r}" for key, then, now in verification.changed]
    lines = ["", *(f"changed since     {line}" for line in conditions or ["nothing that is recorded"])]
    parameters = f"parameters: SHA-256 {verification.result['parameters_sha256']}"
    if verification.identical:
        return [*lines, f"identical         {verification.evaluations} evaluations, test accuracy, {parameters}"]
    found = verification.difference
    if found is None:
        return [*lines, f"same numbers      {verification.evaluations} evaluations; other {parameters}"]
    verdict = "within tolerance" if verification.within(tolerance) else "different"
    return [
        *lines,
        f"{verdict:<18}largest difference {found.largest:.2g} of {tolerance:g}; "
        f"first at iteration {found.iteration}: {found.name} {found.then!r} -> {found.now!r}",
    ]


def shortened(path: Path) -> str:
    """Return a path as it is typed: relative to the working directory where it is inside of it."""
    return os.path.relpath(path) if path.absolute().is_relative_to(Path.cwd()) else str(path)


def _print(console: Console, line: str) -> None:
    console.print(line, markup=False, soft_wrap=True)
    if line:
        logging.getLogger(__name__).info(line)
