"""Output of runs on the terminal: one line per evaluation, a progress bar below them, and a table of results.

The progress bar is shown only if standard output is a terminal. The lines also go to the run's log.
"""

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from lenet_jax.components import short_name
from lenet_jax.errors import describe_error
from lenet_jax.report.text import counted, is_fraction, show_metric, spoken
from lenet_jax.runs import Evaluated, Event, Failed, Finished, Interrupted, Monitor, Started
from lenet_jax.runs.verify import Verification


def show(events: Iterable[Event], console: Console | None = None) -> Finished | None:
    """Print the events of a run as they occur; return the last event, or None if the run has failed.

    Args:
        events: the events of a run.
        console: where to print; None: standard output.
    """
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
                    bar.update(task, total=event.num_evaluations, completed=len(event.previous_evaluations))
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
    """Prints one line per job that finishes, and a progress bar of the sweep below, if the console is a terminal."""

    def __init__(self, num_jobs: int, console: Console | None = None) -> None:
        """Prepare the display; as a context manager, the display shows its progress bar.

        Args:
            num_jobs: number of jobs in the sweep.
            console: where to print; None: standard output.
        """
        self._console = Console(highlight=False) if console is None else console
        self._num_jobs = num_jobs
        self._running: dict[int, Started] = {}
        self._evaluations: dict[int, int] = {}
        self._num_finished = 0
        self._best: dict[Monitor, tuple[float, int, str]] = {}  # error and number of a job, and its metric as text
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
        """Show an event of a job.

        Args:
            number: number of the job.
            overrides: the overrides to print with the job.
            event: the event.
        """
        match event:
            case Started():
                self._running[number], self._evaluations[number] = event, len(event.previous_evaluations)
            case Evaluated():
                self._evaluations[number] += 1
            case _:
                self._running.pop(number, None)
                self._num_finished += 1
                self._console.print(describe_job(number, overrides, event), markup=False, soft_wrap=True)
        if isinstance(event, Finished) and event.result["stopped_by"] != "diverged":
            monitor = Monitor.of(event.result)
            candidate = monitor.error(event.result), number, show_metric(monitor.metric, event.result[monitor.key])
            self._best[monitor] = min(self._best.get(monitor, candidate), candidate)
        self._refresh()

    def _refresh(self) -> None:
        best = "".join(f", best {text} (job {number})" for _, number, text in self._best.values())
        unfinished = sum(
            self._evaluations[number] / started.num_evaluations for number, started in self._running.items()
        )
        self._bar.update(
            self._task,
            completed=self._num_finished + unfinished,
            description=f"jobs {self._num_finished}/{self._num_jobs}, {len(self._running)} running{best}",
        )


def show_end(number: int, overrides: Sequence[str], events: Iterable[Event]) -> None:
    """Print one line when a job finishes, for processes that share a terminal; all lines go to the job's log.

    Args:
        number: number of the job.
        overrides: the overrides to print with the job.
        events: the events of the job.
    """
    for event in events:
        for line in filter(None, describe(event)):
            logging.getLogger(__name__).info(line)
        if isinstance(event, Finished | Failed):
            print(describe_job(number, overrides, event), flush=True)


def describe_job(number: int, overrides: Sequence[str], event: Event) -> str:
    """Return one line about a job that has finished or failed."""
    return f"job {number:>3}  {_describe_end(event)}  {' '.join(overrides)}"


def _describe_end(event: Event) -> str:
    if isinstance(event, Failed):
        return f"failed: {describe_error(event.error)}"
    if not isinstance(event, Finished):
        return ""
    result = event.result
    if result["stopped_by"] == "diverged":
        return f"diverged after {result['iterations']:,} iterations"
    metric = Monitor.of(result).metric
    parts = [f"{part} {_aligned(metric, result[f'{part}_{metric}'])}" for part in ("validation", "test")]
    return (
        f"{''.join(f'{each}  ' for each in parts)}"
        f"{result['epochs']:>4} epochs, {result['stopped_by']}  {result['seconds']:6.1f} s"
    )


def _aligned(metric: str, value: float) -> str:
    text = show_metric(metric, value)
    return f"{text:>7}" if is_fraction(metric) else text


def _metrics(record: Mapping[str, Any]) -> list[str]:
    """Return the names of the metrics in a line of `metrics.jsonl` or in `result.json`, without the loss."""
    names = (key.removeprefix("validation_") for key in record if key.startswith("validation_"))
    return [name for name in names if name != "loss"]


def describe(event: Event) -> list[str]:
    """Return the lines that the log of a run has for an event."""
    match event:
        case Started():
            return [
                describe_start(event),
                *(f"resumes after epoch {line['epoch']}" for line in event.previous_evaluations[-1:]),
            ]
        case Evaluated():
            return [describe_evaluation(event)]
        case Finished():
            return describe_result(event)
        case Failed():
            return [f"failed: {describe_error(event.error)}"]
        case Interrupted():
            return []


def describe_start(event: Started) -> str:
    """Return one line about a run that starts."""
    config, batch_size = event.config, event.config.trainer.batch_size
    learning_rate = config.optimizer.get("learning_rate")
    rate = f", learning rate {learning_rate:g}" if isinstance(learning_rate, float) else ""
    data = config.data.get("name", short_name(config.data))
    batch = "full batch" if batch_size is None else f"batch {batch_size}"
    return (
        f"{short_name(config.model)}, {event.num_parameters:,} parameters; {event.num_train:,} examples of {data}; "
        f"{short_name(config.optimizer)}{rate}, {batch}; {event.device}"
    )


def describe_evaluation(event: Evaluated) -> str:
    """Return one line about an evaluation."""
    record = event.record
    metrics = [f"{spoken(name)} {_aligned(name, record[f'validation_{name}'])}" for name in _metrics(record)]
    parts = [
        f"epoch {record['epoch']:>4}",
        f"train loss {record['train_loss']:.4f}",
        f"validation loss {record['validation_loss']:.4f}",
        *metrics,
        f"{record['seconds']:6.1f} s",
    ]
    return "  ".join(parts)


def describe_result(event: Finished) -> list[str]:
    """Return the lines of the final table."""
    result = event.result
    examples = {"validation": "", "test": f" of {result['test_examples']:,} {counted(result)}"}
    rows = {
        **{
            f"{part} {spoken(name)}": f"{show_metric(name, result[f'{part}_{name}'])}{of}"
            for part, of in examples.items()
            for name in _metrics(result)
        },
        "epochs": f"{result['epochs']} ({result['iterations']:,} iterations, best {result['best_iteration']:,})",
        "stopped by": result["stopped_by"],
        "seconds": f"{result['seconds']:.1f} (compilation {result['compile_seconds']:.1f})",
        f"{counted(result)} a second": f"{result['images_per_second']:,.0f}",
        "run directory": shortened(event.directory),
    }
    width = max(21, *(len(name) + 2 for name in rows))
    return ["", *(f"{name:<{width}}{value}" for name, value in rows.items())]


def verification_lines(verification: Verification, tolerance: float) -> list[str]:
    """Return the result of a verification as lines.

    Args:
        verification: the result.
        tolerance: as in `Verification.within`.
    """
    conditions = [f"{key}: {old!r} -> {new!r}" for key, old, new in verification.changed]
    lines = ["", *(f"changed since     {line}" for line in conditions or ["nothing that is recorded"])]
    if any(key.startswith(("versions.", "code.")) for key, _, _ in verification.changed) and verification.install:
        lines.append(f"to install it     {verification.install}")
    lines += [f"damaged           {line}" for line in verification.damaged]
    parameters = f"parameters: SHA-256 {verification.result['parameters_sha256']}"
    found, count = verification.difference, verification.evaluations
    if found is None and verification.same_parameters:
        verdict = "identical" if verification.identical else "repeated alike"
        metric = Monitor.of(verification.result).metric
        return [*lines, f"{verdict:<18}{count} evaluations, test {metric}, {parameters}"]
    if found is None:
        return [*lines, f"same values       {count} evaluations; other {parameters}"]
    verdict = "within tolerance" if verification.within(tolerance) else "different"
    return [
        *lines,
        f"{verdict:<18}largest difference {found.largest:.2g} of {tolerance:g}; "
        f"first after epoch {found.epoch:g}, iteration {found.iteration}: "
        f"{found.name} {found.recorded!r} -> {found.repeated!r}",
    ]


def shortened(path: Path) -> str:
    """Return a path relative to the working directory if it is inside it, else unchanged."""
    return os.path.relpath(path) if path.absolute().is_relative_to(Path.cwd()) else str(path)


def _print(console: Console, line: str) -> None:
    console.print(line, markup=False, soft_wrap=True)
    if line:
        logging.getLogger(__name__).info(line)
