"""Reading back what a run has recorded."""

from pathlib import Path
from typing import Any, NamedTuple

from lenet_jax.config import Config, from_dict
from lenet_jax.errors import InputError
from lenet_jax.runs.run_directory import METRICS, RESULT, RUN, parse_metrics
from lenet_jax.storage import unseal


class Record(NamedTuple):
    """What a run has left in its directory."""

    directory: Path
    config: Config
    run: dict[str, Any]  # run.json
    metrics: list[dict[str, Any]]  # the lines of metrics.jsonl
    result: dict[str, Any] | None  # result.json; None: the run has not ended


def read_record(directory: Path) -> Record:
    """Read the directory of a run, ended or not.

    Raises:
        InputError: if it holds no run, or a file in it is damaged or of another version.
    """
    if not (directory / RUN).is_file():
        raise InputError(f"`DIR` must be the directory of a run, with a {RUN} in it; got {directory}.")
    run, metrics, result = (directory / name for name in (RUN, METRICS, RESULT))
    described = unseal(run, run.read_bytes())
    return Record(
        directory,
        from_dict(described.get("config", {})),
        described,
        parse_metrics(metrics, metrics.read_bytes()) if metrics.is_file() else [],
        unseal(result, result.read_bytes()) if result.is_file() else None,
    )
