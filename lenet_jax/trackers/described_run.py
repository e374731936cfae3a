"""What trackers are told of a run besides its events: who it is, when it began, and its values by name.

All of it follows from the record of the run, so a run is the same in a tracker whether it is tracked while it trains,
after it was resumed, or later.
"""

import datetime
import io
import json
import math
import re
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lenet_jax.config import Config, to_dict
from lenet_jax.report.curves import draw_curves
from lenet_jax.runs import Monitor
from lenet_jax.runs.run_directory import BEST, LAST, METRICS, RESULT, RUN, RunDirectory, digest_file
from lenet_jax.storage import write_atomically
from lenet_jax.sweeps.ledger import IDENTITY, Entry, Ledger

_NO_METRICS = ("epoch", "iteration", "seconds")  # of a line of metrics.jsonl


class DescribedRun(NamedTuple):
    """A run, as trackers name it."""

    id: str  # the same after an interruption
    name: str  # of a job of a sweep: its number, and its overrides that differ between jobs
    sweep: str | None  # the last two folders of the sweep's directory; None: the run is of no sweep
    folder: Path  # in which the directory of the run, or of its sweep, lies
    started: float  # seconds since 1970, UTC

    @property
    def experiment(self) -> str:
        """Return the name of what the run belongs to: its sweep, or the folder that its directory lies in."""
        return self.sweep or self.folder.name

    def time(self, seconds: float) -> float:
        """Return when the run had taken some seconds, in seconds since 1970, without the time of interruptions."""
        return self.started + seconds


def describe_run(directory: Path) -> DescribedRun:
    """Return what names a run that has started.

    Args:
        directory: of the run.

    Raises:
        InputError: if its `run.json` or the record of its sweep is missing or damaged.
    """
    directory = directory.resolve()
    path = directory / RUN
    content = RunDirectory(directory, resume=True).read_run() or {}
    identity = content.get("id")
    if not isinstance(identity, str) or not re.fullmatch("[0-9a-f]{16}", identity):  # the first edition recorded none
        identity = digest_file(path)[:16]
    recorded = content.get("started")
    started = path.stat().st_mtime if recorded is None else datetime.datetime.fromisoformat(recorded).timestamp()
    sweep = next((each for each in directory.parents if (each / IDENTITY).is_file()), None)
    if sweep is None:
        return DescribedRun(identity, directory.name, None, directory.parent, started)
    ledger = Ledger(sweep)
    entry = _find_entry(ledger, directory)
    if entry is None:
        name = str(directory.relative_to(sweep))
    else:
        own = [override for override in entry.overrides if override not in ledger.identity["arguments"]]
        name = " ".join([str(entry.number), *own])
    return DescribedRun(identity, name, f"{sweep.parent.name}/{sweep.name}", sweep.parent, started)


def _find_entry(ledger: Ledger, directory: Path) -> Entry | None:
    """Return the job of a sweep whose run has a directory; that is usually named by the job's number."""
    name = directory.name
    first = [ledger.entry(int(name))] if name.isdecimal() else []
    for entry in (*first, *ledger.entries()):
        if entry is not None and ledger.run_directory(entry).resolve() == directory:
            return entry
    return None


# ---- values by name -------------------------------------------------------------------------------------------------


def options(config: Config) -> dict[str, bool | int | float | str | None]:
    """Return the options of a run by their full keys, without trackers; lists are JSON."""
    content = to_dict(config)
    del content["trackers"]
    return dict(_flatten(content))


def _flatten(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{_printable(key)}.")
        else:
            yield f"{prefix}{_printable(key)}", json.dumps(value) if isinstance(value, list) else value


def metrics(record: Mapping[str, Any]) -> dict[str, float]:
    """Return the epoch, the losses and the metrics of a line of `metrics.jsonl`; what is not finite is NaN."""
    names = ["epoch", *(name for name in record if name not in _NO_METRICS)]
    return {_printable(name): _finite(record[name]) for name in names}


def final_metrics(result: Mapping[str, Any], evaluated: Collection[str]) -> dict[str, float]:
    """Return the numbers in `result.json`, each by its name, or with `result_` before it.

    Args:
        result: the content of `result.json`.
        evaluated: names of `metrics`, which have another value there: that of the last evaluation, not of the result.
    """
    numbers = {_printable(name): value for name, value in result.items() if type(value) in (int, float, type(None))}
    return {f"result_{name}" if name in evaluated else name: _finite(value) for name, value in numbers.items()}


def texts(result: Mapping[str, Any]) -> dict[str, str]:
    """Return the texts in `result.json`, as why the run stopped and the digest of its parameters."""
    return {name: value for name, value in result.items() if isinstance(value, str)}


def _printable(name: str) -> str:
    """Return a name of the characters that all tools take."""
    return re.sub(r"[^\w.-]", "_", name)


def _finite(value: float | None) -> float:
    """Return a number; NaN for an infinity as well, which a record cannot hold."""
    return math.nan if value is None or not math.isfinite(value) else float(value)


# ---- files ----------------------------------------------------------------------------------------------------------


def files(directory: Path, *, weights: bool) -> list[str]:
    """Return the paths of the files that go along with a run, relative to its directory: records, figures, weights.

    Args:
        directory: of the run.
        weights: whether the weights do.
    """
    names: Iterable[str] = (RUN, METRICS, RESULT, *((BEST, LAST) if weights else ()))
    return [
        *(name for name in names if (directory / name).is_file()),
        *(str(path.relative_to(directory)) for path in pictures(directory)),
    ]


def pictures(directory: Path) -> list[Path]:
    """Return the figures of a run: its learning curves, and what else `lenet-jax report` has drawn."""
    return sorted((directory / "figures").glob("*.png"))


def draw_pictures(directory: Path, metrics: Sequence[Mapping[str, Any]], monitor: Monitor) -> None:
    """Draw the learning curves of a run, which `lenet-jax report` would draw as well, if they are not there yet.

    Args:
        directory: of the run.
        metrics: lines of its `metrics.jsonl`.
        monitor: of the run.
    """
    path = directory / "figures" / "learning_curves.png"
    with _drawing:
        if metrics and not path.is_file():
            picture = io.BytesIO()
            draw_curves(metrics, monitor).savefig(picture)
            write_atomically(path, picture.getvalue(), durable=False)


_drawing = threading.Lock()  # Matplotlib draws in one thread at a time
