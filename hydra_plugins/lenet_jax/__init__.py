"""Hydra's launcher `lanes`, and its sweepers `grid` and `halving`.

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


class _HalvingLauncher(LanesLauncher):
    def __init__(self, min_epochs: int, reduction: int) -> None:
        self._min_epochs, self._reduction = min_epochs, reduction

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from lenet_jax.sweeps.launcher import launch_halving

        return launch_halving(
            self._context, self._config, job_overrides, min_epochs=self._min_epochs, reduction=self._reduction
        )


class GridSweeper(BasicSweeper):
    """Hydra's basic sweeper, for jobs that the command line has checked already."""

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Do nothing: composing each job again takes Hydra a tenth of a second."""


class HalvingSweeper(GridSweeper):
    """Begins all jobs of a grid, and lets the best share of them go on at each rung."""

    def __init__(self, min_epochs: int, reduction: int, params: dict[str, str] | None = None) -> None:
        """Take the first rung, in epochs, and the factor by which jobs become fewer and rungs higher."""
        super().__init__(max_batch_size=None, params=params)
        self._min_epochs, self._reduction = min_epochs, reduction

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take the launcher, which must be ours."""
        from lenet_jax.errors import InputError

        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        if not isinstance(self.launcher, LanesLauncher):
            raise InputError("`hydra/launcher` must be lanes for hydra/sweeper=halving, whose jobs run side by side.")
        self.launcher = _HalvingLauncher(self._min_epochs, self._reduction)
        self.launcher.setup(hydra_context=hydra_context, task_function=task_function, config=config)


for group, name, options in (
    ("hydra/launcher", "lanes", {"_target_": f"{__name__}.LanesLauncher"}),
    ("hydra/sweeper", "grid", {"_target_": f"{__name__}.GridSweeper", "max_batch_size": None, "params": None}),
    (
        "hydra/sweeper",
        "halving",
        {"_target_": f"{__name__}.HalvingSweeper", "min_epochs": 1, "reduction": 3, "params": None},
    ),
):
    ConfigStore.instance().store(group=group, name=name, node=options, provider="lenet_jax")
