"""A sweep from its command line to its directory: everything is checked, then the directory is taken and kept."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hydra._internal.hydra import Hydra
from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import OmegaConf

from lenet_jax.errors import InputError
from lenet_jax.hydra_app.composition import Composed, JobComposer, compose, plugin_name, to_config, to_sweep_config
from lenet_jax.hydra_app.names import check_directory, check_numbered
from lenet_jax.hydra_app.strangers import check_arguments
from lenet_jax.hydra_app.sweep_jobs import SweepJob, check_jobs, compose_jobs, expand_grid
from lenet_jax.hydra_app.worker import share_gpus
from lenet_jax.runs.provenance import changed_since, differences
from lenet_jax.runs.run_directory import RunDirectory, clear_run
from lenet_jax.storage import to_json
from lenet_jax.sweeps.halving import Halving
from lenet_jax.sweeps.ledger import FAILED, PENDING, Ledger, refuse_taken

_DIRECTORY = "hydra.sweep.dir="


@contextlib.contextmanager
def begin_sweep(
    hydra: Hydra, overrides: list[str], *, name: str = "config", folders: Mapping[str, str | None] | None = None
) -> Iterator[tuple[Ledger, list[str]]]:
    """Check all jobs of a new sweep, then take its directory.

    Args:
        hydra: open on the configuration.
        overrides: of the command line.
        name: of the primary file of the configuration.
        folders: what `hydra` was opened with.

    Yields:
        The ledger, and the overrides with which Hydra runs the sweep there.

    Raises:
        InputError: if a value breaks its rule, jobs are the same, data and configuration do not fit, or a directory
            holds a sweep or a run; or Hydra's own errors. Nothing is written then.
    """
    master = _compose_master(hydra, overrides, name)
    chosen = any(override.startswith(_DIRECTORY) for override in overrides)
    check_directory(master.hydra.sweep.dir)
    wanted = Path(master.hydra.sweep.dir)  # now, so that time and name are the same in every job
    if chosen:
        refuse_taken(wanted)
    jobs = _compose_jobs(hydra, master)
    for job in jobs:
        RunDirectory(job.path)
    identity = {"arguments": overrides, "config_name": name, "folders": folders or {}, **_describe(master, jobs)}
    ledger = Ledger.create(_take_directory(master, chosen), identity)
    with ledger.locked():
        yield ledger, _in_directory(overrides, ledger)


@contextlib.contextmanager
def resume_sweep(
    hydra: Hydra, ledger: Ledger, *, retry_failed: bool = False, allow_changed: bool = False, trust: bool = False
) -> Iterator[list[str]]:
    """Check that a sweep is what it was when it began.

    Args:
        hydra: open on the configuration.
        ledger: of the sweep.
        retry_failed: whether jobs that have failed are run again.
        allow_changed: whether it may go on if the code, its versions, or the data have changed.
        trust: whether the arguments in its directory are known to be the user's own.

    Yields:
        The overrides with which Hydra runs the sweep in its directory.

    Raises:
        InputError: if the sweep has changed or another process works on it; or Hydra's own errors.
    """
    check_directory(str(ledger.directory))
    if not trust:
        check_arguments(ledger.identity["arguments"])
    overrides = _in_directory(ledger.identity["arguments"], ledger)
    master = _compose_master(hydra, overrides, ledger.identity["config_name"])
    if "submitit_folder" in master.hydra.launcher:  # has pickles, and those that are in it are not to be read
        overrides.append("hydra.launcher.submitit_folder='${hydra.sweep.dir}/.submitit/${run_id:}/%j'")
    jobs = _compose_jobs(hydra, master)
    described = json.loads(to_json(_describe(master, jobs)))
    for key, then, now in differences({key: ledger.identity[key] for key in described}, described):
        if not allow_changed and key not in ("code.revision", "code.dirty"):
            raise changed_since("sweep", key, then, now)
    with ledger.locked():
        for entry in ledger.entries():
            if retry_failed and entry.state == FAILED:
                ledger.write(entry._replace(state=PENDING, error=None))
        for job in jobs:
            if ledger.entry(job.number) is None:  # removed because it was damaged
                clear_run(job.path)
        yield overrides


def _compose_master(hydra: Hydra, overrides: list[str], name: str) -> Composed:
    """Compose what the jobs of a sweep begin with, before anything asks JAX for a device."""
    master = compose(hydra, overrides, name=name, multirun=True)
    if plugin_name(master.hydra.launcher) not in ("LanesLauncher", "BasicLauncher"):  # there are other processes
        share_gpus()
    return master


def _compose_jobs(hydra: Hydra, master: Composed) -> list[SweepJob]:
    """Compose and check those jobs of a sweep that are known before it runs."""
    to_sweep_config(master)
    grid = expand_grid(master, hydra.config_loader)
    if grid is None:
        unresolved: Any = OmegaConf.to_container(master.hydra.sweep)
        check_numbered(unresolved["subdir"])
    jobs = [] if grid is None else compose_jobs(JobComposer(hydra.config_loader, master), grid)
    check_jobs(jobs)
    match plugin_name(master.hydra.sweeper):
        case "HalvingSweeper":
            _check_halving(master, jobs)
        case "OptunaBatchSweeper":
            _check_search(hydra, master)
    return jobs


def _check_halving(master: Composed, jobs: list[SweepJob]) -> None:
    """Check that jobs can run side by side."""
    from lenet_jax.runs.programs import kind

    sweeper, options = master.hydra.sweeper, to_sweep_config(master)
    Halving((), max_epochs=1, min_epochs=sweeper.min_epochs, reduction=sweeper.reduction)
    if plugin_name(master.hydra.launcher) != "LanesLauncher":
        raise InputError("`hydra/launcher` must be lanes for hydra/sweeper=halving, whose jobs run side by side.")
    if len({kind(job.config) for job in jobs}) > 1:
        raise InputError(
            "`hydra/sweeper=halving` must have jobs that differ only in seed and hyperparameters of the optimizer; "
            "sweep what differs besides in sweeps of their own."
        )
    if options.strategy == "map" or (options.max_lanes or len(jobs)) < len(jobs):
        raise InputError(
            f"`hydra/sweeper=halving` must run its {len(jobs)} jobs side by side; "
            f"got sweep.strategy={options.strategy}, sweep.max_lanes={options.max_lanes}."
        )


def _check_search(hydra: Hydra, master: Composed) -> None:
    try:
        from lenet_jax.hydra_app.search_space import search_space
        from lenet_jax.sweeps.optuna_batch import check_options
    except ImportError as error:
        raise InputError("hydra/sweeper=optuna_batch needs Optuna: pip install 'lenet-jax[optuna]'.") from error
    sweeper = master.hydra.sweeper
    names = ("num_trials", "batch_size", "sampler", "pruner")
    check_options(**{name: sweeper[name] for name in names})
    search_space(master.hydra.overrides.task, hydra.config_loader)


def _describe(master: Composed, jobs: list[SweepJob]) -> dict[str, Any]:
    """Return what a sweep is made of: the configuration that its jobs begin with, code, versions, data."""
    from lenet_jax.runs.driver import describe

    own = OmegaConf.masked_copy(master, [str(key) for key in master if key not in ("hydra", "sweep")])
    base = OmegaConf.to_container(own, resolve=True)
    configs = [job.config for job in jobs] or [to_config(master)]
    described = [describe(config) for config in {config.data: config for config in configs}.values()]
    common = {key: described[0][key] for key in ("code", "versions")}
    return {"base": base, **common, "data": [each["data"] for each in described]}


def _take_directory(master: Composed, chosen: bool) -> Path:
    """Make the directory of a new sweep; one that the user has not chosen gets a name that nobody else has."""
    while True:
        path = Path(master.hydra.sweep.dir)
        try:
            path.mkdir(parents=True, exist_ok=chosen)
            return path
        except FileExistsError:
            if chosen:
                raise
            OmegaConf.clear_cache(master)  # for another name


def _in_directory(overrides: list[str], ledger: Ledger) -> list[str]:
    path = QuotedString(str(ledger.directory), Quote.single).with_quotes()
    return [*(o for o in overrides if not o.startswith(_DIRECTORY)), f"{_DIRECTORY}{path}"]
