"""The index of a folder: a row for each run and sweep in it, from their JSON files alone."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lenet_jax.components import short_name
from lenet_jax.config.catalogue import TARGET
from lenet_jax.errors import InputError
from lenet_jax.report.document import Cell, Document, Facts, Link, Part, Table
from lenet_jax.report.text import is_fraction, show_metric, spoken, utc
from lenet_jax.runs import Monitor
from lenet_jax.runs.run_directory import RESULT, RUN, SWEEP
from lenet_jax.storage import is_locked, load_verified, read_file
from lenet_jax.sweeps.ledger import ENDED, JOBS
from lenet_jax.sweeps.statistics import printable, wilson_interval

_MAX_BYTES = 1 << 26  # of a JSON file
_SUMMARY = "summary.json"
_HEAD = ("started", "directory", "model", "data", "state", "validation", "test", "95 % interval of the test")


class Found(NamedTuple):
    """A run or a sweep."""

    path: str  # relative to the folder
    started: str
    model: str
    data: str
    state: str
    results: tuple[str, str, str] = ("", "", "")  # on the validation and the test set, and the interval of the latter


def index_document(folder: Path) -> Document:
    """Return the index of all runs and sweeps below a folder, the newest first; jobs of a sweep have its own page.

    Only JSON files are read, and no code is imported. A row has what is known: a directory whose files are damaged says
    so. Links to folders are not followed.

    Args:
        folder: where to look, at any depth.

    Raises:
        InputError: if it is no folder, or is itself that of a run or a sweep.
    """
    if not folder.is_dir():
        raise InputError(f"report: `DIR` must be a folder of runs and sweeps with --index; got {folder}.")
    if any((folder / name).is_file() for name in (RUN, SWEEP)):
        raise InputError(
            f"report: `DIR` must be a folder of runs and sweeps with --index, not one of them; got {folder}; leave "
            "--index out."
        )
    found = sorted(find_all(folder), key=lambda each: (each.started, each.path), reverse=True)
    return Document(f"Runs in {printable(folder.resolve().name)}", _parts(folder, found))


def _parts(folder: Path, found: list[Found]) -> Iterator[Part]:
    states = [each.state.split(":")[0] for each in found]
    counts = ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states)))
    yield Facts({"folder": printable(str(folder.resolve())), "runs and sweeps": f"{len(found)} ({counts})"})
    yield Table("", _HEAD, [_row(folder, each) for each in found], is_sortable=True, is_list=True)


def _row(folder: Path, found: Found) -> list[Cell]:
    has_page = (folder / found.path / "index.html").is_file()
    target = f"{found.path}/index.html" if has_page else f"{found.path}/"
    name = Link(target, found.path) if found.path.isprintable() else printable(found.path)
    return [utc(found.started), name, found.model, found.data, found.state, *found.results]


def find_all(folder: Path) -> Iterator[Found]:
    """Yield each run and sweep below a folder, in no order."""
    for path, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        read = _sweep if SWEEP in files else _run if RUN in files else None
        if read is None:
            continue
        folders.clear()
        directory = Path(path)
        name = directory.relative_to(folder).as_posix()
        try:
            yield read(directory, name)
        except InputError:
            yield Found(name, "", "", "", "damaged")
        except (LookupError, TypeError, ValueError, AttributeError):  # JSON of another form than ours
            yield Found(name, "", "", "", "unknown")


def _read(path: Path) -> dict[str, Any]:
    return load_verified(path, read_file(path, _MAX_BYTES))


def _run(directory: Path, name: str) -> Found:
    run = _read(directory / RUN)
    known = (name, _started(run), _model(run["config"]), str(run["data"]["name"]))
    if not (directory / RESULT).is_file():
        return Found(*known, "running" if is_locked(directory) else "stopped")
    result = _read(directory / RESULT)
    monitor = Monitor.of(result)
    validation, test = result.get(monitor.key), result.get(f"test_{monitor.metric}")
    examples, interval = result.get("test_examples"), None
    if is_fraction(monitor.metric) and examples and test is not None:
        interval = wilson_interval(test, examples)
    results = _results(monitor.metric, validation, test, interval)
    return Found(*known, f"finished: {result['stopped_by']}, {result['epochs']} epochs", results)


def _sweep(directory: Path, name: str) -> Found:
    sweep = _read(directory / SWEEP)
    data = ", ".join(dict.fromkeys(str(each["name"]) for each in sweep["data"]))
    known = (name, _started(sweep), _model(sweep["base"]), data)
    is_running = is_locked(directory)
    if is_running or not (directory / _SUMMARY).is_file():
        count = sum(path.suffix == ".json" for path in (directory / JOBS).glob("*"))
        return Found(*known, f"{'running' if is_running else 'stopped'}: {count} jobs begun")
    summary = _read(directory / _SUMMARY)
    states = [job["state"] for job in summary["jobs"]]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    state = "finished" if set(states) <= set(ENDED) else "stopped"
    return Found(*known, f"{state}: {len(states)} jobs, {counts}", _best(summary))


def _best(summary: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return the results of the best configuration of a sweep by its `summary.json`: means over seeds or folds."""
    best = next(iter(summary.get("best_groups") or ()), None)
    group = next((each for each in summary["groups"] if best and each["jobs"] == best["jobs"]), None)
    if best is None or group is None:
        return "", "", ""
    metric, measures = best["metric"], group["measures"]
    validation, test = (measures.get(f"{part}_{metric}") or {} for part in ("validation", "test"))
    return _results(metric, validation.get("mean"), test.get("mean"), test.get("interval"), n=test.get("n", 1))


def _results(metric: str, validation: Any, test: Any, interval: Any, *, n: int = 1) -> tuple[str, str, str]:
    name = "" if is_fraction(metric) else f" ({spoken(metric)})"
    values = [f"{show_metric(metric, each)}{name}" if each is not None else "" for each in (validation, test)]
    ends = " to ".join(show_metric(metric, end) for end in interval or ())
    over = f", mean of {n}" if n > 1 else ""
    return values[0], values[1], f"{ends}{over}"


def _model(config: Mapping[str, Any]) -> str:
    return printable(short_name(config["model"])) if TARGET in config["model"] else ""


def _started(content: Mapping[str, Any]) -> str:
    return str(content.get("started", ""))
