"""The process that measures one system: python -m experiments.benchmarks.worker CASE POINT SYSTEM.

The last line of its output is the result as JSON.
"""

import argparse
import importlib
import json
import resource
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from types import MappingProxyType, ModuleType
from typing import Any, NamedTuple

from experiments.benchmarks.cases import CASES, SYSTEMS, Case


class Job(NamedTuple):
    """The measurement that one process makes."""

    case: Case
    task: Any  # a problem.Task, of the type that the measure of the case needs
    system: str  # a key of SYSTEMS
    started: float  # start time of the process, by time.monotonic()


class Measured(NamedTuple):
    """The result of a measurement."""

    check: float | None  # must agree between all systems of the case; None: no check
    value: float  # in the unit of the case
    also: Mapping[str, float] = MappingProxyType({})  # further values, by the headings of their columns


def measure(job: Job) -> dict[str, Any]:
    """Measure one system; return the fields of `Measured` and the device that was used."""
    system = SYSTEMS[job.system]
    module = importlib.import_module(f"experiments.benchmarks.systems.{system.module}")
    measured = MEASURES[job.case.measure](job, module, system.options)
    return {"device": module.device_name(), **measured._asdict(), "also": dict(measured.also)}


def _training(job: Job, module: ModuleType, options: Mapping[str, Any]) -> Measured:
    loss, seconds = module.train(job.task, **options)
    epoch = statistics.median(seconds)
    return Measured(loss, 1000 * epoch / job.task.steps if job.case.unit == "ms a step" else epoch)


def _growth(job: Job, module: ModuleType, options: Mapping[str, Any]) -> Measured:
    measured = _training(job, module, options)
    images, scale = (job.task.batch, 1000) if job.case.unit == "ms a step" else (job.task.images, 1_000_000)
    return measured._replace(also={"µs an image": scale * measured.value / images})


def _reading(job: Job, module: ModuleType, options: Mapping[str, Any]) -> Measured:
    check, seconds = module.read(job.task, **options)
    return Measured(check, statistics.median(seconds))


def _inference(job: Job, module: ModuleType, options: Mapping[str, Any]) -> Measured:
    check, seconds = module.infer(job.task, **options)
    return Measured(check, 1000 * statistics.median(seconds))


def _layer(job: Job, module: ModuleType, options: Mapping[str, Any]) -> Measured:
    check, seconds = module.layer(job.task, **options)
    return Measured(check, 1000 * statistics.median(seconds))


def _gradient(job: Job, module: ModuleType, options: Mapping[str, Any]) -> Measured:
    imported = _peak_megabytes()
    check, seconds = module.gradient(job.task, **options)
    peak = {"peak MB": _peak_megabytes(), "MB after import": imported}
    return Measured(check, 1000 * statistics.median(seconds), peak)


def _memory(job: Job, module: ModuleType, options: Mapping[str, Any]) -> Measured:
    imported = _peak_megabytes()
    loss, _ = module.train(job.task, **options)
    return Measured(loss, _peak_megabytes(), {"MB after import": imported})


def _peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux reports KiB


def _startup(job: Job, module: ModuleType, options: Mapping[str, Any]) -> Measured:
    loss, _ = module.train(job.task, **options)
    return Measured(loss, time.monotonic() - job.started)


def _sweep(job: Job, module: ModuleType, options: Mapping[str, Any]) -> Measured:
    swept = module.sweep(job.task, **options)
    seconds = swept.seconds / job.task.num_jobs
    return Measured(swept.accuracy, swept.seconds, {"s a job": seconds, "peak MB": swept.megabytes})


def _overhead(job: Job, module: ModuleType, options: Mapping[str, Any]) -> Measured:
    measured = _sweep(job, module, options)
    whole, programs = 1000 * measured.also["s a job"], 1000 * module.program_seconds(job.task)
    return measured._replace(value=whole - programs, also={"ms of its programs": programs, "ms in all": whole})


def _compile(job: Job, module: ModuleType, options: Mapping[str, Any]) -> Measured:
    seconds = module.compile_times(job.task)
    return Measured(None, sum(seconds.values()), {f"s to {part}": value for part, value in seconds.items()})


def _init(job: Job, module: ModuleType, options: Mapping[str, Any]) -> Measured:
    return Measured(None, module.init_seconds(job.task))


def _help(job: Job, module: ModuleType, options: Mapping[str, Any]) -> Measured:
    return Measured(None, module.help_seconds())


def _checkpoints(job: Job, module: ModuleType, options: Mapping[str, Any]) -> Measured:
    loss, epoch, checkpoint = module.checkpoint_times(job.task)
    return Measured(loss, 100 * checkpoint / epoch, {"s an epoch": epoch, "ms a checkpoint": 1000 * checkpoint})


MEASURES: dict[str, Callable[[Job, ModuleType, Mapping[str, Any]], Measured]] = {
    "training": _training,
    "growth": _growth,
    "inference": _inference,
    "reading": _reading,
    "layer": _layer,
    "gradient": _gradient,
    "memory": _memory,
    "startup": _startup,
    "compile": _compile,
    "init": _init,
    "help": _help,
    "sweep": _sweep,
    "overhead": _overhead,
    "checkpoints": _checkpoints,
}


def main() -> None:
    """Measure one system and print the result as JSON; an error is printed as JSON, too, with a traceback on stderr."""
    parser = argparse.ArgumentParser(description="Measure one system, as the parent process asks.")
    parser.add_argument("case", choices=CASES)
    parser.add_argument("point", type=int, help="its number in the case")
    parser.add_argument("system", choices=SYSTEMS)
    parser.add_argument("--started", type=float, default=time.monotonic(), help="of time.monotonic(), in seconds")
    parser.add_argument("--quick", action="store_true", help="a tiny task")
    arguments = parser.parse_args()
    case = CASES[arguments.case]
    task = case.points[arguments.point].task
    try:
        result = measure(Job(case, task.tiny() if arguments.quick else task, arguments.system, arguments.started))
    except Exception as error:  # the parent process handles the error
        traceback.print_exc()
        print(json.dumps({"error": f"{type(error).__name__}: {error}".splitlines()[0]}))
        sys.exit(1)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
