"""The layers of a network: their outputs, shapes, parameters, operations and memory."""

import collections
import itertools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array

from lenet_jax.errors import InputError
from lenet_jax.types import LayerTrace, Model, Variables

_FLOAT32_BYTES = 4


class Row(NamedTuple):
    """A layer; all counts and sizes are per example."""

    layer: str
    output_shape: tuple[int, ...]
    parameters: int
    connections: int  # uses of weights and biases
    multiply_adds: int  # multiplications by weights
    bytes: int  # size of the output in float32
    receptive_field: tuple[int, ...]  # pixels of each axis of the input on which an output value depends
    recomputed: str = ""  # the rematerialized block that contains the layer; "": the layer's output is stored


def summarize(model: Model) -> list[Row]:
    """Return one row per layer of a network, in order.

    A convolution that pools has a row for its maps before the pooling, NAME.maps, and one for the rest, NAME.

    Args:
        model: a network made of `lenet_jax.layers`, such as each of `MODELS`.

    Raises:
        InputError: if the model records no layers, such as a flax module.

    >>> from lenet_jax.models import create_model
    >>> [(row.layer, row.output_shape, row.parameters) for row in summarize(create_model("lenet"))[:2]]
    [('conv1.maps', (24, 24, 20), 0), ('conv1', (12, 12, 20), 520)]
    """
    trace, input_shape = model.trace, model.input_shape
    if trace is None or input_shape is None:
        raise InputError("summarize: `model` must be made of lenet_jax.layers; this one records no layers.")
    traces: list[LayerTrace] = []

    def outputs(key: Any) -> list[Any]:
        traces.extend(trace(model.init(key), jnp.zeros((1, *input_shape), jnp.float32)))
        return [each.y for each in traces]

    shapes = [y.shape[1:] for y in jax.eval_shape(outputs, jax.random.key(0))]
    return [_row(each, shape, input_shape) for each, shape in zip(traces, shapes, strict=True)]


def _row(layer: LayerTrace, shape: tuple[int, ...], input_shape: tuple[int, ...]) -> Row:
    space = input_shape[:-1] or input_shape
    return Row(
        layer.name,
        shape,
        layer.num_parameters,
        layer.connections,
        layer.multiply_adds,
        _FLOAT32_BYTES * math.prod(shape),
        tuple(int(min(seen, size)) for seen, size in zip(layer.receptive_field.size, space, strict=True)),
        layer.recomputed,
    )


def activations(model: Model, variables: Variables, images: ArrayLike) -> dict[str, Array]:
    """Return the output of every layer of a network at inference, by the layer's name, in order.

    Of a convolution that pools, the maps before the pooling come first, by the name NAME.maps.

    Args:
        model: a network made of `lenet_jax.layers`, such as each of `MODELS`.
        variables: its parameters and state.
        images: (N, H, W, C), scaled as for `model.apply`.

    Raises:
        InputError: if the model records no layers, such as a flax module.
    """
    if model.trace is None:
        raise InputError("activations: `model` must be made of lenet_jax.layers; this one records no layers.")
    return {layer.name: layer.y for layer in model.trace(variables, images)}


def inference_bytes(rows: list[Row]) -> int:
    """Return the peak memory of one example's outputs at inference: the largest pair of consecutive layers.

    Args:
        rows: the result of `summarize`.
    """
    return max(a.bytes + b.bytes for a, b in itertools.pairwise([rows[0]._replace(bytes=0), *rows]))


def training_bytes(rows: list[Row]) -> int:
    """Return the memory of one example's outputs in training, in bytes.

    All outputs are stored for the backward pass, except those inside rematerialized blocks, which count only for the
    largest block, as one block is recomputed at a time.

    Args:
        rows: the result of `summarize`.
    """
    blocks: dict[str, int] = collections.Counter()
    for row in rows:
        blocks[row.recomputed] += row.bytes
    stored = blocks.pop("", 0)
    return stored + max(blocks.values(), default=0)
