"""A configuration loader for Hydra that returns recorded configurations of jobs.

Launchers pickle the loader. A worker imports this module before it has chosen its GPU, so the module must not import
jax.

This module uses a private part of Hydra 1.3.8, `get_overrides_dirname`, to set `hydra.job.override_dirname` as Hydra's
own loader does.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from hydra._internal.config_loader_impl import get_overrides_dirname
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf, open_dict


def describe_overrides(overrides: Sequence[str], names: Any) -> tuple[list[str], str]:
    """Return the overrides of a job without those of Hydra, and the name of a directory that lists them.

    Args:
        overrides: overrides of the job.
        names: Hydra's options `job.config.override_dirname`.
    """
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    own = [override for override in parsed if not override.is_hydra_override()]
    options = {key: names[key] for key in ("exclude_keys", "item_sep", "kv_sep")}
    return [str(override.input_line) for override in own], get_overrides_dirname(own, **options)


def without_interpolations(value: Any) -> Any:
    """Escape the interpolations in plain values, so that OmegaConf keeps them as literal text."""
    if isinstance(value, str):
        return re.sub(r"(\\*)\$\{", lambda found: 2 * found[1] + r"\${", value)
    if isinstance(value, Mapping):
        return {key: without_interpolations(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [without_interpolations(each) for each in value]
    return value


class RecordedJob(NamedTuple):
    """The recorded configuration of a job, for a launcher."""

    content: Mapping[str, Any]  # the configuration, in plain values
    directory: str  # directory of the run, relative to that of the sweep


class RecordedLoader(ConfigLoader):
    """Gives the recorded configurations of jobs to a launcher of Hydra, so that no job is composed again."""

    def __init__(self, loader: ConfigLoader, jobs: Mapping[tuple[str, ...], RecordedJob]) -> None:
        """Create the loader.

        Args:
            loader: Hydra's own loader, for all other requests of a launcher.
            jobs: the jobs by their overrides.
        """
        self._loader = loader
        self._jobs = dict(jobs)

    def load_configuration(self, *arguments: Any, **options: Any) -> Any:
        """Compose as Hydra does."""
        return self._loader.load_configuration(*arguments, **options)

    def load_sweep_config(self, master_config: Any, sweep_overrides: list[str]) -> Any:
        """Return the recorded configuration of a job, with Hydra's part of the sweep."""
        recorded = self._jobs[tuple(sweep_overrides)]
        composed = OmegaConf.create(without_interpolations(recorded.content))
        hydra = OmegaConf.masked_copy(master_config, "hydra").hydra
        with open_dict(composed):
            composed.hydra = hydra
        OmegaConf.set_readonly(composed.hydra, False)
        with open_dict(composed.hydra):
            job = composed.hydra.job
            composed.hydra.overrides.task, job.override_dirname = describe_overrides(
                sweep_overrides, job.config.override_dirname
            )
            composed.hydra.mode = None
            composed.hydra.sweep.subdir = without_interpolations(recorded.directory)
        OmegaConf.copy_cache(from_config=master_config, to_config=composed)
        return composed

    def get_search_path(self) -> Any:
        """Return Hydra's search path."""
        return self._loader.get_search_path()

    def get_sources(self) -> Any:
        """Return Hydra's sources."""
        return self._loader.get_sources()

    def list_groups(self, parent_name: str) -> list[str]:
        """Return the configuration groups inside a group."""
        return self._loader.list_groups(parent_name)

    def get_group_options(self, *arguments: Any, **options: Any) -> list[str]:
        """Return the options of a group."""
        return self._loader.get_group_options(*arguments, **options)

    def compute_defaults_list(self, *arguments: Any, **options: Any) -> Any:
        """Return Hydra's list of defaults."""
        return self._loader.compute_defaults_list(*arguments, **options)
