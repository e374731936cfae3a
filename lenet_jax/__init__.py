"""lenet_jax: functional, reproducible training of small convolutional networks in JAX.

The names are listed in `__init__.pyi` and imported when they are first used, so that the command line answers without
importing jax.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
