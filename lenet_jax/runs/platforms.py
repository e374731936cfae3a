"""The platform that JAX computes on."""

import os

import jax

from lenet_jax.errors import InputError

_VARIABLE = "JAX_PLATFORMS"


def check_platform() -> None:
    """Check that JAX finds the platform that the environment asks for, before a component's code is the first to ask.

    Raises:
        InputError: if it does not.
    """
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # the latter where the CUDA plugin finds no driver
        if not os.environ.get(_VARIABLE):
            raise
        raise InputError(
            f"`{_VARIABLE}` must name a platform that JAX finds on this machine; got {os.environ[_VARIABLE]!r}; unset "
            f"it, set {_VARIABLE}=cpu, or install JAX for that platform."
        ) from error
