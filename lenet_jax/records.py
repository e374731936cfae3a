"""What a run or a sweep has left in its directory, as objects: `lj.open_run`, `lj.open_sweep`."""

import contextlib
import html
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lenet_jax import components
from lenet_jax.config import Config
from lenet_jax.data.folds import build_data
from lenet_jax.errors import InputError
from lenet_jax.interop.conventions import example_of
from lenet_jax.interop.models import build_model
from lenet_jax.runs import Monitor
from lenet_jax.runs.run_directory import Record, check_is_run, file_of_result, read_record
from lenet_jax.runs.session_objects import Objects
from lenet_jax.runs.trust import allowed_packages, complete_allowed, refuse_links
from lenet_jax.storage import to_json
from lenet_jax.sweeps.ledger import DONE, Entry, Ledger
from lenet_jax.sweeps.statistics import summarize_sweep, summary_to_dict
from lenet_jax.types import Dataset, Model, Variables
from lenet_jax.weights import load_variables

_SHOWN = ("test_", "validation_")  # beginnings of the keys of a result that `repr` shows


class Run:
    """A run, finished or not, as its directory has it. Nothing of it is code: only `model` and `data` import any.

    Attributes:
        directory: of the run.
        config: the recorded configuration, complete; by attributes or items, `run.config.optimizer.learning_rate`.
        result: the content of `result.json`; {} if the run has not finished.
        metrics: the columns of `metrics.jsonl`: name -> (evaluations,) array, NaN where a line lacks the value.
        provenance: the content of `run.json`: code, versions, platform, data, when and by which command.
    """

    def __init__(self, record: Record, allowed: Iterable[str] = (), objects: Objects | None = None) -> None:
        """Show a record; `open_run` reads it.

        Args:
            record: of the run.
            allowed: packages that the configuration may name; see `lenet_jax.runs.trust`.
            objects: those that were given from Python in place of components.
        """
        self._record, self._allowed, self._objects = record, frozenset(allowed), objects or Objects()
        self.directory = record.directory
        self.result: dict[str, Any] = dict(record.result or {})
        self.provenance: dict[str, Any] = record.run

    @property
    def config(self) -> Any:
        """Return the recorded configuration, read-only."""
        from omegaconf import OmegaConf

        from lenet_jax.hydra_app.recorded_loader import without_interpolations

        config = OmegaConf.create(without_interpolations(self.provenance["config"]))
        OmegaConf.set_readonly(config, True)
        return config

    @property
    def metrics(self) -> dict[str, np.ndarray]:
        """Return the columns of `metrics.jsonl`."""
        lines = self._record.metrics
        names = dict.fromkeys(name for line in lines for name in line)
        return {name: np.asarray([_number(line.get(name)) for line in lines]) for name in names}

    def variables(self, weights: Literal["best", "last"] | None = None) -> Variables:
        """Return the trained parameters and the state.

        Args:
            weights: "best" or "last", where the run has kept both (`trainer.weights`); None: its result.

        Raises:
            InputError: if there are none, they are damaged, or the model names code that is not allowed.
        """
        of_result = "last" if self.provenance["config"]["trainer"].get("weights") == "last" else "best"
        name = file_of_result(weights or of_result)
        if not (self.directory / name).is_file():
            raise InputError(f"`weights` must be of a run that has them in {name}; {self.directory} has none.")
        return load_variables(self.directory / name, self.model())

    def model(self) -> Model:
        """Return the network.

        Raises:
            InputError: if it names code that is not allowed: `lj.open_run(directory, allow=["mylab"])`.
        """
        with self._built_from() as config:
            data = self.provenance["data"]
            example: Any = tuple(data["image_shape"])
            if not config.data[components.TARGET].startswith("lenet_jax."):
                example = example_of(build_data(config.data).train.inputs)
            return build_model(config.model, example, data["num_classes"])

    def data(self) -> Dataset:
        """Return the data set that the run was trained on.

        Raises:
            InputError: as `model`, or if the data cannot be had.
        """
        with self._built_from() as config:
            return build_data(config.data)

    @contextlib.contextmanager
    def _built_from(self) -> Iterator[Config]:
        with self._objects.in_place():
            yield complete_allowed(self._record.config, self._allowed, str(self.directory), self.directory)

    def __repr__(self) -> str:
        """Return one line: the directory and the results."""
        return f"Run({str(self.directory)!r}, {_outcome(self.result)})"

    def _repr_html_(self) -> str:
        """Return the results and the learning curves, for a notebook."""
        rows = [(key, _shown(value)) for key, value in self.result.items() if key.startswith(_SHOWN)]
        rows += [(key, _shown(self.result[key])) for key in ("epochs", "stopped_by", "seconds") if key in self.result]
        return f"{_table([('run', self.directory), *rows])}{self._curves()}"

    def _curves(self) -> str:
        from lenet_jax.report.curves import draw_curves
        from lenet_jax.report.svg import inline_svg

        if not self._record.metrics:
            return ""
        figure = draw_curves(self._record.metrics, Monitor.of(self.result))
        return inline_svg(figure, name="learning_curves", caption="Learning curves")


class Job(Run):
    """A run of a sweep that has begun.

    Attributes:
        number: of the job, from 0.
        overrides: the overrides that it was composed with.
        state: "pending", "running", "done", "failed" or "diverged".
        error: one line, if it has failed.
    """

    def __init__(self, entry: Entry, record: Record, allowed: Iterable[str], objects: Objects | None) -> None:
        """Show a job and its record."""
        super().__init__(record, allowed, objects)
        self.number, self.overrides, self.state, self.error = entry.number, entry.overrides, entry.state, entry.error

    def __repr__(self) -> str:
        """Return one line: number, overrides and results."""
        return f"Job({self.number}, {' '.join(self.overrides)}, {_outcome(self.result) if self.result else self.state})"


class Sweep:
    """A sweep, finished or not, as its directory has it; iterates over its jobs that have begun.

    Attributes:
        directory: of the sweep.
        jobs: those that have begun, as `Job`, in the order of their numbers.
    """

    def __init__(self, ledger: Ledger, allowed: Iterable[str] = (), objects: Objects | None = None) -> None:
        """Show a ledger; `open_sweep` reads it."""
        self._ledger, self._allowed, self._objects = ledger, frozenset(allowed), objects
        self.directory = ledger.directory

    @property
    def jobs(self) -> list[Job]:
        """Return the jobs that have begun."""
        return list(self)

    def __iter__(self) -> Iterator[Job]:
        """Yield the jobs that have begun."""
        for entry in self._ledger.entries():
            path = self._ledger.run_directory(entry)
            try:
                record = read_record(path)
            except InputError:
                if entry.result is None:
                    continue  # it has not begun, or its folder is gone
                raise
            yield Job(entry, record, self._allowed, self._objects)

    def __len__(self) -> int:
        """Return the number of all jobs that are known."""
        return len(self._ledger.known_entries())

    def summary(self) -> dict[str, Any]:
        """Return what `summary.json` has: a row a job, statistics over seeds, the best ones, the failures."""
        return json.loads(to_json(summary_to_dict(summarize_sweep(self._ledger.entries()))))

    def best(self) -> Job:
        """Return the best run, by the metric that judges it on the validation set.

        Raises:
            InputError: if no job is complete, or they are judged by different metrics.
        """
        number = summarize_sweep(self._ledger.entries()).best
        found = next((job for job in self if job.number == number), None)
        if found is None:
            raise InputError(f"{self.directory}: has no best run: no job is complete, or they are judged differently.")
        return found

    def __repr__(self) -> str:
        """Return one line: the directory and how many jobs are done."""
        entries = self._ledger.known_entries()
        done = sum(entry.state == DONE for entry in entries)
        return f"Sweep({str(self.directory)!r}, {done} of {len(entries)} jobs done)"

    def _repr_html_(self) -> str:
        """Return a table of the jobs, for a notebook."""
        rows: list[tuple[Any, ...]] = [("job", "overrides", "validation", "test")]
        for job in self:
            key = Monitor.of(job.result).metric if job.result else ""
            values = [_shown(job.result.get(f"{part}_{key}", job.state)) for part in ("validation", "test")]
            rows.append((job.number, " ".join(job.overrides), *values))
        return _table(rows)


def open_run(
    directory: str | Path, *, allow: Iterable[str] = (), trust: bool = False, objects: Objects | None = None
) -> Run:
    """Return a run that lies in a directory, finished or not.

    Args:
        directory: of the run.
        allow: packages of yours that its configuration may name, for `Run.model` and `Run.data`.
        trust: whether it may name any code.
        objects: those that were given from Python; `lj.run` supplies them.

    Raises:
        InputError: if there is no run, or a file of it is damaged.
    """
    path = Path(directory)
    check_is_run(path)
    refuse_links(path)
    return Run(read_record(path), allowed_packages(allow, trust=trust), objects)


def open_sweep(
    directory: str | Path, *, allow: Iterable[str] = (), trust: bool = False, objects: Objects | None = None
) -> Sweep:
    """Return a sweep that lies in a directory, finished or not.

    Args:
        directory: of the sweep.
        allow: packages of yours that its configurations may name.
        trust: whether they may name any code.
        objects: those that were given from Python; `lj.sweep` supplies them.

    Raises:
        InputError: if there is no sweep, or a file of it is damaged.
    """
    path = Path(directory)
    refuse_links(path)
    return Sweep(Ledger(path), allowed_packages(allow, trust=trust), objects)


def _outcome(result: Mapping[str, Any]) -> str:
    if not result:
        return "not finished"
    metric = Monitor.of(result).metric
    found = [f"{part} {metric} {_shown(result.get(f'{part}_{metric}'))}" for part in ("validation", "test")]
    return f"{', '.join(found)}, {result['epochs']} epochs, {result['stopped_by']}"


def _number(value: Any) -> float | int:
    return value if isinstance(value, int | float) else float("nan")


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _table(rows: Iterable[tuple[Any, ...]]) -> str:
    cells = ("".join(f"<td>{html.escape(str(each))}</td>" for each in row) for row in rows)
    return f"<table>{''.join(f'<tr>{row}</tr>' for row in cells)}</table>"
