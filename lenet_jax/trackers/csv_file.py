"""A table of a run's evaluations for spreadsheets."""

import csv
from pathlib import Path

from lenet_jax.config.checks import CsvName
from lenet_jax.runs import Evaluated, Event, Started
from lenet_jax.trackers import Tracker


def csv_file(*, directory: str, name: CsvName = "metrics.csv") -> Tracker:
    """Return the tracker that writes each evaluation as a row of a CSV file.

    Args:
        directory: of the run.
        name: of the file in it, which ends in .csv.
    """
    path = Path(directory, name)

    def append(record: dict) -> None:
        is_new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, list(record))
            if is_new:
                writer.writeheader()
            writer.writerow(record)

    def track(event: Event) -> None:
        match event:
            case Started():
                path.unlink(missing_ok=True)
                for record in event.previous_evaluations:
                    append(record)
            case Evaluated():
                append(event.record)

    return track
