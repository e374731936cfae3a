"""Error messages of the command line: one line for each user error, including those that Hydra or the system raises."""

import errno
import os
import re
import traceback
from pathlib import Path
from typing import Any

from lenet_jax.config.catalogue import TARGET, config_directory, option_names, read_signature
from lenet_jax.environment import install_command
from lenet_jax.errors import InputError, unknown_name

_EXTRAS = {"joblib": "joblib", "submitit_local": "slurm", "submitit_slurm": "slurm"}  # launcher -> extra to install

# Errors of the file system if a disk is full, or a folder is read-only, missing or not the user's.
_WRITE_ERRORS = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.ENAMETOOLONG,
    errno.EISDIR,
    errno.ELOOP,
)


def to_message(error: BaseException, command: str | None = None) -> str | None:
    """Return the message of a user error as one line; None for any other exception.

    Args:
        error: the exception.
        command: the command of lenet-jax that raised it; None: unknown.
    """
    from hydra.errors import HydraException, MissingConfigException, OverrideParseException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import MarkedYAMLError

    if isinstance(error, InputError):
        return "; ".join(str(error).splitlines())  # the message may quote a value of several lines
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, option = str(error.missing_cfg_file).rpartition("/")
        of_group = option_names(config_directory(), group) if group else []
        options = error.options or of_group  # of a list, Hydra names none
        if group == "hydra/launcher" and option in _EXTRAS:
            return f"hydra/launcher={option} needs a package: {install_command(_EXTRAS[option])}."
        if options:
            return f"{unknown_name(group, option, options)}{_forgotten_folder(group, option)}"
    if isinstance(error, OverrideParseException):
        from lenet_jax.hydra_app.unreadable import describe_unreadable

        return describe_unreadable(error.override)
    if isinstance(error, HydraException | OmegaConfBaseException):
        file = re.match(r"In '(.*)': \w+ raised while composing config:", str(error))
        cause = error if isinstance(error, OmegaConfBaseException) else error.__cause__
        cause = error.__context__ if file and cause is None else cause
        if isinstance(cause, OmegaConfBaseException):
            return f"{file[1]}.yaml: {_message_of_file(file[1], cause)}" if file else _value_message(cause)
        return _reworded("; ".join(line.strip() for line in str(error).splitlines() if line.strip()))
    if isinstance(error, MarkedYAMLError):
        mark = error.problem_mark
        place = "configuration" if mark is None else f"{mark.name}, line {mark.line + 1}"
        return f"{place}: must be YAML of plain values; {error.problem}."
    if isinstance(error, OSError) and error.errno in _WRITE_ERRORS:
        return _file_message(error, command)
    if isinstance(error, ValueError) and (variable := _variable_of_jax(error)):
        return f"`{variable}` must have a value that JAX takes; got {os.environ[variable]!r}; correct or unset it."
    return None


def _variable_of_jax(error: ValueError) -> str | None:
    """Return the variable of the environment that keeps JAX from being imported; None: the error is another one."""
    found = re.search(r"\bjax_\w+", str(error), re.IGNORECASE)
    frames = traceback.walk_tb(error.__traceback__)
    if found is None or not any(frame.f_globals.get("__name__") == "jax._src.config" for frame, _ in frames):
        return None
    return found[0].upper() if found[0].upper() in os.environ else None


_REWORDED = (  # what Hydra says -> the same with the remedy
    (
        r"Sweeping over Hydra's configuration is not supported : '\+*hydra\.sweeper\.params\.(.*?)=(.*)'",
        r"`hydra.sweeper.params.\1` must be a text; got \2; write \1=\2 in its place.",
    ),
    (
        r"Sweeping over Hydra's configuration is not supported : '\+*(.*?)=(.*)'",
        r"`\1` must be the same for all jobs of a sweep; got \2; start a sweep for each.",
    ),
    (
        r"Sweep parameters '(.*?)=(.*)' requires --multirun",
        r"`\1` must be one value; got \2; to sweep over it, add -m.",
    ),
    (
        r"Multiple values for ([\w/]+)\. To override a value use 'override (.*): (.*)'",
        r"`\1` must be chosen once; to replace the choice, write \1=\3, in a file 'override /\1: \3'.",
    ),
    (
        r"In '(.*)': Could not override '.*/(\w+)@.*'\. No match in the defaults list\.",
        r"\1.yaml: `\2` must be the path of a group; write 'override /\2: NAME'.",
    ),
)


def _reworded(message: str) -> str:
    for pattern, words in _REWORDED:
        if found := re.fullmatch(pattern, message):
            return found.expand(words)
    return message.replace("\\'", "'")


def _file_message(error: OSError, command: str | None) -> str:
    """Return the message for an error of the file system, with what helps: the file's name does not say who uses it."""
    path = Path(os.fsdecode(error.filename)) if error.filename is not None else None
    if path is None and error.errno == errno.ENOENT:  # of getcwd
        return "the working directory is gone; change to one that exists."
    if path is None:
        return f"the output, or a file, cannot be written ({error.strerror}); make room, or write elsewhere."
    if error.errno == errno.ENAMETOOLONG:
        return f"{path}: is too long a name; choose a shorter one."
    try:
        exists, readable = path.exists(), os.access(path, os.R_OK)
    except OSError:
        exists, readable = True, False
    if error.errno in (errno.EACCES, errno.EPERM) and exists and not readable:
        return f"{path}: cannot be read ({error.strerror}); this user must have the permission to."
    if command in (None, "train"):
        remedy = "choose another with hydra.run.dir=DIR, or hydra.sweep.dir=DIR with -m"
    else:
        remedy = f"{command} writes there: copy the directory to where you may write, and name the copy"
    return f"{path}: cannot be written ({error.strerror}); {remedy}."


def _forgotten_folder(group: str, option: str) -> str:
    """Return the remedy if a file of the user's own has the name, in the folder that projects usually have."""
    path = Path("conf", group, f"{option}.yaml")
    if path.is_file():
        return f" There is {path}: add --config-dir conf."
    if group == "experiment":
        return f" One of your own is FOLDER/{group}/{option}.yaml: add --config-dir FOLDER."
    return ""


def _message_of_file(file: str, error: Any) -> str:
    """Return the message for OmegaConf's error about a file of a group, whose content may be in the wrong package."""
    if str(error.full_key).partition(".")[0] == file.partition("/")[0] == "experiment":
        return "must begin with the line # @package _global_, as it sets keys of all groups, and then set one."
    return _value_message(error)


def _value_message(error: Any) -> str:
    """Return the message for OmegaConf's error about a key or a value, in the wording of `lenet_jax.errors`."""
    from omegaconf.errors import (
        ConfigAttributeError,
        ConfigKeyError,
        InterpolationResolutionError,
        MissingMandatoryValue,
    )

    reason = str(error).splitlines()[0].rstrip(".")
    if isinstance(error, MissingMandatoryValue):
        return f"`{error.full_key}` must be given: {reason}."
    if isinstance(error, ConfigKeyError | ConfigAttributeError) and error.parent_node is not None and error.full_key:
        path = str(error.full_key).rpartition(".")[0]
        message = str(unknown_name(path or "configuration", error.key, map(str, error.parent_node.keys())))
        return message if path else f"{message}{_in_a_group(str(error.key), error.parent_node)}"
    if not error.full_key:
        return f"{reason}."
    if reason.endswith("does not support deletion"):
        return f"`{error.full_key}` must not be removed; set it, or the keys in it."
    rule = "refer to a value" if isinstance(error, InterpolationResolutionError) else "have the type of its default"
    return f"`{error.full_key}` must {rule}: {reason}{_as_sweep(str(error.full_key), reason)}."


def _in_a_group(name: str, root: Any) -> str:
    """Return the complete keys that a name may stand for, or its initials, as `lr` for optimizer.learning_rate."""
    keys = [(str(group), str(key)) for group in root if group != "hydra" for key in _keys(root._get_node(group))]
    initials = {key: "".join(word[:1] for word in key.split("_")) for _, key in keys}
    found = [
        f"{group}.{key}"
        for group, key in dict.fromkeys(keys)
        if name == key or (len(name) > 1 and name == initials[key])
    ]
    return f" There is {', '.join(found)}." if found else ""


def _keys(node: Any) -> list[Any]:
    """Return the keys of a group, and the options of its component if it is a built-in one."""
    if not hasattr(node, "keys") or node._is_missing() or node._is_none():
        return []
    signature = read_signature(str(node._get_node(TARGET))) if TARGET in node else None
    return [*node, *(signature.parameters if signature else ())]


def _as_sweep(key: str, reason: str) -> str:
    """Return how a sweep over several values is written, if the refused value looks like some."""
    found = re.match(r"Value '(?:\[(.+)\]|(\d+(?:,\d+)+)|(\d+)(?::|\.\.+|-)(\d+))' of type", reason)
    if found is None:
        return ""
    values, texts, first, last = found.groups()
    text = f"range({first},{last})" if first else (values or texts).replace(", ", ",")
    return f"; to sweep over several values: -m '{key}={text}'"
