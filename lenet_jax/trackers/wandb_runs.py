"""Weights & Biases: offline in the directory of the run, or sent to a server."""

import shutil
from pathlib import Path
from typing import Any, Literal

from lenet_jax.config import to_dict
from lenet_jax.config.checks import Text
from lenet_jax.runs import Started
from lenet_jax.trackers import Tracker
from lenet_jax.trackers.described_run import DescribedRun, files
from lenet_jax.trackers.tool import make_tracker

FOLDER = "wandb"  # in the directory of the run
_SECONDS = 20  # to wait for the server at the start and at the end; what is not sent by then can be, by `wandb sync`


def wandb(
    *,
    directory: str,
    project: Text = "lenet_jax",
    entity: Text | None = None,
    mode: Literal["offline", "online"] = "offline",
    weights: bool = True,
) -> Tracker:
    """Return the tracker that records runs in Weights & Biases, as its configuration, history, summary and files.

    Jobs of a sweep are a group. A run that is resumed, or tracked again, has the same id: offline, it replaces its
    files; online, it is continued after the iterations that the server has.

    Args:
        directory: of the run.
        project: its name.
        entity: user or team; null: the default one of the user.
        mode: offline: into the folder wandb of the run, to be sent later by `wandb sync`; online: to the server that
            WANDB_BASE_URL and `wandb login` say.
        weights: whether the weights are among the files.
    """
    return make_tracker(directory, _WandbRun(Path(directory), project, entity, mode, weights=weights))


class _WandbRun:
    """One run in Weights & Biases."""

    def __init__(self, directory: Path, project: str, entity: str | None, mode: Any, *, weights: bool) -> None:
        self._directory, self._project, self._entity, self._mode = directory, project, entity, mode
        self._weights = weights
        self._run: Any = None
        self._recorded = -1  # the last iteration that the server has

    def start(self, run: DescribedRun, started: Started) -> None:
        """Create the run, or continue it."""
        import wandb as sdk  # pyright: ignore[reportMissingImports]

        offline, config = self._mode == "offline", started.config
        self.stop(None)
        for earlier in (self._directory / FOLDER).glob(f"offline-run-*-{run.id}") if offline else ():
            shutil.rmtree(earlier)
        settings = sdk.Settings(
            console="off",
            disable_git=True,
            finish_timeout=_SECONDS,
            finish_timeout_raises=True,
            init_timeout=_SECONDS,
            save_code=False,
            silent=True,
            symlink=False,
            x_disable_stats=True,
        )
        self._run = sdk.init(
            project=self._project,
            entity=self._entity,
            dir=str(self._directory),
            id=run.id,
            name=run.name,
            group=run.sweep,
            notes=config.notes or None,
            tags=list(config.tags) or None,
            config={name: value for name, value in to_dict(config).items() if name != "trackers"},
            mode=self._mode,
            resume=None if offline else "allow",
            reinit="create_new",  # jobs of a sweep run beside each other
            settings=settings,
        )
        for path in Path(self._run.settings.log_dir).iterdir():
            if path.is_symlink():  # to a log of all runs; the directory of a run has no link that leads out of it
                path.unlink()
        self._recorded = self._run.step - 1 if self._run.resumed else -1

    def evaluate(self, iteration: int, time: float, metrics: dict[str, float]) -> None:
        """Log the metrics of an iteration, unless the server has it."""
        if iteration > self._recorded:
            self._run.log({**metrics, "iteration": iteration, "_timestamp": time}, step=iteration)

    def finish(self, iteration: int, time: float, metrics: dict[str, float], texts: dict[str, str]) -> None:
        """Set the summary, copy the files, and close the run."""
        self._run.summary.update({**metrics, **texts})
        for name in files(self._directory, weights=self._weights):
            copy = Path(self._run.dir, name)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self._directory / name, copy)
            self._run.save(str(copy), base_path=self._run.dir, policy="now", glob=False)
        self._finish(0)

    def stop(self, error: str | None) -> None:
        """Close the run, as a failed one."""
        self._finish(1)

    def _finish(self, exit_code: int) -> None:
        if self._run is not None:
            self._run.finish(exit_code)
            self._run = None
