"""Layers as (init, apply) pairs, and their composition.

A layer's `init(key, shape)` gets the shape of one example (H, W, C) and returns its variables and the shape of its
output, so shapes are inferred and checked while a model is built. `apply(variables, x, *, train, key)` returns the
output for a batch and the new state.
"""

import functools
import itertools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array

from lenet_jax.errors import InputError
from lenet_jax.initializers import Initializer
from lenet_jax.ops.convolution import conv2d
from lenet_jax.ops.forward_only import forward_only
from lenet_jax.ops.lowering import convolve_batch_last, swap_batch
from lenet_jax.ops.pooling import max_along_axes, max_pool
from lenet_jax.ops.windows import Padding, make_window
from lenet_jax.types import Key, Model, Variables

Shape = tuple[int, ...]

_PORTION = 100  # examples at a time whose maps stay in a processor's cache


class Layer(NamedTuple):
    """A part of a network.

    init: (key, shape) -> (Variables, output shape); consumes the key; shapes are those of one example.
    apply: (variables, x, *, train, key) -> (y, state).
    """

    init: Callable[[Key, Shape], tuple[Variables, Shape]]
    apply: Callable[..., tuple[Array, dict]]
    batch_last: Callable[[dict[str, Array], Array], Array] | None = None
    """(params, x) -> y: the same for a batch of shape (C, H, W, N), of layers that have neither state nor key."""


def activation(fn: Callable[[Array], Array]) -> Layer:
    """Make a layer of a function that works on each number alone."""
    return function(fn)._replace(batch_last=lambda params, x: fn(x))


def function(fn: Callable[[Array], Array]) -> Layer:
    """Make a layer without variables of a function of a batch: a pooling, a reshape."""

    def init(key: Key, shape: Shape) -> tuple[Variables, Shape]:
        batch = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
        return Variables({}, {}), jax.eval_shape(fn, batch).shape[1:]

    return Layer(init, lambda variables, x, *, train, key: (fn(x), variables.state))


def flatten() -> Layer:
    """Lay each example out as one row, rows, columns, channels in order."""
    return function(lambda x: x.reshape(x.shape[0], -1))


def convolution(
    num_kernels: int,
    kernel_size: int,
    kernel_init: Initializer,
    *,
    padding: Padding = "VALID",
    pool_size: int | None = None,
) -> Layer:
    """Convolve, max-pool windows of `pool_size` pixels if it is given, and add a bias, which starts at 0, to each map.

    The bias is added after the pooling, as Theano's tutorial does. The largest of the values does not depend on it, and
    a step of LeNet takes 1.6 times as long on CPU if it is added to the larger maps before.
    """

    def apply_params(params: dict[str, Array], x: Array) -> Array:
        maps = conv2d(x, params["kernel"], padding=padding)
        return _add_bias(maps if pool_size is None else max_pool(maps, pool_size), params["bias"])

    def batch_last(params: dict[str, Array], x: Array) -> Array:
        window = make_window("conv2d", x.shape[1:-1], kernel_size, 1, padding)
        maps = convolve_batch_last(x, params["kernel"], window=window)
        if pool_size is not None:
            pooling = make_window("max_pool", maps.shape[1:-1], pool_size, pool_size, "VALID")
            maps = max_along_axes(maps, window=pooling)
        return maps + jnp.expand_dims(params["bias"], (1, 2, 3))

    def init(key: Key, shape: Shape) -> tuple[Variables, Shape]:
        params = {
            "kernel": kernel_init(key, (kernel_size, kernel_size, shape[-1], num_kernels)),
            "bias": jnp.zeros(num_kernels, jnp.float32),
        }
        batch = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
        return Variables(params, {}), jax.eval_shape(apply_params, params, batch).shape[1:]

    def apply(variables: Variables, x: Array, *, train: bool, key: Key | None) -> tuple[Array, dict]:
        return apply_params(variables.params, x), variables.state

    return Layer(init, apply, batch_last)


def _add_bias(x: Array, bias: Array) -> Array:
    return x + jnp.expand_dims(bias, tuple(range(x.ndim - 1)))


def dense(num_units: int, kernel_init: Initializer) -> Layer:
    """Weigh all inputs for each unit and add a bias, which starts at 0."""

    def init(key: Key, shape: Shape) -> tuple[Variables, Shape]:
        if len(shape) != 1:
            raise InputError(f"dense: the input needs one axis an example; got shape {shape}; put `flatten` before it.")
        params = {"kernel": kernel_init(key, (shape[0], num_units)), "bias": jnp.zeros(num_units, jnp.float32)}
        return Variables(params, {}), (num_units,)

    def apply(variables: Variables, x: Array, *, train: bool, key: Key | None) -> tuple[Array, dict]:
        return _add_bias(x @ variables.params["kernel"], variables.params["bias"]), variables.state

    return Layer(init, apply)


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
            if any_layout and x.ndim == 4:
                x = _apply_any_layout(part, {name: variables.params.get(name, {}) for name in part}, x)
                continue
            for name, layer in part.items():
                own = Variables(variables.params.get(name, {}), variables.state.get(name, {}))
                x, new_state = layer.apply(own, x, train=train, key=layer_keys[name])
                if new_state:
                    state[name] = new_state
        return x, state

    return Layer(init, apply)


def _apply_any_layout(layers: Mapping[str, Layer], params: dict[str, dict[str, Array]], x: Array) -> Array:
    """Apply layers that have a `batch_last` form.

    On CPU the batch stays the last axis from the first to the last of them, if they are differentiated. If not,
    convolutions are fastest with the batch as first axis, on portions that stay in the cache.
    """

    def batch_first(params: dict[str, dict[str, Array]], x: Array) -> Array:
        for name, layer in layers.items():
            x, _ = layer.apply(Variables(params[name], {}), x, train=False, key=None)
        return x

    def batch_last(params: dict[str, dict[str, Array]], x: Array) -> Array:
        x = swap_batch(x)
        for name, layer in layers.items():
            assert layer.batch_last is not None
            x = layer.batch_last(params[name], x)
        return swap_batch(x)

    def in_portions(params: dict[str, dict[str, Array]], x: Array) -> Array:
        num_portions = -(-x.shape[0] // _PORTION)
        if num_portions <= 1:
            return batch_first(params, x)
        portion = -(-x.shape[0] // num_portions)
        padded = jnp.pad(x, [(0, num_portions * portion - x.shape[0]), *[(0, 0)] * (x.ndim - 1)])
        y = lax.map(functools.partial(batch_first, params), padded.reshape(num_portions, portion, *x.shape[1:]))
        return y.reshape(-1, *y.shape[2:])[: x.shape[0]]

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

    def apply(
        variables: Variables, images: ArrayLike, *, train: bool = False, key: Key | None = None
    ) -> tuple[Array, dict]:
        images = jnp.asarray(images)
        if images.shape[1:] != input_shape:
            raise InputError(
                f"model: `images` must have shape (N, {', '.join(map(str, input_shape))}); got {images.shape}."
            )
        if not jnp.issubdtype(images.dtype, jnp.floating):
            raise InputError(
                f"model: `images` must be floating point; got {images.dtype}; scale them, as images / 256.0."
            )
        return layer.apply(variables, images, train=train, key=key)

    return Model(init, apply)
