"""Trackers: functions of a run's events."""

from pathlib import Path

from lenet_jax.runs import Evaluated, Started


def lines(*, directory: str, name: str = "errors.txt"):
    """Return the tracker that appends one line an evaluation to a text file in the directory of the run.

    Args:
        directory: of the run, which supplies it.
        name: of the file.
    """
    path = Path(directory, name)

    def append(record):  # with epoch, train_loss, validation_loss, and the metrics of the objective
        values = [f"{key} {value}" for key, value in record.items() if key.startswith("validation_")]
        with path.open("a") as file:
            file.write(f"epoch {record['epoch']}: {', '.join(values)}\n")

    def track(event):
        match event:
            case Started():  # with the evaluations before an interruption
                path.unlink(missing_ok=True)
                for record in event.previous_evaluations:
                    append(record)
            case Evaluated():
                append(event.record)

    return track
