"""Trackers: consumers of a run's events, which record them elsewhere.

A tracker is a component: its function takes its options and, if it names it, the `directory` of the run, and returns a
function of the run's events (`lenet_jax.runs.Event`), in their order: `Started`, then `Evaluated` for each evaluation,
then `Finished`, `Failed` or `Interrupted`. It is called in a thread of its own; see `lenet_jax.trackers.delivery`.
"""

import importlib.util
from collections.abc import Callable, Generator, Iterable
from pathlib import Path

from lenet_jax import components
from lenet_jax.config import Config
from lenet_jax.config.catalogue import TARGET
from lenet_jax.environment import install_command
from lenet_jax.errors import InputError
from lenet_jax.runs import Event
from lenet_jax.trackers.delivery import Delivery

Tracker = Callable[[Event], None]

_EXTRAS = {  # function -> extra to install, and the modules that it must bring
    "lenet_jax.trackers.tensorboard_files.tensorboard": ("tensorboard", ("tensorboardX",)),
    "lenet_jax.trackers.mlflow_runs.mlflow": ("mlflow", ("mlflow", "sqlalchemy", "alembic")),
    "lenet_jax.trackers.wandb_runs.wandb": ("wandb", ("wandb",)),
}


def tracked(events: Iterable[Event], config: Config, directory: Path) -> Generator[Event]:
    """Yield the events of a run, each after it was handed to the run's trackers.

    At the end, or when the generator is closed, it waits for them; see `lenet_jax.trackers.delivery.Delivery`.

    Args:
        events: of the run.
        config: of the run, complete.
        directory: of the run.
    """
    with Delivery() as delivery:
        for event in events:
            delivery.notify(config, directory, event)
            yield event


def check_installed(configs: Iterable[Config]) -> None:
    """Check that the packages of the built-in trackers which configurations name are installed.

    Raises:
        InputError: if one is not; it has the command that installs it.
    """
    for config in configs:
        for path, node in components.named_parts("trackers", config.trackers).items():
            extra, modules = _EXTRAS.get(node[TARGET], ("", ()))
            missing = [module for module in modules if importlib.util.find_spec(module) is None]
            if missing:
                raise InputError(f"`{path}` needs the package {missing[0]}: {install_command(extra)}.")
