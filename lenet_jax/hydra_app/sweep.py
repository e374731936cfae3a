"""Starting a sweep from a command line, and resuming one from its directory.

All known jobs are checked first; then the directory is created and locked, and the jobs are recorded in its ledger. A
sweep resumes from that record: no job is composed again, and only the launcher and the sweeper of Hydra's recorded part
are used.

This module uses a private part of Hydra 1.3.8, `Callbacks`, which `Hydra.multirun` creates only after it has composed
the configuration again.
"""

import contextlib
import functools
import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hydra._internal.callbacks import Callbacks
from hydra._internal.hydra import Hydra
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper as HydraSweeper
from omegaconf import OmegaConf, open_dict, read_write

from lenet_jax.components import targets, targets_in
from lenet_jax.config import Config, SweepConfig, from_dict
from lenet_jax.config.catalogue import TARGET
from lenet_jax.config.checks import build
from lenet_jax.data.streams import check_in_memory, is_streamed
from lenet_jax.environment import install_command
from lenet_jax.errors import InputError
from lenet_jax.given_objects import is_given
from lenet_jax.hydra_app.checks import (
    check_directory,
    check_numbered,
    check_recorded_argument,
    check_recorded_plugin,
    check_subdirectory,
)
from lenet_jax.hydra_app.composition import (
    NOT_OF_A_RUN,
    SWEEP,
    Composed,
    compose,
    open_hydra,
    plugin_name,
    to_config,
    to_distributed_config,
    to_sweep_config,
)
from lenet_jax.hydra_app.debug_modes import refuse_mode
from lenet_jax.hydra_app.engine_choice import ENGINES, check_engine
from lenet_jax.hydra_app.plugin_options import check_plugin_options
from lenet_jax.hydra_app.recorded_loader import without_interpolations
from lenet_jax.hydra_app.sweep_jobs import (
    JobComposer,
    check_distinct,
    compose_jobs,
    known_jobs,
    sweep_overrides,
    sweep_space,
)
from lenet_jax.hydra_app.worker import disable_gpu_preallocation
from lenet_jax.report.dry_run import dry_run_lines
from lenet_jax.runs.prepared_run import PreparedRun, prepare_runs
from lenet_jax.runs.programs import choose_lanes
from lenet_jax.runs.provenance import changed_conditions, changed_since, describe_process, describe_start
from lenet_jax.runs.run_directory import RunDirectory, clear_run, write_patch
from lenet_jax.runs.source_code import uncommitted_changes
from lenet_jax.runs.trust import GRIDS, check_code, complete_allowed, refuse_links
from lenet_jax.storage import locked, to_json
from lenet_jax.sweeps.dry_run import GroupPlan, plan_groups
from lenet_jax.sweeps.groups import SweepJob, by_signature, configurations, in_parallel, to_entry, whole_configurations
from lenet_jax.sweeps.halving import Halving
from lenet_jax.sweeps.ledger import FAILED, IDENTITY, PENDING, PLAN, Ledger, refuse_taken
from lenet_jax.trackers import check_installed
from lenet_jax.trackers.destinations import check_destinations

OPTUNA = "OptunaBatchSweeper"
LANES = "LanesLauncher"


class Sweep(NamedTuple):
    """A sweep that is ready to run; its directory is locked."""

    ledger: Ledger
    base: Composed  # the base configuration of all jobs, with launcher and sweeper
    loader: ConfigLoader  # composes the jobs that a sweeper chooses from earlier results
    callbacks: Callbacks
    jobs: list[SweepJob]  # the jobs that are known before the sweep runs
    prepared: dict[str, PreparedRun]  # by program signature
    options: SweepConfig
    allowed: Collection[str]  # packages that recorded configurations may name; "*": all

    @property
    def launcher(self) -> str:
        """Return the class name of the launcher."""
        return plugin_name(self.base.hydra.launcher)

    @property
    def sweeper(self) -> str:
        """Return the class name of the sweeper."""
        return plugin_name(self.base.hydra.sweeper)


class CheckedSweep(NamedTuple):
    """A new sweep of which nothing is written yet."""

    base: Composed
    options: SweepConfig
    jobs: list[SweepJob]  # those that are known before the sweep runs
    prepared: dict[str, PreparedRun]  # of the jobs, by program signature; without known jobs, of the base configuration
    chosen: bool  # whether the directory has a name without random parts


def check_sweep(hydra: Hydra, overrides: list[str], *, name: str = "config") -> CheckedSweep:
    """Compose, check and prepare all known jobs of a new sweep, and write nothing.

    Args:
        hydra: the result of `open_hydra`.
        overrides: overrides of the command line.
        name: name of the primary configuration file.

    Raises:
        InputError: if an option is unknown or out of its range, two jobs are identical, the data do not fit the
            configuration, or a directory already holds a sweep or a run; or Hydra's own errors.
    """
    base = compose(hydra, overrides, name=name, multirun=True)
    refuse_mode(base, "one run, without -m")
    chosen = _has_fixed_directory(base)
    check_directory(base.hydra.sweep.dir)
    if chosen:
        refuse_taken(Path(base.hydra.sweep.dir))
    _check_plugins(base)
    _prepare_process(base)
    options = to_sweep_config(base)
    if to_distributed_config(base).is_distributed:
        raise InputError(
            "`distributed` must be none for a sweep, whose launchers divide it; train its jobs one by one."
        )
    known = known_jobs(base, hydra.config_loader)
    if known is None:
        unresolved: Any = OmegaConf.to_container(base.hydra.sweep)
        check_numbered(unresolved["subdir"])
    jobs = [] if known is None else compose_jobs(JobComposer(hydra.config_loader, base), known)
    check_distinct(jobs)
    configs = [job.config for job in jobs] or [to_config(base)]
    _check_importable(base, configs)
    check_installed(configs)
    prepared = prepare_runs(job.config for job in jobs)
    _check_streamed(base, options, prepared.values())
    _check_sweeper(base, options, jobs, hydra.config_loader)
    if not jobs:
        prepared = prepare_runs([to_config(base)])
    for job in jobs:
        RunDirectory(job.path)
    return CheckedSweep(base, options, jobs, prepared, chosen)


def _check_streamed(base: Composed, options: SweepConfig, prepared: Iterable[PreparedRun]) -> None:
    """Check that runs on streamed data, which run one after another, need not run in parallel.

    Raises:
        InputError: if they do.
    """
    for run in prepared:
        choose_lanes(options.strategy, 1, streamed=is_streamed(run.data))
        if plugin_name(base.hydra.sweeper) == "HalvingSweeper":
            check_in_memory(run.data, "hydra/sweeper=halving or asha, which compares runs in parallel lanes,")


class SweepPlan(NamedTuple):
    """What a sweep would do."""

    groups: list[GroupPlan]
    directory: str
    launcher: str  # that of Hydra which runs each job by itself; "": none
    notes: list[str]  # lines that come first


def plan_sweep(sweep: CheckedSweep) -> SweepPlan:
    """Return what a sweep would do.

    Args:
        sweep: the result of `check_sweep`.
    """
    base, jobs, options = sweep.base, sweep.jobs, sweep.options
    notes = []
    if not jobs:
        notes = ["The sweeper chooses the jobs as it goes; here is the one job that has no choices in it.", ""]
        jobs = [SweepJob(0, (), to_config(base), Path(base.hydra.sweep.dir))]
    if plugin_name(base.hydra.sweeper) == "HalvingSweeper":
        jobs, options, _ = plan_halving(base, options, jobs)
    in_lanes = plugin_name(base.hydra.launcher) in (LANES, *ENGINES)
    groups = plan_groups(jobs, options, sweep.prepared, in_lanes=in_lanes)
    launcher = "" if plugin_name(base.hydra.launcher) == LANES else plugin_name(base.hydra.launcher)
    return SweepPlan(groups, str(base.hydra.sweep.dir), launcher, notes)


def describe_sweep(sweep: CheckedSweep) -> list[str]:
    """Return what a sweep would do, as lines.

    Args:
        sweep: the result of `check_sweep`.
    """
    groups, directory, launcher, notes = plan_sweep(sweep)
    return [*notes, *dry_run_lines(groups, directory, launcher=launcher)]


@contextlib.contextmanager
def start_sweep(
    hydra: Hydra, overrides: list[str], *, name: str = "config", folders: Mapping[str, str | None] | None = None
) -> Iterator[Sweep]:
    """Compose and check all known jobs of a new sweep, then create and lock its directory.

    Args:
        hydra: the result of `open_hydra`.
        overrides: overrides of the command line.
        name: name of the primary configuration file.
        folders: the arguments of `open_hydra`, which are recorded.

    Yields:
        The sweep.

    Raises:
        InputError: as `check_sweep`; nothing is written then.
    """
    base, options, jobs, prepared, chosen = check_sweep(hydra, overrides, name=name)
    checked = Path(base.hydra.sweep.dir)
    directory = _take_directory(base, chosen)
    jobs = [job._replace(path=_moved(job.path, checked, directory)) for job in jobs]
    _set_directory(base, directory)
    identity = {
        **describe_start(),
        "arguments": overrides,
        "config_name": name,
        "folders": folders or {},
        "hydra": OmegaConf.to_container(base.hydra, resolve=False, enum_to_str=True),
        SWEEP: _to_dict(options),
        "base": _base_values(base),
        **_describe(prepared.values(), base),
    }
    patch = uncommitted_changes(_named_functions([job.config for job in jobs] or [to_config(base)]))
    with locked(directory, "sweep"):  # before anything is written: another sweep may have been given the same name
        ledger = Ledger.create(directory, identity)
        if patch is not None:
            write_patch(directory, patch)
        if jobs:
            ledger.write_plan(to_entry(job, ledger) for job in jobs)
        yield Sweep(ledger, base, hydra.config_loader, Callbacks(base), jobs, prepared, options, "*")


@contextlib.contextmanager
def resume_sweep(
    directory: Path,
    *,
    retry_failed: bool = False,
    allow_changed: bool = False,
    allowed: Collection[str] = (),
    launcher: Sequence[str] = (),
) -> Iterator[Sweep]:
    """Read a sweep from its directory, lock it, and check that its conditions have not changed.

    Args:
        directory: the directory of the sweep.
        retry_failed: whether failed jobs run again.
        allow_changed: whether to resume even if code, package versions or data have changed.
        allowed: packages that the directory may name; see `lenet_jax.runs.trust`.
        launcher: overrides of the user's that choose another launcher, as hydra/launcher=joblib; none: that of before.

    Yields:
        The sweep.

    Raises:
        InputError: if the directory is damaged or names code that is not allowed, the conditions have changed, or
            another process holds the lock; or Hydra's own errors.
    """
    refuse_links(directory)
    check_directory(str(directory))
    ledger = Ledger(directory)
    recorded = ledger.identity.get("hydra")
    if not recorded:
        raise InputError(
            f"{directory}: its jobs are not recorded in it, as of a sweep of the first edition; resume those that have "
            f"begun: lenet-jax resume {directory / '0'}."
        )
    _check_launcher_overrides(launcher)
    for plugin in ("sweeper",) if launcher else ("launcher", "sweeper"):
        check_recorded_plugin(f"hydra.{plugin}", recorded.get(plugin), allowed)
    _check_callbacks(recorded.get("callbacks"), allowed, directory)
    with contextlib.ExitStack() as opened:
        hydra, base = _compose_recorded(ledger, allowed, opened, launcher)
        _check_plugins(base)
        _prepare_process(base)
        jobs = _recorded_jobs(ledger, allowed)
        check_installed(job.config for job in jobs)
        if plugin_name(base.hydra.sweeper) in GRIDS and not ledger.planned_entries():
            missing = f"job in {PLAN}" if (directory / PLAN).exists() else PLAN
            raise InputError(
                f"{directory}: has no {missing}, which lists its jobs; restore it, or start the sweep anew."
            )
        prepared = prepare_runs(job.config for job in jobs)
        provenance = json.loads(to_json(_describe(prepared.values(), base))) if prepared else {}
        for key, old, new in changed_conditions(ledger.identity, provenance):
            if not allow_changed:
                raise changed_since("sweep", key, old, new)
        opened.enter_context(ledger.locked())
        for entry in ledger.entries():
            if retry_failed and entry.state == FAILED:
                ledger.write(entry._replace(state=PENDING, error=None))
        for job in jobs:
            if ledger.entry(job.number) is None:  # the user has removed a damaged entry
                clear_run(job.path)
        options = build(SweepConfig, SWEEP, ledger.identity.get(SWEEP, {}))
        yield Sweep(ledger, base, hydra.config_loader, Callbacks(base), jobs, prepared, options, allowed)


def _check_plugins(base: Composed) -> None:
    """Check that launcher and sweeper are such, and their options, before anything is written.

    Raises:
        InputError: if one of them is not, or as `check_plugin_options`.
    """
    known = Plugins.instance().class_name_to_class
    for name, parent in (("launcher", Launcher), ("sweeper", HydraSweeper)):
        node = base.hydra[name]
        target = node.get(TARGET) if OmegaConf.is_dict(node) else None
        if not isinstance(target, str) or not issubclass(known.get(target, object), parent):
            raise InputError(
                f"`hydra.{name}.{TARGET}` must name a {name} of Hydra, in the namespace package hydra_plugins; "
                f"got {target!r}; use hydra/{name}=NAME."
            )
    check_plugin_options(base.hydra)
    check_engine(base.hydra.launcher)


def _runs_elsewhere(base: Composed) -> bool:
    """Tell whether the launcher runs jobs in other processes."""
    return plugin_name(base.hydra.launcher) not in (LANES, "BasicLauncher")


def _prepare_process(base: Composed) -> None:
    if _runs_elsewhere(base):
        disable_gpu_preallocation()


def _check_importable(base: Composed, configs: Iterable[Config]) -> None:
    """Check that other processes, where jobs may run, can import the components."""
    given = next((name for name in _named_functions(configs) if is_given(name)), None)
    if given is not None and _runs_elsewhere(base):
        raise InputError(
            f"`hydra/launcher` must be lanes or basic with {given}, an object that only this Python session has; got "
            f"{plugin_name(base.hydra.launcher)}; define it in a module, which other processes can import."
        )


# ---- a new sweep ----------------------------------------------------------------------------------------------------


def _check_sweeper(base: Composed, options: SweepConfig, jobs: list[SweepJob], loader: ConfigLoader) -> None:
    match plugin_name(base.hydra.sweeper):
        case "HalvingSweeper":
            plan_halving(base, options, jobs)
        case "OptunaBatchSweeper":
            if base.hydra.sweeper.pruner != "none" and plugin_name(base.hydra.launcher) != LANES:
                raise InputError(
                    f"`hydra.sweeper.pruner` must be none with a launcher other than lanes, whose jobs do not run in "
                    f"step; got {base.hydra.sweeper.pruner}."
                )
            plan_search(base, loader)


def plan_halving(
    base: Composed, options: SweepConfig, jobs: Sequence[SweepJob]
) -> tuple[list[SweepJob], SweepConfig, Halving]:
    """Return what a sweep of successive halving needs to run.

    Args:
        base: the base configuration of the sweep.
        options: the options of the sweep.
        jobs: the jobs of the sweep.

    Returns:
        The jobs in the order in which they start, the options with which those run in parallel that must, and what
        decides which jobs stop.

    Raises:
        InputError: if an option is out of its range, or jobs cannot run in parallel that must.
    """
    sweeper = base.hydra.sweeper
    if plugin_name(base.hydra.launcher) != LANES:
        raise InputError(
            "`hydra/launcher` must be lanes for hydra/sweeper=halving, asha and hyperband, whose jobs run in parallel."
        )
    names = {"min_epochs": 1, "reduction": 3, "brackets": 1, "asynchronous": False}  # older records have the first two
    given = {name: sweeper.get(name, default) for name, default in names.items()}
    groups = by_signature(jobs).values()
    by_number = {job.number: job for group in groups for job in group}
    ordered = configurations(by_number.values())
    pruner = Halving(ordered, max_epochs=max(job.config.trainer.max_epochs for job in jobs), **given)
    if pruner.is_asynchronous:
        _check_whole(ordered, groups)
        options = whole_configurations(options, max(map(len, ordered)))
        return [by_number[number] for numbers in ordered for number in numbers], options, pruner
    _check_parallel(options, jobs, len(groups))
    return list(jobs), in_parallel(options, len(jobs)), pruner


def _check_whole(ordered: Sequence[Sequence[int]], groups: Collection[Sequence[SweepJob]]) -> None:
    """Check that the jobs of each configuration share a program, so that they can run in parallel."""
    places = {job.number: place for place, group in enumerate(groups) for job in group}
    if any(len({places[number] for number in numbers}) > 1 for numbers in ordered):
        raise InputError(
            "`data.folds` must divide the number of examples for hydra/sweeper=asha, so that all folds of a "
            "configuration share a program; use another number of folds."
        )


def _check_parallel(options: SweepConfig, jobs: Sequence[SweepJob], num_groups: int) -> None:
    """Check that all jobs can run in parallel, as successive halving needs."""
    if num_groups > 1:
        raise InputError(
            "`hydra/sweeper=halving` must have jobs that differ only in seed and hyperparameters of the optimizer; "
            "sweep what differs besides in sweeps of their own, or use hydra/sweeper=asha."
        )
    if options.strategy == "map" or (options.max_parallel or len(jobs)) < len(jobs):
        raise InputError(
            f"`hydra/sweeper=halving` must run its {len(jobs)} jobs in parallel; "
            f"got sweep.strategy={options.strategy}, sweep.max_parallel={options.max_parallel}; "
            "hydra/sweeper=asha need not."
        )


def plan_search(base: Composed, loader: ConfigLoader) -> Callable[[Path], Any]:
    """Return what opens the `lenet_jax.sweeps.optuna_batch.Batches` of a sweep in its directory.

    Args:
        base: the base configuration of the sweep.
        loader: Hydra's loader, which lists the files of a group.

    Raises:
        InputError: if an option is out of its range, there is nothing to search, or Optuna is not installed; or Hydra's
            own errors.
    """
    try:
        from lenet_jax.sweeps import optuna_batch
    except ImportError as error:
        raise InputError(f"hydra/sweeper=optuna_batch needs Optuna: {install_command('optuna')}.") from error
    options: Any = OmegaConf.to_container(base.hydra.sweeper)
    names = ("num_trials", "batch_size", "sampler", "pruner")
    space = sweep_space(base, loader)
    sampler = optuna_batch.check_options(
        **{name: options[name] for name in names}, sampler_options=options.get("sampler_options"), space=space
    )
    choices = {name: options[name] for name in ("num_trials", "pruner", "seed")}
    return functools.partial(optuna_batch.Batches, space=space, sampler=sampler, **choices)


def _describe(prepared: Collection[PreparedRun], base: Composed) -> dict[str, Any]:
    """Return the provenance of a sweep: code, package versions, settings, machine and data."""
    process = describe_process(_named_functions(run.config for run in prepared))
    if plugin_name(base.hydra.launcher) in ("SlurmLauncher", "RayLauncher"):  # whose jobs run on other machines
        del process["platform"]
    data = {to_json(each): each for each in (run.describe_data() for run in prepared)}
    init = {run.initial.description["sha256"]: run.initial.description for run in prepared if run.initial is not None}
    return {**process, "data": list(data.values()), **({"init": list(init.values())} if init else {})}


def _named_functions(configs: Iterable[Config]) -> list[str]:
    """Return the import paths of all components."""
    return [target for config in configs for _, target in targets(config)]


def _base_values(base: Composed) -> dict[str, Any]:
    own = OmegaConf.masked_copy(base, [str(key) for key in base if key not in ("hydra", *NOT_OF_A_RUN)])
    content: Any = OmegaConf.to_container(own, resolve=False)  # a value may refer to the number of its job
    return content


def _to_dict(options: SweepConfig) -> dict[str, Any]:
    return dict(vars(options))


def _has_fixed_directory(base: Composed) -> bool:
    """Return whether the directory of a sweep has the same name each time that it is resolved."""
    names = set()
    for _ in range(2):
        OmegaConf.clear_cache(base)
        names.add(str(base.hydra.sweep.dir))
    return len(names) == 1


def _take_directory(base: Composed, chosen: bool) -> Path:
    """Create the directory of a new sweep; unless its name is fixed, try names until one is unused."""
    path = Path(base.hydra.sweep.dir)
    while True:
        try:
            path.mkdir(parents=True, exist_ok=chosen)
            return path
        except FileExistsError:
            OmegaConf.clear_cache(base)  # resolves the name again
            before, path = path, Path(base.hydra.sweep.dir)
            if path == before:
                raise


def _moved(path: Path, old: Path, new: Path) -> Path:
    return new / path.relative_to(old) if path.is_relative_to(old) else path


def _set_directory(base: Composed, directory: Path) -> None:
    with read_write(base.hydra), open_dict(base.hydra):
        base.hydra.sweep.dir = str(directory)


# ---- a recorded sweep -----------------------------------------------------------------------------------------------


def _recorded_jobs(ledger: Ledger, allowed: Collection[str]) -> list[SweepJob]:
    """Return the jobs in the ledger, with their recorded configurations."""
    jobs = []
    for entry in ledger.known_entries():
        check_subdirectory(entry.directory)
        origin = f"{ledger.directory}, job {entry.number}"
        config = complete_allowed(from_dict(entry.config), allowed, origin, ledger.directory)
        check_destinations(config, allowed, origin)
        jobs.append(SweepJob(entry.number, tuple(entry.overrides), config, ledger.run_directory(entry)))
    return jobs


def _check_launcher_overrides(overrides: Sequence[str]) -> None:
    """Check that overrides choose a launcher and nothing else."""
    other = [each for each in overrides if not re.match(r"\+{0,2}hydra[/.]launcher[=.]", each)]
    if other:
        remedy = "train anew with other options" if "=" in other[0] else "resume one directory at a time"
        raise InputError(
            "resume: a sweep is resumed as it began, or by another launcher, as hydra/launcher=joblib; got "
            f"{' '.join(other)}; {remedy}."
        )
    if overrides and not any(each.startswith("hydra/launcher=") for each in overrides):
        raise InputError(
            f"resume: options of a launcher must come with its name, as hydra/launcher=joblib; got {overrides[0]}."
        )


def _compose_recorded(
    ledger: Ledger, allowed: Collection[str], opened: contextlib.ExitStack, launcher: Sequence[str]
) -> tuple[Hydra, Composed]:
    """Compose Hydra's part of `conf/`, and replace launcher, sweeper and callbacks by the recorded ones.

    The launcher stays where the user has chosen another one. The recorded arguments and configuration folders are used
    only if the sweeper chooses further jobs.
    """
    recorded = ledger.identity["hydra"]
    trusted, chooses_jobs = "*" in allowed, recorded["sweeper"][TARGET].rpartition(".")[2] not in GRIDS
    arguments = [f"hydra.sweep.dir={quoted(str(ledger.directory))}"]
    if chooses_jobs:
        arguments += [f"hydra.sweep.subdir={quoted(_recorded_subdirectory(ledger))}"]
        arguments += _recorded_arguments(ledger, trusted=trusted)
    folders, name = (ledger.identity["folders"], ledger.identity["config_name"]) if chooses_jobs else ({}, "config")
    if not trusted and (name != "config" or any(folders.values())):
        raise InputError(
            f"{ledger.directory}: has jobs yet to be chosen, from a configuration of its own, {name!r} in "
            f"{[*filter(None, folders.values())]}; if the sweep is yours, resume it with --trust."
        )
    hydra = opened.enter_context(open_hydra(**folders, allowed=allowed))
    base = compose(hydra, [*arguments, *launcher], name=name, multirun=True)
    with read_write(base.hydra), open_dict(base.hydra):
        for plugin in ("sweeper",) if launcher else ("launcher", "sweeper"):
            base.hydra[plugin] = recorded[plugin]
        if chooses_jobs and not trusted:
            for override in sweep_overrides(base, hydra.config_loader):
                check_recorded_argument(override.key_or_group, override.package, str(override.input_line))
            to_config(base, allowed)  # checks what all jobs have in common, before anything is written
        base.hydra.callbacks = recorded.get("callbacks") or {}
        resolved: Any = OmegaConf.to_container(base.hydra.callbacks, resolve=True)
        _check_callbacks(resolved, allowed, ledger.directory)  # an interpolation may lead to another callback
        base.hydra.callbacks = without_interpolations(resolved)
        if "submitit_folder" in base.hydra.launcher:  # a new folder, as pickles in the recorded one are untrusted
            base.hydra.launcher.submitit_folder = "${hydra.sweep.dir}/.submitit/${run_id:}/%j"
    return hydra, base


def _check_callbacks(callbacks: Any, allowed: Collection[str], directory: Path) -> None:
    """Check the untrusted callbacks of a recorded sweep.

    Raises:
        InputError: if they name code that is not allowed, or are no callbacks.
    """
    if callbacks is not None and not isinstance(callbacks, Mapping):
        raise InputError(f"{directory / IDENTITY}: is damaged, hydra.callbacks is no table; restore it.")
    check_code(list(targets_in("hydra.callbacks", callbacks)), allowed, str(directory), directory)


def quoted(text: str) -> str:
    """Return a text as a quoted value in Hydra's override syntax."""
    return "'{}'".format(re.sub(r"(\\*)('|$)", lambda found: 2 * found[1] + ("\\'" if found[2] else ""), text))


def _recorded_subdirectory(ledger: Ledger) -> str:
    """Return the recorded pattern of job directories, for the jobs that the sweeper will choose."""
    subdirectory = (ledger.identity["hydra"].get("sweep") or {}).get("subdir")
    if not isinstance(subdirectory, str):
        raise InputError(f"{ledger.directory / IDENTITY}: is damaged, no hydra.sweep.subdir; restore it.")
    check_numbered(subdirectory)
    return subdirectory


def _recorded_arguments(ledger: Ledger, *, trusted: bool) -> list[str]:
    """Return the arguments of a sweep without those of Hydra's part, which a directory may not set."""
    arguments = []
    for override in OverridesParser.create().parse_overrides(ledger.identity["arguments"]):
        text = str(override.input_line)
        if override.is_hydra_override():
            continue
        if not trusted:
            check_recorded_argument(override.key_or_group, override.package, text)
        arguments.append(text)
    return arguments
