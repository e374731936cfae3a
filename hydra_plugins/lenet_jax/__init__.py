"""Hydra's launcher `lanes`, and its sweepers `grid`, `halving` and `optuna_batch`.

Hydra imports this file in every program of an environment in which lenet_jax is installed, so whatever is heavy is
imported where it is used.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class LanesLauncher(Launcher):
    """Runs jobs that differ only in seeds and hyperparameters as one compiled program."""

    halving: dict[str, int] | None = None  # options of successive halving, where a sweeper asks for it

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what `launch` needs."""
        self._context, self._config = hydra_context, config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int, pruner: Any = None
    ) -> Sequence[JobReturn]:
        """Run a batch of jobs; `pruner` is as in `lenet_jax.hydra_app.launcher`."""
        from lenet_jax.hydra_app.launcher import launch

        return launch(self._context, self._config, job_overrides, initial_job_idx, pruner, self.halving)


class GridSweeper(BasicSweeper):
    """Hydra's basic sweeper, for jobs that the command line has checked already."""

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Do nothing: composing each job again takes Hydra a tenth of a second."""


class HalvingSweeper(GridSweeper):
    """Begins all jobs of a grid, and lets the best share of them go on at each rung."""

    def __init__(self, min_epochs: int, reduction: int, params: dict[str, str] | None = None) -> None:
        """Take the first rung, in epochs, and the factor by which jobs become fewer and rungs higher."""
        super().__init__(max_batch_size=None, params=params)
        self._options = {"min_epochs": min_epochs, "reduction": reduction}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Tell the launcher, which has been checked to be `LanesLauncher`."""
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        cast(LanesLauncher, self.launcher).halving = self._options


class OptunaBatchSweeper(Sweeper):
    """Has Optuna choose the jobs, a batch at a time."""

    def __init__(self, num_trials: int, batch_size: int, sampler: str, pruner: str, seed: int) -> None:
        """Take the number of jobs, how many are chosen at a time, and how."""
        self._batch_size = batch_size
        self._choices = {"num_trials": num_trials, "sampler": sampler, "pruner": pruner, "seed": seed}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what `sweep` needs."""
        self._context, self._config = hydra_context, config
        self._launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Run batch after batch."""
        from lenet_jax.hydra_app.search_space import search_space
        from lenet_jax.sweeps.ledger import Ledger
        from lenet_jax.sweeps.optuna_batch import Batches

        directory = Path(self._config.hydra.sweep.dir)
        batches = Batches(directory, search_space(arguments, self._context.config_loader), **self._choices)
        ledger, first = Ledger(directory), 0
        while batch := batches.ask(first, self._batch_size):
            if isinstance(self._launcher, LanesLauncher):
                self._launcher.launch(batch, first, pruner=batches)
            else:
                self._launcher.launch(batch, first)
            batches.tell([entry for number in range(first, first + len(batch)) if (entry := ledger.entry(number))])
            first += len(batch)


for group, name, options in (
    ("hydra/launcher", "lanes", {"_target_": f"{__name__}.LanesLauncher"}),
    ("hydra/sweeper", "grid", {"_target_": f"{__name__}.GridSweeper", "max_batch_size": None, "params": None}),
    (
        "hydra/sweeper",
        "halving",
        {"_target_": f"{__name__}.HalvingSweeper", "min_epochs": 1, "reduction": 3, "params": None},
    ),
    (
        "hydra/sweeper",
        "optuna_batch",
        {
            "_target_": f"{__name__}.OptunaBatchSweeper",
            "num_trials": 32,
            "batch_size": 8,
            "sampler": "tpe",
            "pruner": "none",
            "seed": 0,
        },
    ),
):
    ConfigStore.instance().store(group=group, name=name, node=options, provider="lenet_jax")
