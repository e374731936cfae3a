"""What a run or a sweep would cost, as lines of text and as values for JSON."""

import hashlib
from collections.abc import Sequence
from typing import Any

import jax

from lenet_jax.report.dry_run import job_lines, programs_line
from lenet_jax.report.text import align, size
from lenet_jax.runs.cost import NUM_STEPS
from lenet_jax.runs.prepared_run import program_signature
from lenet_jax.sweeps.dry_run import GroupCost, separating_keys

_UNKNOWN = "unknown"
_PREFIXES = ("", " k", " M", " G", " T", " P", " E")

ASSUMPTIONS = (
    f"A step is the median of {NUM_STEPS} that were timed here, of all lanes of a program together, after a first one.",
    "Times are of training steps alone, of runs that nothing stops early: without compilation, validation and files.",
    "On N devices like these each has the same number of runs, and a step takes in proportion to the runs of a device.",
    "Flops are those of the definitions of the operations, as XLA counts them: a multiply-add is two.",
    "Memory is that of each device, for the program that trains all lanes up to a validation. Nothing was written.",
)


def plan_lines(
    costs: Sequence[GroupCost], directory: str, *, launcher: str = "", max_devices: int | None = None
) -> list[str]:
    """Return what a run or a sweep would cost, as lines.

    Args:
        costs: of the groups.
        directory: in which it would be recorded.
        launcher: that of Hydra which runs each job by itself; "": none.
        max_devices: as in `device_counts`.
    """
    plans = [cost.plan for cost in costs]
    counts = device_counts(costs, launcher, max_devices)
    times = [("devices", *map(str, counts)), ("time", *(duration(total_seconds(costs, count)) for count in counts))]
    return [
        *job_lines(plans),
        "",
        *_program_lines(costs),
        "",
        *align(times),
        "",
        programs_line(plans, launcher),
        f"directory: {directory}",
        f"measured on: {_device()}",
        "",
        *ASSUMPTIONS,
    ]


def plan_values(
    costs: Sequence[GroupCost], directory: str, *, launcher: str = "", max_devices: int | None = None
) -> dict[str, Any]:
    """Return the same as values for JSON: bytes, seconds and numbers of operations; None is unknown."""
    plans = [cost.plan for cost in costs]
    seconds = {str(n): total_seconds(costs, n) for n in device_counts(costs, launcher, max_devices)}
    return {
        "schema": 1,
        "directory": directory,
        "launcher": launcher or None,
        "device": _device(),
        "separating_keys": separating_keys(plans),
        "programs": [_program_values(number, cost) for number, cost in enumerate(costs)],
        "seconds_by_devices": seconds,
        "assumptions": list(ASSUMPTIONS),
    }


def device_counts(costs: Sequence[GroupCost], launcher: str = "", max_devices: int | None = None) -> list[int]:
    """Return the numbers of devices for which the time is said: 1, 2, 4 and so on, and the largest.

    Args:
        costs: of the groups.
        launcher: that of Hydra which runs each job by itself, then in this process or in others; "": none.
        max_devices: the largest number; None: 8, or more if this process has more. It is at most the number of jobs of
            a group, and 1 with a launcher, which decides itself where jobs run.
    """
    most = max_devices or max(8, jax.local_device_count())
    largest = 1 if launcher else min(most, max(len(cost.plan.jobs) for cost in costs))
    return sorted({*(2**power for power in range(largest.bit_length())), largest})


def total_seconds(costs: Sequence[GroupCost], num_devices: int) -> float:
    """Return the time of the training steps of all groups, which run one after another; see `GroupCost.seconds`."""
    return sum(cost.seconds(num_devices) for cost in costs)


def duration(seconds: float) -> str:
    """Return a time as text, in two units at most."""
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes:02} min"
    return f"{hours // 24} d {hours % 24:02} h"


def count(number: float | None) -> str:
    """Return a large number as text, of three digits and a prefix such as M for a million."""
    if number is None:
        return _UNKNOWN
    power = 0
    while number >= 999.5 and power < len(_PREFIXES) - 1:
        number, power = number / 1000, power + 1
    return f"{number:.3g}{_PREFIXES[power]}"


def _program_lines(costs: Sequence[GroupCost]) -> list[str]:
    cells: list[tuple[str, ...]] = [
        (
            *("program", "signature", "jobs", "strategy", "lanes", "devices", "parameters", "arguments", "temporary"),
            *("outputs", "flops a step", "flops a run", "steps", "ms a step"),
        )
    ]
    for number, cost in enumerate(costs):
        program, values = cost.program, _program_values(number, cost)
        memory = (_UNKNOWN,) * 3 if program.memory is None else tuple(map(size, program.memory))
        cells.append(
            (
                *(str(number), values["signature"][:8], str(len(cost.plan.jobs)), program.strategy),
                *(str(program.num_lanes), str(program.num_devices), f"{program.parameters:,}", *memory),
                *(count(values["flops_a_step"]), count(values["flops_a_run"])),
                *(f"{program.steps:,}", f"{1000 * program.seconds:.3g}"),
            )
        )
    return align(cells, left=2)


def _program_values(number: int, cost: GroupCost) -> dict[str, Any]:
    program, jobs = cost.program, cost.plan.jobs
    signature = hashlib.sha256(program_signature(jobs[0].config).encode()).hexdigest()
    return {
        "program": number,
        "signature": signature,
        "jobs": [job.number for job in jobs],
        "strategy": program.strategy,
        "lanes": program.num_lanes,
        "devices": program.num_devices,
        "parameters": program.parameters,
        "memory": None if program.memory is None else program.memory._asdict(),
        "flops_a_step": program.flops,
        "flops_a_run": None if program.flops is None else program.flops * program.steps,
        "steps_a_run": program.steps,
        "seconds_a_step": program.seconds,
    }


def _device() -> str:
    devices = jax.local_devices()
    return f"{len(devices)} x {devices[0].device_kind}"
