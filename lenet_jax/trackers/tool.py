"""A tracker that records runs with a tool: what TensorBoard, MLflow and Weights & Biases have in common."""

from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from lenet_jax.errors import describe_error
from lenet_jax.runs import Evaluated, Event, Failed, Finished, Interrupted, Started
from lenet_jax.trackers import Tracker
from lenet_jax.trackers.described_run import DescribedRun, describe_run, draw_pictures, final_metrics, metrics, texts


@runtime_checkable
class Tool(Protocol):
    """Records one run. Times are in seconds since 1970; the same values come each time that the run is recorded."""

    def start(self, run: DescribedRun, started: Started) -> None:
        """Create the run, or continue it if the tool has it already."""
        ...

    def evaluate(self, iteration: int, time: float, metrics: dict[str, float]) -> None:
        """Record an evaluation, unless the tool has it already."""
        ...

    def finish(self, iteration: int, time: float, metrics: dict[str, float], texts: dict[str, str]) -> None:
        """Record the result and the files of the run, whose last iteration this is."""
        ...

    def stop(self, error: str | None) -> None:
        """Close the run before its end, because it has failed or, without an error, was interrupted."""
        ...


def make_tracker(directory: str, tool: Tool) -> Tracker:
    """Return the tracker that records a run with a tool.

    Args:
        directory: of the run.
        tool: records it.
    """
    path = Path(directory)
    run: DescribedRun | None = None
    started: Started | None = None
    records: list[dict[str, Any]] = []

    def evaluate(record: dict[str, Any]) -> None:
        assert run is not None
        records.append(record)
        tool.evaluate(record["iteration"], run.time(record["seconds"]), metrics(record))

    def track(event: Event) -> None:
        nonlocal run, started
        if isinstance(event, Started):
            run, started = describe_run(path), event
            records.clear()
            tool.start(run, event)
            for record in event.previous_evaluations:
                evaluate(record)
        elif run is None or started is None:
            return  # the run has failed before it started: there is nothing of it
        elif isinstance(event, Evaluated):
            evaluate(event.record)
        elif isinstance(event, Finished):
            draw_pictures(path, records, started.monitor)
            evaluated = metrics(records[-1]) if records else {}
            time = run.time(event.result.get("seconds", 0.0))
            values = final_metrics(event.result, evaluated)
            tool.finish(event.result["iterations"], time, values, texts(event.result))
        elif isinstance(event, Failed | Interrupted):
            tool.stop(describe_error(event.error) if isinstance(event, Failed) else None)

    return track
