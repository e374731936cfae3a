"""Hydra's launcher `lanes` and sweeper `grid`.

Hydra imports this file in every program of an environment in which lenet_jax is installed, so whatever is heavy is
imported where it is used.
"""

from collections.abc import Sequence

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class LanesLauncher(Launcher):
    """Runs jobs that differ only in seeds and hyperparameters as one compiled program."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what `launch` needs."""
        self._context, self._config = hydra_context, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run a batch of jobs."""
        from lenet_jax.sweeps.launcher import launch

        return launch(self._context, self._config, job_overrides, initial_job_idx)


class GridSweeper(BasicSweeper):
    """Hydra's basic sweeper, for jobs that the command line has checked already."""

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Do nothing: composing each job again takes Hydra a tenth of a second."""


for group, name, options in (
    ("hydra/launcher", "lanes", {"_target_": f"{__name__}.LanesLauncher"}),
    ("hydra/sweeper", "grid", {"_target_": f"{__name__}.GridSweeper", "max_batch_size": None, "params": None}),
):
    ConfigStore.instance().store(group=group, name=name, node=options, provider="lenet_jax")
