"""The options of launchers and sweepers, checked before a sweep takes its directory.

Hydra gives them to the plugin as they are; what is no number, or a number out of its range, would be found when the
directory is there and the first jobs have run.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Optional, Union

from omegaconf import OmegaConf

from lenet_jax.config.catalogue import TARGET
from lenet_jax.config.checks import AtLeast, Count, NonNegative, NonNegativeInt, Seed, Text, convert
from lenet_jax.errors import InputError, unknown_name


@dataclass(frozen=True)
class NotZero:
    """A number of jobs: below 0, all cores but some."""

    def holds(self, value: Any) -> bool:
        """Tell whether a value is one."""
        return value != 0

    def describe(self, noun: str) -> str:
        """Return what completes the sentence "must be ..."."""
        return f"{noun} other than 0"


@dataclass(frozen=True)
class Matching:
    """A text of a form."""

    pattern: str
    form: str

    def holds(self, value: Any) -> bool:
        """Tell whether a value has it."""
        return re.fullmatch(self.pattern, value) is not None

    def describe(self, noun: str) -> str:
        """Return what completes the sentence "must be ..."."""
        return f"{noun}, {self.form}"


# ruff: noqa: UP007, UP045  `|` of a type with a range is unknown to type checkers
_SPACE = {"zip": list | None, "params": dict | None}
_GRID = {"max_batch_size": Optional[Count], "params": dict | None}
_DRAWN = {"method": Literal["random", "sobol", "halton"], "seed": Seed}
_PARAMS = "params"
_DISPATCH = r"all|0*[1-9]\d*|(?:\d+ ?\* ?)?n_jobs(?: ?\* ?\d+)?"
_SWEEPERS: Mapping[str, Mapping[str, Any]] = {
    "BasicSweeper": _GRID,
    "GridSweeper": {**_GRID, **_SPACE},
    "RandomSweeper": {"num_trials": Count, **_DRAWN, **_SPACE},
    "HalvingSweeper": {
        "min_epochs": Count,
        "reduction": Annotated[int, AtLeast(2)],
        "brackets": Optional[Count],
        "asynchronous": bool,
        "num_trials": Optional[Count],
        **_DRAWN,
        **_SPACE,
    },
    "OptunaBatchSweeper": {
        "num_trials": Count,
        "batch_size": Count,
        "sampler": Text,
        "sampler_options": dict | None,
        "pruner": Text,
        "seed": Seed,
        **_SPACE,
    },
}
_SLURM = {
    "timeout_min": Count,
    "cpus_per_task": Optional[Count],
    "gpus_per_node": Optional[NonNegativeInt],
    "tasks_per_node": Count,
    "mem_gb": Optional[Count],
    "nodes": Count,
    "max_num_timeout": NonNegativeInt,
    "signal_delay_s": Count,
    "array_parallelism": Count,
}
_LAUNCHERS: Mapping[str, Mapping[str, Any]] = {
    "JoblibLauncher": {
        "n_jobs": Annotated[int, NotZero()],
        "backend": Literal["loky"] | None,  # the launcher uses no other one
        "prefer": Literal["processes", "threads"] | None,
        "require": None,  # sharedmem is none of loky's
        "verbose": NonNegativeInt,
        "timeout": Optional[NonNegative],
        "mmap_mode": Literal["r", "r+", "w+", "c"] | None,
        "pre_dispatch": Union[Count, Annotated[str, Matching(_DISPATCH, "all or a number of jobs, as 2*n_jobs")]],
        "batch_size": Union[Count, Annotated[str, Matching(r"auto|0*[1-9]\d*", "auto or a number, 1 or above")]],
        "max_nbytes": Union[Count, Annotated[str, Matching(r"\d+[KMG]?", "a number with K, M or G")], None],
    },
    "RayLauncher": {
        "ray": {
            "init": {
                "address": Optional[Text],
                "num_cpus": Optional[Count],
                "num_gpus": Optional[NonNegativeInt],
                "runtime_env": dict | None,
            },
            "remote": {
                "num_cpus": Optional[NonNegative],
                "num_gpus": Optional[NonNegative],
                "resources": dict | None,
            },
        }
    },
    "LocalLauncher": _SLURM,
    "SlurmLauncher": _SLURM,
}


def check_plugin_options(hydra: Any) -> None:
    """Check the options of the launcher and the sweeper; those of plugins that are not known here are not checked.

    Args:
        hydra: Hydra's part of a composition.

    Raises:
        InputError: if an option is out of its range, or one that a sweeper does not have.
    """
    for plugin, known in (("launcher", _LAUNCHERS), ("sweeper", _SWEEPERS)):
        node = hydra[plugin]
        options = known.get(str(node[TARGET]).rpartition(".")[2])
        if options is None:
            continue
        if plugin == "sweeper":
            unknown = next((str(name) for name in node if name not in (*options, TARGET)), None)
            if unknown is not None:
                raise unknown_name("hydra.sweeper", unknown, options)
            if _PARAMS in node:
                _check_params(node._get_node(_PARAMS))
        _check_values(f"hydra.{plugin}", node, options)


def _check_values(path: str, node: Any, options: Mapping[str, Any]) -> None:
    """Check the values of a node by their types; a mapping of types is of a node inside it."""
    for name in node:
        if name not in options or name == _PARAMS:
            continue
        value = node[name]
        if isinstance(options[name], Mapping):
            convert(f"{path}.{name}", dict, value if not OmegaConf.is_dict(value) else {})
            _check_values(f"{path}.{name}", value, options[name])
        else:
            plain = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
            convert(f"{path}.{name}", options[name], plain)


def params_of(hydra: Any) -> dict[str, Any]:
    """Return the parameters of a sweeper as they are written: an interpolation in them is one of each job."""
    node = hydra.sweeper._get_node(_PARAMS) if _PARAMS in hydra.sweeper else None
    content: Any = OmegaConf.to_container(node, resolve=False) if OmegaConf.is_dict(node) else {}
    return content or {}  # the default of Hydra's own sweeper is null


def _check_params(node: Any) -> None:
    plain: Any = OmegaConf.to_container(node, resolve=False) if OmegaConf.is_config(node) else node._value()
    for key in convert(f"hydra.sweeper.{_PARAMS}", dict | None, plain) or ():
        if not isinstance(key, str) or key.lstrip("+~").startswith(("hydra.", "hydra/")):
            raise InputError(f"`hydra.sweeper.params` must name keys of runs, none of Hydra's part; got {key!r}.")
