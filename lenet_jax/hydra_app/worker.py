"""The task function of Hydra's launchers; in a subprocess it chooses a GPU before it imports jax.

Launchers pickle the task function by its name, so this module must import neither jax nor Hydra.
"""

import contextlib
import fcntl
import functools
import logging
import os
import sys
import tempfile
import threading
import time
from collections.abc import Collection, MutableMapping
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from lenet_jax.environment import command, set_command, tune_environment
from lenet_jax.runs.signals import outlive_readers, outlive_terminal
from lenet_jax.storage import own_folder

_LOG = logging.getLogger(__name__)

_DEVICES = Path("/dev")
_SECONDS_BETWEEN_LOOKS = 0.2  # at whether the parent process is still there


class Worker(NamedTuple):
    """The task function that Hydra's launchers call, in this process or, pickled, in another one."""

    parent: int  # process id of the command line
    allowed: tuple[str, ...]  # packages that a recorded configuration may name; "*": all
    command: tuple[str, ...] = ()  # of the command line

    @classmethod
    def of_this_process(cls, allowed: Collection[str]) -> "Worker":
        """Return the task function of a sweep that this process runs.

        Args:
            allowed: packages that a recorded configuration may name; "*": all.
        """
        return cls(os.getpid(), tuple(allowed), tuple(command()))

    def __call__(self, composed: Any) -> float:
        """Run a job; see `lenet_jax.hydra_app.launcher.run_in_worker`.

        Args:
            composed: the composed configuration of the job.

        Returns:
            The value that the sweeper minimizes.

        Raises:
            InputError: if the configuration of the job is invalid.
        """
        in_subprocess = os.getpid() != self.parent
        if in_subprocess:
            set_up_process()
            set_command(self.command)
        from lenet_jax.hydra_app.launcher import run_in_worker

        return run_in_worker(composed, in_subprocess=in_subprocess, allowed=self.allowed)


@functools.cache
def set_up_process() -> TextIO | None:
    """Set up the process as the command line does, once for all its jobs; return its lock on a GPU, if it has one."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    tune_environment()
    sys.path.append(str(Path.cwd()))  # for the user's modules
    outlive_terminal()
    outlive_readers()
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    return lock_gpu()


def _end_with_parent(parent: int) -> None:
    """End this process at once when the one that started it has ended, so that no orphan goes on writing.

    At any instant what is on the disk can be resumed.
    """
    while os.getppid() == parent:
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    os._exit(1)


def disable_gpu_preallocation(environment: MutableMapping[str, str] = os.environ) -> None:
    """Make this process and its children allocate GPU memory on demand, unless the variable is already set.

    Args:
        environment: the variables to set; default: those of this process.
    """
    environment.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")


def lock_gpu(
    environment: MutableMapping[str, str] = os.environ, devices: Path = _DEVICES, locks: Path | None = None
) -> TextIO | None:
    """Choose and lock the first GPU that no other process has locked; call it before `import jax`.

    The choice is written to CUDA_VISIBLE_DEVICES. If all GPUs are locked, this process shares one of them. Without a
    GPU, the function has no effect.

    Args:
        environment: the variables to set; default: those of this process.
        devices: the folder that lists the machine's devices.
        locks: the folder of the lock files; None: the user's own folder in the folder for temporary files.

    Returns:
        The open lock file; closing it releases the lock. None if no GPU is locked.
    """
    gpus = _visible_gpus(environment, devices)
    if not gpus:
        return None
    disable_gpu_preallocation(environment)
    folder = locks or Path(tempfile.gettempdir()) / f"lenet_jax-{os.getuid()}"
    if not own_folder(folder):
        _LOG.warning("%s: not used because other users may write to the GPU locks in it; remove it", folder)
        return _choose_shared_gpu(gpus, environment)
    for gpu in gpus:
        file = (folder / f"gpu-{gpu.replace('/', '_')}.lock").open("a")
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            environment["CUDA_VISIBLE_DEVICES"] = gpu
            return file
        file.close()
    return _choose_shared_gpu(gpus, environment)


def _choose_shared_gpu(gpus: list[str], environment: MutableMapping[str, str]) -> None:
    """Choose a GPU without a lock; other processes may use it, too."""
    environment["CUDA_VISIBLE_DEVICES"] = gpus[os.getpid() % len(gpus)]


def _visible_gpus(environment: MutableMapping[str, str], devices: Path) -> list[str]:
    """Return the numbers or names of the GPUs that this process may use, in the order of CUDA_VISIBLE_DEVICES."""
    chosen = environment.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [gpu.strip() for gpu in chosen.split(",") if gpu.strip() not in ("", "-1")]
    numbers = (path.name.removeprefix("nvidia") for path in devices.glob("nvidia[0-9]*"))
    return sorted(filter(str.isdecimal, numbers), key=int)
