"""Hydra's side of the configuration: `conf/`, the schemas that it names, and the jobs that a command line asks for."""

import contextlib
import dataclasses
import itertools
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from lenet_jax.config import SCHEMAS, Config, from_dict
from lenet_jax.errors import InputError


def config_directory() -> Path:
    """Return the folder `conf`: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent
    return next(path for path in (package / "conf", package.parent / "conf") if path.is_dir())


def to_config(composed: Any) -> Config:
    """Turn what Hydra composed into the checked configuration.

    Raises:
        InputError: for the first value that breaks its rule, with the key's full path.
    """
    values = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    return from_dict(values)  # pyright: ignore[reportArgumentType]


def register_schemas() -> None:
    """Offer the classes of `lenet_jax.config` to Hydra as the schemas that `conf/` names, and a resolver `run_id`."""
    run_id = secrets.token_hex(2)
    OmegaConf.register_new_resolver("run_id", lambda: run_id, replace=True)
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


def compose_config(overrides: list[str]) -> Config:
    """Compose a configuration that is not run, and check it.

    Raises:
        InputError: if a value breaks its rule; or Hydra's own errors.
    """
    with initialize_config_dir(str(config_directory()), version_base="1.3"), _naming(overrides):
        return to_config(compose("config", overrides))


@contextlib.contextmanager
def _naming(overrides: list[str]) -> Iterator[None]:
    """Name the overrides in a `ValueError`, Hydra's answer to a few malformed ones."""
    try:
        yield
    except (InputError, OmegaConfBaseException):
        raise
    except ValueError as error:
        raise InputError(f"{' '.join(overrides)}: {error}") from error


def check_jobs(overrides: list[str], multirun: bool) -> None:
    """Compose each job, check it and find its data before Hydra writes the first file.

    Raises:
        InputError: if a value breaks its rule, data and configuration do not fit, or the run directory holds a run;
            or Hydra's own errors.
    """
    configs, paths = [], []
    with initialize_config_dir(str(config_directory()), version_base="1.3"):
        for number, job in enumerate(_expand_sweep(overrides) if multirun else [overrides]):
            with _naming(job):
                composed = compose("config", job, return_hydra_config=True)
                paths.append(_take_output_directory(composed, number if multirun else None))
                configs.append(to_config(composed))

    from lenet_jax.runs.driver import check_inputs
    from lenet_jax.runs.run_directory import RunDirectory

    if len(set(paths)) < len(paths):
        raise InputError("`hydra.sweep.subdir` must differ between the jobs of a sweep; use ${hydra:job.num} in it.")
    for path in paths:
        RunDirectory(path)
    for config in configs:
        check_inputs(config)


def _take_output_directory(composed: Any, number: int | None) -> Path:
    """Take Hydra's own part out of a composition and return the directory that it gives job `number`."""
    with open_dict(composed):
        if number is not None:
            composed.hydra.job.num = number
        HydraConfig.instance().set_config(composed)  # what ${hydra:...} refers to
        hydra = composed.hydra
        path = Path(hydra.run.dir) if number is None else Path(hydra.sweep.dir, hydra.sweep.subdir)
        del composed["hydra"]
    return path


def _expand_sweep(overrides: list[str]) -> Iterator[list[str]]:
    """Yield the overrides of each job of Hydra's basic sweeper."""
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    choices = [
        [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]
        if override.is_sweep_override()
        else [str(override.input_line)]
        for override in parser.parse_overrides(overrides)
    ]
    yield from map(list, itertools.product(*choices))
