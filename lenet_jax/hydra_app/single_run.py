"""A single run: composed, checked and prepared once, then run in its directory."""

from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, NamedTuple

from hydra._internal.hydra import Hydra

from lenet_jax.config import Config
from lenet_jax.hydra_app.checks import check_folder
from lenet_jax.hydra_app.composition import (
    Composed,
    compose,
    run_composed,
    to_config,
    to_distributed_config,
    to_sweep_config,
)
from lenet_jax.hydra_app.debug_modes import refuse_mode
from lenet_jax.runs import Event
from lenet_jax.runs.prepared_run import PreparedRun, prepare_run
from lenet_jax.runs.processes import is_writer, join
from lenet_jax.runs.run import run_locked
from lenet_jax.runs.run_directory import RunDirectory
from lenet_jax.trackers import check_installed, tracked


class SingleRun(NamedTuple):
    """A run of which nothing is written yet."""

    hydra: Hydra
    composed: Composed
    name: str  # of the primary configuration file
    config: Config
    prepared: PreparedRun
    directory: Path

    def start(self, consume: Callable[[Generator[Event], Path], Any]) -> Any:
        """Run in the directory, and return what `consume` makes of the events.

        Args:
            consume: a function of the events, which it has to consume to the end, and of the directory.

        Raises:
            InputError: if another process has taken the directory, or the configuration asks for no run.
        """
        refuse_mode(self.composed, "a command of its own, lenet-jax train")

        if not is_writer():
            return consume(run_locked(self.prepared, self.directory), self.directory)

        def run_in(directory: Path) -> Any:
            return consume(tracked(run_locked(self.prepared, directory), self.config, directory), directory)

        return self.in_directory(run_in)

    def in_directory(self, work: Callable[[Path], Any]) -> Any:
        """Create and lock the directory, let Hydra write its files there, and return what `work` returns.

        Args:
            work: a function of the directory.

        Raises:
            InputError: if another process has taken the directory.
        """
        with RunDirectory(self.directory).locked():  # before Hydra writes its own files
            RunDirectory(self.directory)
            return run_composed(self.hydra, self.composed, self.name, work)


def prepare_single_run(hydra: Hydra, overrides: list[str], *, name: str = "config") -> SingleRun:
    """Compose a configuration, check and prepare it, and write nothing.

    Args:
        hydra: the result of `open_hydra`.
        overrides: overrides in Hydra's syntax.
        name: name of the primary configuration file.

    Raises:
        InputError: if an option is unknown or out of its range, the data do not fit, or the directory has a run; or
            Hydra's own errors.
    """
    composed = compose(hydra, overrides, name=name)
    config = to_config(composed)
    check_folder("hydra.run.dir", composed.hydra.run.dir)
    directory = Path(composed.hydra.run.dir)
    to_sweep_config(composed)  # checks it
    distributed = to_distributed_config(composed)
    check_installed([config])
    RunDirectory(directory)
    join(distributed)
    return SingleRun(hydra, composed, name, config, prepare_run(config), directory)
