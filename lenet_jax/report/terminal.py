"""The terminal: a line an evaluation, a progress bar below them where there is a terminal, a table at the end.

The lines go to the run's log as well.
"""

import logging
import os
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from lenet_jax.runs.driver import Evaluated, Event, Finished, Started


def show(events: Iterable[Event], console: Console | None = None) -> Finished:
    """Print the events of a run as they come and return the last, its result."""
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
                    bar.update(task, total=event.num_evaluations)
                    _print(console, describe_start(event))
                case Evaluated():
                    _print(console, describe_evaluation(event))
                    bar.advance(task)
                case Finished():
                    bar.stop()
                    for line in describe_result(event):
                        _print(console, line)
                    return event
    raise RuntimeError("the run ended without a result")


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
        "run directory": _relative(event.directory),
    }
    return ["", *(f"{name:<21}{value}" for name, value in rows.items())]


def _relative(path: Path) -> str:
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def _print(console: Console, line: str) -> None:
    console.print(line, markup=False, soft_wrap=True)
    if line:
        logging.getLogger(__name__).info(line)
