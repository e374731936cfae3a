"""What a sweep would do: its groups, their lanes, and an estimate of the memory that each group needs.

With `measure_groups` its programs are compiled as well, and their memory, operations and time are no estimates.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from lenet_jax.config import SweepConfig, from_dict, to_dict
from lenet_jax.data.streams import check_in_memory, is_streamed
from lenet_jax.errors import InputError
from lenet_jax.runs.cost import ProgramCost, measure_cost
from lenet_jax.runs.lane_memory import num_bytes
from lenet_jax.runs.prepared_run import PreparedRun, program_signature
from lenet_jax.runs.programs import choose_lanes
from lenet_jax.runs.streamed_programs import bytes_in_flight
from lenet_jax.summary import summarize, training_bytes
from lenet_jax.sweeps.groups import SweepJob, by_signature


class GroupPlan(NamedTuple):
    """A group of jobs that would share a compiled program; sizes are in bytes."""

    jobs: list[SweepJob]
    strategy: str
    num_lanes: int
    num_devices: int
    state_bytes: int  # a lane: parameters, their best copy, the optimizer's state
    gradient_bytes: int  # a lane
    activation_bytes: int | None  # a lane: the outputs of all layers for what is computed at once; None: unknown
    data_bytes: int  # a device
    prepared: PreparedRun  # any of the jobs

    @property
    def bytes(self) -> int:
        """Return an estimate of the memory of all lanes and devices; XLA needs some more for itself."""
        lane = self.state_bytes + self.gradient_bytes + (self.activation_bytes or 0)
        return self.num_lanes * lane + self.num_devices * self.data_bytes


def plan_groups(
    jobs: Sequence[SweepJob], options: SweepConfig, prepared: Mapping[str, PreparedRun], *, in_lanes: bool = True
) -> list[GroupPlan]:
    """Return the groups of a sweep, in the order in which they would run.

    Args:
        jobs: jobs of the sweep.
        options: the options of the sweep.
        prepared: prepared runs of the jobs by their program signatures.
        in_lanes: whether the jobs of a group run in parallel lanes; otherwise each in a process of its own.
    """
    plans = []
    for signature, group in by_signature(jobs).items():
        strategy, num_lanes = "map", 1
        if in_lanes:
            run = prepared[signature]
            strategy, num_lanes = choose_lanes(
                options.strategy,
                len(group),
                options.max_parallel,
                may_divide=run.may_divide,
                streamed=is_streamed(run.data),
                is_sharded=run.mesh is not None,
            )
        plans.append(_plan(group, prepared[signature], strategy, num_lanes))
    return plans


def plan_run(overrides: Sequence[str], prepared: PreparedRun, path: Path) -> GroupPlan:
    """Return the plan of a single run.

    Args:
        overrides: of its command.
        prepared: the run.
        path: of its directory.
    """
    return _plan([SweepJob(0, tuple(overrides), prepared.config, path)], prepared, "map", 1)


class GroupCost(NamedTuple):
    """A group, and what its program costs."""

    plan: GroupPlan
    program: ProgramCost

    def seconds(self, num_devices: int) -> float:
        """Return the time of the training steps of all jobs on a number of devices like those of the measurement.

        Each device has the same number of jobs, as far as they can be divided, and a step of a device takes in
        proportion to the runs that it trains.
        """
        program = self.program
        of_a_run = program.seconds * program.num_devices / program.num_lanes
        return -(-len(self.plan.jobs) // num_devices) * program.steps * of_a_run


def measure_groups(plans: Sequence[GroupPlan]) -> list[GroupCost]:
    """Compile the program of each group, run a few steps of it, and return what it costs.

    Args:
        plans: the groups.

    Raises:
        InputError: if the data of one are streamed.
    """
    for plan in plans:
        check_in_memory(plan.prepared.data, "lenet-jax plan")
    return [GroupCost(plan, measure_cost(plan.prepared, plan.strategy, plan.num_lanes)) for plan in plans]


def _plan(group: list[SweepJob], run: PreparedRun, strategy: str, num_lanes: int) -> GroupPlan:
    state, gradient = map(num_bytes, (run.state, run.state.variables.params))
    data = bytes_in_flight(run) if is_streamed(run.data) else num_bytes(run.data.splits())
    sizes = state, gradient, _activation_bytes(run), data
    num_devices = min(num_lanes, jax.local_device_count()) if run.mesh is None else len(run.mesh.devices)
    return GroupPlan(group, strategy, num_lanes, num_devices, *sizes, run)


def _activation_bytes(run: PreparedRun) -> int | None:
    try:
        rows = summarize(run.task.model)
    except InputError:  # made of something else than our layers
        return None
    examples = -(-run.plan.batch_size // run.config.trainer.grad_accumulation_steps)
    return examples * training_bytes(rows)


def separating_keys(plans: Sequence[GroupPlan]) -> list[str]:
    """Return the keys of the configuration whose values keep the jobs from sharing one program."""
    first, *others = (to_dict(plan.jobs[0].config) for plan in plans)
    keys = dict.fromkeys(key for other in others for key in _different(first, other) if _separates(first, other, key))
    return [".".join(key) for key in keys]


def _different(one: Any, other: Any, *path: str) -> list[tuple[str, ...]]:
    """Return the paths at which two nested dictionaries differ."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        names = dict.fromkeys([*one, *other])
        return [found for name in names for found in _different(one.get(name), other.get(name), *path, name)]
    return [] if one == other else [path]


def _separates(one: Mapping[str, Any], other: Mapping[str, Any], path: Sequence[str]) -> bool:
    try:
        return program_signature(from_dict(one)) != program_signature(from_dict(_with(one, other, path)))
    except InputError:  # the value of the other does not fit the rest of the one
        return True


def _with(one: Any, other: Any, path: Sequence[str]) -> Any:
    """Return a nested dictionary with the value of another one at a path."""
    if not path:
        return other
    name, *rest = path
    return {**(one or {}), name: _with((one or {}).get(name), (other or {}).get(name), rest)}
