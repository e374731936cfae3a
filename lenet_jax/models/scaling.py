"""What the large architectures have in common: images of the size that they want, and any width."""

from collections.abc import Mapping

from lenet_jax import layers


def scaled(count: int, width: float, *, multiple: int = 1) -> int:
    """Return `width` times a number of kernels or units, rounded to a multiple, at least one of it."""
    return max(round(count * width / multiple), 1) * multiple


def resized(image_size: int | None, parts: Mapping[str, layers.Layer]) -> layers.Layer:
    """Return a network of these layers, behind one that resizes its images if a size is given."""
    first = {} if image_size is None else {"resize": layers.resize(image_size)}
    return layers.serial({**first, **parts})
