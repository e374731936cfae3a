"""What the report of a run says of it in tables: its results, where it ran, its settings, its files."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lenet_jax.components import short_name
from lenet_jax.config import Config, to_dict
from lenet_jax.config.catalogue import GROUPS, TARGET
from lenet_jax.report.document import Code, Facts, Link, Links, Stacked, Table
from lenet_jax.report.text import code_text, is_fraction, show_metric, spoken, utc
from lenet_jax.runs import Monitor
from lenet_jax.runs.evaluate import EvaluationReport
from lenet_jax.runs.run_directory import CHECKPOINTS, Record
from lenet_jax.storage import to_json
from lenet_jax.sweeps.statistics import wilson_interval

_FILES = (
    *("*.json", "*.jsonl", "*.csv", "*.log", "*.patch", ".hydra/*.yaml", f"{CHECKPOINTS}/*.safetensors", "figures"),
    *("*.pdf", "model.*", "tensorboard"),
)


def facts(record: Record, evaluation: EvaluationReport) -> Facts:
    """Return a table of the results of a run, and of when, where and with which code it ran.

    Args:
        record: the record of the run.
        evaluation: the evaluation of its weights.
    """
    run, result, config = record.run, record.result or {}, record.config
    monitor = Monitor.of(result)
    metric, examples = monitor.metric, "images" if evaluation.confusion is not None else "examples"
    validation = show_metric(metric, result[monitor.key]) if result else "the run has not finished"
    values = {
        "notes": config.notes,
        "tags": ", ".join(config.tags),
        "model": short_name(config.model),
        "optimizer": short_name(config.optimizer),
        "data": f"{run['data']['name']}, {_parts(run['data'], examples)}",
        "seed": config.seed,
        f"test {spoken(metric)}": _with_interval(metric, evaluation.summary[metric], evaluation.summary["examples"]),
        f"validation {spoken(metric)}": validation,
        "best epoch": _best_epoch(record, monitor),
        "epochs": result.get("epochs", ""),
        "stopped by": result.get("stopped_by", ""),
        "time": _time(result),
        "started": utc(run.get("started", "")),
        "ended": utc(run.get("ended", "")),
        "machine": _machine(run),
        "versions": ", ".join(f"{name} {version}" for name, version in run["versions"].items() if version is not None),
        "code": code_text(run["code"]),
        "command": Code(run["command"]) if run.get("command") else "",
        "parameters, SHA-256": result.get("parameters_sha256", ""),
    }
    return Facts({name: value for name, value in values.items() if value != ""})


def _parts(data: Mapping[str, Any], examples: str) -> str:
    """Return how many examples each part of the data has."""
    others = [
        f"{data[part]:,} to {verb}" for part, verb in (("validation", "validate"), ("test", "test")) if part in data
    ]
    return ", ".join([f"{data['train']:,} {examples} to train", *others])


def _with_interval(metric: str, value: float, examples: int) -> str:
    """Return the value of a metric, of how many examples it is, and the interval of a fraction."""
    shown = f"{show_metric(metric, value)} of {examples:,}"
    if not is_fraction(metric):
        return shown
    low, high = (show_metric(metric, end) for end in wilson_interval(value, examples))
    return f"{shown}, 95 % interval {low} to {high} (Wilson's)"


def _best_epoch(record: Record, monitor: Monitor) -> str:
    if not record.metrics:
        return ""
    best = min(record.metrics, key=monitor.error)
    iteration = f" (iteration {best['iteration']:,})" if "iteration" in best else ""
    return f"{best['epoch']:g}{iteration}"


def _time(result: Mapping[str, Any]) -> str:
    if "seconds" not in result:
        return ""
    parts = [f"{_rounded(result['seconds'], 1)} s"]
    if result.get("compile_seconds") is not None:
        parts.append(f"of which compilation {_rounded(result['compile_seconds'], 1)} s")
    if result.get("images_per_second") is not None:
        parts.append(f"{_rounded(result['images_per_second'], 0)} examples a second")
    return ", ".join(parts)


def _rounded(value: object, digits: int) -> str:
    return f"{value:,.{digits}f}" if isinstance(value, int | float) else str(value)


def _machine(run: Mapping[str, Any]) -> str:
    """Return the devices of a run, and what is recorded of its machine."""
    devices = [str(device["kind"]) for device in run["devices"]]
    platform = run.get("platform") or {}
    count = [f"{platform['cpu_count']} CPUs"] if platform.get("cpu_count") else []
    named = [str(platform[name]) for name in ("processor", "system") if platform.get(name)]
    counted = [f"{devices.count(kind)} x {kind}" for kind in dict.fromkeys(devices)]
    host = [str(run["host"])] if run.get("host") else []
    return ", ".join([*host, f"devices: {', '.join(counted)}", *named, *count])


def settings(config: Config) -> Table:
    """Return a table of all options of a run, those of each component and those of the trainer."""
    nested = to_dict(config)
    rows = [row for group in GROUPS for row in _components(group, nested[group])]
    rows.append(["trainer", "", _options(nested["trainer"])])
    return Table("Settings", ["", "function", "options"], rows, is_list=True)


def _components(path: str, node: Any) -> Iterator[list[object]]:
    """Yield a row for each component of a group, which may hold one, several by name, or a list of them."""
    if isinstance(node, Mapping) and TARGET in node:
        yield [path, node[TARGET], _options({name: value for name, value in node.items() if name != TARGET})]
    elif isinstance(node, Mapping):
        for name, each in node.items():
            yield from _components(f"{path}.{name}", each)
    elif isinstance(node, list):
        for number, each in enumerate(node):
            yield from _components(f"{path}[{number}]", each)


def _options(values: Mapping[str, Any]) -> Stacked:
    """Return options, one a line, as the command line takes them."""
    return Stacked(tuple(_option_lines(values, "")))


def _option_lines(values: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, Mapping) and TARGET not in value:
            yield from _option_lines(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}={value if isinstance(value, str) else to_json(value)}"


def confusion_counts(evaluation: EvaluationReport) -> list[Table]:
    """Return the confusion matrix of a classifier in counts; nothing for others."""
    if evaluation.confusion is None:
        return []
    matrix = np.asarray(evaluation.confusion)
    rows = [[label, *(count or "" for count in row), sum(row)] for label, row in enumerate(matrix.tolist())]
    head = ["true class", *range(len(matrix)), "all"]
    return [Table("Counts of predictions", head, rows, "Images of each true class (row) by prediction (column).")]


def files(directory: Path) -> Links:
    """Return links to the files of a run that are there."""
    found = [path for pattern in _FILES for path in sorted(directory.glob(pattern))]
    names = [path.relative_to(directory).as_posix() for path in found if not path.name.startswith(".")]
    return Links("Files", [Link(name, name) for name in names if name.isprintable()])
