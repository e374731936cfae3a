"""Runs and sweeps from Python, in scripts and notebooks: what the command line does, also with objects for names."""

import contextlib
import logging
import re
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lenet_jax.config import to_dict
from lenet_jax.environment import tune_process
from lenet_jax.errors import InputError
from lenet_jax.given_objects import is_given
from lenet_jax.records import Run, Sweep, open_run, open_sweep
from lenet_jax.runs import Event, Finished
from lenet_jax.runs.provenance import differences
from lenet_jax.runs.run_directory import RUN, read_record
from lenet_jax.runs.session_objects import Objects, collect_objects
from lenet_jax.runs.trust import ALL, allowed_packages, read_allowed
from lenet_jax.sweeps.ledger import IDENTITY, Ledger, locked_sweep_of

_PLAIN = re.compile(r"[A-Za-z_][\w./-]*")  # texts that Hydra's grammar takes for themselves
_WORDS = ("null", "true", "false", "nan", "inf")


def run(
    overrides: Iterable[str] = (),
    *,
    model: Any = None,
    optimizer: Any = None,
    schedule: Any = None,
    objective: Any = None,
    augment: Sequence[Any] = (),
    data: Any = None,
    trackers: Sequence[Any] = (),
    directory: str | Path | None = None,
    resume: bool = False,
    allow_changed: bool = False,
    config_dir: str | Path | None = None,
    progress: bool = True,
) -> Run:
    """Train a model as `lenet-jax train` does, and return the run; its directory is the command line's as well.

    Each object may be the name of a file of `conf/`, a function or class with options of its own
    (`overrides=["model.width=16"]`), or what such a function returns: a `lj.Model` or a module of flax or Equinox, an
    Optax transformation, a `lj.Objective`, a `lj.Dataset`. One that can be imported is recorded by its import path; one
    that cannot, as of a notebook, as such with its source's digest: only Python can resume its run, with the object.

    Args:
        overrides: as on the command line, in Hydra's syntax: ["model=lenet", "trainer.max_epochs=5"].
        model: the network.
        optimizer: the optimizer.
        schedule: the learning rate's schedule.
        objective: loss and metrics.
        augment: changes of a training example, one after another: functions (key, image) -> image.
        data: the data set.
        trackers: names, or functions of the run's events (`lenet_jax.runs.Event`).
        directory: of the run; None: a new one below `outputs/`.
        resume: whether to go on with the run that `directory` may hold, from its newest checkpoint. A finished one is
            returned as it is; without a run there, a new one starts: a cell of a notebook can be run again.
        allow_changed: whether to resume although code, versions, data or devices have changed.
        config_dir: a folder of your own configuration files, as of --config-dir.
        progress: whether to print a line an evaluation.

    Raises:
        InputError: if an option is unknown or out of its range, the parts do not fit, or the directory holds another
            run.
        KeyboardInterrupt: if the run was asked to stop; it has saved a checkpoint.

    >>> run(["trainer.max_epochs=20"], directory="outputs/first", resume=True)  # doctest: +SKIP
    Run('outputs/first', validation accuracy 0.968, test accuracy 0.965, 20 epochs, max_epochs)
    """
    objects, words = _given(overrides, model, optimizer, schedule, objective, augment, data, trackers)
    path = _directory(directory, resume)
    tune_process()
    if path is not None and (path / RUN).is_file():
        if not resume:
            raise InputError(f"run: `directory` must not hold a run yet; {path} does; use another, or resume=True.")
        objects = objects.adopt(read_record(path).run["config"])
        with objects.in_place(), _kept_logging(), _python_words():
            _resume_run(path, words, objects, config_dir, allow_changed=allow_changed, progress=progress)
        return open_run(path, allow=_allowed(objects), objects=objects)

    from lenet_jax.hydra_app.composition import open_hydra
    from lenet_jax.hydra_app.single_run import prepare_single_run

    words = [*_overrides(objects), *_named("hydra.run.dir", path), *words]
    with objects.in_place(), _kept_logging(), open_hydra(config_dir=_text(config_dir)) as hydra:
        prepared = prepare_single_run(hydra, words)
        prepared.start(lambda events, _: _consume(events, progress=progress))
    return open_run(prepared.directory, allow=_allowed(objects), objects=objects)


def sweep(
    grid: Mapping[str, Any] | None = None,
    overrides: Iterable[str] = (),
    *,
    model: Any = None,
    optimizer: Any = None,
    schedule: Any = None,
    objective: Any = None,
    augment: Sequence[Any] = (),
    data: Any = None,
    trackers: Sequence[Any] = (),
    directory: str | Path | None = None,
    resume: bool = False,
    allow_changed: bool = False,
    retry_failed: bool = False,
    config_dir: str | Path | None = None,
    progress: bool = True,
) -> Sweep:
    """Run every combination of values, as `lenet-jax train -m` does, and return the sweep.

    Args:
        grid: key -> its values, any iterable; a text is Hydra's own syntax, as "interval(0.01, 0.3)".
        overrides: of all jobs, and of Hydra: ["hydra/sweeper=halving"].
        model: the network; as all objects, see `run`.
        optimizer: the optimizer.
        schedule: the learning rate's schedule.
        objective: loss and metrics.
        augment: changes of a training example.
        data: the data set.
        trackers: names, or functions of the events of each job.
        directory: of the sweep; None: a new one below `multirun/`.
        resume: whether to go on with the sweep that `directory` may hold.
        allow_changed: whether to resume although code, versions, data or devices have changed.
        retry_failed: whether a resumed sweep runs failed jobs again.
        config_dir: a folder of your own configuration files, as of --config-dir.
        progress: whether to print a line a job, and the summary.

    Raises:
        InputError: if a value is out of its range, two jobs are the same, or the directory holds another sweep.
        KeyboardInterrupt: if the sweep was asked to stop; it can be resumed.

    >>> runs = sweep({"optimizer.learning_rate": [0.03, 0.1], "seed": range(4)})  # doctest: +SKIP
    >>> runs.best().config.optimizer.learning_rate  # doctest: +SKIP
    0.1
    """
    objects, words = _given(overrides, model, optimizer, schedule, objective, augment, data, trackers)
    words = [*words, *(f"{key}={_values(key, values)}" for key, values in (grid or {}).items())]
    path = _directory(directory, resume)
    tune_process()
    from lenet_jax.hydra_app.composition import open_hydra
    from lenet_jax.hydra_app.launcher import run_sweep
    from lenet_jax.hydra_app.sweep import resume_sweep, start_sweep

    with contextlib.ExitStack() as opened:
        opened.enter_context(_kept_logging())
        opened.enter_context(_python_words())
        if path is not None and (path / IDENTITY).is_file():
            if not resume:
                raise InputError(
                    f"sweep: `directory` must not hold a sweep yet; {path} does; use another, or resume=True."
                )
            identity = Ledger(path).identity
            objects = objects.adopt(identity["base"])
            recorded = [each for each in identity["arguments"] if not each.startswith("hydra.sweep.dir=")]
            wanted = [*_overrides(objects), *words]
            if words and recorded != wanted:
                raise InputError(
                    f"sweep: with resume=True the arguments must be those of the sweep in {path}: "
                    f"{' '.join(recorded)}; got {' '.join(wanted)}."
                )
            opened.enter_context(objects.in_place())
            allowed = [ALL] if words else allowed_packages(_allowed(objects))
            found = resume_sweep(path, allowed=allowed, allow_changed=allow_changed, retry_failed=retry_failed)
        else:
            opened.enter_context(objects.in_place())
            folders = {
                "config_path": None,
                "config_dir": None if config_dir is None else str(Path(config_dir).resolve()),
            }
            hydra = opened.enter_context(open_hydra(config_dir=folders["config_dir"]))
            words = [*_overrides(objects), *_named("hydra.sweep.dir", path), *words]
            found = start_sweep(hydra, words, folders=folders)
        started = opened.enter_context(found)
        with _shown(progress):
            run_sweep(started)
            _sum_up(started.ledger, progress=progress)
    return open_sweep(started.ledger.directory, allow=_allowed(objects), objects=objects)


# ---- a run that goes on ---------------------------------------------------------------------------------------------


def _resume_run(
    path: Path,
    words: list[str],
    objects: Objects,
    config_dir: str | Path | None,
    *,
    allow_changed: bool,
    progress: bool,
) -> None:
    from lenet_jax.runs.run import log_to, resume_run
    from lenet_jax.trackers import tracked

    record = read_record(path)
    if words:
        from lenet_jax.hydra_app.composition import compose_config

        config = compose_config([*_overrides(objects), *words], config_dir=_text(config_dir))
        for key, then, now in differences(to_dict(record.config), to_dict(config)):
            raise InputError(
                f"run: with resume=True `{key}` must be that of the run in {path}, {then!r}; got {now!r}; use another "
                "directory for another run."
            )
        record = record._replace(config=config)
    else:
        record = read_allowed(path, allowed_packages(_allowed(objects)))
    if record.result is not None:
        return
    with locked_sweep_of(path):
        log_to(path)
        events = resume_run(record, allow_changed=allow_changed)
        _consume(tracked(events, record.config, path), progress=progress)


def _consume(events: Generator[Event], *, progress: bool) -> Finished | None:
    from lenet_jax.report.terminal import show

    with _shown(progress), contextlib.closing(events):
        return show(events)


@contextlib.contextmanager
def _shown(progress: bool) -> Iterator[None]:
    from lenet_jax.report.terminal import silenced

    with contextlib.nullcontext() if progress else silenced():
        yield


def _sum_up(ledger: Ledger, *, progress: bool) -> None:
    """Write the summary and the page of a sweep, and print the summary."""
    from lenet_jax.report.sweep_page import write_page
    from lenet_jax.report.text import sweep_lines
    from lenet_jax.sweeps.statistics import write_summary

    summary = write_summary(ledger)
    write_page(ledger, summary)
    if progress:
        print("\n".join(sweep_lines(summary)))


@contextlib.contextmanager
def _kept_logging() -> Iterator[None]:
    """Give the user's logging back after Hydra has configured its own.

    Python closes all handlers that it knows of when a configuration is loaded, and that of absl closes its stream,
    which may be the one that pytest or `contextlib.redirect_stderr` has put in place. So none is known in the block.
    """
    root = logging.getLogger()
    handlers, level = [*root.handlers], root.level
    every: list[Any] = logging._handlerList  # pyright: ignore[reportAttributeAccessIssue]
    known = [*every]
    every.clear()
    try:
        yield
    finally:
        for handler in set(root.handlers) - set(handlers):
            handler.close()
        root.handlers[:] = handlers
        root.setLevel(level)
        every[:0] = known


@contextlib.contextmanager
def _python_words() -> Iterator[None]:
    """Name the arguments of Python in messages that name options of the command line."""
    try:
        yield
    except InputError as error:
        text = (
            str(error).replace("--allow-changed", "allow_changed=True").replace("--retry-failed", "retry_failed=True")
        )
        raise InputError(text) from error


# ---- arguments as overrides -----------------------------------------------------------------------------------------


def _given(overrides: Iterable[str], *values: Any) -> tuple[Objects, list[str]]:
    """Return the objects, and the overrides, to which names of files are added."""
    if isinstance(overrides, str):
        raise InputError(f"`overrides` must be a list of texts, one for each override; got the text {overrides!r}.")
    words = [str(each) for each in overrides]
    groups = ("model", "optimizer", "schedule", "objective", "augment", "data", "trackers")
    given = {group: value for group, value in zip(groups, values, strict=True) if value is not None and value != ()}
    for group in given:
        if any(re.match(rf"[+~]*{group}(=|\._target_=)", each) for each in words):
            raise InputError(f"`{group}` must be given once, as an argument or in `overrides`; got both.")
    lists = {}
    for group in ("augment", "trackers"):
        if group not in given:
            continue
        parts = given.pop(group)
        parts = [parts] if isinstance(parts, str) or callable(parts) else list(parts)
        if all(isinstance(each, str) for each in parts):
            words.insert(0, f"{group}=[{','.join(parts)}]")
        else:
            lists[group] = parts
    named = {group: value for group, value in given.items() if isinstance(value, str)}
    words = [*(f"{group}={value}" for group, value in named.items()), *words]
    objects = {group: value for group, value in given.items() if group not in named}
    mixed = [(group, each) for group, parts in lists.items() for each in parts if isinstance(each, str)]
    if mixed:
        group, name = mixed[0]
        raise InputError(f"`{group}` must be names only or functions only; got the name {name!r} among functions.")
    return collect_objects(objects, lists), words


def _overrides(objects: Objects) -> list[str]:
    """Return the overrides that name the objects."""
    words = []
    for group, names in objects.names.items():
        if group in ("augment", "trackers"):
            words.append(f"{group}=[{','.join(f'{{_target_:{name}}}' for name in names)}]")
        else:
            words.append(f"{group}._target_={names[0]}")
    return words


def _allowed(objects: Objects) -> list[str]:
    """Return the packages of the objects, which the user has imported."""
    return [name.partition(".")[0] for names in objects.names.values() for name in names if not is_given(name)]


def _directory(directory: str | Path | None, resume: bool) -> Path | None:
    if directory is None and resume:
        raise InputError("`directory` must be given with resume=True: that of the run or sweep to go on with.")
    return None if directory is None else Path(directory)


def _named(key: str, path: Path | None) -> list[str]:
    return [] if path is None else [f"{key}={_value(key, str(path))}"]


def _text(path: str | Path | None) -> str | None:
    return None if path is None else str(path)


def _values(key: str, values: Any) -> str:
    """Return the values of a key as Hydra's grammar has them."""
    if isinstance(values, str):
        return values
    if not isinstance(values, Iterable):
        return _value(key, values)
    texts = [_value(key, each) for each in values]
    if not texts:
        raise InputError(f"`grid` must have values for each key; got none for {key}.")
    return ",".join(texts)


def _value(key: str, value: Any) -> str:
    if hasattr(value, "item") and not getattr(value, "shape", ()):
        value = value.item()  # of NumPy and JAX
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case int() | float():
            return repr(value)
        case str() if _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
            return value
        case str() | Path():
            from lenet_jax.hydra_app.sweep import quoted

            return quoted(str(value))
        case Mapping():
            return f"{{{','.join(f'{name}:{_value(key, each)}' for name, each in value.items())}}}"
        case Sequence():
            return f"[{','.join(_value(key, each) for each in value)}]"
    raise InputError(f"`{key}` must be a number, a text, None, or a list or a mapping of such; got {value!r}.")
