"""What a network is made of, layer by layer: shapes, parameters, work, memory."""

import collections
import itertools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lenet_jax.errors import InputError
from lenet_jax.types import Model, Visit

_NUMBER = 4  # bytes of a float32


class Row(NamedTuple):
    """A layer; numbers are those of one example."""

    layer: str
    output_shape: tuple[int, ...]
    parameters: int
    connections: int  # how often a weight or a bias is used
    multiply_adds: int  # how often one is multiplied
    bytes: int  # of the output, float32
    receptive_field: tuple[int, int]  # rows and columns of the image that a number of the output depends on
    recomputed: str = ""  # the block that it is in, if its output is computed again for the gradient


def summarize(model: Model) -> list[Row]:
    """Return a row for each layer of a network, in order.

    Args:
        model: made of the layers of `lenet_jax.layers`, as all of `MODELS` are.

    Raises:
        InputError: if the model is not made of layers, as one from flax.

    >>> from lenet_jax.models import create_model
    >>> summarize(create_model("lenet"))[0].parameters
    520
    """
    trace, input_shape = model.trace, model.input_shape
    if trace is None or input_shape is None:
        raise InputError("summarize: `model` must be made of lenet_jax.layers; this one has no layers to look at.")
    visits: list[Visit] = []

    def outputs(key: Any) -> list[Any]:
        visits.extend(trace(model.init(key), jnp.zeros((1, *input_shape), jnp.float32)))
        return [visit.y for visit in visits]

    shapes = [y.shape[1:] for y in jax.eval_shape(outputs, jax.random.key(0))]
    return [_row(visit, shape, input_shape[:2]) for visit, shape in zip(visits, shapes, strict=True)]


def _row(visit: Visit, shape: tuple[int, ...], image: tuple[int, int]) -> Row:
    field = visit.receptive_field.size
    return Row(
        visit.name,
        shape,
        visit.num_parameters,
        visit.connections,
        visit.multiply_adds,
        _NUMBER * math.prod(shape),
        (int(min(field, image[0])), int(min(field, image[1]))),
        visit.recomputed,
    )


def inference_bytes(rows: list[Row]) -> int:
    """Return what the outputs of an example take while a network is only applied: two neighbours at a time."""
    return max(a.bytes + b.bytes for a, b in itertools.pairwise([rows[0]._replace(bytes=0), *rows]))


def training_bytes(rows: list[Row]) -> int:
    """Return what the outputs of an example take while a network is trained: all of them are kept.

    Of blocks that are computed again only the last output is, and what the largest of them takes meanwhile.
    """
    blocks: dict[str, int] = collections.Counter()
    for row in rows:
        blocks[row.recomputed] += row.bytes
    kept = blocks.pop("", 0)
    return kept + max(blocks.values(), default=0)
