"""What Hydra itself writes of a job: `.hydra/*.yaml`, and the log that `hydra.job_logging` asks for."""

import logging
import re
from pathlib import Path
from typing import NamedTuple

from omegaconf import OmegaConf, read_write

from lenet_jax.composition import Composed


class HydraFiles(NamedTuple):
    """The texts of a job's files."""

    texts: dict[str, str]  # path in the job's directory -> content
    log: str | None  # path of the log; None: there is none
    log_format: str | None

    @classmethod
    def render(cls, composed: Composed, path: Path) -> "HydraFiles":
        """Take from a composition what is written of it into the directory `path`."""
        with read_write(composed.hydra.runtime):
            composed.hydra.runtime.output_dir = str(path.absolute())
        texts = {}
        if composed.hydra.output_subdir is not None:
            whole = OmegaConf.to_yaml(composed)
            before, hydra, after = re.split(r"^(hydra:\n(?:(?: .*)?\n)*)", whole, maxsplit=1, flags=re.MULTILINE)
            overrides = OmegaConf.to_yaml(composed.hydra.overrides.task)
            parts = {"config": before + after, "hydra": hydra, "overrides": overrides}
            texts = {f"{composed.hydra.output_subdir}/{name}.yaml": text for name, text in parts.items()}
        handler = OmegaConf.select(composed, "hydra.job_logging.handlers.file")
        if handler is None:
            return cls(texts, None, None)
        form = OmegaConf.select(composed, f"hydra.job_logging.formatters.{handler.get('formatter')}.format")
        return cls(texts, handler.filename, form)

    def write(self, directory: Path) -> logging.Handler:
        """Write the files and return the open log; jobs share a process, so each has a handler of its own."""
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in self.texts.items():
            (directory / name).parent.mkdir(exist_ok=True)
            (directory / name).write_text(text)
        if self.log is None:
            return logging.NullHandler()
        handler = logging.FileHandler(self.log)
        handler.setFormatter(logging.Formatter(self.log_format))
        return handler
