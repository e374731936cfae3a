"""lenet_jax: functional, reproducible training of small convolutional networks in JAX.

The names are listed in `__init__.pyi` and imported when they are first used, so that the command line answers without
importing jax.
"""

from typing import Any

import lazy_loader

_get, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("lenet-jax")
    return _get(name)
