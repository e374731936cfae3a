"""Hydra's loader of configurations, which refuses what must not be in one."""

from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_search_path import ConfigSearchPath
from omegaconf import OmegaConf

from lenet_jax.hydra_app.checks_composed import check_composed
from lenet_jax.hydra_app.overrides import check_overrides, check_search_path


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
            check_search_path(OmegaConf.select(primary.config, "hydra.searchpath"))
        super()._process_config_searchpath(config_name, parsed_overrides, repo)
