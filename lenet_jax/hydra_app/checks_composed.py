"""What Hydra has composed, before it makes anything of it."""

import re
from collections.abc import Iterator
from typing import Any

from omegaconf import OmegaConf, SCMode

from lenet_jax.errors import InputError
from lenet_jax.hydra_app.names import NUMBER, check_name
from lenet_jax.hydra_app.overrides import PLUGINS, TARGET, no_code
from lenet_jax.hydra_app.strangers import check_options

_DISPATCH = re.compile(r"all|\d+|(\d+ ?\* ?)?n_jobs( ?\* ?\d+)?")  # older versions of joblib evaluate it

_HANDLERS = tuple(f"logging.{name}" for name in ("StreamHandler", "FileHandler", "NullHandler", "Formatter"))
_FACTORY = "colorlog.ColoredFormatter"
_STREAMS = ("ext://sys.stdout", "ext://sys.stderr")
_LOG = re.compile(r"(\$\{hydra\.runtime\.output_dir\}/)?(\w[\w.,=+@-]*)?(\$\{hydra\.job\.name\})?[\w.,=+@-]*\.log")

# Hydra's keys that may refer to any value; what its other keys refer to must be its own, or is a text in any case.
_FREE = ("hydra.run.", "hydra.sweep.", "hydra.overrides.", "hydra.overrides[", "hydra.job.override_dirname")
_REFERENCE = re.compile(r"\$\{(hydra[.:][\w.]+|(now|oc\.env|run_id|python_version):[^${}]*)\}")


def check_composed(composed: Any, *, trusted: bool = True) -> None:
    """Check what Hydra has composed, before it makes anything of it.

    Args:
        composed: the composition.
        trusted: whether it is the user's own; else the options of launcher and sweeper must be numbers and names.

    Raises:
        InputError: for the first value that has Hydra run code, set variables, or leave the folder of the run.
    """
    content: Any = OmegaConf.to_container(composed, resolve=False, structured_config_mode=SCMode.DICT)
    for path, value in _leaves(content, ""):
        plugin, _, key = path.rpartition(".")
        if key == TARGET and (plugin not in PLUGINS or value not in PLUGINS[plugin]):
            raise no_code(path, value)
        if not trusted and "${" in str(value) and "oc.env" in str(value):
            raise InputError(
                f"`{path}` must not read the environment in a sweep's own directory; got {value}; "
                "if the sweep is yours, resume it with --trust."
            )
        free = not path.startswith("hydra.") or path.startswith(_FREE)
        if not free and "${" in str(value) and "${" in _REFERENCE.sub("", str(value)):
            raise InputError(f"`{path}` must refer to Hydra's own values only; got {value}; write the value itself.")
    hydra = content["hydra"]
    for name in PLUGINS:
        plugin = hydra[name.removeprefix("hydra.")]
        if not isinstance(plugin, dict) or TARGET not in plugin:
            raise InputError(f"`{name}` must be chosen by {name.replace('.', '/')}=NAME; got {plugin}.")
        if not trusted:
            check_options(name, plugin)
    dispatch = hydra["launcher"].get("pre_dispatch")
    if dispatch is not None and not _DISPATCH.fullmatch(str(dispatch)):
        raise InputError(f"`hydra.launcher.pre_dispatch` must be a number, all, or N*n_jobs; got {dispatch!r}.")
    if hydra["callbacks"]:
        raise InputError(f"`hydra.callbacks` must be empty: a callback is code to run; got {hydra['callbacks']}.")
    for name in ("env_set", "env_copy"):
        if hydra["job"][name]:
            found = ", ".join(map(str, hydra["job"][name]))
            raise InputError(f"`hydra.job.{name}` must be empty; got {found}; set variables before the command.")
    for name in ("hydra_logging", "job_logging"):
        _check_logging(f"hydra.{name}", hydra[name])
    check_name("hydra.job.name", NUMBER.sub("0", str(hydra["job"]["name"])))
    if hydra["output_subdir"] is not None:
        check_name("hydra.output_subdir", hydra["output_subdir"])


def _leaves(content: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield the full key of each value that is no mapping and no list."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield from _leaves(value, f"{path}.{key}" if path else str(key))
        if TARGET in content and isinstance(content[TARGET], dict | list):
            yield f"{path}.{TARGET}", content[TARGET]
    elif isinstance(content, list):
        for index, value in enumerate(content):
            yield from _leaves(value, f"{path}[{index}]")
    else:
        yield path, content


def _check_logging(path: str, content: Any) -> None:
    """Check what is given to `logging.config.dictConfig`, which imports and calls what it names."""
    if not isinstance(content, dict):
        if content is not None:
            raise InputError(f"`{path}` must be chosen by {path.replace('.', '/')}=NAME; got {content}.")
        return
    for full_key, value in _leaves(content, path):
        key = full_key.rpartition(".")[2]
        match key:
            case "class" if value not in _HANDLERS:
                rule = f"be one of {', '.join(_HANDLERS)}"
            case "()" if value != _FACTORY:
                rule = f"be {_FACTORY}"
            case "filename" if not _LOG.fullmatch(str(value)):
                rule = "be ${hydra.runtime.output_dir}/NAME.log, beside the run"
            case "filename":
                continue
            case _ if "://" in str(value) and value not in _STREAMS:
                rule = f"be {' or '.join(_STREAMS)}, or name nothing to import"
            case _ if "${" in str(value):
                rule = "be written out"
            case _:
                continue
        raise InputError(f"`{full_key}` must {rule}; got {value!r}.")
    for full_key in _attributes(content, path):
        raise InputError(f"`{full_key}` must not be given: it sets attributes of a logger; remove it.")


def _attributes(content: Any, path: str) -> Iterator[str]:
    """Yield the full key of each `.`, and of each `()` or `class` that is not a text."""
    if isinstance(content, dict):
        for key, value in content.items():
            if key == "." or (key in ("()", "class") and not isinstance(value, str)):
                yield f"{path}.{key}"
            yield from _attributes(value, f"{path}.{key}")
    elif isinstance(content, list):
        for value in content:
            yield from _attributes(value, path)
