"""Layers put together: one after another, as a model, looked at one by one."""

import functools
import itertools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array

from lenet_jax.errors import InputError
from lenet_jax.layers import Layer, Shape
from lenet_jax.ops.forward_only import forward_only
from lenet_jax.ops.lowering import swap_batch
from lenet_jax.ops.portions import map_portions
from lenet_jax.types import Key, Model, ReceptiveField, Variables, Visit


def serial(layers: Mapping[str, Layer]) -> Layer:
    """Apply layers one after another; the variables of each are under its name.

    Raises:
        InputError: in `init`, if a layer does not fit the output of the one before; the message names the layer.
    """

    def init(key: Key, shape: Shape) -> tuple[Variables, Shape]:
        params, state = {}, {}
        for (name, layer), layer_key in zip(layers.items(), jax.random.split(key, len(layers)), strict=True):
            try:
                variables, shape = layer.init(layer_key, shape)
            except InputError as error:
                raise InputError(f"layer `{name}` does not fit an input of shape {shape}: {error}") from error
            if variables.params:
                params[name] = variables.params
            if variables.state:
                state[name] = variables.state
        return Variables(params, state), shape

    def apply(variables: Variables, x: Array, *, train: bool, key: Key | None) -> tuple[Array, dict]:
        keys = [None] * len(layers) if key is None else jax.random.split(key, len(layers))
        layer_keys = dict(zip(layers, keys, strict=True))
        state = {}
        for any_layout, names in itertools.groupby(layers, lambda name: layers[name].batch_last is not None):
            part = {name: layers[name] for name in names}
            if any_layout and x.ndim == 4 and any(variables.params.get(name) for name in part):
                x = _apply_any_layout(part, {name: variables.params.get(name, {}) for name in part}, x)
                continue
            for name, layer in part.items():
                own = Variables(variables.params.get(name, {}), variables.state.get(name, {}))
                x, new_state = layer.apply(own, x, train=train, key=layer_keys[name])
                if new_state:
                    state[name] = new_state
        return x, state

    def trace(variables: Variables, x: Array, field: ReceptiveField) -> tuple[list[Visit], ReceptiveField]:
        visits: list[Visit] = []
        for name, layer in layers.items():
            own = Variables(variables.params.get(name, {}), variables.state.get(name, {}))
            more, field = _visit(name, layer, own, x, field)
            visits += more
            x = visits[-1].y
        return visits, field

    return Layer(init, apply, trace=trace)


def _visit(
    name: str, layer: Layer, variables: Variables, x: Array, field: ReceptiveField
) -> tuple[list[Visit], ReceptiveField]:
    if layer.trace is not None:
        visits, field = layer.trace(variables, x, field)
        return [visit._replace(name=f"{name}.{visit.name}") for visit in visits], field
    field = layer.field(field)
    y, _ = layer.apply(variables, x, train=False, key=None)
    num_parameters = sum(leaf.size for leaf in jax.tree.leaves(variables.params))
    work = layer.work(variables.params, x.shape[1:])
    return [Visit(name, x, y, num_parameters, *work, field)], field


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


def _apply_any_layout(layers: Mapping[str, Layer], params: dict[str, dict[str, Array]], x: Array) -> Array:
    """Apply layers that have a `batch_last` form.

    On CPU the batch stays the last axis from the first to the last of them, if they are differentiated. If not,
    convolutions are fastest with the batch as first axis, on portions that stay in the cache.
    """
    forms = {name: layer.batch_last for name, layer in layers.items() if layer.batch_last is not None}

    def batch_first(params: dict[str, dict[str, Array]], x: Array) -> Array:
        for name, layer in layers.items():
            x, _ = layer.apply(Variables(params[name], {}), x, train=False, key=None)
        return x

    def batch_last(params: dict[str, dict[str, Array]], x: Array) -> Array:
        x = swap_batch(x)
        for name, form in forms.items():
            x = form(params[name], x)
        return swap_batch(x)

    def in_portions(params: dict[str, dict[str, Array]], x: Array) -> Array:
        return map_portions(functools.partial(batch_first, params), x)

    return lax.platform_dependent(params, x, cpu=forward_only(in_portions, batch_last), default=batch_first)


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
        return layer.apply(variables, check(images), train=train, key=key)

    def trace(variables: Variables, images: ArrayLike) -> list[Visit]:
        whole = layer.trace or functools.partial(_visit, "layer", layer)
        return whole(variables, check(images), ReceptiveField())[0]

    return Model(init, apply, trace, input_shape)
