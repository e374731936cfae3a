"""What a layer is, and layers that are no more than a function.

A layer's `init(key, shape)` gets the shape of one example (H, W, C) and returns its variables and the shape of its
output, so shapes are inferred and checked while a model is built. `apply(variables, x, *, train, key)` returns the
output for a batch and the new state.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from lenet_jax.types import Key, ReceptiveField, Variables, Visit

Shape = tuple[int, ...]


class Work(NamedTuple):
    """What a layer does for one example."""

    connections: int = 0  # how often a weight or a bias is used
    multiply_adds: int = 0  # how often one is multiplied


class Layer(NamedTuple):
    """A part of a network.

    init: (key, shape) -> (Variables, output shape); consumes the key; shapes are those of one example.
    apply: (variables, x, *, train, key) -> (y, state).
    """

    init: Callable[[Key, Shape], tuple[Variables, Shape]]
    apply: Callable[..., tuple[Array, dict]]
    batch_last: Callable[[dict[str, Array], Array], Array] | None = None
    """(params, x) -> y: the same for a batch of shape (C, H, W, N), of layers that have neither state nor key."""
    work: Callable[[dict[str, Array], Shape], Work] = lambda params, shape: Work()
    """(params, input shape of one example) -> what it does."""
    field: Callable[[ReceptiveField], ReceptiveField] = lambda field: field
    """Receptive field of the input -> that of the output."""
    trace: Callable[..., tuple[list[Visit], ReceptiveField]] | None = None
    """(variables, x, field) -> what its parts do, and the field of the last; None if it has no parts."""


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


def resize(size: int) -> Layer:
    """Resize images to `size` x `size` pixels, linearly between theirs, without aliasing where they become smaller."""
    return function(lambda x: jax.image.resize(x, (x.shape[0], size, size, x.shape[3]), "linear"))


def own_part(variables: Variables, name: str) -> Variables:
    """Return the variables of a part of a layer, which are under its name; a part without any has none there."""
    return Variables(variables.params.get(name, {}), variables.state.get(name, {}))


def put_together(parts: Mapping[str, Variables]) -> Variables:
    """Return the variables of a layer made of parts."""
    params = {name: variables.params for name, variables in parts.items() if variables.params}
    return Variables(params, {name: variables.state for name, variables in parts.items() if variables.state})


def slide(field: ReceptiveField, size: int, stride: int) -> ReceptiveField:
    """Return the receptive field behind a window."""
    return ReceptiveField(field.size + (size - 1) * field.stride, field.stride * stride)
