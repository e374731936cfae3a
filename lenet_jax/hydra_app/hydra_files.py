"""The files that Hydra writes for a job, for jobs that share a process: `.hydra/*.yaml` and a log per job.

This module uses a private part of OmegaConf 2.3, `get_omega_conf_dumper`, so that the files are identical to Hydra's.
"""

import contextlib
import copy
import functools
import logging
import logging.config
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf
from omegaconf._utils import get_omega_conf_dumper

from lenet_jax.config import Config, beside_a_job, to_dict
from lenet_jax.errors import InputError
from lenet_jax.hydra_app.checks import check_name
from lenet_jax.hydra_app.recorded_loader import describe_overrides, without_interpolations
from lenet_jax.sweeps.groups import SweepJob

EVENTS = "lenet_jax.report.terminal"
"""Name of the logger that has the lines of a run."""

_rendered: dict[tuple[str, ...], tuple[str, str]] = {}  # path of a key -> `repr` of its last value, and its YAML


def write_hydra_files(job: SweepJob, hydra: Mapping[str, Any], sweep: Mapping[str, Any]) -> logging.Handler:
    """Write the files of a job in its directory, and return its open log.

    Args:
        job: the job.
        hydra: Hydra's part of the sweep's composed configuration, unresolved.
        sweep: the options of the sweep.

    Raises:
        InputError: if the name of a file is not valid.
        OSError: if a file cannot be written.
    """
    job.path.mkdir(parents=True, exist_ok=True)
    own, content = for_job(job, hydra), {**to_dict(job.config), **beside_a_job(sweep)}
    if own["output_subdir"] is not None:
        check_name("hydra.output_subdir", own["output_subdir"])
        folder = job.path / own["output_subdir"]
        folder.mkdir(exist_ok=True)
        (folder / "config.yaml").write_text(_render(content))
        (folder / "hydra.yaml").write_text(_render(own, "hydra"))
        (folder / "overrides.yaml").write_text(_to_yaml(own["overrides"]["task"]))
    return _open_log(own, content)


def configure_terminal(hydra: Mapping[str, Any], config: Config) -> None:
    """Configure logging of this process by `hydra.job_logging`, without the files, of which each job has its own.

    Args:
        hydra: as in `write_hydra_files`.
        config: the configuration of a job, to which the values may refer.

    Raises:
        InputError: if Python cannot log by it.
    """
    content = copy.deepcopy(hydra["job_logging"])
    if isinstance(content, dict):
        handlers = _mapping(content.get("handlers"))
        files = {name for name, each in handlers.items() if _is_file(each)}
        content["handlers"] = {name: each for name, each in handlers.items() if name not in files}
        for logger in _loggers(content):
            logger["handlers"] = [each for each in logger.get("handlers") or () if each not in files]
    with _refusing_malformed():
        resolved = _resolve({**hydra, "job_logging": content}, to_dict(config))
        if resolved:
            logging.config.dictConfig(resolved)


def _open_log(own: Mapping[str, Any], content: Mapping[str, Any]) -> logging.Handler:
    """Return a handler that writes to the files of a job, as `hydra.job_logging` has them for the events of a run."""
    check_name("hydra.job.name", str(_resolve(own, content, "job.name")))
    with _refusing_malformed():
        resolved = _resolve(own, content)
        configurator: Any = logging.config.DictConfigurator(resolved or {})
        parts = configurator.config
        for part, configure in (
            ("formatters", configurator.configure_formatter),
            ("filters", configurator.configure_filter),
        ):
            parts[part] = {name: configure(each) for name, each in _mapping(parts.get(part)).items()}
        names, level = _handlers_of_events(_mapping(resolved))
        handlers = [configurator.configure_handler(parts["handlers"][name]) for name in names]
        return _JobLog(handlers, level)


def _handlers_of_events(content: Mapping[str, Any]) -> tuple[list[str], int]:
    """Return the names of the handlers that write what the logger of runs says to a file, and its level."""
    named = _mapping(content.get("loggers"))
    parts = EVENTS.split(".")
    chain = [named[name] for end in range(len(parts), 0, -1) if (name := ".".join(parts[:end])) in named]
    names, level = [], None
    for logger in (*chain, _mapping(content.get("root"))):
        names += logger.get("handlers") or ()
        level = level or logging.getLevelName(logger.get("level") or logging.NOTSET)
        if not logger.get("propagate", True):
            break
    files = [name for name in dict.fromkeys(names) if _is_file(_mapping(content.get("handlers")).get(name))]
    return files, level if isinstance(level, int) else logging.NOTSET


class _JobLog(logging.Handler):
    """The open log files of a job."""

    def __init__(self, handlers: Sequence[logging.Handler], level: int) -> None:
        super().__init__(level)
        self._handlers = handlers

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record to each file that takes its level."""
        for handler in self._handlers:
            if record.levelno >= max(self.level, handler.level):
                handler.handle(record)

    def close(self) -> None:
        """Close the files."""
        for handler in self._handlers:
            handler.close()
        super().close()


def _is_file(handler: Any) -> bool:
    return "filename" in _mapping(handler)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _loggers(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the loggers of a configuration, the root too."""
    found = [content.get("root"), *_mapping(content.get("loggers")).values()]
    return [each for each in found if isinstance(each, dict)]


def _resolve(hydra: Mapping[str, Any], content: Mapping[str, Any], part: str = "job_logging") -> Any:
    """Return a part of Hydra's configuration, resolved; it may refer to the configuration of the run, `content`."""
    composed: Any = OmegaConf.create({**without_interpolations(content), "hydra": dict(hydra)})
    HydraConfig.instance().cfg = composed  # to which ${hydra:...} refers
    node = OmegaConf.select(composed.hydra, part)
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


@contextlib.contextmanager
def _refusing_malformed() -> Iterator[None]:
    try:
        yield
    except (AttributeError, ImportError, LookupError, RecursionError, TypeError, ValueError) as error:
        reason = f"{error}; {error.__cause__}" if error.__cause__ else str(error)
        raise InputError(f"`hydra.job_logging` must be a configuration of Python's logging; {reason}.") from error


def for_job(job: SweepJob, hydra: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of Hydra's part of the sweep with the values of a job.

    Args:
        job: the job.
        hydra: as in `write_hydra_files`.
    """
    own = copy.deepcopy(dict(hydra))
    names = own["job"]["config"]["override_dirname"]
    own["overrides"]["task"], own["job"]["override_dirname"] = describe_overrides(job.overrides, names)
    own["job"]["id"], own["job"]["num"] = str(job.number), job.number
    own["runtime"]["output_dir"] = str(job.path.absolute())
    own["mode"] = "RUN"
    return own


def _render(content: Mapping[str, Any], *path: str) -> str:
    """Return the YAML of a mapping at a path; unchanged values are not rendered again, as Hydra's dumper is slow."""
    head, texts = "".join(f"{name}:\n" for name in path), []
    for key, value in content.items():
        key_path, text = (*path, key), repr(value)
        if key_path not in _rendered or _rendered[key_path][0] != text:
            nested = functools.reduce(lambda inner, name: {name: inner}, reversed(key_path), value)
            _rendered[key_path] = text, _to_yaml(nested).removeprefix(head)
        texts.append(_rendered[key_path][1])
    return "".join([head, *texts])


def _to_yaml(content: Any) -> str:
    """Return plain dictionaries and lists as `OmegaConf.to_yaml` would render them."""
    dumper = get_omega_conf_dumper()
    return yaml.dump(content, default_flow_style=False, allow_unicode=True, sort_keys=False, Dumper=dumper)
