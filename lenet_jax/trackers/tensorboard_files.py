"""TensorBoard: event files in the directory of the run, written by tensorboardX."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lenet_jax.config import to_dict
from lenet_jax.runs import Started
from lenet_jax.trackers import Tracker
from lenet_jax.trackers.described_run import DescribedRun, options, pictures
from lenet_jax.trackers.tool import make_tracker

FOLDER = "tensorboard"  # in the directory of the run
_SECONDS_UNSEEN = 5  # at most, until a point is in the file


def tensorboard(*, directory: str) -> Tracker:
    """Return the tracker that writes event files: `tensorboard --logdir outputs` shows all runs under it.

    Scalars are those of `metrics.jsonl` by iteration, and the numbers of `result.json`; configuration and result are
    hyperparameters and metrics of TensorBoard's table. A run that is resumed, or tracked again, replaces its files.

    Args:
        directory: of the run.
    """
    return make_tracker(directory, _EventFiles(Path(directory)))


class _EventFiles:
    """The event files of one run."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._writer: Any = None
        self._started = 0.0
        self._end: Any = None  # the summary that ends a row of TensorBoard's table

    def start(self, run: DescribedRun, started: Started) -> None:
        """Remove earlier files of the run, and begin a new one."""
        from tensorboardX import SummaryWriter  # pyright: ignore[reportMissingImports]
        from tensorboardX.summary import hparams  # pyright: ignore[reportMissingImports]

        self.stop(None)
        folder = self._directory / FOLDER
        for path in folder.rglob("events.out.tfevents.*"):
            path.unlink()
        if run.sweep is not None:  # TensorBoard names a run by its folders
            folder /= re.sub(r"[^\w.,=+-]", "_", run.name)[:100]
        # A TensorBoard that has read the earlier files forgets the steps from `purge_step` on.
        self._writer = SummaryWriter(str(folder), purge_step=0, flush_secs=_SECONDS_UNSEEN)
        self._started = run.started
        shown = (started.monitor.key, f"test_{started.monitor.metric}")
        experiment, session, self._end = hparams(options(started.config), dict.fromkeys(shown, 0.0))
        self._writer.file_writer.add_summary(experiment, walltime=run.started)
        self._writer.file_writer.add_summary(session, walltime=run.started)
        self._add_text("configuration", to_dict(started.config))

    def evaluate(self, iteration: int, time: float, metrics: dict[str, float]) -> None:
        """Add a point to each curve."""
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, iteration, walltime=time)

    def finish(self, iteration: int, time: float, metrics: dict[str, float], texts: dict[str, str]) -> None:
        """Add the result and the figures, and close the file."""
        self.evaluate(iteration, time, metrics)
        self._add_text("result", texts)
        for path in pictures(self._directory):
            with Image.open(path) as picture:
                pixels = np.asarray(picture.convert("RGB"))
            self._writer.add_image(f"figures/{path.stem}", pixels, iteration, walltime=time, dataformats="HWC")
        self._writer.file_writer.add_summary(self._end, walltime=time)
        self.stop(None)

    def stop(self, error: str | None) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _add_text(self, name: str, content: dict[str, Any]) -> None:
        lines = json.dumps(content, indent=2).splitlines()  # indented, they are code in Markdown
        self._writer.add_text(name, "\n".join(f"    {line}" for line in lines), 0, walltime=self._started)
