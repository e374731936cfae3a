"""The directory of a sweep or a run that somebody else may have made."""

import os
import re
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from lenet_jax.errors import InputError
from lenet_jax.hydra_app.overrides import TARGET, inside

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
_PLAIN = re.compile(r"[\w.:*+@, -]*")


def check_arguments(arguments: list[str]) -> None:
    """Check the arguments of a sweep as its directory has them, which may be somebody else's.

    Raises:
        InputError: if one does more of Hydra's than a sweep needs; or Hydra's own errors.
    """
    for override in OverridesParser.create().parse_overrides(arguments):
        path, package = override.key_or_group, override.package or ""
        texts = [value for _, value in inside(override._value) if isinstance(value, str)]
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


def check_options(plugin: str, options: dict[str, Any]) -> None:
    """Check that the options of a launcher or a sweeper run no command, beside those that are numbers and names."""
    for key, value in options.items():
        plain = isinstance(value, int | float) or value == "${hydra.job.name}" or _PLAIN.fullmatch(str(value))
        if key == TARGET or not value or (plain and key in _OPTIONS[plugin]):
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
