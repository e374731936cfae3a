"""A network as a model: its layers put behind checks of the images, and looked at one by one."""

import functools

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array

from lenet_jax.errors import InputError
from lenet_jax.layers import Layer, Shape, take_auxiliary, visit
from lenet_jax.types import Key, Loss, Model, ReceptiveField, Variables, Visit


def activations(model: Model, variables: Variables, images: ArrayLike) -> dict[str, Array]:
    """Return the output of every layer of a network, by its name, in order.

    Args:
        model: made of `lenet_jax.layers`, as all of `MODELS` are.
        variables: its parameters and state.
        images: (N, H, W, C), scaled as for `model.apply`; dropout and the like are off.

    Raises:
        InputError: if the model is not made of layers, as one from flax.
    """
    if model.trace is None:
        raise InputError("activations: `model` must be made of lenet_jax.layers; this one has no layers to look at.")
    return {visit.name: visit.y for visit in model.trace(variables, images)}


def make_model(layer: Layer, input_shape: Shape) -> Model:
    """Make a model of a layer that takes images of shape (H, W, C), after checking that all parts fit.

    Raises:
        InputError: if a layer does not fit; `apply` raises it if the images have another shape.
    """
    if len(input_shape) != 3 or not all(isinstance(n, int) and n >= 1 for n in input_shape):
        raise InputError(f"model: `input_shape` must be (height, width, channels), each 1 or above; got {input_shape}.")
    jax.eval_shape(lambda key: layer.init(key, input_shape)[0], jax.random.key(0))

    def init(key: Key) -> Variables:
        return layer.init(key, input_shape)[0]

    def check(images: ArrayLike) -> Array:
        images = jnp.asarray(images)
        if images.shape[1:] != input_shape:
            raise InputError(
                f"model: `images` must have shape (N, {', '.join(map(str, input_shape))}); got {images.shape}."
            )
        if not jnp.issubdtype(images.dtype, jnp.floating):
            raise InputError(
                f"model: `images` must be floating point; got {images.dtype}; scale them, as images / 256.0."
            )
        return images

    def apply(
        variables: Variables, images: ArrayLike, *, train: bool = False, key: Key | None = None
    ) -> tuple[Array, dict]:
        logits, state = layer.apply(variables, check(images), train=train, key=key)
        return logits, take_auxiliary(state)[1]

    def losses(
        loss_fn: Loss, variables: Variables, images: ArrayLike, labels: Array, *, key: Key | None = None
    ) -> tuple[Array, dict]:
        logits, state = layer.apply(variables, check(images), train=True, key=key)
        heads, state = take_auxiliary(state)
        return sum((weight * loss_fn(y, labels) for weight, y in heads), loss_fn(logits, labels)), state

    def trace(variables: Variables, images: ArrayLike) -> list[Visit]:
        whole = layer.trace or functools.partial(visit, "layer", layer)
        return whole(variables, check(images), ReceptiveField())[0]

    return Model(init, apply, trace, input_shape, losses)
