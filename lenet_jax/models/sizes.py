"""Helpers that several architectures share: options per layer, width factors and resizing of images."""

from collections.abc import Mapping

from lenet_jax import layers


def per_layer(value: int | tuple[int, int]) -> tuple[int, int]:
    """Return an option as one value for each of two layers; a single value applies to both."""
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def scaled(count: int, width: float, *, multiple: int = 1) -> int:
    """Return `width` times a number of kernels or units, rounded to a positive multiple of `multiple`."""
    return max(round(count * width / multiple), 1) * multiple


def resized(image_size: int | None, parts: Mapping[str, layers.Layer]) -> layers.Layer:
    """Return the layers as a network, with a first layer that resizes the images if a size is given."""
    first = {} if image_size is None else {"resize": layers.resize(image_size)}
    return layers.serial({**first, **parts})
