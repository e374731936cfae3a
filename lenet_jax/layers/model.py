"""A layer as a model: its inputs are checked, its auxiliary classifiers become outputs."""

import functools

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array

from lenet_jax.errors import InputError
from lenet_jax.layers.base import Layer, Shape, check_key, is_one_key
from lenet_jax.layers.combinators import take_auxiliary, trace_layer
from lenet_jax.layers.random_numbers import draw_together
from lenet_jax.ops.windows import entries, to_ints
from lenet_jax.types import Heads, Key, LayerTrace, Model, ReceptiveField, Variables, is_concrete


def make_model(layer: Layer, input_shape: Shape) -> Model:
    """Make a model of a layer that takes images of shape (H, W, C), or others, after checking that all layers fit.

    In training `apply` takes one key, or an array of keys (N,), one an example: one key stands for the keys that
    `jax.random.fold_in` makes of it by the position of each example.

    `init` is traced once and then computed as one program, so that initializers are to be functions of their key and
    shape alone: numbers that one takes from elsewhere, as from NumPy's global generator, stay those of the first call.

    Raises:
        InputError: if `input_shape` is no sequence of integers, or a layer does not fit; by `init`, if its key is none;
            by `apply`, if the images have another shape, are not floating point or not of the parameters' dtype, or the
            key is none.
    """
    message = f"model: `input_shape` must be (height, width, channels), each 1 or above; got {input_shape}"
    shape = to_ints(entries(input_shape), len(entries(input_shape)), least=1)
    if not shape:
        raise InputError(f"{message}.")
    input_shape = shape
    try:
        jax.eval_shape(lambda key: layer.init(key, input_shape)[0], jax.random.key(0))
    except Exception as error:  # of a layer, perhaps the user's own, that takes no such shape
        if len(input_shape) == 3:
            raise
        raise InputError(f"{message}, which these layers do not take.") from error

    def draw(key: Key, *, separately: bool) -> Variables:
        return draw_together(lambda key: layer.init(key, input_shape)[0], key, separately=separately)

    init_now = jax.jit(functools.partial(draw, separately=True))

    def init(key: Key) -> Variables:
        check_key("model", key)
        return init_now(key) if is_concrete(key) else draw(key, separately=False)

    def check(variables: Variables, images: ArrayLike) -> Array:
        images = jnp.asarray(images)
        if images.shape[1:] != input_shape:
            remedy = "; add the batch axis: images[None]" if images.shape == input_shape else ""
            raise InputError(
                f"model: `images` must have shape (N, {', '.join(map(str, input_shape))}); got {images.shape}{remedy}."
            )
        if not jnp.issubdtype(images.dtype, jnp.floating):
            raise InputError(
                f"model: `images` must be floating point; got {images.dtype}; scale them, as images / 256.0."
            )
        dtypes = {leaf.dtype for leaf in jax.tree.leaves(variables.params)}
        if images.dtype == jnp.float64 and images.dtype not in dtypes:
            images = images.astype(jnp.float32)  # of NumPy with jax_enable_x64, as uint8 pixels / 256
        if dtypes and images.dtype not in dtypes:
            names = " or ".join(sorted(map(str, dtypes)))
            raise InputError(
                f"model: `images` must have the dtype of the parameters, {names}; got {images.dtype}; convert them by "
                "astype."
            )
        return images

    def apply(
        variables: Variables, images: ArrayLike, *, train: bool = False, key: Key | None = None
    ) -> tuple[Array | Heads, dict]:
        images = check(variables, images)
        if key is not None:
            check_key("model", key)
        if key is not None and layer.stochastic and is_one_key(key):
            key = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(images.shape[0]))
        outputs, state = layer.apply(variables, images, train=train, key=key)
        auxiliary, state = take_auxiliary(state)
        return (Heads(outputs, tuple(auxiliary)) if auxiliary else outputs), state

    def trace(variables: Variables, images: ArrayLike) -> list[LayerTrace]:
        whole = layer.trace or functools.partial(trace_layer, "layer", layer)
        ones = (1,) * max(len(input_shape) - 1, 1)
        return whole(variables, check(variables, images), ReceptiveField(ones, ones))[0]

    return Model(init, apply, trace, input_shape, takes_example_keys=True)
