"""The task of Hydra's launchers, in this process or in others: the device is chosen before jax is imported."""

import contextlib
import fcntl
import functools
import logging
import os
import tempfile
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any, TextIO

from lenet_jax.environment import tune_environment
from lenet_jax.storage import own_folder

_LOG = logging.getLogger(__name__)

_DEVICES = Path("/dev")


def run(composed: Any, *, parent: int) -> float:
    """Run a job that a launcher has prepared; return what its sweeper is told.

    Args:
        composed: the job's composition.
        parent: the process of the command line.

    Raises:
        InputError: as `lenet_jax.hydra_app.launcher.launch`.
    """
    apart = os.getpid() != parent
    if apart:
        _set_up_process()
    from lenet_jax.hydra_app.launcher import run_alone

    return run_alone(composed, apart=apart)


@functools.cache
def _set_up_process() -> TextIO | None:
    """Do what the command line does at its start, once for all jobs of the process; return its claim on a GPU."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    tune_environment()
    return claim_gpu()


def share_gpus(environment: MutableMapping[str, str] = os.environ) -> None:
    """Have this process and its children take a GPU's memory as they need it, unless the variable says otherwise."""
    environment.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")


def claim_gpu(
    environment: MutableMapping[str, str] = os.environ, devices: Path = _DEVICES, locks: Path | None = None
) -> TextIO | None:
    """Choose the GPU of this process, the first that no other process has claimed; call it before `import jax`.

    The choice is written to CUDA_VISIBLE_DEVICES. Where all are claimed, this process shares one of them. Where there
    is none, nothing happens.

    Args:
        environment: of this process.
        devices: the folder that lists the machine's devices.
        locks: the folder of the claims; default: a folder of this user's among the temporary files.

    Returns:
        The open file that is the claim, which ends when it is closed; None if there is none.
    """
    gpus = _visible_gpus(environment, devices)
    if not gpus:
        return None
    share_gpus(environment)
    folder = locks or Path(tempfile.gettempdir()) / f"lenet_jax-{os.getuid()}"
    if not own_folder(folder):
        _LOG.warning("%s: not used, other users may write to the claims on GPUs in it; remove it", folder)
        return _share(gpus, environment)
    for gpu in gpus:
        file = (folder / f"gpu-{gpu.replace('/', '_')}.lock").open("a")
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            environment["CUDA_VISIBLE_DEVICES"] = gpu
            return file
        file.close()
    return _share(gpus, environment)


def _share(gpus: list[str], environment: MutableMapping[str, str]) -> None:
    """Choose a GPU that others may use as well."""
    environment["CUDA_VISIBLE_DEVICES"] = gpus[os.getpid() % len(gpus)]


def _visible_gpus(environment: MutableMapping[str, str], devices: Path) -> list[str]:
    """Return the GPUs that this process may use, by number or name, in the order of CUDA_VISIBLE_DEVICES."""
    chosen = environment.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [gpu.strip() for gpu in chosen.split(",") if gpu.strip() not in ("", "-1")]
    numbers = (path.name.removeprefix("nvidia") for path in devices.glob("nvidia[0-9]*"))
    return sorted(filter(str.isdecimal, numbers), key=int)
