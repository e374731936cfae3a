"""The type of a layer, and layers without variables: functions, activations, pooling, reshaping.

A layer's `init(key, shape)` takes the shape of one example (H, W, C) and returns the layer's variables and the shape of
its output, so shapes are inferred and checked while a model is built. `apply(variables, x, *, train, key)` returns the
output for a batch and the new state.
"""

import math
import typing
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from lenet_jax.config.checks import Activation
from lenet_jax.errors import InputError, unknown_name
from lenet_jax.ops import avg_pool, max_pool
from lenet_jax.ops.windows import Ints, Padding, entries, make_window, to_tuple
from lenet_jax.types import Key, LayerTrace, ReceptiveField, Variables

Shape = tuple[int, ...]


class Cost(NamedTuple):
    """The operations of a layer for one example."""

    connections: int = 0  # uses of weights and biases
    multiply_adds: int = 0  # multiplications by weights


class Layer(NamedTuple):
    """A part of a network.

    init: (key, shape) -> (Variables, output shape); consumes the key; shapes are those of one example.
    apply: (variables, x, *, train, key) -> (y, state); consumes the key, which is one key, an array of keys (N,), one
        for each example, or None. A combinator passes None to a layer that is not stochastic.
    """

    init: Callable[[Key, Shape], tuple[Variables, Shape]]
    apply: Callable[..., tuple[Array, dict]]
    cost: Callable[[dict[str, Array], Shape], Cost] = lambda params, shape: Cost()
    """(params, input shape of one example) -> the cost of one example."""
    field: Callable[[ReceptiveField], ReceptiveField] = lambda field: field
    """Receptive field of the input -> receptive field of the output."""
    trace: Callable[..., tuple[list[LayerTrace], ReceptiveField]] | None = None
    """(variables, x, field) -> the traces of its parts and the receptive field of the output; None without parts."""
    stochastic: bool = False
    """Whether `apply` draws random numbers in training."""
    activation: str | None = None
    """Name, in `jax.nn`, of the activation that the layer is; None for other layers."""
    activated: "Callable[[str], Layer | None]" = lambda name: None
    """Name of an activation -> the layer together with it, computed in one pass; None where there is no such way."""


def function(fn: Callable[[Array], Array]) -> Layer:
    """Make a layer without variables from a function of a batch, such as a reshape.

    Args:
        fn: (N, ...) -> (N, ...); the output for an example should depend on that example only.
    """

    def init(key: Key, shape: Shape) -> tuple[Variables, Shape]:
        batch = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
        return Variables({}, {}), jax.eval_shape(fn, batch).shape[1:]

    return Layer(init, lambda variables, x, *, train, key: (fn(x), variables.state))


def activation(fn: Callable[[Array], Array] | str) -> Layer:
    """Make a layer of an activation function, such as `jax.nn.relu`, or `jax.nn.softmax` over the channels.

    Args:
        fn: function of a batch whose last axis is the channels, (N, H, W, C) or (N, C), that keeps its shape; or the
            name of such a function of `jax.nn`, one of `lenet_jax.config.checks.Activation`.

    Raises:
        InputError: if there is no activation of that name.
    """
    if isinstance(fn, str):
        names = typing.get_args(Activation)
        if fn not in names:
            raise unknown_name("activation", fn, names)
        return function(getattr(jax.nn, fn))._replace(activation=fn)
    return function(fn)


def flatten() -> Layer:
    """Reshape each example to one axis: rows, columns, channels, in this order."""
    return function(lambda x: x.reshape(x.shape[0], math.prod(x.shape[1:])))


def resize(size: Ints) -> Layer:
    """Resize images to `size` pixels by linear interpolation, with antialiasing where they become smaller.

    Args:
        size: of each spatial axis in pixels, an int or one for each.

    Raises:
        InputError: in `init`, if it is not made of integers, 1 or above.
    """

    def apply(x: Array) -> Array:
        space = to_tuple("resize", "size", size, x.ndim - 2)
        return jax.image.resize(x, (x.shape[0], *space, x.shape[-1]), "linear")

    return function(apply)


def max_pooling(size: Ints, *, strides: Ints | None = None, padding: Padding = "VALID") -> Layer:
    """Take the largest value in each window over 1 to 3 spatial axes.

    Options and errors as in `lenet_jax.max_pool`; sequences (W, C) need a size of one entry, as (2,).
    """
    return _pooling("max_pooling", max_pool, size, strides, padding)


def average_pooling(size: Ints, *, strides: Ints | None = None, padding: Padding = "VALID") -> Layer:
    """Take the mean of each window over 1 to 3 spatial axes.

    Options and errors as in `lenet_jax.avg_pool`; sequences (W, C) need a size of one entry, as (2,).
    """
    return _pooling("average_pooling", avg_pool, size, strides, padding)


def _pooling(name: str, pool: Callable[..., Array], size: Ints, strides: Ints | None, padding: Padding) -> Layer:
    steps = size if strides is None else strides

    def apply(x: Array) -> Array:
        pixels = window_size(name, "size", size, x.shape[1:])
        window = make_window(name, x.shape[1:-1], pixels, steps, padding, allow_ceil=True, argument="size")
        return pool(x, window.size, strides=window.strides, padding=window.pads)

    return function(apply)._replace(field=lambda field: widen_field(field, size, steps))


def global_average_pooling() -> Layer:
    """Take the mean of each channel over space: (H, W, C) becomes (C,). Source: Lin et al. 2014, section 3.2."""
    layer = function(lambda x: jnp.mean(x, axis=tuple(range(1, x.ndim - 1))))
    return layer._replace(field=whole_field)


def child_variables(variables: Variables, name: str) -> Variables:
    """Return the variables of a part of a layer, stored under its name; empty if it has none."""
    return Variables(variables.params.get(name, {}), variables.state.get(name, {}))


def merge_variables(parts: Mapping[str, Variables]) -> Variables:
    """Return the variables of a layer from those of its parts by name; parts without any are left out."""
    params = {name: variables.params for name, variables in parts.items() if variables.params}
    return Variables(params, {name: variables.state for name, variables in parts.items() if variables.state})


def window_size(name: str, argument: str, size: Ints, shape: Shape) -> tuple[int, ...]:
    """Return the size of a window along each spatial axis of an example.

    Raises:
        InputError: if the size is not made of integers, 1 or above, or a single integer is given for sequences (W, C),
            which may be grey images (H, W) whose channel axis is missing.
    """
    if len(shape) == 2 and not entries(size):
        raise InputError(
            f"{name}: an example of shape {shape} may be a sequence (W, C) or a grey image without its channel axis "
            f"(H, W, 1); for sequences give `{argument}` one entry, as (2,); got {size!r}."
        )
    return to_tuple(name, argument, size, len(shape) - 1)


def widen_field(field: ReceptiveField, size: Ints, strides: Ints, dilation: Ints = 1) -> ReceptiveField:
    """Return the receptive field of a window's output, given that of its input.

    Of a window over other axes than the network's input has, as after a reshape, it is taken to be the whole input.
    """
    num_axes = len(field.size)
    options = [entries(option) or [option] * num_axes for option in (size, strides, dilation)]
    if any(len(option) != num_axes for option in options):
        return whole_field(field)
    axes: Any = list(zip(field.size, field.stride, *options, strict=True))
    widened = tuple(seen + (k - 1) * d * apart for seen, apart, k, _, d in axes)
    return ReceptiveField(widened, tuple(apart * step for _, apart, _, step, _ in axes))


def whole_field(field: ReceptiveField) -> ReceptiveField:
    """Return the receptive field of a value that depends on the whole input."""
    return field._replace(size=(math.inf,) * len(field.size))


def check_key(origin: str, key: Any) -> None:
    """Check that a key is one.

    Raises:
        InputError: if it is a seed, or anything else.
    """
    try:
        jax.random.key_data(key)
    except TypeError as error:
        raise InputError(f"{origin}: `key` must be a key; got {key!r}; make one: jax.random.key(0).") from error


def is_one_key(key: Key) -> bool:
    """Return whether `key` is one key rather than an array of keys, of either type that JAX has."""
    return jax.random.key_data(key).ndim == 1
