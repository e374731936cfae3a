"""Reading back what a run has recorded."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from lenet_jax.config import Config, from_dict
from lenet_jax.errors import InputError
from lenet_jax.runs.run_directory import METRICS, RESULT, RUN, SCHEMA


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
    run = _parse(directory / RUN, (directory / RUN).read_text())
    lines = (directory / METRICS).read_text().splitlines() if (directory / METRICS).is_file() else []
    metrics = [_parse(directory / METRICS, line) for line in lines]
    result = directory / RESULT
    return Record(
        directory,
        from_dict(run.get("config", {})),
        run,
        [line for line in metrics if "schema" not in line],
        _parse(result, result.read_text()) if result.is_file() else None,
    )


def _parse(path: Path, text: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise InputError(f"{path}: must be JSON as lenet-jax writes it; {error}.") from error
    if not isinstance(content, dict) or content.get("schema", SCHEMA) != SCHEMA:
        raise InputError(f"{path}: must be an object of schema {SCHEMA}; use the version of lenet-jax that wrote it.")
    return content
