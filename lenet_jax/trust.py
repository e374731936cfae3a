"""What a configuration must not hold, whoever wrote it: the name of code to run, and ways to have Hydra run it.

Hydra makes launcher, sweeper and callbacks of a `_target_`, and loggers of whatever class the words of
`logging.config` name; it imports the packages in its search path, and sets variables before a program is looked for.
What comes from a directory that somebody else may have made is checked more strictly.
"""

import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, QuotedString
from omegaconf import OmegaConf, SCMode

from lenet_jax.errors import InputError

_TARGET = "_target_"
_PLUGINS = {
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
_DISPATCH = re.compile(r"all|\d+|(\d+ ?\* ?)?n_jobs( ?\* ?\d+)?")  # older versions of joblib evaluate it

_HANDLERS = tuple(f"logging.{name}" for name in ("StreamHandler", "FileHandler", "NullHandler", "Formatter"))
_FACTORY = "colorlog.ColoredFormatter"
_STREAMS = ("ext://sys.stdout", "ext://sys.stderr")
_LOG = re.compile(r"(\$\{hydra\.runtime\.output_dir\}/)?(\w[\w.,=+@-]*)?(\$\{hydra\.job\.name\})?[\w.,=+@-]*\.log")

# Hydra's keys that may refer to any value; what its other keys refer to must be its own, or is a text in any case.
_FREE = ("hydra.run.", "hydra.sweep.", "hydra.overrides.", "hydra.overrides[", "hydra.job.override_dirname")
_REFERENCE = re.compile(r"\$\{(hydra[.:][\w.]+|(now|oc\.env|run_id|python_version):[^${}]*)\}")
_NUMBER = re.compile(r"\$\{hydra[.:]job\.(num|id)\}")

# Of Hydra's keys, what a sweep needs that is resumed.
_SWEEP_KEYS = ("hydra.sweep.dir", "hydra.sweep.subdir", "hydra.job.name", "hydra.verbose")
_GROUPS = ("hydra/launcher", "hydra/sweeper")
_OPTIONS = {
    "hydra.launcher": (
        "n_jobs", "backend", "prefer", "require", "verbose", "timeout", "pre_dispatch", "batch_size", "max_nbytes",
        "mmap_mode", "timeout_min", "cpus_per_task", "gpus_per_node", "tasks_per_node", "mem_gb", "nodes", "name",
        "stderr_to_stdout", "partition", "qos", "constraint", "exclude", "gres", "cpus_per_gpu", "gpus_per_task",
        "mem_per_gpu", "mem_per_cpu", "account", "signal_delay_s", "max_num_timeout", "array_parallelism",
    ),
    "hydra.sweeper": (
        "max_batch_size", "min_epochs", "reduction", "num_trials", "batch_size", "sampler", "pruner", "seed",
    ),
}  # fmt: skip
_MOST_FOLDERS = 200  # one inside the other: they are made by recursion
_PLAIN = re.compile(r"[\w.:*+@, -]*")
_OWN_FILES = ("sweep.json", "jobs", ".lock", "optuna.journal", "figures", "index.html", "summary.json", "summary.csv")


class CheckedLoader(ConfigLoaderImpl):
    """Hydra's loader of configurations, which refuses what must not be in one."""

    def __init__(self, config_search_path: ConfigSearchPath, *, trusted: bool = True) -> None:
        """Take Hydra's search path, and whether the configuration is the user's own."""
        super().__init__(config_search_path)
        self._trusted = trusted

    def check(self, config_name: str | None, overrides: list[str]) -> None:
        """Check overrides and search path only, for what Hydra composes by itself and does not run.

        Raises:
            InputError: for what must not be there; or Hydra's own errors.
        """
        self._parse_overrides_and_create_caching_repo(config_name, overrides)

    def load_configuration(self, *arguments: Any, **options: Any) -> Any:
        """Compose as Hydra does, and check the overrides before, what is composed after."""
        composed = super().load_configuration(*arguments, **options)
        check_composed(composed, trusted=self._trusted)
        return composed

    def _process_config_searchpath(self, config_name: Any, parsed_overrides: Any, repo: Any) -> None:
        check_overrides(parsed_overrides)
        primary = None if config_name is None else repo.load_config(config_path=config_name)
        if primary is not None and OmegaConf.is_dict(primary.config):
            _check_search_path(OmegaConf.select(primary.config, "hydra.searchpath"))
        super()._process_config_searchpath(config_name, parsed_overrides, repo)


# ---- overrides ------------------------------------------------------------------------------------------------------


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
        if path not in _plugin_targets() and _TARGET in re.split(r"[./@\[\]]", override.get_key_element()):
            raise _no_code(path, override.value())
        for key, value in _inside(override._value):
            if key == _TARGET and path not in _PLUGINS:
                raise _no_code(path, f"{key}: {value}")
            if isinstance(value, str) and "${" in value and _TARGET in value:
                raise _no_code(path, value)
        if path == "hydra.searchpath":
            _check_search_path(override.value())


def check_text(name: str, text: str) -> None:
    """Check that a text can be shown on a line, and written to a file.

    Raises:
        InputError: if there is a control character in it, or half of a surrogate pair.
    """
    found = next((character for character in text if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")), None)
    if found is not None:
        raise InputError(
            f"`{_shown(name)}` must not hold control characters or broken Unicode; got {found!a} in it; remove it."
        )


def _plugin_targets() -> list[str]:
    return [f"{plugin}.{_TARGET}" for plugin in _PLUGINS]


def _inside(value: Any) -> Iterator[tuple[str | None, Any]]:
    """Yield each key with its value, and each text, in the parsed value of an override."""
    match value:
        case QuotedString():
            yield None, value.text
        case str():
            yield None, value
        case ChoiceSweep():
            yield from _inside(value.list)
        case list():
            for each in value:
                yield from _inside(each)
        case dict():
            for key, each in value.items():
                yield str(key.text if isinstance(key, QuotedString) else key), each
                yield from _inside(each)


def _check_search_path(paths: Any) -> None:
    for path in paths if isinstance(paths, Sequence) or OmegaConf.is_list(paths) else ():
        if "://" in str(path) and not str(path).startswith("file://"):
            raise InputError(
                f"`hydra.searchpath` must have folders only, which are not imported; got {path}; use file://FOLDER."
            )


# ---- what is composed -----------------------------------------------------------------------------------------------


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
        if key == _TARGET and (plugin not in _PLUGINS or value not in _PLUGINS[plugin]):
            raise _no_code(path, value)
        if not trusted and "${" in str(value) and "oc.env" in str(value):
            raise InputError(
                f"`{path}` must not read the environment in a sweep's own directory; got {value}; "
                "if the sweep is yours, resume it with --trust."
            )
        free = not path.startswith("hydra.") or path.startswith(_FREE)
        if not free and "${" in str(value) and "${" in _REFERENCE.sub("", str(value)):
            raise InputError(f"`{path}` must refer to Hydra's own values only; got {value}; write the value itself.")
    hydra = content["hydra"]
    for name in _PLUGINS:
        plugin = hydra[name.removeprefix("hydra.")]
        if not isinstance(plugin, dict) or _TARGET not in plugin:
            raise InputError(f"`{name}` must be chosen by {name.replace('.', '/')}=NAME; got {plugin}.")
        if not trusted:
            _check_options(name, plugin)
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
    check_name("hydra.job.name", _NUMBER.sub("0", str(hydra["job"]["name"])))
    if hydra["output_subdir"] is not None:
        check_name("hydra.output_subdir", hydra["output_subdir"])


def _leaves(content: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield the full key of each value that is no mapping and no list."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield from _leaves(value, f"{path}.{key}" if path else str(key))
        if _TARGET in content and isinstance(content[_TARGET], dict | list):
            yield f"{path}.{_TARGET}", content[_TARGET]
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


def check_name(key: str, name: str) -> None:
    """Check the name of a file that is made in a folder.

    Raises:
        InputError: if it may lead out of the folder, or no file can have it.
    """
    check_text(key, name)
    if name in ("", ".", "..") or "/" in name or "${" in name or len(name.encode()) > 200:
        raise InputError(
            f"`{key}` must be a file's name of at most 200 bytes, without / and, but for ${{hydra.job.num}}, written "
            f"out; got {_shown(name)!r}."
        )


def check_folder(key: str, path: str) -> None:
    """Check the path of a folder that is made.

    Raises:
        InputError: if it cannot be written to a file, or is deeper than any that is meant.
    """
    check_text(key, path)
    if len(PurePosixPath(path).parts) > _MOST_FOLDERS:
        raise InputError(f"`{key}` must be at most {_MOST_FOLDERS} folders deep; got {_shown(path)}; use another.")


def check_directory(path: str) -> None:
    """Check the directory of a sweep, which is put into a command line.

    Raises:
        InputError: if it cannot be.
    """
    check_folder("hydra.sweep.dir", path)
    if "${" in path:
        raise InputError(f"`hydra.sweep.dir` must have no ${{ in its name; got {_shown(path)!r}; use another.")


def check_subdirectory(subdirectory: str) -> None:
    """Check the directory of a job, which is inside that of its sweep.

    Raises:
        InputError: if it leads out of it, or is one of the sweep's own files.
    """
    check_folder("hydra.sweep.subdir", subdirectory)
    path = PurePosixPath(subdirectory)
    if not path.parts or path.is_absolute() or ".." in path.parts or path.parts[0] in _OWN_FILES:
        raise InputError(
            "`hydra.sweep.subdir` must be inside the directory of the sweep, and none of the sweep's own files; "
            f"got {_shown(subdirectory)!r}; use ${{hydra:job.num}}."
        )


def check_numbered(subdirectory: str) -> None:
    """Check the directory of jobs that are not known yet: before values are put in, as it stands in the configuration.

    Raises:
        InputError: as `check_subdirectory`, or if it has a value in it that a job may choose.
    """
    without_number = _NUMBER.sub("0", subdirectory)
    if "${" in without_number:
        raise InputError(
            "`hydra.sweep.subdir` must have no values but ${hydra:job.num} in it where a sweeper chooses the jobs as "
            f"it goes; got {_shown(subdirectory)!r}."
        )
    check_subdirectory(without_number)


# ---- the directory of another ---------------------------------------------------------------------------------------


def check_arguments(arguments: list[str]) -> None:
    """Check the arguments of a sweep as its directory has them, which may be somebody else's.

    Raises:
        InputError: if one does more of Hydra's than a sweep needs; or Hydra's own errors.
    """
    for override in OverridesParser.create().parse_overrides(arguments):
        path, package = override.key_or_group, override.package or ""
        texts = [value for _, value in _inside(override._value) if isinstance(value, str)]
        if any("oc.env" in text and "${" in text for text in texts):
            raise _not_on_trust(override, "must not read the environment")
        if not re.match(r"hydra\b", path) and not re.match(r"hydra\b", package):
            continue
        plugin, _, option = path.rpartition(".")
        if package or not (path in (*_SWEEP_KEYS, *_GROUPS) or option in _OPTIONS.get(plugin, ())):
            raise _not_on_trust(override, "is none of the keys of Hydra that a sweep needs")
        if path not in _SWEEP_KEYS and (
            isinstance(override.value(), dict | list) or not all(map(_PLAIN.fullmatch, texts))
        ):
            raise _not_on_trust(override, "must be a number or a name")


def _check_options(plugin: str, options: dict[str, Any]) -> None:
    """Check that the options of a launcher or a sweeper run no command, beside those that are numbers and names."""
    for key, value in options.items():
        plain = isinstance(value, int | float) or value == "${hydra.job.name}" or _PLAIN.fullmatch(str(value))
        if key == _TARGET or not value or (plain and key in _OPTIONS[plugin]):
            continue
        if key == "params" and isinstance(value, dict) and not any(re.match(r"[+~]*hydra\b", name) for name in value):
            continue
        if key == "submitit_folder" and str(value).startswith("${hydra.sweep.dir}/") and ".." not in str(value):
            continue
        raise InputError(
            f"`{plugin}.{key}` must not be set by a sweep's own directory; got {value}; "
            "if the sweep is yours, resume it with --trust."
        )


def _not_on_trust(override: Override, rule: str) -> InputError:
    return InputError(
        f"`{override.key_or_group}` {rule}; the directory of the sweep has {override.input_line}; "
        "if the sweep is yours, resume it with --trust."
    )


def refuse_links(directory: Path) -> None:
    """Check that no link in a directory leads out of it: what is written there stays there.

    Raises:
        InputError: for the first one that does.
    """
    root = directory.resolve()
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(folder, name)
            if path.is_symlink() and not path.resolve().is_relative_to(root):
                raise InputError(
                    f"{path}: must not lead out of {directory}, to {path.resolve()}; put what it leads to in its place."
                )


def _no_code(path: str, value: Any) -> InputError:
    return InputError(
        f"`{_shown(path)}` must not name code to run: a configuration has values; got {value}; remove it."
    )


def _shown(text: str) -> str:
    """Return a text without its control characters, and not too much of it."""
    plain = "".join(c if unicodedata.category(c) not in ("Cc", "Cs", "Zl", "Zp") else "?" for c in text)
    return plain if len(plain) <= 200 else f"{plain[:200]}..."
