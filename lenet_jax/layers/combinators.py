"""Layers built from layers: in series, in parallel, with a shortcut, rematerialized, with an auxiliary classifier."""

import functools
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from lenet_jax.errors import InputError
from lenet_jax.layers.base import Layer, Shape, child_variables, is_one_key, merge_variables
from lenet_jax.types import Key, LayerTrace, ReceptiveField, Variables

Trace = tuple[list[LayerTrace], ReceptiveField]


def _init_part(name: str, layer: Layer, key: Key, shape: Shape) -> tuple[Variables, Shape]:
    try:
        return layer.init(key, shape)
    except InputError as error:
        raise InputError(f"layer `{name}` does not fit an input of shape {shape}: {error}") from error


def _is_stochastic(layers: Mapping[str, Layer]) -> bool:
    return any(layer.stochastic for layer in layers.values())


def _split_key(key: Key | None, layers: Mapping[str, Layer]) -> dict[str, Key | None]:
    """Return the key of each layer, or its keys (N,) if `key` is an array of keys; None for one that is deterministic.

    A layer's key depends on its position among the layers, not on which of them are stochastic.
    """
    if key is None or not _is_stochastic(layers):
        return dict.fromkeys(layers)
    split = functools.partial(jax.random.split, num=len(layers))
    keys = split(key) if is_one_key(key) else jax.vmap(split)(key)
    one = (lambda i: keys[i]) if is_one_key(key) else (lambda i: keys[:, i])
    return {name: one(i) if layer.stochastic else None for i, (name, layer) in enumerate(layers.items())}


def trace_layer(name: str, layer: Layer, variables: Variables, x: Array, field: ReceptiveField) -> Trace:
    """Return the trace of each part of a layer, named `name`.part, or of the layer itself if it has no parts.

    A part without a name is the layer itself, after what comes before it in the layer.

    Args:
        name: name of the layer.
        layer: the layer, applied as at inference.
        variables: its parameters and state.
        x: a batch of its inputs.
        field: receptive field of a value of `x`.

    Returns:
        The traces in the order of computation, and the receptive field of a value of the output.
    """
    if layer.trace is not None:
        traces, field = layer.trace(variables, x, field)
        return [
            part._replace(
                name=f"{name}.{part.name}".strip("."), recomputed=part.recomputed and f"{name}.{part.recomputed}"
            )
            for part in traces
        ], field
    field = layer.field(field)
    y, _ = layer.apply(variables, x, train=False, key=None)
    num_parameters = sum(leaf.size for leaf in jax.tree.leaves(variables.params))
    cost = layer.cost(variables.params, x.shape[1:])
    return [LayerTrace(name, x, y, num_parameters, *cost, field)], field


def _widest(fields: list[ReceptiveField]) -> ReceptiveField:
    """Return the largest receptive field along each axis, of values at the same places."""
    sizes, strides = (zip(*(field[part] for field in fields), strict=True) for part in (0, 1))
    return ReceptiveField(tuple(map(max, sizes)), tuple(map(max, strides)))


def _check_parts(combinator: str, argument: str, parts: Any) -> None:
    if not isinstance(parts, Mapping):
        raise InputError(
            f"{combinator}: `{argument}` must map names to layers; got a {type(parts).__name__}; "
            f"name them, as {combinator}({{'conv': ...}})."
        )
    for name, part in parts.items():
        if not isinstance(part, Layer):
            raise InputError(f"{combinator}: `{argument}` must map names to layers; {name!r} is {part!r}.")


def serial(layers: Mapping[str, Layer]) -> Layer:
    """Apply layers in series; the variables of each are stored under its name.

    Args:
        layers: name -> layer, in the order of application.

    A convolution with max-pooling and the ReLU or tanh that follows it are one operation,
    `lenet_jax.ops.conv2d_max_pool`.

    Raises:
        InputError: if `layers` is no mapping of layers; in `init`, if one does not fit the output of the one before;
            the message names the layer.
    """
    _check_parts("serial", "layers", layers)
    computed = _join_activations(layers)

    def init(key: Key, shape: Shape) -> tuple[Variables, Shape]:
        parts = {}
        for (name, layer), layer_key in zip(layers.items(), jax.random.split(key, len(layers)), strict=True):
            parts[name], shape = _init_part(name, layer, layer_key, shape)
        return merge_variables(parts), shape

    def apply(variables: Variables, x: Array, *, train: bool, key: Key | None) -> tuple[Array, dict]:
        keys = _split_key(key, layers)
        state = {}
        for name, layer in computed.items():
            x, new_state = layer.apply(child_variables(variables, name), x, train=train, key=keys[name])
            if new_state:
                state[name] = new_state
        return x, state

    def trace(variables: Variables, x: Array, field: ReceptiveField) -> Trace:
        traces: list[LayerTrace] = []
        for name, layer in layers.items():
            more, field = trace_layer(name, layer, child_variables(variables, name), x, field)
            traces += more
            x = traces[-1].y
        return traces, field

    return Layer(init, apply, trace=trace, stochastic=_is_stochastic(layers))


def _join_activations(layers: Mapping[str, Layer]) -> dict[str, Layer]:
    """Return the layers, those that an activation follows together with it where they can be computed in one pass."""
    computed = dict(layers)
    for (name, layer), (next_name, following) in itertools.pairwise(layers.items()):
        joined = layer.activated(following.activation) if following.activation else None
        if joined is not None:
            computed[name] = joined
            del computed[next_name]
    return computed


def branch(paths: Mapping[str, Layer]) -> Layer:
    """Apply layers to the same input and concatenate their output channels.

    Args:
        paths: name -> layer, in the order of concatenation.

    Raises:
        InputError: if `paths` is no mapping of layers; in `init`, if a path does not fit the input, or the outputs
            differ in height or width.
    """
    _check_parts("branch", "paths", paths)

    def init(key: Key, shape: Shape) -> tuple[Variables, Shape]:
        parts, shapes = {}, {}
        for (name, path), path_key in zip(paths.items(), jax.random.split(key, len(paths)), strict=True):
            parts[name], shapes[name] = _init_part(name, path, path_key, shape)
        if len({shape[:-1] for shape in shapes.values()}) > 1:
            found = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
            raise InputError(f"branch: `paths` must make maps of the same size; got {found}; pad them alike.")
        first = next(iter(shapes.values()))
        return merge_variables(parts), (*first[:-1], sum(shape[-1] for shape in shapes.values()))

    def apply(variables: Variables, x: Array, *, train: bool, key: Key | None) -> tuple[Array, dict]:
        keys = _split_key(key, paths)
        outputs, state = [], {}
        for name, path in paths.items():
            y, new_state = path.apply(child_variables(variables, name), x, train=train, key=keys[name])
            outputs.append(y)
            if new_state:
                state[name] = new_state
        return jnp.concatenate(outputs, axis=-1), state

    def trace(variables: Variables, x: Array, field: ReceptiveField) -> Trace:
        traces, outputs, fields = [], [], []
        for name, path in paths.items():
            more, output_field = trace_layer(name, path, child_variables(variables, name), x, field)
            traces += more
            outputs.append(more[-1].y)
            fields.append(output_field)
        y, widest = jnp.concatenate(outputs, axis=-1), _widest(fields)
        return [*traces, LayerTrace("concatenate", x, y, 0, 0, 0, widest)], widest

    return Layer(init, apply, trace=trace, stochastic=_is_stochastic(paths))


def residual(
    block: Layer, *, projection: Layer | None = None, activation: Callable[[Array], Array] = lambda x: x
) -> Layer:
    """Add a shortcut around a block: y = activation(block(x) + projection(x)).

    The variables are stored under `block` and `projection`.

    Args:
        block: the layer that the shortcut leads around.
        projection: layer of the shortcut; None adds x unchanged.
        activation: function of the sum; by default the identity.

    Raises:
        InputError: in `init`, if the block or the projection does not fit the input, or their outputs differ in shape.

    Source: He et al. 2016, "Deep residual learning for image recognition", equations 1 and 2.
    """
    parts = {"block": block} if projection is None else {"block": block, "projection": projection}

    def init(key: Key, shape: Shape) -> tuple[Variables, Shape]:
        inits = {
            name: _init_part(name, part, part_key, shape)
            for (name, part), part_key in zip(parts.items(), jax.random.split(key, len(parts)), strict=True)
        }
        output, shortcut = inits["block"][1], inits["projection"][1] if projection else shape
        if output != shortcut:
            raise InputError(
                f"residual: `block` must make maps of the shape that they are added to, {shortcut}; got {output}; "
                "give a `projection` that makes the same."
            )
        return merge_variables({name: variables for name, (variables, _) in inits.items()}), output

    def apply(variables: Variables, x: Array, *, train: bool, key: Key | None) -> tuple[Array, dict]:
        keys = _split_key(key, parts)
        results = {
            name: part.apply(child_variables(variables, name), x, train=train, key=keys[name])
            for name, part in parts.items()
        }
        shortcut = results["projection"][0] if projection else x
        state = {name: new_state for name, (_, new_state) in results.items() if new_state}
        return activation(results["block"][0] + shortcut), state

    def trace(variables: Variables, x: Array, field: ReceptiveField) -> Trace:
        traces, output_field = trace_layer("block", block, child_variables(variables, "block"), x, field)
        y, shortcut = traces[-1].y, x
        if projection is not None:
            more, _ = trace_layer("projection", projection, child_variables(variables, "projection"), x, field)
            traces, shortcut = traces + more, more[-1].y
        return [*traces, LayerTrace("add", x, activation(y + shortcut), 0, 0, 0, output_field)], output_field

    return Layer(init, apply, trace=trace, stochastic=_is_stochastic(parts))


def rematerialized(layer: Layer) -> Layer:
    """Store only a layer's output; recompute the rest in the backward pass.

    Intermediate arrays take the memory of one such layer at a time, and a training step about a third more arithmetic.

    Args:
        layer: the layer; its variables are unchanged.

    Source: Chen et al. 2016, "Training deep nets with sublinear memory cost", section 4.1.
    """

    def apply(variables: Variables, x: Array, *, train: bool, key: Key | None) -> tuple[Array, dict]:
        if not train:
            return layer.apply(variables, x, train=train, key=key)
        return jax.checkpoint(functools.partial(layer.apply, train=train))(variables, x, key=key)

    def trace(variables: Variables, x: Array, field: ReceptiveField) -> Trace:
        traces, field = trace_layer("", layer, variables, x, field)
        *inside, last = traces
        return [*(part._replace(recomputed="block") for part in inside), last], field

    return layer._replace(apply=apply, trace=trace)


_AUXILIARY = "auxiliary_logits"


def auxiliary(head: Layer, *, weight: float) -> Layer:
    """Attach an auxiliary classifier; in training, `weight` times its loss is added to the network's.

    The layer returns its input unchanged.

    Args:
        head: layer from the input to logits.
        weight: factor of the auxiliary loss.

    Source: Szegedy et al. 2015, "Going deeper with convolutions", section 5.
    """

    def init(key: Key, shape: Shape) -> tuple[Variables, Shape]:
        return _init_part("auxiliary", head, key, shape)[0], shape

    def apply(variables: Variables, x: Array, *, train: bool, key: Key | None) -> tuple[Array, dict]:
        if not train:
            return x, variables.state
        logits, state = head.apply(variables, x, train=train, key=key)
        return x, {**state, _AUXILIARY: (jnp.float32(weight), logits)}

    return Layer(init, apply, stochastic=head.stochastic)


def take_auxiliary(state: dict) -> tuple[list[tuple[Array, Array]], dict]:
    """Separate the auxiliary outputs from a new state: return [(weight, logits), ...] and the state without them."""
    found, kept = [], {}
    for name, value in state.items():
        if name == _AUXILIARY:
            found.append(value)
            continue
        if isinstance(value, dict):
            more, value = take_auxiliary(value)
            found += more
            if not value:
                continue
        kept[name] = value
    return found, kept
