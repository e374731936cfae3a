"""Checks of a composed configuration: its texts, and the file and folder names that are built from them.

The command line may name any code. The directory of a sweep is untrusted when it is read back: its launcher and sweeper
must be known or allowed, and their options must be plain values.
"""

import re
import unicodedata
from collections.abc import Collection, Mapping
from pathlib import PurePosixPath
from typing import Any

from lenet_jax.config.catalogue import TARGET
from lenet_jax.errors import InputError
from lenet_jax.storage import ENVIRONMENTS

_MAX_FOLDERS = 200  # depth of nested folders, which are created recursively
_RESERVED_FILES = (
    "sweep.json",
    "plan.json",
    "jobs",
    ".launches",
    ".lock",
    "optuna.journal",
    "figures",
    "index.html",
    "summary.json",
    "summary.csv",
)
NUMBER = re.compile(r"\$\{hydra[.:]job\.(num|id)\}")
_UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")  # Unicode categories: control characters, surrogates, line separators


def check_text(name: str, text: str) -> None:
    """Check that a text can be shown on one line and written to a file.

    Args:
        name: the key of the text, for the message.
        text: the text.

    Raises:
        InputError: if the text has a control character or a surrogate.
    """
    found = next((character for character in text if unicodedata.category(character) in _UNPRINTABLE), None)
    if found is not None:
        raise InputError(
            f"`{printable(name)}` must not hold control characters or broken Unicode; got {found!a} in it; remove it."
        )


def check_name(key: str, name: str) -> None:
    """Check the name of a file that is created in a folder.

    Args:
        key: the key of the name, for the message.
        name: the name.

    Raises:
        InputError: if the name may lead out of the folder, or is not valid for a file.
    """
    check_text(key, name)
    if name in ("", ".", "..") or "/" in name or "${" in name or len(name.encode()) > 200:
        raise InputError(
            f"`{key}` must be a file's name of at most 200 bytes, without / and, but for ${{hydra.job.num}}, written "
            f"out; got {printable(name)!r}."
        )


def check_names(hydra: Any) -> None:
    """Check the names that Hydra's part of a composition gives to files and folders in the directory of a run.

    Raises:
        InputError: if one of them may lead elsewhere, or no file can have it.
    """
    check_name("hydra.job.name", str(hydra.job.name))
    if hydra.output_subdir is not None:
        check_name("hydra.output_subdir", str(hydra.output_subdir))


def check_folder(key: str, path: str) -> None:
    """Check the path of a folder that is created.

    Args:
        key: the key of the path, for the message.
        path: the path.

    Raises:
        InputError: if the path is empty, has unprintable characters, or is deeper than 200 folders.
    """
    check_text(key, path)
    if not path.strip():
        raise InputError(f"`{key}` must be the path of a folder; got {path!r}; use . for the working directory.")
    if len(PurePosixPath(path).parts) > _MAX_FOLDERS:
        raise InputError(f"`{key}` must be at most {_MAX_FOLDERS} folders deep; got {printable(path)}; use another.")


def check_directory(path: str) -> None:
    """Check the directory of a sweep, which is inserted into Hydra's overrides.

    Raises:
        InputError: as `check_folder`, or if Hydra would interpolate a part of it.
    """
    check_folder("hydra.sweep.dir", path)
    if "${" in path:
        raise InputError(f"`hydra.sweep.dir` must have no ${{ in its name; got {printable(path)!r}; use another.")


def check_subdirectory(subdirectory: str) -> None:
    """Check the directory of a job, relative to that of its sweep.

    Raises:
        InputError: as `check_folder`, or if it is outside the directory of the sweep or one of the sweep's own files.
    """
    check_folder("hydra.sweep.subdir", subdirectory)
    path = PurePosixPath(subdirectory)
    if path.parts and path.parts[0] in ENVIRONMENTS:
        raise InputError(
            f"`hydra.sweep.subdir` must not begin with {path.parts[0]}, whose links may lead anywhere; got "
            f"{printable(subdirectory)!r}; use ${{hydra:job.num}}."
        )
    if not path.parts or path.is_absolute() or ".." in path.parts or path.parts[0] in _RESERVED_FILES:
        raise InputError(
            "`hydra.sweep.subdir` must be inside the directory of the sweep, and none of the sweep's own files; "
            f"got {printable(subdirectory)!r}; use ${{hydra:job.num}}."
        )


def check_numbered(subdirectory: str) -> None:
    """Check the directory of jobs that are not known yet, before its interpolations are resolved.

    Raises:
        InputError: as `check_subdirectory`, or if it has an interpolation other than the number of the job.
    """
    without_number = NUMBER.sub("0", subdirectory)
    if "${" in without_number:
        raise InputError(
            "`hydra.sweep.subdir` must have no values but ${hydra:job.num} in it where a sweeper chooses the jobs as "
            f"it goes; got {printable(subdirectory)!r}."
        )
    check_subdirectory(without_number)


def printable(text: str) -> str:
    """Return a text for a message: control characters become "?", and at most 200 characters are shown."""
    plain = "".join(c if unicodedata.category(c) not in _UNPRINTABLE else "?" for c in text)
    return plain if len(plain) <= 200 else f"{plain[:200]}..."


# ---- recorded launchers and sweepers --------------------------------------------------------------------------------

# Launchers and sweepers that a recorded sweep may name: those of this package, of Hydra and of the optional packages.
_PLUGINS = {
    "hydra.launcher": (
        "hydra._internal.core_plugins.basic_launcher.BasicLauncher",
        "hydra_plugins.lenet_jax.LanesLauncher",
        "hydra_plugins.lenet_jax.RayLauncher",
        "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher",
        "hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher",
        "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher",
    ),
    "hydra.sweeper": (
        "hydra._internal.core_plugins.basic_sweeper.BasicSweeper",
        "hydra_plugins.lenet_jax.GridSweeper",
        "hydra_plugins.lenet_jax.RandomSweeper",
        "hydra_plugins.lenet_jax.HalvingSweeper",
        "hydra_plugins.lenet_jax.OptunaBatchSweeper",
    ),
}
# Their options that are numbers and names; other options, such as submitit's `setup`, are commands.
_PLAIN_OPTIONS = {
    "hydra.launcher": (
        *("n_jobs", "backend", "prefer", "require", "verbose", "timeout", "pre_dispatch", "batch_size", "max_nbytes"),
        *("mmap_mode", "timeout_min", "cpus_per_task", "gpus_per_node", "tasks_per_node", "mem_gb", "nodes", "name"),
        *("stderr_to_stdout", "partition", "qos", "constraint", "exclude", "gres", "cpus_per_gpu", "gpus_per_task"),
        *("mem_per_gpu", "mem_per_cpu", "account", "signal_delay_s", "max_num_timeout", "array_parallelism"),
    ),
    "hydra.sweeper": (
        *("max_batch_size", "min_epochs", "reduction", "num_trials", "batch_size", "sampler", "pruner", "seed"),
        *("brackets", "asynchronous", "method", "sampler_options"),
    ),
}
_PLAIN = re.compile(r"[\w.:+@, -]*")
_DISPATCH = re.compile(r"all|\d+|(\d+ ?\* ?)?n_jobs( ?\* ?\d+)?")  # older versions of joblib evaluate it as code
_FOLDER_OPTION = "submitit_folder"  # submitit reads pickles from it; a resumed sweep gets a new folder


def check_recorded_plugin(name: str, node: Any, allowed: Collection[str]) -> None:
    """Check the untrusted configuration of a launcher or sweeper in the directory of a sweep.

    Args:
        name: "hydra.launcher" or "hydra.sweeper".
        node: its recorded configuration.
        allowed: packages that the user allows; "*": all.

    Raises:
        InputError: if the class is not known and its package is not allowed, or an option may be a command.
    """
    target = node.get(TARGET) if isinstance(node, Mapping) else None
    package = str(target).partition(".")[0]
    if "*" in allowed or (target not in _PLUGINS[name] and package in allowed):
        return
    if target not in _PLUGINS[name]:
        raise InputError(
            f"`{name}` in the directory of the sweep names code to run, {printable(str(target))}; if you know it, "
            f"allow it: --allow {printable(package)}."
        )
    if node.get("sampler") == "cmaes":  # which Optuna reads from a pickle in the journal
        raise InputError(f"`{name}.sampler` cmaes runs code of the directory; if the sweep is yours, use --trust.")
    for key, value in node.items():
        if key in (TARGET, _FOLDER_OPTION, "params", "zip") or not value:
            continue
        is_table = isinstance(value, Mapping) and key == "sampler_options"
        parts = [*value, *value.values()] if is_table else [value]
        is_plain = value == "${hydra.job.name}" or all(map(_is_plain, parts))
        if key == "pre_dispatch":
            is_plain = _DISPATCH.fullmatch(str(value))
        if not is_plain or key not in _PLAIN_OPTIONS[name]:
            raise InputError(
                f"`{name}.{key}` must not be set by the directory of a sweep; got {printable(str(value))}; if the "
                "sweep is yours, resume it with --trust."
            )


def _is_plain(value: Any) -> bool:
    return isinstance(value, int | float) or _PLAIN.fullmatch(str(value)) is not None


_VALUES = ("seed", "notes", "tags", "init", "init_include", "init_exclude")  # keys of no group of files
_KEY = re.compile(r"(?!hydra\b)[A-Za-z_][\w.]*")
_REFERENCE = re.compile(r"\$\{(hydra:job\.(num|id)|now:[\w%:. -]*|[\w.]+)\}")


def check_recorded_argument(key: str, package: str | None, text: str) -> None:
    """Check an untrusted argument in the directory of a sweep, before it is composed with `conf/`.

    The argument may set a value of a run or choose a file of a group. It must not read the environment or other files,
    nor change Hydra's own part.

    Args:
        key: the key of the override.
        package: the package in Hydra's KEY@PACKAGE; None: not given.
        text: the complete override.

    Raises:
        InputError: if the argument does anything else.
    """
    value = text.partition("=")[2]
    chooses_file = "." not in key and key not in _VALUES
    if (
        package is not None
        or not _KEY.fullmatch(key)
        or "${" in _REFERENCE.sub("", value)
        or (chooses_file and ("/" in value or "${" in value))
    ):
        raise InputError(
            f"`{printable(key)}` must set a value or choose a file of conf/; the directory of the sweep has "
            f"{printable(text)}; if the sweep is yours, resume it with --trust."
        )
