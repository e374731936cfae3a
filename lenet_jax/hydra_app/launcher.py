"""Running the jobs of a sweep: in groups that share a program, by the launcher `lanes`, or by another launcher.

This module uses a private part of Hydra 1.3.8, `Callbacks`, as does `sweep.py`.
"""

import contextlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus, setup_globals
from hydra.types import HydraContext
from omegaconf import OmegaConf

from lenet_jax.config import SweepConfig, beside_a_job, from_dict, to_dict
from lenet_jax.errors import InputError
from lenet_jax.hydra_app.composition import Composed, task_overrides, to_config, to_sweep_config
from lenet_jax.hydra_app.hydra_files import EVENTS, configure_terminal, for_job, write_hydra_files
from lenet_jax.hydra_app.recorded_loader import RecordedJob, RecordedLoader, without_interpolations
from lenet_jax.hydra_app.sweep import LANES, OPTUNA, Sweep, plan_halving, plan_search
from lenet_jax.hydra_app.sweep_jobs import JobComposer, check_distinct_directories, compose_jobs
from lenet_jax.hydra_app.worker import Worker
from lenet_jax.report.terminal import SweepDisplay, describe, show, show_end
from lenet_jax.runs import Event, Failed, Finished, Monitor, Started
from lenet_jax.runs.prepared_run import PreparedRun, prepare_runs, prepare_shared, program_signature
from lenet_jax.runs.run_directory import RunDirectory
from lenet_jax.runs.trust import GRIDS, complete_allowed
from lenet_jax.sweeps.groups import SweepJob, execute, record_failure, register
from lenet_jax.sweeps.halving import Halving
from lenet_jax.sweeps.ledger import FAILED, Ledger
from lenet_jax.sweeps.search import Pruner, replay, report, to_objective
from lenet_jax.trackers import tracked
from lenet_jax.trackers.delivery import Delivery


def run_sweep(sweep: Sweep) -> None:
    """Run a sweep: its pending jobs, and the jobs that its sweeper chooses from their results.

    Args:
        sweep: the sweep; its directory is locked.

    Raises:
        InputError: if the configuration of a chosen job is invalid; or Hydra's own errors.
    """
    name = sweep.ledger.identity["config_name"]
    sweep.callbacks.on_multirun_start(config=sweep.base, config_name=name)
    if sweep.sweeper in GRIDS:
        _run_grid(sweep)
    elif sweep.sweeper == OPTUNA:
        _run_optuna(sweep)
    else:
        _run_hydra_sweeper(sweep)
    sweep.callbacks.on_multirun_end(config=sweep.base, config_name=name)


def _run_grid(sweep: Sweep) -> None:
    sweeper = sweep.base.hydra.sweeper
    if sweep.sweeper == "HalvingSweeper":
        _launch(sweep, *plan_halving(sweep.base, sweep.options, sweep.jobs))
        return
    size = sweeper.get("max_batch_size") or len(sweep.jobs)
    for start in range(0, len(sweep.jobs), size):
        _launch(sweep, sweep.jobs[start : start + size], sweep.options, None)


def _run_optuna(sweep: Sweep) -> None:
    """Run batches of jobs that Optuna chooses, until its study is complete."""
    batches = plan_search(sweep.base, sweep.loader)(sweep.ledger.directory)
    composer, first = JobComposer(sweep.loader, sweep.base), 0
    recorded = {job.number: job for job in sweep.jobs}
    while batch := batches.ask(first, sweep.base.hydra.sweeper.batch_size):
        composed = compose_jobs(composer, batch, first)
        jobs = [recorded.get(job.number, job) for job in composed]
        check_distinct_directories(jobs)
        sweep.prepared.update(prepare_runs(job.config for job in jobs))
        _launch(sweep, jobs, sweep.options, batches)
        batches.tell([entry for job in jobs if (entry := sweep.ledger.entry(job.number)) is not None])
        first += len(batch)


def _run_hydra_sweeper(sweep: Sweep) -> None:
    """Let another sweeper of Hydra choose and run the jobs; in a resumed sweep, run the recorded jobs only."""
    if sweep.jobs:
        _launch(sweep, sweep.jobs, sweep.options, None)
        return
    context = HydraContext(config_loader=sweep.loader, callbacks=sweep.callbacks)
    sweeper = Plugins.instance().instantiate_sweeper(
        config=sweep.base, hydra_context=context, task_function=Worker.of_this_process(sweep.allowed)
    )
    sweeper.sweep(arguments=task_overrides(sweep.base.hydra))


def _launch(sweep: Sweep, jobs: Sequence[SweepJob], options: SweepConfig, pruner: Pruner | None) -> None:
    if sweep.launcher == LANES:
        hydra: Any = OmegaConf.to_container(sweep.base.hydra, resolve=False, enum_to_str=True)
        launch_lanes(jobs, sweep.ledger, options, sweep.prepared, hydra, pruner, sweep.callbacks)
        return
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


# ---- the launcher `lanes` -------------------------------------------------------------------------------------------


def launch_lanes(
    jobs: Sequence[SweepJob],
    ledger: Ledger,
    options: SweepConfig,
    prepared: Mapping[str, PreparedRun],
    hydra: Mapping[str, Any],
    pruner: Pruner | None = None,
    callbacks: Callbacks | None = None,
) -> None:
    """Run the pending jobs in groups that share a program.

    Args:
        jobs: jobs of the sweep.
        ledger: the ledger of the sweep.
        options: the options of the sweep.
        prepared: prepared runs by their program signatures.
        hydra: Hydra's part of the composed configuration, unresolved; it is written to the directory of each job.
        pruner: decides which jobs stop early; None: no job does.
        callbacks: those of Hydra; None: none.
    """
    setup_globals()
    configure_terminal(hydra, jobs[0].config)
    hooks = _JobCallbacks(callbacks or Callbacks(), hydra, options)
    if pruner is not None:
        register(jobs, ledger)
        replay(pruner, jobs, ledger)
    logs: dict[int, logging.Handler] = {}
    monitors: dict[int, Monitor] = {}

    def on_start(job: SweepJob) -> None:
        logs[job.number] = write_hydra_files(job, hydra, vars(options))
        hooks.start(job)

    should_prune = None if pruner is None else lambda number: number in pruner.pruned
    in_order = isinstance(pruner, Halving) and pruner.is_asynchronous
    common = set.intersection(*(set(job.overrides) for job in jobs)) if len(jobs) > 1 else set()
    with contextlib.ExitStack() as ending, Delivery() as delivery, SweepDisplay(len(jobs)) as display:
        ending.callback(lambda: [log.close() for log in logs.values()])  # of jobs that were interrupted
        for job, event in execute(jobs, ledger, options, prepared, on_start, should_prune, in_order):
            log = logs.setdefault(job.number, logging.NullHandler())  # a job may fail before it starts
            for line in filter(None, describe(event)):
                log.handle(logging.LogRecord(EVENTS, logging.INFO, __file__, 0, line, None, None))
            if isinstance(event, Finished | Failed):
                logs.pop(job.number).close()
            delivery.notify(job.config, job.path, event)
            hooks.end(job, event, ledger)
            if isinstance(event, Started):
                monitors[job.number] = event.monitor
            if pruner is not None:
                report(pruner, job.number, event, monitors.get(job.number, Monitor()))
            display.show(job.number, [each for each in job.overrides if each not in common], event)


class _JobCallbacks:
    """Calls Hydra's callbacks for the jobs of a sweep, which share a process here."""

    def __init__(self, callbacks: Callbacks, hydra: Mapping[str, Any], options: SweepConfig) -> None:
        self._callbacks, self._hydra, self._options = callbacks, hydra, options

    def start(self, job: SweepJob) -> None:
        """Tell them that a job starts."""
        if self._callbacks.callbacks:
            self._callbacks.on_job_start(config=self._composed(job), task_function=Worker.of_this_process(()))

    def end(self, job: SweepJob, event: Event, ledger: Ledger) -> None:
        """Tell them of an event if it is the last one of its job."""
        if self._callbacks.callbacks and isinstance(event, Finished | Failed):
            composed = self._composed(job)
            returned = _to_return(ledger, job)
            returned.cfg, returned.hydra_cfg = composed, OmegaConf.masked_copy(composed, "hydra")
            returned.task_name = composed.hydra.job.name
            if isinstance(event, Failed):
                returned.status, returned.return_value = JobStatus.FAILED, event.error
            self._callbacks.on_job_end(config=composed, job_return=returned)

    def _composed(self, job: SweepJob) -> Composed:
        content = without_interpolations({**to_dict(job.config), **beside_a_job(vars(self._options))})
        composed = OmegaConf.create({**content, "hydra": for_job(job, self._hydra)})
        HydraConfig.instance().cfg = composed  # pyright: ignore[reportAttributeAccessIssue]
        return composed


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
    launch_lanes(jobs, ledger, to_sweep_config(base), prepared, hydra, callbacks=context.callbacks)
    return [_to_return(ledger, job) for job in jobs]


def _to_return(ledger: Ledger, job: SweepJob) -> JobReturn:
    returned = JobReturn(overrides=job.overrides, working_dir=str(job.path), status=JobStatus.COMPLETED)
    returned.return_value = to_objective(ledger.entry(job.number))
    return returned


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
