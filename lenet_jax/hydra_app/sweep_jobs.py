"""The jobs that a command line asks for, checked before the first file of them is written."""

from collections.abc import Sequence
from pathlib import Path

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser

from lenet_jax.errors import InputError
from lenet_jax.hydra_app.composition import Composed, JobComposer, compose, plugin_name, to_config
from lenet_jax.hydra_app.hydra_files import HydraFiles
from lenet_jax.hydra_app.names import check_folder, check_subdirectory
from lenet_jax.sweeps.groups import SweepJob


def expand_grid(master: Composed, loader: ConfigLoader) -> list[list[str]] | None:
    """Return the overrides of each job of a grid; None if another sweeper chooses the jobs as it goes.

    Args:
        master: the composition of the sweep.
        loader: Hydra's, which knows the files of a group.

    Raises:
        InputError: if a value is swept over an interval, or the grid is empty; or Hydra's own errors.
    """
    sweeper = master.hydra.sweeper
    if plugin_name(sweeper) not in ("BasicSweeper", "GridSweeper", "HalvingSweeper"):
        return None
    arguments = [*(f"{key}={value}" for key, value in (sweeper.params or {}).items()), *master.hydra.overrides.task]
    parsed = OverridesParser.create(config_loader=loader).parse_overrides(arguments)
    for override in parsed:
        if override.is_sweep_override() and not override.is_discrete_sweep():
            raise InputError(
                f"`{override.get_key_element()}` must be swept over a list or a range in a grid; "
                f"got {str(override.input_line).partition('=')[2]}."
            )
    jobs = BasicSweeper.split_arguments(parsed, None)[0]
    if not jobs:
        raise InputError(f"the sweep must have a job; {' '.join(arguments)} has none.")
    return jobs


def compose_jobs(
    composer: JobComposer, batch: Sequence[Sequence[str]], first: int = 0, *, with_files: bool = False
) -> list[SweepJob]:
    """Compose jobs and check the values of their configurations.

    Args:
        composer: of the sweep.
        batch: the overrides of each job.
        first: the number of the first one.
        with_files: whether the jobs are to have their `files`.

    Raises:
        InputError: if a value breaks its rule; or Hydra's own errors.
    """
    jobs = []
    for number, overrides in enumerate(batch, start=first):
        composed = composer.compose(overrides, number)
        check_subdirectory(composed.hydra.sweep.subdir)
        path = Path(composed.hydra.sweep.dir, composed.hydra.sweep.subdir)
        files = HydraFiles.render(composed, path) if with_files else None
        jobs.append(SweepJob(number, tuple(overrides), to_config(composed), path, files))
    return jobs


def check_jobs(jobs: Sequence[SweepJob]) -> None:
    """Check that jobs differ from each other, and find their data.

    Raises:
        InputError: if two jobs are the same or would write into the same directory, or data and configuration do not
            fit.
    """
    from lenet_jax.runs.driver import check_inputs
    from lenet_jax.runs.programs import kind

    twins = _twins([job.config for job in jobs])
    if twins is not None:
        one, other = (jobs[index] for index in twins)
        raise InputError(
            f"the jobs of a sweep must differ; {one.number} and {other.number} are the same: {' '.join(one.overrides)}."
        )
    if _twins([job.path for job in jobs]) is not None:
        raise InputError("`hydra.sweep.subdir` must differ between the jobs of a sweep; use ${hydra:job.num} in it.")
    for config in dict.fromkeys(kind(job.config) for job in jobs):
        check_inputs(config)


def check_run(hydra: Hydra, overrides: list[str], *, name: str = "config") -> None:
    """Compose a run, check it and find its data before Hydra writes the first file.

    Raises:
        InputError: if a value breaks its rule, data and configuration do not fit, or the directory holds a run; or
            Hydra's own errors.
    """
    composed = compose(hydra, overrides, name=name)
    check_folder("hydra.run.dir", composed.hydra.run.dir)
    config, path = to_config(composed), Path(composed.hydra.run.dir)

    from lenet_jax.runs.driver import check_inputs
    from lenet_jax.runs.run_directory import RunDirectory

    RunDirectory(path)
    check_inputs(config)


def _twins(values: Sequence[object]) -> tuple[int, int] | None:
    """Return the places of the first value that is there twice, and of its first occurrence."""
    seen: dict[object, int] = {}
    for index, value in enumerate(values):
        if seen.setdefault(value, index) != index:
            return seen[value], index
    return None
