"""The command and the CPU cores of this process, and the environment variables that configure JAX.

It is imported before jax.
"""

import importlib.util
import os
import shlex
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from pathlib import Path

_MAX_DEVICES = 16  # more lanes of a sweep would seldom be there to use them
# LLVM unrolls short loops completely before it vectorizes, and then finds no loop to vectorize. Without this limit,
# tanh of the feature maps of 16 examples takes seven times as long.
_NO_FULL_UNROLL = "--xla_backend_extra_options=-unroll-full-max-count=4"


def available_cores() -> int:
    """Return the number of cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def tune_environment(environment: MutableMapping[str, str] = os.environ) -> None:
    """Set the environment variables that make JAX fast on a CPU, unless already set; call it before `import jax`.

    JAX_NUM_CPU_DEVICES: one device per core, so that a sweep can train a run on each. A single run uses the first one,
    whose operations use all cores.
    XLA_FLAGS: compiles short loops to vector instructions. The variable is unchanged if JAX has a plugin for another
    platform, because the compiler of that platform reads the same flag.

    Args:
        environment: the variables to set; default: those of this process.
    """
    flags = _flags(environment)
    if "xla_force_host_platform_device_count" not in flags:
        environment.setdefault("JAX_NUM_CPU_DEVICES", str(min(available_cores(), _MAX_DEVICES)))
    if "xla_backend_extra_options" not in flags and importlib.util.find_spec("jax_plugins") is None:
        environment["XLA_FLAGS"] = f"{flags} {_NO_FULL_UNROLL}".strip()


def tune_process() -> None:
    """Do the same for a process that has imported jax, unless JAX has looked for its devices already."""
    import jax
    from jax._src import xla_bridge  # jax 0.10 and 0.12 have no public name for it

    if xla_bridge.backends_are_initialized():
        return
    tune_environment()
    devices = os.environ.get("JAX_NUM_CPU_DEVICES", "")
    if devices.isdecimal() and getattr(jax.config, "jax_num_cpu_devices", None) == -1:
        jax.config.update("jax_num_cpu_devices", int(devices))


def _flags(environment: Mapping[str, str]) -> str:
    """Return the flags of XLA_FLAGS; where it names a file of flags, to which none could be added, those in it."""
    text = environment.get("XLA_FLAGS", "")
    is_file = not text.startswith("-") and Path(text).is_file()
    return " ".join(Path(text).read_text().split()) if is_file else text


_DETERMINISTIC_FLAGS = ("--xla_gpu_deterministic_ops=true", "--xla_gpu_autotune_level=0")
OWN_FLAGS = (_NO_FULL_UNROLL, *_DETERMINISTIC_FLAGS)
"""Flags that this module adds."""


def make_deterministic(environment: MutableMapping[str, str] = os.environ) -> None:
    """Restrict XLA to deterministic GPU operations; call it before JAX initializes its devices.

    Sums are computed in a fixed order, and each operation has a fixed algorithm instead of the one that autotuning
    finds to be the fastest.

    Args:
        environment: the variables to set; default: those of this process.
    """
    flags = _flags(environment)
    missing = [flag for flag in _DETERMINISTIC_FLAGS if flag not in flags]
    if missing:
        environment["XLA_FLAGS"] = " ".join([flags, *missing]).strip()


def is_deterministic(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether the flags of `make_deterministic` are set."""
    return all(flag in _flags(environment) for flag in _DETERMINISTIC_FLAGS)


def install_command(extra: str) -> str:
    """Return the command that installs an extra of this package beside it, whichever `pip` the shell finds."""
    return f"{shlex.quote(sys.executable)} -m pip install 'lenet-jax[{extra}]'"


_command: list[str] = []


def set_command(words: Sequence[str]) -> None:
    """Keep the command that this process has been asked to run, its arguments divided as the shell has done it."""
    _command[:] = words


def command() -> list[str]:
    """Return the command of this process: that of `set_command`, else the program and its arguments."""
    return list(_command) or [Path(sys.argv[0] or "python").name, *sys.argv[1:]]
