"""What Hydra itself writes of a job: `.hydra/*.yaml`, and the log that `hydra.job_logging` asks for."""

import functools
import logging
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from omegaconf import OmegaConf, read_write
from omegaconf._utils import get_omega_conf_dumper

from lenet_jax.hydra_app.composition import Composed

_rendered: dict[tuple[str, ...], tuple[str, str]] = {}  # of each key: what was last rendered, and its text


def _render(content: dict[str, Any], *path: str) -> str:
    """Return the YAML of a mapping that is found at a path; Hydra's dumper is slow, and most of it is as it was."""
    head, texts = "".join(f"{name}:\n" for name in path), []
    for key, value in content.items():
        place, found = (*path, key), repr(value)
        if place not in _rendered or _rendered[place][0] != found:
            nested = functools.reduce(lambda inner, name: {name: inner}, reversed(place), value)
            _rendered[place] = found, _to_yaml(nested).removeprefix(head)
        texts.append(_rendered[place][1])
    return "".join([head, *texts])


def _to_yaml(content: Any) -> str:
    """Return what `OmegaConf.to_yaml` returns, of plain dictionaries and lists."""
    dumper = get_omega_conf_dumper()
    return yaml.dump(content, default_flow_style=False, allow_unicode=True, sort_keys=False, Dumper=dumper)


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
            content: Any = OmegaConf.to_container(composed, resolve=False, enum_to_str=True)
            hydra = content.pop("hydra")
            parts = {
                "config": _render(content),
                "hydra": _render(hydra, "hydra"),
                "overrides": _to_yaml(hydra["overrides"]["task"]),
            }
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
