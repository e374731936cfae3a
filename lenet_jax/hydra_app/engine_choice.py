"""The engine that carries the tasks of a sweep, by the launcher of Hydra that the user has chosen."""

import importlib.util
from collections.abc import Callable, Mapping
from typing import Any

from omegaconf import OmegaConf

from lenet_jax.engines import Engine
from lenet_jax.environment import install_command
from lenet_jax.errors import InputError
from lenet_jax.hydra_app.composition import plugin_name


def _joblib(options: Mapping[str, Any]) -> Engine:
    from lenet_jax.engines.joblib_engine import JoblibEngine

    return JoblibEngine(options)


def _submitit(cluster: str) -> Callable[[Mapping[str, Any]], Engine]:
    def make(options: Mapping[str, Any]) -> Engine:
        from lenet_jax.engines.submitit_engine import SubmititEngine

        return SubmititEngine(cluster, options)

    return make


def _ray(options: Mapping[str, Any]) -> Engine:
    from lenet_jax.engines.ray_engine import RayEngine

    return RayEngine(options.get("ray") or {})


ENGINES: Mapping[str, Callable[[Mapping[str, Any]], Engine]] = {
    "JoblibLauncher": _joblib,
    "LocalLauncher": _submitit("local"),
    "SlurmLauncher": _submitit("slurm"),
    "RayLauncher": _ray,
}
"""What makes an engine of the options of a launcher, by the class name of the launcher."""


def make_engine(launcher: Any) -> Engine:
    """Return the engine of a launcher.

    Args:
        launcher: the configuration of a launcher in `ENGINES`.
    """
    options: Any = OmegaConf.to_container(launcher, resolve=True)
    return ENGINES[plugin_name(launcher)](options)


def check_engine(launcher: Any) -> None:
    """Check what an engine needs, before anything is written.

    Args:
        launcher: the configuration of any launcher.

    Raises:
        InputError: if its package is not installed, or an option cannot be kept.
    """
    if plugin_name(launcher) == "JoblibLauncher" and launcher.get("timeout") is not None:
        raise InputError(
            f"`hydra.launcher.timeout` must be null, as a group goes on from its checkpoints and is not given up; got "
            f"{launcher.timeout}; stop the sweep by Ctrl-C, and resume it."
        )
    if plugin_name(launcher) == "RayLauncher" and importlib.util.find_spec("ray") is None:
        raise InputError(f"`hydra/launcher=ray` needs the package ray: {install_command('ray')}.")
