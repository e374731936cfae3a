"""What a sweep would do: its groups, their lanes, and an estimate of the memory that each group needs."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from lenet_jax.config import SweepConfig, from_dict, to_dict
from lenet_jax.errors import InputError
from lenet_jax.runs.prepared_run import PreparedRun, program_signature
from lenet_jax.runs.programs import choose_lanes
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


def _plan(group: list[SweepJob], run: PreparedRun, strategy: str, num_lanes: int) -> GroupPlan:
    sizes = _bytes(run.state), _bytes(run.state.variables.params), _activation_bytes(run), _bytes(run.data.splits())
    num_devices = min(num_lanes, jax.local_device_count()) if run.mesh is None else len(run.mesh.devices)
    return GroupPlan(group, strategy, num_lanes, num_devices, *sizes)


def _bytes(tree: Any) -> int:
    leaves = (leaf for leaf in jax.tree.leaves(tree) if hasattr(leaf, "shape"))
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves)


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
