"""Conversion from and to other libraries: networks of flax, Equinox and plain JAX, weights of torchvision.

`to_model` converts whatever a user has; the others are for one library each.
"""

from lenet_jax.interop.equinox import from_equinox
from lenet_jax.interop.functions import from_functions
from lenet_jax.interop.linen import from_linen, to_linen
from lenet_jax.interop.models import to_model
from lenet_jax.interop.nnx import from_nnx, to_nnx

__all__ = ["from_equinox", "from_functions", "from_linen", "from_nnx", "to_linen", "to_model", "to_nnx"]
