"""Output of runs on the terminal: one line per evaluation, a progress bar below them, and a table of results.

The progress bar is shown only if standard output is a terminal. The lines also go to the run's log.
"""

import contextlib
import logging
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from lenet_jax.components import short_name
from lenet_jax.errors import describe_error
from lenet_jax.report.columns import CurveColumn, MemoryColumn
from lenet_jax.report.notebook import AboveBars, NotebookBar, writes_to_notebook
from lenet_jax.report.text import counted, is_fraction, show_metric, spoken
from lenet_jax.runs import Evaluated, Event, Failed, Finished, Interrupted, Monitor, Started
from lenet_jax.runs.verify import Verification

_quiet = False


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Print nothing in the block, whatever happens."""
    global _quiet
    before, _quiet = _quiet, True
    try:
        yield
    finally:
        _quiet = before


def make_console() -> Console:
    """Return standard output as a console; in a notebook, lines of text in the cell."""
    if writes_to_notebook():
        file: Any = AboveBars()
        return Console(file=file, width=120, highlight=False, quiet=_quiet, force_jupyter=False, force_terminal=False)
    return Console(highlight=False, quiet=_quiet, force_jupyter=False)


_NARROW = 60  # columns of a terminal, for which texts and a bar are too long
_MEDIUM = 80  # those that have room for a curve
_WIDE = 100  # and for the memory
_CURVE = 12  # characters
_LONG = 30.0  # seconds of compilation after which an output that is no terminal says so


def _make_bar(console: Console, *texts: ProgressColumn, curve: CurveColumn | None = None) -> Any:
    """Return a progress bar of one line, whatever the width of the terminal is; with a curve where it has room."""
    if isinstance(console.file, AboveBars) and not console.quiet:
        return NotebookBar()
    left = (TextColumn("left"), TimeRemainingColumn())
    columns: tuple[ProgressColumn, ...] = (BarColumn(), TimeElapsedColumn(), *left)
    if console.width < _NARROW:
        columns = (TimeElapsedColumn(),)
    elif curve is not None and console.width >= _MEDIUM and "utf" in console.encoding:
        memory = (MemoryColumn(),) if console.width >= _WIDE else ()
        columns = (curve, BarColumn(bar_width=20), TimeElapsedColumn(), *left, *memory)
    return Progress(*texts, *columns, console=console, transient=True, disable=not console.is_terminal)


class _LongCompilation(contextlib.AbstractContextManager["_LongCompilation"]):
    """Says on an output that has no progress bar that a program is being compiled, if it takes long."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._timer: threading.Timer | None = None

    def begin(self) -> None:
        if self._timer is None and not self._console.is_terminal:
            line = f"compiling, for {_LONG:.0f} s so far"
            self._timer = threading.Timer(_LONG, self._console.print, [line])
            self._timer.daemon = True
            self._timer.start()

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def __exit__(self, *_: object) -> None:
        self.end()


def show(events: Iterable[Event], console: Console | None = None) -> Finished | None:
    """Print the events of a run as they occur; return the last event, or None if the run has failed.

    Args:
        events: the events of a run.
        console: where to print; None: standard output.
    """
    console = make_console() if console is None else console
    curve, key = CurveColumn(_CURVE), Monitor().key
    with (
        _make_bar(console, TextColumn("{task.description}"), MofNCompleteColumn(), curve=curve) as bar,
        _LongCompilation(console) as compilation,
    ):
        task = bar.add_task("preparing", total=None)
        for event in events:
            compilation.end()
            match event:
                case Started():
                    done, key = len(event.previous_evaluations), event.monitor.key
                    curve.values = [line.get(key) for line in event.previous_evaluations]
                    bar.update(task, total=event.num_evaluations, completed=done, description="compiling")
                    compilation.begin()
                case Evaluated():
                    curve.values.append(event.record.get(key))
                    bar.update(task, advance=1, description="evaluation")
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
        self._console = make_console() if console is None else console
        self._num_jobs = num_jobs
        self._running: dict[int, Started] = {}
        self._evaluations: dict[int, int] = {}
        self._num_finished = 0
        self._best: dict[Monitor, tuple[float, int, str]] = {}  # error and number of a job, and its metric as text
        self._compilation = _LongCompilation(self._console)
        self._is_compiling = False
        self._bar = _make_bar(self._console, TextColumn("{task.description}"))
        self._task = self._bar.add_task("preparing", total=num_jobs)

    def __enter__(self) -> "SweepDisplay":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._compilation.end()
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
                self._is_compiling = event.compiles
                if event.compiles:
                    self._compilation.begin()
            case Evaluated():
                self._evaluations[number] += 1
                self._is_compiling = False
                self._compilation.end()
            case _:
                self._running.pop(number, None)
                self._num_finished += 1
                self._console.print(describe_job(number, overrides, event), markup=False, soft_wrap=True)
        if isinstance(event, Finished) and event.result["stopped_by"] not in ("diverged", "pruned"):
            monitor = Monitor.of(event.result)
            candidate = monitor.error(event.result), number, show_metric(monitor.metric, event.result[monitor.key])
            self._best[monitor] = min(self._best.get(monitor, candidate), candidate)
        self._refresh()

    @property
    def description(self) -> str:
        """Return how far the sweep is."""
        best = "".join(f", best {text} (job {number})" for _, number, text in self._best.values())
        compiling = ", compiling" if self._is_compiling else ""
        return f"jobs {self._num_finished}/{self._num_jobs}, {len(self._running)} running{compiling}{best}"

    def _refresh(self) -> None:
        unfinished = sum(
            self._evaluations[number] / started.num_evaluations for number, started in self._running.items()
        )
        self._bar.update(self._task, completed=self._num_finished + unfinished, description=self.description)


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
    monitor = Monitor.of(result)
    values = {"validation": result.get(monitor.key), "test": result.get(f"test_{monitor.metric}")}
    if result["stopped_by"] == "pruned":  # its result is of its best weights, not of those where it stood
        values = {"validation": monitor.last(result)}
    parts = [f"{part} {_aligned(monitor.metric, value)}" for part, value in values.items()]
    return (
        f"{''.join(f'{each}  ' for each in parts)}"
        f"{result['epochs']:>4} epochs, {result['stopped_by']}  {result['seconds']:6.1f} s"
    )


def _aligned(metric: str, value: float | None) -> str:
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
    lines += [f"missing           {name}; it is not checked" for name in verification.missing]
    parameters = f"parameters: SHA-256 {verification.result['parameters_sha256']}"
    found, count = verification.difference, verification.evaluations
    if found is None and verification.same_parameters and not verification.digests:
        verdict = "identical" if verification.identical else "repeated alike"
        metric = Monitor.of(verification.result).metric
        return [*lines, f"{verdict:<18}{count} evaluations, test {metric}, {parameters}"]
    if found is None:
        other = parameters if not verification.same_parameters else f"SHA-256 of {', '.join(verification.digests)}"
        return [*lines, f"same values       {count} evaluations; other {other}"]
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
