"""Measuring a model on every example of a split."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from lenet_jax.errors import InputError
from lenet_jax.metrics import measure, no_examples
from lenet_jax.ops.portions import PORTION, map_portions
from lenet_jax.types import Metrics, Model, Split, Variables


def on_device(split: Split) -> Split:
    """Let NumPy arrays be indexed by traced numbers."""
    return Split(jnp.asarray(split.images), jnp.asarray(split.labels))


def scale_pixels(images: Array, divisor: float | Array) -> Float[Array, "..."]:
    """Turn stored uint8 pixels into the float32 numbers that models take."""
    return images.astype(jnp.float32) / jnp.asarray(divisor, jnp.float32)


def evaluate(
    model: Model,
    variables: Variables,
    split: Split,
    pixel_divisor: float | Array,
    *,
    portion: int = PORTION,
    axis_name: str | None = None,
) -> Metrics:
    """Measure a model on every example of a split, the last partial portion included.

    Args:
        model: the network.
        variables: its parameters and state; the state is not changed.
        split: uint8 images and labels.
        pixel_divisor: pixels are divided by it.
        portion: examples worked on at a time; it changes the speed, not the counts.
        axis_name: a mapped axis, as of `jax.shard_map`, that the portions are split over; all of its devices get the
            same arguments and return the same metrics.

    Raises:
        InputError: if the split is empty or `portion` is below 1.
    """
    split = on_device(split)
    num_examples = split.images.shape[0]
    if num_examples == 0 or portion < 1:
        raise InputError(
            f"evaluate: `split` needs at least one example and `portion` must be 1 or above; "
            f"got {num_examples} examples and {portion!r}."
        )
    portion = min(portion, num_examples)

    def add(total: Metrics, start: Array) -> tuple[Metrics, None]:
        indices = start + jnp.arange(portion)
        mask = indices < num_examples
        indices = jnp.minimum(indices, num_examples - 1)
        logits, _ = model.apply(variables, scale_pixels(split.images[indices], pixel_divisor), train=False)
        return jax.tree.map(jnp.add, total, measure(logits, split.labels[indices], mask)), None

    num_portions = -(-num_examples // portion)
    if axis_name is None:
        starts = jnp.arange(num_portions)
    else:  # those beyond the last one add nothing
        num_devices = lax.axis_size(axis_name)
        starts = num_devices * jnp.arange(-(-num_portions // num_devices)) + lax.axis_index(axis_name)
    total, _ = lax.scan(add, no_examples(), portion * starts)
    return total if axis_name is None else lax.psum(total, axis_name)


def classify(
    model: Model, variables: Variables, images: ArrayLike, pixel_divisor: float | Array, *, portion: int = PORTION
) -> Float[Array, "N classes"]:
    """Return the logits of every image.

    Args:
        model: the network.
        variables: its parameters and state.
        images: uint8 (N, H, W, C), at least one.
        pixel_divisor: pixels are divided by it.
        portion: images worked on at a time, 1 or above.
    """

    def logits(images: Array) -> Array:
        return model.apply(variables, scale_pixels(images, pixel_divisor), train=False)[0]

    return map_portions(logits, jnp.asarray(images), portion)
