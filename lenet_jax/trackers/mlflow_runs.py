"""MLflow: a SQLite file beside the runs, or a server."""

import contextlib
import itertools
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lenet_jax.config.checks import Text
from lenet_jax.runs import Started
from lenet_jax.trackers import Tracker
from lenet_jax.trackers.described_run import DescribedRun, files, options
from lenet_jax.trackers.tool import make_tracker

STORE, ARTIFACTS = "mlflow.db", "mlflow-artifacts"  # in the folder that the directory of the run or its sweep lies in
ID = "lenet_jax.id"  # the tag by which a run is found again
_BATCH = 100  # parameters, tags and metrics that MLflow takes at once


def mlflow(
    *, directory: str, tracking_uri: Text | None = None, experiment: Text | None = None, weights: bool = True
) -> Tracker:
    """Return the tracker that records runs in MLflow.

    The configuration is its parameters, `metrics.jsonl` and the numbers of `result.json` are metrics by iteration, and
    records, figures and weights are artifacts. A run that is resumed, or tracked again, is continued: iterations that
    it has already are left as they are.

    Args:
        directory: of the run.
        tracking_uri: of the store, as http://127.0.0.1:5000; null: MLFLOW_TRACKING_URI of the environment, else
            mlflow.db in the folder that the directory of the run, or of its sweep, lies in.
        experiment: its name; null: that of this folder, or for a sweep the last two folders of its directory.
        weights: whether the weights are artifacts as well.
    """
    return make_tracker(directory, _MlflowRun(Path(directory), tracking_uri, experiment, weights=weights))


class _MlflowRun:
    """One run in MLflow."""

    def __init__(self, directory: Path, tracking_uri: str | None, experiment: str | None, *, weights: bool) -> None:
        self._directory, self._tracking_uri, self._experiment = directory, tracking_uri, experiment
        self._weights = weights
        self._client: Any = None
        self._id = ""
        self._recorded: set[int] = set()  # iterations that MLflow has
        self._final: Mapping[str, float] = {}  # the last value of each metric that MLflow has

    def start(self, run: DescribedRun, started: Started) -> None:
        """Find the run by its tag, or create it."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # nothing is sent but to the store
        from mlflow import MlflowClient  # pyright: ignore[reportMissingImports]

        config = started.config
        store = f"sqlite:///{run.folder / STORE}"
        uri = self._tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or store
        if uri == store and not (run.folder / STORE).exists():
            _create_store(run.folder / STORE)
        self._client = MlflowClient(uri)
        experiment = self._find_experiment(
            self._experiment or run.experiment, (run.folder / ARTIFACTS).as_uri() if uri == store else None
        )
        found = self._client.search_runs([experiment], f"tags.`{ID}` = '{run.id}'", max_results=1)
        if found:
            self._id = found[0].info.run_id
            self._final = found[0].data.metrics
            self._recorded = {point.step for point in self._client.get_metric_history(self._id, "epoch")}
            self._client.update_run(self._id, status="RUNNING")
        else:
            created = self._client.create_run(
                experiment, start_time=_milliseconds(run.started), tags={ID: run.id}, run_name=run.name
            )
            self._id = created.info.run_id
        tags = {"mlflow.note.content": config.notes, "tags": ", ".join(config.tags), "sweep": run.sweep or ""}
        self._log(params=options(config), tags={name: text for name, text in tags.items() if text})

    def _find_experiment(self, name: str, artifacts: str | None) -> str:
        """Return the id of an experiment, which another process may be creating at the same time."""
        from mlflow.exceptions import MlflowException  # pyright: ignore[reportMissingImports]

        found = self._client.get_experiment_by_name(name)
        if found is None:
            try:
                return self._client.create_experiment(name, artifact_location=artifacts)
            except MlflowException:
                found = self._client.get_experiment_by_name(name)
                if found is None:
                    raise
        return found.experiment_id

    def evaluate(self, iteration: int, time: float, metrics: dict[str, float]) -> None:
        """Log the metrics of an iteration, unless MLflow has it."""
        if iteration not in self._recorded:
            self._log(metrics=metrics, iteration=iteration, time=time)

    def finish(self, iteration: int, time: float, metrics: dict[str, float], texts: dict[str, str]) -> None:
        """Log the result, upload the files, and mark the run as finished."""
        new = {name: value for name, value in metrics.items() if name not in self._final}
        self._log(metrics=new, tags=texts, iteration=iteration, time=time)
        for name in files(self._directory, weights=self._weights):
            folder = str(Path(name).parent)
            self._client.log_artifact(self._id, str(self._directory / name), None if folder == "." else folder)
        self._client.set_terminated(self._id, "FINISHED", end_time=_milliseconds(time))

    def stop(self, error: str | None) -> None:
        """Mark the run as failed, or as killed, which it remains until it is resumed."""
        if error is not None:
            self._log(tags={"error": error})
        self._client.set_terminated(self._id, "KILLED" if error is None else "FAILED")

    def _log(
        self,
        *,
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
        metrics: Mapping[str, float] | None = None,
        iteration: int = 0,
        time: float = 0.0,
    ) -> None:
        from mlflow.entities import Metric, Param, RunTag  # pyright: ignore[reportMissingImports]

        when = _milliseconds(time)
        for some in _batches((params or {}).items()):
            self._client.log_batch(self._id, params=[Param(name, str(value)) for name, value in some])
        for some in _batches((tags or {}).items()):
            self._client.log_batch(self._id, tags=[RunTag(name, text) for name, text in some])
        for some in _batches((metrics or {}).items()):
            points = [Metric(name, value, when, iteration) for name, value in some]
            self._client.log_batch(self._id, metrics=points)


def _create_store(path: Path) -> None:
    """Create a SQLite file under another name first: one whose creation was interrupted cannot be used any more."""
    from mlflow import MlflowClient  # pyright: ignore[reportMissingImports]

    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}.tmp")
    try:
        MlflowClient(f"sqlite:///{temporary}").search_experiments(max_results=1)
        with contextlib.suppress(FileExistsError):  # another process was faster
            path.hardlink_to(temporary)
    finally:
        temporary.unlink(missing_ok=True)


def _batches(values: Iterable[Any]) -> Iterable[list[Any]]:
    remaining = iter(values)
    return iter(lambda: list(itertools.islice(remaining, _BATCH)), [])


def _milliseconds(seconds: float) -> int:
    return round(1000 * seconds)
