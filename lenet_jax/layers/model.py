"""A layer as a model: its inputs are checked, its auxiliary classifiers become outputs."""

import functools

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array

from lenet_jax.errors import InputError
from lenet_jax.layers.base import Layer, Shape
from lenet_jax.layers.combinators import take_auxiliary, trace_layer
from lenet_jax.types import Heads, Key, LayerTrace, Model, ReceptiveField, Variables


def make_model(layer: Layer, input_shape: Shape) -> Model:
    """Make a model of a layer that takes images of shape (H, W, C), or others, after checking that all layers fit.

    In training `apply` takes one key, or an array of keys (N,), one an example: one key stands for the keys that
    `jax.random.fold_in` makes of it by the position of each example.

    Raises:
        InputError: if a layer does not fit; `apply` raises it if the images have another shape.
    """
    message = f"model: `input_shape` must be (height, width, channels), each 1 or above; got {input_shape}"
    if not all(isinstance(n, int) and n >= 1 for n in input_shape):
        raise InputError(f"{message}.")
    try:
        jax.eval_shape(lambda key: layer.init(key, input_shape)[0], jax.random.key(0))
    except Exception as error:
        if len(input_shape) == 3:
            raise
        raise InputError(f"{message}, which these layers do not take.") from error

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
    ) -> tuple[Array | Heads, dict]:
        images = check(images)
        if key is not None and key.ndim == 0 and layer.stochastic:
            key = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(images.shape[0]))
        outputs, state = layer.apply(variables, images, train=train, key=key)
        auxiliary, state = take_auxiliary(state)
        return (Heads(outputs, tuple(auxiliary)) if auxiliary else outputs), state

    def trace(variables: Variables, images: ArrayLike) -> list[LayerTrace]:
        whole = layer.trace or functools.partial(trace_layer, "layer", layer)
        return whole(variables, check(images), ReceptiveField())[0]

    return Model(init, apply, trace, input_shape, takes_example_keys=True)
