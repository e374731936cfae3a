"""Running the jobs of a sweep: in groups that share a program, here or by an engine; or each by another launcher."""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import HydraContext
from omegaconf import OmegaConf

from lenet_jax.config import SweepConfig, beside_a_job, from_dict, to_dict
from lenet_jax.errors import InputError
from lenet_jax.hydra_app.composition import Composed, plugin_name, task_overrides, to_config, to_sweep_config
from lenet_jax.hydra_app.engine_choice import ENGINES, make_engine
from lenet_jax.hydra_app.lanes import launch_lanes, to_return
from lenet_jax.hydra_app.launch_groups import launch_groups
from lenet_jax.hydra_app.recorded_loader import RecordedJob, RecordedLoader
from lenet_jax.hydra_app.sweep import LANES, OPTUNA, Sweep, plan_halving, plan_search
from lenet_jax.hydra_app.sweep_jobs import JobComposer, check_distinct_directories, compose_jobs
from lenet_jax.hydra_app.worker import Worker
from lenet_jax.report.terminal import show, show_end
from lenet_jax.runs.prepared_run import prepare_runs, prepare_shared, program_signature
from lenet_jax.runs.run_directory import RunDirectory
from lenet_jax.runs.trust import GRIDS, complete_allowed
from lenet_jax.sweeps.groups import SweepJob, execute, record_failure, register
from lenet_jax.sweeps.ledger import FAILED, Ledger
from lenet_jax.sweeps.search import Pruner, to_objective
from lenet_jax.trackers import tracked

Launch = Callable[[Sequence[SweepJob], SweepConfig, Pruner | None], None]
"""Runs some jobs of a sweep, with options and what stops them early."""


def run_sweep(sweep: Sweep) -> None:
    """Run a sweep: its pending jobs, and the jobs that its sweeper chooses from their results.

    Args:
        sweep: the sweep; its directory is locked.

    Raises:
        InputError: if the configuration of a chosen job is invalid; or Hydra's own errors.
    """
    name = sweep.ledger.identity["config_name"]
    sweep.callbacks.on_multirun_start(config=sweep.base, config_name=name)
    with contextlib.ExitStack() as opened:
        launch = _choose_launch(sweep, opened)
        if sweep.sweeper in GRIDS:
            _run_grid(sweep, launch)
        elif sweep.sweeper == OPTUNA:
            _run_optuna(sweep, launch)
        else:
            _run_hydra_sweeper(sweep, launch)
    sweep.callbacks.on_multirun_end(config=sweep.base, config_name=name)


def _run_grid(sweep: Sweep, launch: Launch) -> None:
    sweeper = sweep.base.hydra.sweeper
    if sweep.sweeper == "HalvingSweeper":
        launch(*plan_halving(sweep.base, sweep.options, sweep.jobs))
        return
    size = sweeper.get("max_batch_size") or len(sweep.jobs)
    for start in range(0, len(sweep.jobs), size):
        launch(sweep.jobs[start : start + size], sweep.options, None)


def _run_optuna(sweep: Sweep, launch: Launch) -> None:
    """Run batches of jobs that Optuna chooses, until its study is complete."""
    batches = plan_search(sweep.base, sweep.loader)(sweep.ledger.directory)
    composer, first = JobComposer(sweep.loader, sweep.base), 0
    recorded = {job.number: job for job in sweep.jobs}
    while batch := batches.ask(first, sweep.base.hydra.sweeper.batch_size):
        composed = compose_jobs(composer, batch, first)
        jobs = [recorded.get(job.number, job) for job in composed]
        check_distinct_directories(jobs)
        sweep.prepared.update(prepare_runs(job.config for job in jobs))
        launch(jobs, sweep.options, batches)
        batches.tell([entry for job in jobs if (entry := sweep.ledger.entry(job.number)) is not None])
        first += len(batch)


def _run_hydra_sweeper(sweep: Sweep, launch: Launch) -> None:
    """Let another sweeper of Hydra choose and run the jobs; in a resumed sweep, run the recorded jobs only."""
    if sweep.jobs:
        launch(sweep.jobs, sweep.options, None)
        return
    context = HydraContext(config_loader=sweep.loader, callbacks=sweep.callbacks)
    sweeper = Plugins.instance().instantiate_sweeper(
        config=sweep.base, hydra_context=context, task_function=Worker.of_this_process(sweep.allowed)
    )
    sweeper.sweep(arguments=task_overrides(sweep.base.hydra))


def _choose_launch(sweep: Sweep, opened: contextlib.ExitStack) -> Launch:
    """Return what runs some jobs of a sweep, by its launcher.

    Args:
        sweep: the sweep.
        opened: closes at the end what serves all batches of jobs: the processes of an engine.
    """
    hydra: Any = OmegaConf.to_container(sweep.base.hydra, resolve=False, enum_to_str=True)
    ledger, callbacks = sweep.ledger, sweep.callbacks
    if sweep.launcher == LANES:
        return lambda jobs, options, pruner: launch_lanes(
            jobs, ledger, options, sweep.prepared, hydra, pruner, callbacks
        )
    if sweep.launcher in ENGINES:
        engine = opened.enter_context(contextlib.closing(make_engine(sweep.base.hydra.launcher)))
        return lambda jobs, options, _: launch_groups(
            jobs, ledger, options, hydra, engine, callbacks, tuple(sweep.allowed)
        )
    return lambda jobs, options, _: _launch_jobs(sweep, jobs, options)


def _launch_jobs(sweep: Sweep, jobs: Sequence[SweepJob], options: SweepConfig) -> None:
    """Have another launcher of Hydra run each job by itself."""
    register(jobs, sweep.ledger)
    content = beside_a_job(vars(options))
    directory = sweep.ledger.directory
    overrides = {job.number: (*job.overrides, f"hydra.job.num={job.number}") for job in jobs}  # two may have the same
    recorded = {
        overrides[job.number]: RecordedJob({**to_dict(job.config), **content}, str(job.path.relative_to(directory)))
        for job in jobs
    }
    loader = RecordedLoader(sweep.loader, recorded)
    launcher = Plugins.instance().instantiate_launcher(
        hydra_context=HydraContext(config_loader=loader, callbacks=sweep.callbacks),
        task_function=Worker.of_this_process(sweep.allowed),
        config=sweep.base,
    )
    returned = launcher.launch([list(each) for each in overrides.values()], initial_job_idx=jobs[0].number)
    for job, each in zip(jobs, returned, strict=False):
        if each.status is JobStatus.FAILED:
            record_failure(sweep.ledger, job.number, each._return_value)


# ---- batches of another sweeper --------------------------------------------------------------------------------------


def launch_batch(
    context: HydraContext, base: Composed, batch: Sequence[Sequence[str]], first: int
) -> Sequence[JobReturn]:
    """Compose, record and run a batch of jobs that another sweeper of Hydra has chosen.

    Args:
        context: Hydra's context.
        base: the base configuration of the sweep.
        batch: the overrides of each job.
        first: the number of the first job.

    Returns:
        One object per job, whose `return_value` is the job's lowest validation error, 0 to 1; infinity without a
        result.

    Raises:
        InputError: if the configuration of a job is invalid, or the directory does not hold the sweep.
    """
    jobs = compose_jobs(JobComposer(context.config_loader, base), batch, first)
    check_distinct_directories(jobs)
    ledger = Ledger(Path(base.hydra.sweep.dir))
    hydra: Any = OmegaConf.to_container(base.hydra, resolve=False, enum_to_str=True)
    prepared = prepare_runs(job.config for job in jobs)
    if plugin_name(base.hydra.launcher) in ENGINES:
        with contextlib.closing(make_engine(base.hydra.launcher)) as engine:
            launch_groups(jobs, ledger, to_sweep_config(base), hydra, engine, context.callbacks, ("*",))
    else:
        launch_lanes(jobs, ledger, to_sweep_config(base), prepared, hydra, callbacks=context.callbacks)
    return [to_return(ledger, job) for job in jobs]


# ---- jobs of other launchers ----------------------------------------------------------------------------------------


def run_in_worker(composed: Composed, *, in_subprocess: bool, allowed: Sequence[str]) -> float:
    """Run a job of a sweep that another launcher of Hydra has composed, once no other process works on it.

    Args:
        composed: the composed configuration of the job.
        in_subprocess: whether this process is a worker, beside which other workers may run.
        allowed: packages that the recorded configuration may name.

    Returns:
        The value that the sweeper minimizes, the result of `to_objective`.

    Raises:
        InputError: if the configuration of the job is invalid.
    """
    hydra = HydraConfig.get()
    with RunDirectory(Path(hydra.runtime.output_dir), resume=True).locked(wait=True):
        return _run_job(composed, hydra, in_subprocess=in_subprocess, allowed=allowed)


def _run_job(composed: Composed, hydra: Any, *, in_subprocess: bool, allowed: Sequence[str]) -> float:
    options = to_sweep_config(composed)
    ledger = Ledger(Path(hydra.runtime.cwd, hydra.sweep.dir))  # hydra.job.chdir has changed the working directory
    path, number = Path(hydra.runtime.output_dir), hydra.job.num
    entry = ledger.entry(number)
    if entry is None:  # another sweeper has chosen the job
        config = to_config(composed, allowed)
    else:
        origin = f"{ledger.directory}, job {number}"
        config = complete_allowed(from_dict(entry.config), allowed, origin, ledger.directory)
    job = SweepJob(number, tuple(task_overrides(hydra)), config, path)
    stopped = options.on_failure == "stop" and any(each.state == FAILED for each in ledger.entries())
    if not stopped:
        try:
            prepared = {program_signature(config): prepare_shared(config)}
        except InputError:
            prepared = {}  # `execute` prepares the run again, and the job fails with this error
        with contextlib.closing(
            tracked((event for _, event in execute([job], ledger, options, prepared)), config, path)
        ) as events:
            show_end(job.number, job.overrides, events) if in_subprocess else show(events)
    return to_objective(ledger.entry(job.number))
