"""The files that Hydra writes for a job, for jobs that share a process: `.hydra/*.yaml` and a log per job.

This module uses a private part of OmegaConf 2.3, `get_omega_conf_dumper`, so that the files are identical to Hydra's.
"""

import copy
import functools
import logging
from collections.abc import Mapping
from typing import Any

import yaml
from omegaconf._utils import get_omega_conf_dumper

from lenet_jax.config import to_dict
from lenet_jax.hydra_app.checks import check_name
from lenet_jax.hydra_app.recorded_loader import describe_overrides
from lenet_jax.sweeps.groups import SweepJob

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
    own = for_job(job, hydra)
    if own["output_subdir"] is not None:
        check_name("hydra.output_subdir", own["output_subdir"])
        folder = job.path / own["output_subdir"]
        folder.mkdir(exist_ok=True)
        content = {**to_dict(job.config), "sweep": dict(sweep)}
        (folder / "config.yaml").write_text(_render(content))
        (folder / "hydra.yaml").write_text(_render(own, "hydra"))
        (folder / "overrides.yaml").write_text(_to_yaml(own["overrides"]["task"]))
    logging_config = own["job_logging"] or {}
    file = (logging_config.get("handlers") or {}).get("file")
    if file is None:
        return logging.NullHandler()
    name = f"{own['job']['name']}.log"
    check_name("hydra.job.name", name)
    handler = logging.FileHandler(job.path / name)
    formatter = (logging_config.get("formatters") or {}).get(file.get("formatter")) or {}
    handler.setFormatter(logging.Formatter(formatter.get("format")))
    return handler


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
