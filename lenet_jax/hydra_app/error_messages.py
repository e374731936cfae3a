"""Error messages of the command line: one line for each user error, including those that Hydra or the system raises."""

import errno
import os
from pathlib import Path
from typing import Any

from lenet_jax.config.catalogue import config_directory, option_names
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
    from hydra.errors import HydraException, MissingConfigException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import MarkedYAMLError

    if isinstance(error, InputError):
        return "; ".join(str(error).splitlines())  # the message may quote a value of several lines
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, option = str(error.missing_cfg_file).rpartition("/")
        of_group = option_names(config_directory(), group) if group else []
        options = error.options or of_group  # of a list, Hydra names none
        if group == "hydra/launcher" and option in _EXTRAS:
            return f"hydra/launcher={option} needs a package: pip install 'lenet-jax[{_EXTRAS[option]}]'."
        if options:
            return f"{unknown_name(group, option, options)}{_forgotten_folder(group, option)}"
    if isinstance(error, HydraException | OmegaConfBaseException):
        cause = error if isinstance(error, OmegaConfBaseException) else error.__cause__
        if isinstance(cause, OmegaConfBaseException):
            return _value_message(cause)
        return "; ".join(line.strip() for line in str(error).splitlines() if line.strip())
    if isinstance(error, MarkedYAMLError):
        mark = error.problem_mark
        place = "configuration" if mark is None else f"{mark.name}, line {mark.line + 1}"
        return f"{place}: must be YAML of plain values; {error.problem}."
    if isinstance(error, OSError) and error.errno in _WRITE_ERRORS:
        return _file_message(error, command)
    return None


def _file_message(error: OSError, command: str | None) -> str:
    """Return the message for an error of the file system, with what helps: the file's name does not say who uses it."""
    path = Path(os.fsdecode(error.filename)) if error.filename is not None else None
    if error.errno == errno.ENAMETOOLONG:
        return f"{path}: is too long a name; choose a shorter one."
    try:
        exists, readable = path is not None and path.exists(), path is not None and os.access(path, os.R_OK)
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
        return str(unknown_name(path or "configuration", error.key, map(str, error.parent_node.keys())))
    if not error.full_key:
        return f"{reason}."
    rule = "refer to a value" if isinstance(error, InterpolationResolutionError) else "have the type of its default"
    return f"`{error.full_key}` must {rule}: {reason}."
