"""The events of a run again, from its record."""

import math
from collections.abc import Iterator

import safetensors

from lenet_jax.errors import InputError
from lenet_jax.runs import Evaluated, Event, Finished, Interrupted, Monitor, Started
from lenet_jax.runs.run_directory import RUN, Record, file_of_result
from lenet_jax.train_plan import plan_run


def replay(record: Record) -> Iterator[Event]:
    """Yield the events of a run in their order; `Interrupted` at the end of one that has not finished.

    Args:
        record: of the run. Nothing that its configuration names is imported.

    Raises:
        InputError: if `run.json` lacks something.
    """
    try:
        num_train, device = record.run["data"]["train"], record.run["devices"][0]["kind"]
    except (LookupError, TypeError) as error:
        raise InputError(f"{record.directory / RUN}: is damaged, no data or devices in it; restore it.") from error
    num_evaluations = plan_run(record.config.trainer, num_train).num_intervals
    yield Started(record.config, num_train, _count_parameters(record), num_evaluations, device, _find_monitor(record))
    for line in record.metrics:
        yield Evaluated(line)
    yield Interrupted() if record.result is None else Finished(record.result, record.directory)


def _find_monitor(record: Record) -> Monitor:
    """Return the monitor of a run; of one that has not finished, a metric that it has."""
    default = Monitor()
    has_default = any(default.key in line for line in record.metrics[:1])
    return Monitor.of(record.result or ({} if has_default else {"monitor": "loss", "mode": "min"}))


def _count_parameters(record: Record) -> int:
    """Return the number of parameters, by the header of the weights; 0 if there are none, as in an unfinished run."""
    path = record.directory / file_of_result(record.config.trainer.weights)
    if not path.is_file():
        return 0
    with safetensors.safe_open(path, "numpy") as file:
        shapes = [file.get_slice(name).get_shape() for name in file.keys() if name.startswith("params/")]  # noqa: SIM118
    return sum(map(math.prod, shapes))
