"""The command line: `lenet-jax train` and `lenet-jax data prepare`. The only place that runs Hydra.

A user's mistake is one line on standard error and exit code 2; a failed run is exit code 1. `--help` and `--cfg job`
answer without importing jax, so whatever needs it is imported inside the function that runs it.
"""

import dataclasses
import errno
import itertools
import os
import secrets
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lenet_jax.config import SCHEMAS, Config, from_dict
from lenet_jax.errors import InputError, unknown_name

HELP = """\
lenet-jax: functional, reproducible training of small convolutional networks in JAX.

usage: lenet-jax COMMAND [...]

  train [KEY=VALUE ...]    train a model; without arguments, LeNet on the 5,000 embedded MNIST digits
  train -m KEY=A,B,C ...   one run for each combination of the values
  train --help             the configuration: its groups, its keys, its values
  data prepare NAME        prepare mnist, fashion_mnist or kmnist; then train with data=NAME
  --version                the version of lenet-jax

Exit codes: 0 done, 1 a run failed, 2 bad input, 130 interrupted.
"""

# What the file system answers when a folder is full, read-only, missing or not ours.
_REFUSALS = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EEXIST,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code. With HYDRA_FULL_ERROR=1 in the environment, errors keep their traceback."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    wants_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    try:
        return _dispatch(arguments)
    except KeyboardInterrupt:
        print("lenet-jax: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        line = _explain(error)
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
        case ["data", "prepare", name, *options]:
            return _prepare(name, options)
        case ["data", *_]:
            raise InputError("data: usage: lenet-jax data prepare NAME [data.directory=DIR] [data.manual_dir=DIR]")
        case _:
            raise unknown_name("command", arguments[0], ["train", "data"])


# ---- train ----------------------------------------------------------------------------------------------------------


def _train(arguments: list[str]) -> int:
    import hydra
    from hydra._internal.utils import get_args_parser  # the parser of hydra.main itself
    from omegaconf import OmegaConf

    _register_schemas()
    OmegaConf.register_new_resolver("run_id", lambda: secrets.token_hex(2), use_cache=True, replace=True)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands us its exceptions instead of printing them
    sys.argv = ["lenet-jax train", *arguments]
    options = get_args_parser().parse_args(arguments)
    if options.experimental_rerun:
        raise InputError("`--experimental-rerun` must not be used: it loads a pickle; repeat the run's overrides instead.")
    directory = str(config_directory())
    answers_only = options.help or options.hydra_help or options.cfg or options.info or options.shell_completion
    own_files = options.config_dir or options.config_path or options.config_name
    if not answers_only and not own_files:  # a composition of the user's own is checked when its job starts
        _check_first(options.overrides, options.multirun, directory)

    codes = []
    hydra.main(version_base="1.3", config_path=directory, config_name="config")(lambda cfg: codes.append(_job(cfg)))()
    return max(codes, default=0)


def _job(composed: Any) -> int:
    """Run one composed configuration and return its exit code."""
    from hydra.core.hydra_config import HydraConfig

    from lenet_jax.report.terminal import show
    from lenet_jax.runs.driver import run_experiment

    try:
        show(run_experiment(to_config(composed), Path(HydraConfig.get().runtime.output_dir)))
        return 0
    except (InputError, OSError) as error:
        line = _explain(error)
        if line is None:
            raise
        print(f"lenet-jax: {line}", file=sys.stderr)
        return 2


def _check_first(overrides: list[str], multirun: bool, directory: str) -> None:
    """Compose each job, check it and find its data before Hydra writes the first file.

    Raises:
        InputError: if a value breaks its rule, data and configuration do not fit, or the run directory holds a run;
            or Hydra's own errors.
    """
    from hydra import compose, initialize_config_dir

    configs = []
    with initialize_config_dir(directory, version_base="1.3"):
        for job in _expand_sweep(overrides) if multirun else [overrides]:
            try:
                configs.append(to_config(compose("config", job)))
            except InputError:
                raise
            except ValueError as error:  # Hydra's answer to a few malformed overrides
                raise InputError(f"{' '.join(job)}: {error}") from error

    from lenet_jax.runs.driver import check_inputs
    from lenet_jax.runs.run_directory import RunDirectory

    for override in overrides:
        key, _, path = override.partition("=")
        if key == "hydra.run.dir" and not multirun:
            RunDirectory(Path(path))
    for config in configs:
        check_inputs(config)


def _expand_sweep(overrides: list[str]) -> Iterator[list[str]]:
    """Yield the overrides of each job of Hydra's basic sweeper."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    choices = [
        [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]
        if override.is_sweep_override()
        else [str(override.input_line)]
        for override in OverridesParser.create().parse_overrides(overrides)
    ]
    yield from map(list, itertools.product(*choices))


# ---- configuration --------------------------------------------------------------------------------------------------


def config_directory() -> Path:
    """Return the folder `conf`: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent
    return next(path for path in (package / "conf", package.parent / "conf") if path.is_dir())


def to_config(composed: Any) -> Config:
    """Turn what Hydra composed into the checked configuration.

    Raises:
        InputError: for the first value that breaks its rule, with the key's full path.
    """
    from omegaconf import OmegaConf

    values = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    return from_dict(values)  # pyright: ignore[reportArgumentType]


def _register_schemas() -> None:
    """Offer the classes of `lenet_jax.config` to Hydra as the schemas that `conf/` names."""
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    store.store(name="schema", node=_editable(Config), provider="lenet_jax")
    for group, options in SCHEMAS.items():
        for name, schema in options.items():
            store.store(group=f"schema/{group}", name=name, node=_editable(schema), provider="lenet_jax")


def _editable(schema: type) -> type:
    """Return the same dataclass without its rules, and not frozen: OmegaConf refuses to override a frozen one.

    What a group of `conf/` fills in is missing until it does.
    """
    fields = []
    for field in dataclasses.fields(schema):
        kind: Any = field.type
        default: Any = dataclasses.field(default=field.default)
        if field.name in SCHEMAS:
            kind, default = Any, dataclasses.field(default="???")
        elif dataclasses.is_dataclass(kind):
            kind = _editable(kind)  # pyright: ignore[reportArgumentType]
            default = dataclasses.field(default_factory=kind)
        fields.append((field.name, kind, default))
    return dataclasses.make_dataclass(schema.__name__, fields)


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
            raise InputError(f"data prepare: options must be data.directory=DIR or data.manual_dir=DIR; got {option!r}.")
        values[key.removeprefix("data.")] = value
    config = DataConfig(name=name, source="tfds", **values)
    print(f"{name} is prepared in {prepare(config.name, config.directory, config.manual_dir)}")
    return 0


# ---- errors ---------------------------------------------------------------------------------------------------------


def _explain(error: BaseException) -> str | None:
    """Return the one line for a user's mistake; None for anything else."""
    from hydra.errors import HydraException, MissingConfigException
    from omegaconf.errors import OmegaConfBaseException

    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, MissingConfigException) and error.options and error.missing_cfg_file:
        group, _, option = str(error.missing_cfg_file).rpartition("/")
        return str(unknown_name(group, option, error.options))
    if isinstance(error, HydraException | OmegaConfBaseException):
        cause = error if isinstance(error, OmegaConfBaseException) else error.__cause__
        if isinstance(cause, OmegaConfBaseException):
            return _explain_value(cause)
        return "; ".join(line.strip() for line in str(error).splitlines() if line.strip())
    if isinstance(error, OSError) and error.errno in _REFUSALS:
        return f"{error.filename or 'output'}: cannot be written ({error.strerror}); choose another with hydra.run.dir=DIR."
    return None


def _explain_value(error: Any) -> str:
    """Return the one line for a key that is unknown, or a value of the wrong type, in the words of the rest."""
    from omegaconf.errors import MissingMandatoryValue

    reason = str(error).splitlines()[0].rstrip(".")
    if isinstance(error, MissingMandatoryValue):
        return f"`{error.full_key}` must be given: {reason}."
    if isinstance(error, KeyError | AttributeError) and error.parent_node is not None and error.full_key:
        path = str(error.full_key).rpartition(".")[0]
        return str(unknown_name(path or "configuration", error.key, map(str, error.parent_node.keys())))
    return f"`{error.full_key}` must have the type of its default: {reason}." if error.full_key else f"{reason}."
