"""Conversion from and to other libraries: flax modules, and weights for torchvision's architectures."""

from lenet_jax.interop.flax import from_linen, from_nnx, to_linen, to_nnx

__all__ = ["from_linen", "from_nnx", "to_linen", "to_nnx"]
