"""The platform that JAX computes on."""

import functools
import os
import re
import subprocess
import sys

import jax

from lenet_jax.environment import OWN_FLAGS
from lenet_jax.errors import InputError

_VARIABLE = "JAX_PLATFORMS"
_DEVICES = "JAX_NUM_CPU_DEVICES"
_FLAGS = "XLA_FLAGS"


def check_platform() -> None:
    """Check that JAX finds the platform that the environment asks for, before a component's code is the first to ask.

    Raises:
        InputError: if it does not, or could not start with XLA_FLAGS or JAX_NUM_CPU_DEVICES.
    """
    if os.environ.get(_DEVICES) == "0":
        raise InputError(f"`{_DEVICES}` must be an integer, 1 or above; got '0'; unset it for one device a core.")
    flags = os.environ.get(_FLAGS, "")
    problem = None if set(flags.split()) <= set(OWN_FLAGS) else _problem_with_flags(flags)
    if problem is not None:
        raise InputError(f"`{_FLAGS}` must be flags that XLA knows, or a file of them; {problem}.")
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # the latter where the CUDA plugin finds no driver
        if not os.environ.get(_VARIABLE):
            raise
        raise InputError(
            f"`{_VARIABLE}` must name a platform that JAX finds on this machine; got {os.environ[_VARIABLE]!r}; unset "
            f"it, set {_VARIABLE}=cpu, or install JAX for that platform."
        ) from error


def check_compilation() -> None:
    """Check that JAX compiles programs, as a run is one.

    Raises:
        InputError: if the environment has switched that off.
    """
    if jax.config.jax_disable_jit:  # pyright: ignore[reportAttributeAccessIssue]
        raise InputError(
            "`JAX_DISABLE_JIT` must not be set for a run, whose programs are compiled before it starts; unset it; to "
            "look into a step, call lj.training.train_step from Python."
        )


@functools.cache
def _problem_with_flags(flags: str) -> str | None:
    """Return what XLA says of flags that it cannot read, after which it ends the process; None: it can read them."""
    code = "import jaxlib.xla_client as client; client.CompileOptions()"  # reads the flags without starting a device
    environment = {**os.environ, _FLAGS: flags, "TF_CPP_MIN_LOG_LEVEL": "2"}  # logs errors
    said = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    ).stderr
    found = re.search(r"^[EF]\d+ .*\w+_flags\w*\.cc:\d+\] (.*?)\.?$", said, re.MULTILINE)
    return found and found[1]
