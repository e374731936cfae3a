"""The command line. The only place that runs Hydra.

A user's mistake is one line on standard error and exit code 2; a failed run is exit code 1. `--help` and `--cfg job`
answer without importing jax, so whatever needs it is imported inside the function that runs it.
"""

import functools
import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from lenet_jax.environment import tune_environment
from lenet_jax.errors import InputError, unknown_name
from lenet_jax.hydra_app.error_messages import explain
from lenet_jax.runs.signals import RESUMABLE, signals_interrupt

HELP = """\
lenet-jax: functional, reproducible training of small convolutional networks in JAX.

usage: lenet-jax COMMAND [...]

  train [KEY=VALUE ...]    train a model; without arguments, LeNet on the 5,000 embedded MNIST digits
  train -m KEY=A,B,C ...   one run for each combination of the values
  resume DIR               go on with a run or a sweep; --allow-changed; of a sweep: --retry-failed, --trust
  verify RUN_DIR           run a finished run again and compare, bit for bit; --tolerance=0.001
  train --help             the configuration: its groups, its keys, its values
  evaluate DIR [data=...]  measure a finished run again, on its test images or on those of other data
  report DIR               draw a finished run, or sum up a sweep: figures, and a page that needs no network
  summary [KEY=VALUE ...]  the layers of a model: shapes, parameters, work, memory; input_shape=H,W,C, num_classes=N
  data prepare NAME        prepare mnist, fashion_mnist or kmnist; then train with data=NAME
  --version                the version of lenet-jax

Exit codes: 0 done, 1 a run failed, 2 bad input, 75 interrupted, to be resumed, 130 interrupted
with nothing to resume yet.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; HYDRA_FULL_ERROR=1 in the environment keeps the traceback of errors."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    # Loading a compiled program, XLA logs an error about each tuning hint that is no feature of a processor.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    tune_environment()
    wants_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    try:
        return _dispatch(arguments)
    except KeyboardInterrupt:
        print("lenet-jax: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        line = explain(error)
        if line is None or wants_traceback:
            raise
        print(f"lenet-jax: {line}", file=sys.stderr)
        return 2


def _dispatch(arguments: list[str]) -> int:
    match arguments:
        case [] | ["-h" | "--help", *_]:
            print(HELP, end="")
            return 0
        case ["--version"]:
            from importlib.metadata import version

            print(f"lenet-jax {version('lenet-jax')}")
            return 0
        case ["train", *overrides]:
            return _train(overrides)
        case ["resume", directory, *options]:
            return _resume(Path(directory), options)
        case ["verify", directory, *options]:
            return _verify(Path(directory), options)
        case ["data", "prepare", name, *options]:
            return _prepare(name, options)
        case ["evaluate", directory, *overrides]:
            return _evaluate(Path(directory), overrides)
        case ["report", directory]:
            return _report(Path(directory))
        case ["summary", *overrides]:
            return _summary(overrides)
        case ["evaluate" | "report" as command, *_]:
            raise InputError(f"{command}: usage: lenet-jax {command} DIR, the directory of a finished run")
        case ["resume"]:
            raise InputError("resume: usage: lenet-jax resume DIR [--allow-changed] [--retry-failed] [--trust]")
        case ["verify"]:
            raise InputError("verify: usage: lenet-jax verify RUN_DIR [--tolerance=0.001]")
        case ["data", *_]:
            raise InputError("data: usage: lenet-jax data prepare NAME [data.directory=DIR] [data.manual_dir=DIR]")
        case _:
            raise unknown_name(
                "command", arguments[0], ["train", "resume", "verify", "evaluate", "report", "summary", "data"]
            )


# ---- train, resume, verify ------------------------------------------------------------------------------------------


def _train(arguments: list[str]) -> int:
    from hydra._internal.utils import get_args_parser  # the parser of hydra.main itself

    from lenet_jax.hydra_app.composition import open_hydra, register_schemas

    register_schemas()
    parser = get_args_parser()
    parser.error = _refuse_option
    options = parser.parse_args(arguments)
    if options.experimental_rerun:
        raise InputError("`--experimental-rerun` must not be used: it loads a pickle; repeat the run's overrides.")
    name, overrides = options.config_name or "config", options.overrides
    folders = {
        key: value and os.path.abspath(value)  # noqa: PTH100  of the user's own configuration
        for key, value in (("config_path", options.config_path), ("config_dir", options.config_dir))
    }
    if options.help or options.hydra_help or options.cfg or options.info or options.shell_completion:
        with open_hydra(**folders) as hydra:
            loader: Any = hydra.config_loader
            loader.check(name, overrides)
        return _answer(arguments)
    with open_hydra(**folders) as hydra:
        if options.multirun or "hydra.mode=MULTIRUN" in overrides:
            from lenet_jax.hydra_app.sweep import begin_sweep

            with begin_sweep(hydra, overrides, name=name, folders=folders) as (ledger, overrides):
                return _sweep(hydra, name, overrides, ledger)

        from lenet_jax.hydra_app.sweep_jobs import check_run

        check_run(hydra, overrides, name=name)
        return _run(hydra, name, overrides)


def _run(hydra: Any, name: str, overrides: list[str]) -> int:
    """Run one configuration and return its exit code."""
    errors = []

    def run(composed: Any) -> int:
        try:
            return _job(composed)
        except Exception as error:  # Hydra would print a line of its own
            errors.append(error)
            return 1

    code = hydra.run(name, run, overrides).return_value
    if errors:
        raise errors[0]
    return code


def _resume(directory: Path, options: list[str]) -> int:
    from lenet_jax.hydra_app.strangers import refuse_links
    from lenet_jax.runs.run_directory import RUN
    from lenet_jax.sweeps.ledger import IDENTITY, Ledger

    is_sweep = (directory / IDENTITY).is_file()
    if not is_sweep and not (directory / RUN).is_file():
        raise InputError(f"`DIR` must be of a run or a sweep, with a {RUN} or {IDENTITY} in it; got {directory}.")
    switches = {"--allow-changed": False, **({"--retry-failed": False, "--trust": False} if is_sweep else {})}
    for option in options:
        if option not in switches:
            raise unknown_name("resume", option, switches)
        switches[option] = True
    refuse_links(directory)
    if not is_sweep:
        from lenet_jax.runs.resumption import resume_run

        _log_to(directory)
        return _show(resume_run(directory, allow_changed=switches["--allow-changed"]), directory)

    from lenet_jax.hydra_app.composition import open_hydra, register_schemas
    from lenet_jax.hydra_app.sweep import resume_sweep

    ledger = Ledger(directory)
    register_schemas()
    trust = switches["--trust"]
    with (
        open_hydra(**ledger.identity["folders"], trusted=trust) as hydra,
        resume_sweep(
            hydra,
            ledger,
            retry_failed=switches["--retry-failed"],
            allow_changed=switches["--allow-changed"],
            trust=trust,
        ) as overrides,
    ):
        return _sweep(hydra, ledger.identity["config_name"], overrides, ledger)


def _log_to(directory: Path) -> None:
    """Log to the file that the run has begun, and warn on the terminal."""
    import logging

    name = next((path.name for path in sorted(directory.glob("*.log"))), "train.log")
    handler, terminal = logging.FileHandler(directory / name, delay=True), logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    terminal.setFormatter(logging.Formatter("lenet-jax: %(message)s"))
    terminal.setLevel(logging.WARNING)
    logging.basicConfig(level=logging.INFO, handlers=[handler, terminal], force=True)


def _verify(directory: Path, options: list[str]) -> int:
    """Run a finished run again; return 0 if it gives the same, at least within the tolerance."""
    from lenet_jax.report.terminal import show, verification_lines
    from lenet_jax.runs.events import Event
    from lenet_jax.runs.resumption import Verification, verify_run

    tolerance = 0.001
    for option in options:
        name, _, value = option.partition("=")
        if name != "--tolerance":
            raise unknown_name("verify", name, ["--tolerance"])
        tolerance = _fraction("--tolerance", value)
    found: list[Verification] = []

    def events() -> Iterator[Event]:
        for event in verify_run(directory):
            if isinstance(event, Verification):
                found.append(event)
            else:
                yield event

    with signals_interrupt():
        show(events())
    for line in verification_lines(found[0], tolerance):
        print(line)
    return 0 if found[0].identical or found[0].within(tolerance) else 1


def _fraction(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise InputError(f"verify: `{name}` must be a number from 0 to below 1; got {text!r}.")
    return value


def _sweep(hydra: Any, name: str, overrides: list[str], ledger: Any) -> int:
    """Run a sweep and return its exit code."""
    from lenet_jax.hydra_app import worker
    from lenet_jax.sweeps.ledger import DONE

    task = functools.partial(worker.run, parent=os.getpid())
    try:
        with signals_interrupt():
            hydra.multirun(name, task, overrides, with_log_configuration=False)
    except KeyboardInterrupt:
        return _interrupted(ledger.directory)
    _report_sweep(ledger)
    return 0 if all(entry.state == DONE for entry in ledger.entries()) else 1


def _interrupted(directory: Path) -> int:
    from lenet_jax.report.terminal import shortened

    print(f"lenet-jax: interrupted; go on with lenet-jax resume {shlex.quote(shortened(directory))}", file=sys.stderr)
    return RESUMABLE


def _answer(arguments: list[str]) -> int:
    """Let Hydra answer a question about the configuration."""
    import hydra

    from lenet_jax.hydra_app.composition import config_directory

    ask = hydra.main(version_base="1.3", config_path=str(config_directory()), config_name="config")
    argv, full_error = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    # Hydra takes its arguments from there, and hands us its exceptions instead of printing them.
    sys.argv, os.environ["HYDRA_FULL_ERROR"] = ["lenet-jax train", *arguments], "1"
    try:
        ask(lambda composed: None)()
    finally:
        sys.argv = argv
        del os.environ["HYDRA_FULL_ERROR"]
        if full_error is not None:
            os.environ["HYDRA_FULL_ERROR"] = full_error
    return 0


def _refuse_option(message: str) -> NoReturn:
    raise InputError(f"train: {message}; see lenet-jax train --help.")


def _job(composed: Any) -> int:
    """Run one composed configuration and return its exit code."""
    from hydra.core.hydra_config import HydraConfig

    from lenet_jax.hydra_app.composition import to_config
    from lenet_jax.runs.driver import run_experiment

    directory = Path(HydraConfig.get().runtime.output_dir)
    return _show(run_experiment(to_config(composed), directory), directory)


def _show(events: Iterable[Any], directory: Path) -> int:
    """Show the events of a run and return its exit code."""
    from lenet_jax.report.terminal import show
    from lenet_jax.runs.run_directory import RUN

    try:
        with signals_interrupt():
            finished = show(events)
    except KeyboardInterrupt:
        if not (directory / RUN).is_file():
            raise
        return _interrupted(directory)
    except OSError as error:
        if error.filename is None:  # a write to an open file does not name it
            error.filename = str(directory)
        raise
    return 1 if finished is None or finished.result["stopped_by"] == "diverged" else 0


# ---- evaluate, report, summary ---------------------------------------------------------------------------------------


def _evaluate(directory: Path, overrides: list[str]) -> int:
    from lenet_jax.hydra_app.composition import compose_config, register_schemas
    from lenet_jax.report.text import assessment_table
    from lenet_jax.runs.evaluate import assess
    from lenet_jax.runs.records import read_record

    for override in overrides:
        if not override.startswith(("data=", "data.")):
            raise InputError(f"evaluate: options are data=NAME and data.KEY=VALUE; got {override!r}.")
    record = read_record(directory)
    register_schemas()
    data = compose_config(overrides).data if overrides else None
    for line in assessment_table(assess(record, data)):
        print(line)
    return 0


def _report(directory: Path) -> int:
    from lenet_jax.hydra_app.strangers import refuse_links
    from lenet_jax.report.page import write_report
    from lenet_jax.runs.evaluate import assess
    from lenet_jax.runs.records import read_record
    from lenet_jax.sweeps.ledger import IDENTITY, Ledger

    refuse_links(directory)
    if (directory / IDENTITY).is_file():
        _report_sweep(Ledger(directory))
        return 0
    record = read_record(directory)
    print(f"report: {write_report(record, assess(record))}")
    return 0


def _report_sweep(ledger: Any) -> None:
    from lenet_jax.report.sweep_page import write_page
    from lenet_jax.report.text import sweep_lines
    from lenet_jax.sweeps.statistics import write_summary

    summary = write_summary(ledger)
    for line in sweep_lines(summary):
        print(line)
    print(f"report: {write_page(ledger, summary)}")


def _summary(arguments: list[str]) -> int:
    from lenet_jax.hydra_app.composition import compose_config, register_schemas

    own = [a for a in arguments if a.startswith(("input_shape=", "num_classes="))]
    values = dict(argument.split("=", 1) for argument in own)
    register_schemas()
    config = compose_config([a for a in arguments if a not in own])

    from lenet_jax.models import build_model
    from lenet_jax.report.text import layer_table
    from lenet_jax.summary import summarize

    shape = _integers("input_shape", values.get("input_shape", "28,28,1"), 3)
    (num_classes,) = _integers("num_classes", values.get("num_classes", "10"), 1)
    for line in layer_table(summarize(build_model(config.model, shape, num_classes)), shape):
        print(line)
    return 0


def _integers(name: str, text: str, length: int) -> tuple[int, ...]:
    parts = text.strip("[]()").split(",")
    if len(parts) != length or not all(part.strip().isdecimal() for part in parts):
        raise InputError(f"summary: `{name}` must be {length} integers with commas between them; got {text!r}.")
    return tuple(int(part) for part in parts)


# ---- data -----------------------------------------------------------------------------------------------------------


def _prepare(name: str, options: list[str]) -> int:
    from lenet_jax.config import DataConfig
    from lenet_jax.data.tfds import OWN, prepare

    if name not in OWN:
        raise unknown_name("data prepare", name, OWN)
    values = {}
    for option in options:
        key, separator, value = option.partition("=")
        if not separator or key not in ("data.directory", "data.manual_dir"):
            raise InputError(f"data prepare: options are data.directory=DIR and data.manual_dir=DIR; got {option!r}.")
        values[key.removeprefix("data.")] = value
    config = DataConfig(name=name, source="tfds", **values)
    print(f"{name} is prepared in {prepare(config.name, config.directory, config.manual_dir)}")
    return 0
