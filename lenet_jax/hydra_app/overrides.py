"""The overrides of a command line, before anything is composed of them."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from hydra.core.override_parser.types import ChoiceSweep, Override, QuotedString
from omegaconf import OmegaConf

from lenet_jax.errors import InputError
from lenet_jax.hydra_app.names import check_text, shown

TARGET = "_target_"
PLUGINS = {
    "hydra.launcher": (
        "hydra._internal.core_plugins.basic_launcher.BasicLauncher",
        "hydra_plugins.lenet_jax.LanesLauncher",
        "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher",
        "hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher",
        "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher",
    ),
    "hydra.sweeper": (
        "hydra._internal.core_plugins.basic_sweeper.BasicSweeper",
        "hydra_plugins.lenet_jax.GridSweeper",
        "hydra_plugins.lenet_jax.HalvingSweeper",
        "hydra_plugins.lenet_jax.OptunaBatchSweeper",
    ),
}


def check_overrides(overrides: Iterable[Override]) -> None:
    """Check overrides, before anything is composed of them.

    Raises:
        InputError: for the first one that names code to run, or cannot be written to a file.
    """
    for override in overrides:
        check_text(override.get_key_element(), str(override.input_line))
        path = override.key_or_group
        if path == "hydra" or (override.is_delete() and re.match(r"hydra\b", path)):
            raise InputError(
                f"`hydra` must be set key by key, and none of its keys removed; got {override.input_line}."
            )
        if path not in _plugin_targets() and TARGET in re.split(r"[./@\[\]]", override.get_key_element()):
            raise no_code(path, override.value())
        for key, value in inside(override._value):
            if key == TARGET and path not in PLUGINS:
                raise no_code(path, f"{key}: {value}")
            if isinstance(value, str) and "${" in value and TARGET in value:
                raise no_code(path, value)
        if path == "hydra.searchpath":
            check_search_path(override.value())


def _plugin_targets() -> list[str]:
    return [f"{plugin}.{TARGET}" for plugin in PLUGINS]


def inside(value: Any) -> Iterator[tuple[str | None, Any]]:
    """Yield each key with its value, and each text, in the parsed value of an override."""
    match value:
        case QuotedString():
            yield None, value.text
        case str():
            yield None, value
        case ChoiceSweep():
            yield from inside(value.list)
        case list():
            for each in value:
                yield from inside(each)
        case dict():
            for key, each in value.items():
                yield str(key.text if isinstance(key, QuotedString) else key), each
                yield from inside(each)


def check_search_path(paths: Any) -> None:
    """Check where Hydra looks for more of the configuration.

    Raises:
        InputError: if it would import a package there.
    """
    for path in paths if isinstance(paths, Sequence) or OmegaConf.is_list(paths) else ():
        if "://" in str(path) and not str(path).startswith("file://"):
            raise InputError(
                f"`hydra.searchpath` must have folders only, which are not imported; got {path}; use file://FOLDER."
            )


def no_code(path: str, value: Any) -> InputError:
    """Return the error for a value that names code to run."""
    return InputError(f"`{shown(path)}` must not name code to run: a configuration has values; got {value}; remove it.")
