"""What a run or a sweep would do, as lines of text."""

from collections.abc import Sequence

from lenet_jax.report.text import align, size
from lenet_jax.sweeps.dry_run import GroupPlan, separating_keys

_NOTES = (
    "state: parameters, their best copy and the optimizer's state. activations: an upper estimate, the outputs of all",
    "layers in float32 for the examples that are computed at once. memory: an estimate, lanes x (state + gradients +",
    "activations) + data on each device, without what XLA needs for itself. Nothing was started or written.",
)


def dry_run_lines(plans: Sequence[GroupPlan], directory: str, *, launcher: str = "") -> list[str]:
    """Return what would run, as lines.

    Args:
        plans: the groups.
        directory: in which it would be recorded.
        launcher: that of Hydra which runs each job by itself; "": none.
    """
    lines = [*job_lines(plans), "", *_group_lines(plans), "", programs_line(plans, launcher)]
    return [*lines, f"directory: {directory}", "", *_NOTES]


def job_lines(plans: Sequence[GroupPlan]) -> list[str]:
    """Return a header, and a line for each job: its group, and what distinguishes it from the others.

    Args:
        plans: the groups.
    """
    jobs = sorted((job.number, number, job.overrides) for number, plan in enumerate(plans) for job in plan.jobs)
    common = set.intersection(*(set(overrides) for *_, overrides in jobs)) if len(jobs) > 1 else set()
    cells = [("job", "group", "overrides")]
    for number, group, overrides in jobs:
        cells.append((str(number), str(group), " ".join(each for each in overrides if each not in common)))
    return [f"{first.rjust(3)}  {group.rjust(5)}  {text}".rstrip() for first, group, text in cells]


def _group_lines(plans: Sequence[GroupPlan]) -> list[str]:
    cells = [("group", "jobs", "strategy", "lanes", "state a lane", "activations a lane", "data", "memory")]
    for number, plan in enumerate(plans):
        activations = "unknown" if plan.activation_bytes is None else size(plan.activation_bytes)
        sizes = size(plan.state_bytes), activations, size(plan.data_bytes), size(plan.bytes)
        cells.append((str(number), str(len(plan.jobs)), plan.strategy, str(plan.num_lanes), *sizes))
    return align(cells)


def programs_line(plans: Sequence[GroupPlan], launcher: str) -> str:
    """Return a line about the number of jobs and of the programs that they share.

    Args:
        plans: the groups.
        launcher: as in `dry_run_lines`.
    """
    num_jobs = sum(len(plan.jobs) for plan in plans)
    jobs = f"{num_jobs} job{'s' if num_jobs > 1 else ''}"
    if launcher:
        jobs += f", run one by one or in processes by {launcher}"
    if len(plans) == 1:
        return f"{jobs}; 1 program is compiled"
    return f"{jobs}; {len(plans)} programs are compiled, as these keys differ: {', '.join(separating_keys(plans))}"
