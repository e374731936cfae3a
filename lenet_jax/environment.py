"""What this process may use of the processor, and how JAX is told to use it. Imports no jax."""

import importlib.util
import os
from collections.abc import Mapping, MutableMapping

_MOST_DEVICES = 16  # more would leave each of them too little to do
# LLVM unrolls short loops whole before it looks for vectors in them, and then finds none: without this limit tanh of
# maps of 16 examples takes seven times as long.
_NO_FULL_UNROLL = "--xla_backend_extra_options=-unroll-full-max-count=4"


def available_cores() -> int:
    """Return the number of cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def tune_environment(environment: MutableMapping[str, str] = os.environ) -> None:
    """Set what makes JAX fast on a CPU, unless the variables say otherwise; call it before `import jax`.

    JAX_NUM_CPU_DEVICES: a device a core, which `lenet_jax.sharding` splits minibatches over.
    XLA_FLAGS: short loops are compiled to vector instructions. Left alone where JAX has a plugin for another platform,
    whose compiler reads the same flag.
    """
    flags = environment.get("XLA_FLAGS", "")
    if "xla_force_host_platform_device_count" not in flags:
        environment.setdefault("JAX_NUM_CPU_DEVICES", str(min(available_cores(), _MOST_DEVICES)))
    if "xla_backend_extra_options" not in flags and importlib.util.find_spec("jax_plugins") is None:
        environment["XLA_FLAGS"] = f"{flags} {_NO_FULL_UNROLL}".strip()


_SAME_BITS = ("--xla_gpu_deterministic_ops=true", "--xla_gpu_autotune_level=0")


def make_deterministic(environment: MutableMapping[str, str] = os.environ) -> None:
    """Have XLA use only operations of a GPU that give the same bits each time; call it before JAX looks for devices.

    It adds in a fixed order, and takes the same algorithm for an operation rather than the fastest of a trial.
    """
    flags = environment.get("XLA_FLAGS", "")
    missing = [flag for flag in _SAME_BITS if flag not in flags]
    if missing:
        environment["XLA_FLAGS"] = " ".join([flags, *missing]).strip()


def is_deterministic(environment: Mapping[str, str] = os.environ) -> bool:
    """Tell whether `make_deterministic` was called."""
    return all(flag in environment.get("XLA_FLAGS", "") for flag in _SAME_BITS)
