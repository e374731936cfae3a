"""The commands that run: train and resume.

Hydra 1.3.8 keeps `get_args_parser`, the parser of `hydra.main`, to itself; `hydra_app.composition` hands it on.
"""

import contextlib
import functools
import os
import re
import shlex
import sys
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any, NoReturn

from lenet_jax.cli.options import DISTRIBUTED, distributed_option, find_own_modules, parse
from lenet_jax.errors import InputError
from lenet_jax.runs.signals import RESUMABLE, outlive_readers, signals_interrupt


def train(arguments: list[str], commands: tuple[str, ...] = ()) -> int:
    """Run `lenet-jax train` and return its exit code; `commands` are those that a shell may complete."""
    from lenet_jax.hydra_app.composition import is_multirun, open_hydra

    options, folders = parse_overrides("train", arguments, switches=("--dry-run",))
    if options.shell_completion:
        from lenet_jax.hydra_app.completion import complete

        complete(options.overrides, commands)
        return 0
    name, overrides = options.config_name or "config", options.overrides
    with open_hydra(**folders, shows_required=options.help) as hydra:
        if options.help or options.hydra_help or options.cfg or options.info:
            _answer(hydra, name, options, [folder for folder in folders.values() if folder])
            return 0
        if options.multirun or is_multirun(hydra, overrides, name=name):
            from lenet_jax.hydra_app.sweep import check_sweep, describe_sweep, start_sweep

            if options.dry_run:
                checked = check_sweep(hydra, overrides, name=name)
                return print_lines([*_init_lines(checked.prepared.values()), *describe_sweep(checked)])
            with start_sweep(hydra, overrides, name=name, folders=folders) as sweep:
                return _run_sweep(sweep)
        return _run(hydra, name, overrides, dry=options.dry_run)


def parse_overrides(
    command: str, arguments: list[str], *, switches: Iterable[str] = (), values: Iterable[str] = ()
) -> tuple[Any, dict[str, Any]]:
    """Read options of Hydra and overrides, in any order.

    Args:
        command: its name, for messages.
        arguments: those after the command.
        switches: options of the command itself that have no value.
        values: options of the command itself that have one.

    Returns:
        The options as Hydra's parser has them, and the arguments of `open_hydra`.

    Raises:
        InputError: if an option is unknown or not admitted.
    """
    from lenet_jax.hydra_app.composition import get_args_parser

    find_own_modules()
    parser = get_args_parser()
    parser.error = functools.partial(_refuse_option, command)
    for switch in switches:
        parser.add_argument(switch, action="store_true")
    for each in values:
        parser.add_argument(each)
    options = parser.parse_intermixed_args(arguments)  # options may stand between overrides
    if options.experimental_rerun:
        raise InputError("`--experimental-rerun` must not be used: it loads a pickle; repeat the run's overrides.")
    folders = {
        key: value and os.path.abspath(value)  # noqa: PTH100  of the user's own configuration
        for key, value in (("config_path", options.config_path), ("config_dir", options.config_dir))
    }
    return options, folders


def _answer(hydra: Any, name: str, options: Any, folders: list[str]) -> None:
    """Answer a question about the configuration."""
    from hydra.types import RunMode

    from lenet_jax.config.catalogue import config_directory
    from lenet_jax.hydra_app.composition import get_args_parser, help_text, refuse_renamed

    overrides = options.overrides
    refuse_renamed(overrides)
    if options.hydra_help:
        hydra.hydra_help(config_name=name, args_parser=get_args_parser(), args=options)
    elif options.help:
        folders = folders if options.config_path else [str(config_directory()), *folders]
        print(help_text(hydra, overrides, name=name, folders=folders))
    elif options.cfg:
        hydra.show_cfg(
            config_name=name,
            overrides=overrides,
            cfg_type=options.cfg,
            package=options.package,
            resolve=options.resolve,
        )
    else:
        mode = RunMode.MULTIRUN if options.multirun else RunMode.RUN
        hydra.show_info(options.info, config_name=name, overrides=overrides, run_mode=mode)


def _refuse_option(command: str, message: str) -> NoReturn:
    found = re.match(r"unrecognized arguments: --([\w.]+)(?:[= ](\S+))?", message)
    if found:
        message = f"{message}; a key has no dashes: {found[1]}={found[2] or 'VALUE'}"
    raise InputError(f"{command}: {message}; see lenet-jax {command} --help.")


def print_lines(lines: Iterable[str]) -> int:
    """Print lines, and return the exit code of a command that has done its work."""
    for line in lines:
        print(line)
    return 0


def _run(hydra: Any, name: str, overrides: list[str], *, dry: bool = False) -> int:
    """Compose a configuration, check and prepare it, then run it or say what would run; return the exit code."""
    from lenet_jax.hydra_app.debug_modes import debug_mode, refuse_mode
    from lenet_jax.hydra_app.single_run import prepare_single_run

    run = prepare_single_run(hydra, overrides, name=name)
    print_lines(_init_lines([run.prepared]))
    if dry:
        refuse_mode(run.composed, "no --dry-run")
        from lenet_jax.report.dry_run import dry_run_lines
        from lenet_jax.sweeps.dry_run import plan_run

        return print_lines(dry_run_lines([plan_run(overrides, run.prepared, run.directory)], str(run.directory)))
    mode = debug_mode(run.composed)
    if mode is not None:
        from lenet_jax.cli.debug import debug

        return debug(run, mode)
    return run.start(show_run)


def _init_lines(prepared: Iterable[Any]) -> list[str]:
    """Return what is taken of files with initial weights and what is not, as lines."""
    from lenet_jax.runs.initial_weights import describe_initial_weights

    found = [describe_initial_weights(run.initial.description) for run in prepared if run.initial is not None]
    return list(dict.fromkeys(line for lines in found for line in lines))


def resume(directory: Path, arguments: list[str]) -> int:
    """Run `lenet-jax resume` and return its exit code."""
    from lenet_jax.runs.run_directory import RUN
    from lenet_jax.sweeps.ledger import IDENTITY

    directory = directory.parent if directory.name in (RUN, IDENTITY) else directory
    is_sweep = (directory / IDENTITY).is_file()
    if not is_sweep and not (directory / RUN).is_file():
        raise InputError(f"`DIR` must be of a run or a sweep, with a {RUN} or {IDENTITY} in it; got {directory}.")
    switches = ("--allow-changed", "--retry-failed") if is_sweep else ("--allow-changed",)
    values = () if is_sweep else DISTRIBUTED
    options = parse("resume", arguments, switches=switches, values=values)
    if options.rest and not is_sweep:
        if options.rest[0].startswith("trainer.max_epochs="):
            longer = shlex.join(["lenet-jax", "extend", str(directory), options.rest[0]])
            remedy = f"a finished one that has kept its state is trained longer by {longer}"
        else:
            remedy = "train anew with other options" if "=" in options.rest[0] else "resume one directory at a time"
        raise InputError(f"resume: a run is resumed as it began; got {' '.join(options.rest)}; {remedy}.")
    allow_changed = "--allow-changed" in options.switches
    if not is_sweep:
        from lenet_jax.runs.processes import is_writer, join
        from lenet_jax.runs.run import log_to, resume_run
        from lenet_jax.runs.trust import read_allowed
        from lenet_jax.sweeps.ledger import locked_sweep_of
        from lenet_jax.trackers import check_installed, tracked
        from lenet_jax.trackers.destinations import check_destinations

        record = read_allowed(directory, options.allowed)
        distributed = distributed_option(options)
        check_destinations(record.config, options.allowed, str(directory))
        check_installed([record.config])
        if distributed.is_distributed and record.result is not None:
            print(_ended(record))  # each process says so; only one could lock the directory
            return 0
        join(distributed)
        if not is_writer():
            return show_run(resume_run(record, allow_changed=allow_changed), directory)
        with locked_sweep_of(directory):
            if record.result is None:
                log_to(directory)
            events = resume_run(record, allow_changed=allow_changed)
            if record.result is not None:
                code = show_run(events, directory)
                print(_ended(record))
                return code
            return show_run(tracked(events, record.config, directory), directory)

    from lenet_jax.hydra_app.sweep import resume_sweep

    retry_failed = "--retry-failed" in options.switches
    with resume_sweep(
        directory,
        retry_failed=retry_failed,
        allow_changed=allow_changed,
        allowed=options.allowed,
        launcher=options.rest,
    ) as sweep:
        print(_progress(sweep.ledger), flush=True)
        return _run_sweep(sweep)


def _ended(record: Any) -> str:
    """Return one line for a run that has nothing left to do: how to train longer."""
    stop = record.result["stopped_by"]
    longer = {
        "max_epochs": f"trainer.max_epochs={2 * record.config.trainer.max_epochs}",
        "patience": "trainer.early_stopping.enabled=false",
    }.get(stop)
    ended = f"The run has ended, by {stop}; nothing was trained."
    if longer is None:
        return ended
    if stop == "max_epochs" and record.config.trainer.keep_state:
        return f"{ended} To train longer: {shlex.join(['lenet-jax', 'extend', str(record.directory), longer])}"
    return f"{ended} To train longer, start a new run: {shlex.join([*_command_of(record), longer])}"


def _command_of(record: Any) -> list[str]:
    """Return the command that trains a run anew, in a new directory; of a job of a sweep, that of the job alone."""
    from omegaconf import OmegaConf

    words = shlex.split(record.run.get("command", ""))
    if words[:2] == ["lenet-jax", "train"] and not {"-m", "--multirun"} & set(words):
        return [word for word in words if not word.startswith("hydra.run.dir=")]
    file = record.directory / ".hydra" / "overrides.yaml"
    overrides = OmegaConf.load(file) if file.is_file() else []
    return ["lenet-jax", "train", *map(str, overrides)]


def _progress(ledger: Any) -> str:
    """Return one line about a sweep that resumes: "2 of 8 done, job 5 goes on after epoch 3"."""
    from lenet_jax.runs.checkpoints import newest_first
    from lenet_jax.runs.run_directory import RunDirectory, read_record
    from lenet_jax.sweeps.ledger import DONE, ENDED

    entries = ledger.known_entries()
    done = sum(entry.state == DONE for entry in entries)
    parts = [f"{done} of {len(entries)} done"]
    ended = sum(entry.state in ENDED for entry in entries) - done
    parts += [f"{ended} failed or diverged"] if ended else []
    for entry in entries:
        path = ledger.run_directory(entry)
        saved = newest_first(RunDirectory(path, resume=True).checkpoints)
        if entry.state in ENDED or not saved:
            continue
        try:
            lines = read_record(path).metrics
        except InputError:
            continue  # the run says what is damaged
        epoch = max((line["epoch"] for line in lines if line["iteration"] <= int(saved[0].name)), default=0)
        parts.append(f"job {entry.number} goes on after epoch {epoch}")
    return ", ".join(parts)


def _run_sweep(sweep: Any) -> int:
    """Run a sweep and return its exit code."""
    from lenet_jax.cli.inspect import report_sweep
    from lenet_jax.hydra_app.launcher import run_sweep
    from lenet_jax.sweeps.ledger import DONE

    outlive_readers()
    print_lines(_init_lines(sweep.prepared.values()))
    try:
        with signals_interrupt():
            run_sweep(sweep)
    except KeyboardInterrupt:
        return _interrupted(sweep.ledger.directory)
    report_sweep(sweep.ledger)
    return 0 if all(entry.state == DONE for entry in sweep.ledger.entries()) else 1


def show_run(events: Generator[Any], directory: Path) -> int:
    """Show the events of a run and return its exit code; nothing in a process that does not record it."""
    from lenet_jax.report.terminal import show
    from lenet_jax.runs.processes import is_writer
    from lenet_jax.runs.run_directory import RUN

    outlive_readers()
    try:
        with signals_interrupt(), contextlib.closing(events):
            finished = show(events) if is_writer() else _last_event(events)
    except KeyboardInterrupt:
        if not is_writer():
            return RESUMABLE
        if not (directory / RUN).is_file():
            raise
        return _interrupted(directory)
    except OSError as error:
        if error.filename is None:  # a write to an open file does not name it
            error.filename = str(directory)
        raise
    return 1 if finished is None or finished.result["stopped_by"] == "diverged" else 0


def _last_event(events: Iterable[Any]) -> Any:
    """Consume the events of a run up to the end, where those who show them stop as well, and return the last one."""
    from lenet_jax.runs import Finished

    return next((event for event in events if isinstance(event, Finished)), None)


def _interrupted(directory: Path) -> int:
    from lenet_jax.report.terminal import shortened

    path = shlex.quote(shortened(directory))
    print(f"lenet-jax: interrupted; resume with lenet-jax resume {path}", file=sys.stderr)
    return RESUMABLE
