"""Hydra's launchers `lanes` and `ray`, and the classes of the sweepers whose options are in conf/hydra/sweeper.

Hydra imports this file in every program of an environment in which lenet_jax is installed, so whatever is heavy is
imported where it is used. The command line of lenet_jax runs its own sweepers itself; what is here makes them known to
Hydra, and serves other sweepers that are combined with the launcher.

`BasicSweeper` is a private module of Hydra 1.3.8, whose grid there is no public way to extend.
"""

from collections.abc import Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class LanesLauncher(Launcher):
    """Runs jobs that differ only in seeds and hyperparameters as one compiled program."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what `launch` needs."""
        self._context, self._config = hydra_context, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run a batch of jobs that another sweeper has chosen."""
        from lenet_jax.hydra_app.launcher import launch_batch

        return launch_batch(self._context, self._config, job_overrides, initial_job_idx)


class RayLauncher(LanesLauncher):
    """Has the groups of a sweep carried by Ray; the command line of lenet_jax reads its options itself."""

    def __init__(self, ray: Any = None) -> None:
        """Take the options."""


class GridSweeper(BasicSweeper):
    """Hydra's basic sweeper, for jobs that the command line has checked already."""

    def __init__(self, max_batch_size: int | None, params: Any = None, zip: Any = None) -> None:
        """Take the options.

        Raises:
            NotImplementedError: if keys go together, which only the command line of lenet_jax knows.
        """
        if zip:
            raise NotImplementedError("hydra.sweeper.zip works in `lenet-jax train -m` only")
        super().__init__(max_batch_size, params)

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Do nothing: composing each job again takes Hydra a tenth of a second."""


class _OwnSweeper(Sweeper):
    """A sweeper that the command line of lenet_jax runs itself."""

    def __init__(self, **options: Any) -> None:
        """Take the options."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Do nothing."""

    def sweep(self, arguments: list[str]) -> None:
        """Refuse to run in another program.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(f"{type(self).__name__} runs in `lenet-jax train -m` only")


class RandomSweeper(_OwnSweeper):
    """Draws configurations of a search space at random, or of a quasi-random sequence."""


class HalvingSweeper(_OwnSweeper):
    """Starts the jobs of a grid, or of drawn configurations, and lets the best of them continue at each rung."""


class OptunaBatchSweeper(_OwnSweeper):
    """Has Optuna choose the jobs, a batch at a time."""


ConfigStore.instance().store(
    group="hydra/launcher", name="lanes", node={"_target_": f"{__name__}.LanesLauncher"}, provider="lenet_jax"
)
