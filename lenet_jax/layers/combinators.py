"""Layers made of layers: one after another, side by side, around a shortcut, computed twice to save memory."""

import functools
import itertools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from lenet_jax.errors import InputError
from lenet_jax.layers.base import Layer, Shape, own_part, put_together
from lenet_jax.ops.cpu.convolution import swap_batch
from lenet_jax.ops.cpu.inference_only import forward_only
from lenet_jax.ops.portions import map_portions
from lenet_jax.types import Key, ReceptiveField, Variables, Visit

Trace = tuple[list[Visit], ReceptiveField]


def _init_part(name: str, layer: Layer, key: Key, shape: Shape) -> tuple[Variables, Shape]:
    try:
        return layer.init(key, shape)
    except InputError as error:
        raise InputError(f"layer `{name}` does not fit an input of shape {shape}: {error}") from error


def _split_key(key: Key | None, layers: Mapping[str, Layer]) -> dict[str, Key | None]:
    keys = [None] * len(layers) if key is None else jax.random.split(key, len(layers))
    return dict(zip(layers, keys, strict=True))


def visit(name: str, layer: Layer, variables: Variables, x: Array, field: ReceptiveField) -> Trace:
    """Return what the parts of a layer do to a batch, their names after its own."""
    if layer.trace is not None:
        visits, field = layer.trace(variables, x, field)
        return [
            part._replace(name=f"{name}.{part.name}", recomputed=part.recomputed and f"{name}.{part.recomputed}")
            for part in visits
        ], field
    field = layer.field(field)
    y, _ = layer.apply(variables, x, train=False, key=None)
    num_parameters = sum(leaf.size for leaf in jax.tree.leaves(variables.params))
    work = layer.work(variables.params, x.shape[1:])
    return [Visit(name, x, y, num_parameters, *work, field)], field


# ---- one after another ----------------------------------------------------------------------------------------------


def serial(layers: Mapping[str, Layer]) -> Layer:
    """Apply layers one after another; the variables of each are under its name.

    Raises:
        InputError: in `init`, if a layer does not fit the output of the one before; the message names the layer.
    """

    def init(key: Key, shape: Shape) -> tuple[Variables, Shape]:
        parts = {}
        for (name, layer), layer_key in zip(layers.items(), jax.random.split(key, len(layers)), strict=True):
            parts[name], shape = _init_part(name, layer, layer_key, shape)
        return put_together(parts), shape

    def apply(variables: Variables, x: Array, *, train: bool, key: Key | None) -> tuple[Array, dict]:
        keys = _split_key(key, layers)
        state = {}
        for any_layout, names in itertools.groupby(layers, lambda name: layers[name].batch_last is not None):
            part = {name: layers[name] for name in names}
            if any_layout and x.ndim == 4 and any(variables.params.get(name) for name in part):
                x = _apply_any_layout(part, {name: variables.params.get(name, {}) for name in part}, x)
                continue
            for name, layer in part.items():
                x, new_state = layer.apply(own_part(variables, name), x, train=train, key=keys[name])
                if new_state:
                    state[name] = new_state
        return x, state

    def trace(variables: Variables, x: Array, field: ReceptiveField) -> Trace:
        visits: list[Visit] = []
        for name, layer in layers.items():
            more, field = visit(name, layer, own_part(variables, name), x, field)
            visits += more
            x = visits[-1].y
        return visits, field

    return Layer(init, apply, trace=trace)


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


# ---- side by side ---------------------------------------------------------------------------------------------------


def branch(paths: Mapping[str, Layer]) -> Layer:
    """Apply layers to the same input and put their maps one behind another, in order.

    Raises:
        InputError: in `init`, if a path does not fit the input, or their maps are of different sizes.
    """

    def init(key: Key, shape: Shape) -> tuple[Variables, Shape]:
        parts, shapes = {}, {}
        for (name, path), path_key in zip(paths.items(), jax.random.split(key, len(paths)), strict=True):
            parts[name], shapes[name] = _init_part(name, path, path_key, shape)
        if len({shape[:-1] for shape in shapes.values()}) > 1:
            found = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
            raise InputError(f"branch: `paths` must make maps of one size; got {found}; pad them alike.")
        first = next(iter(shapes.values()))
        return put_together(parts), (*first[:-1], sum(shape[-1] for shape in shapes.values()))

    def apply(variables: Variables, x: Array, *, train: bool, key: Key | None) -> tuple[Array, dict]:
        keys = _split_key(key, paths)
        maps, state = [], {}
        for name, path in paths.items():
            y, new_state = path.apply(own_part(variables, name), x, train=train, key=keys[name])
            maps.append(y)
            if new_state:
                state[name] = new_state
        return jnp.concatenate(maps, axis=-1), state

    def trace(variables: Variables, x: Array, field: ReceptiveField) -> Trace:
        visits, ends, fields = [], [], []
        for name, path in paths.items():
            more, end = visit(name, path, own_part(variables, name), x, field)
            visits += more
            ends.append(more[-1].y)
            fields.append(end)
        y, widest = jnp.concatenate(ends, axis=-1), max(fields)
        return [*visits, Visit("concatenate", x, y, 0, 0, 0, widest)], widest

    return Layer(init, apply, trace=trace)


# ---- around a shortcut ----------------------------------------------------------------------------------------------


def residual(
    block: Layer, *, projection: Layer | None = None, activation: Callable[[Array], Array] = lambda x: x
) -> Layer:
    """Add what a block makes of its input to that input: y = activation(block(x) + projection(x)).

    Without a projection x is added as it is. The variables are under `block` and `projection`.

    Raises:
        InputError: in `init`, if the block or the projection does not fit the input, or the sum does not.

    Source: He et al. 2016, "Deep residual learning for image recognition", equations 1 and 2.
    """
    parts = {"block": block} if projection is None else {"block": block, "projection": projection}

    def init(key: Key, shape: Shape) -> tuple[Variables, Shape]:
        inits = {
            name: _init_part(name, part, part_key, shape)
            for (name, part), part_key in zip(parts.items(), jax.random.split(key, len(parts)), strict=True)
        }
        made, added = inits["block"][1], inits["projection"][1] if projection else shape
        if made != added:
            raise InputError(
                f"residual: `block` must make maps of the shape that they are added to, {added}; got {made}; "
                "give a `projection` that makes the same."
            )
        return put_together({name: variables for name, (variables, _) in inits.items()}), made

    def apply(variables: Variables, x: Array, *, train: bool, key: Key | None) -> tuple[Array, dict]:
        keys = _split_key(key, parts)
        made = {
            name: part.apply(own_part(variables, name), x, train=train, key=keys[name]) for name, part in parts.items()
        }
        shortcut = made["projection"][0] if projection else x
        return activation(made["block"][0] + shortcut), {name: state for name, (_, state) in made.items() if state}

    def trace(variables: Variables, x: Array, field: ReceptiveField) -> Trace:
        visits, end = visit("block", block, own_part(variables, "block"), x, field)
        y, shortcut = visits[-1].y, x
        if projection is not None:
            more, _ = visit("projection", projection, own_part(variables, "projection"), x, field)
            visits, shortcut = visits + more, more[-1].y
        return [*visits, Visit("add", x, activation(y + shortcut), 0, 0, 0, end)], end

    return Layer(init, apply, trace=trace)


# ---- computed twice -------------------------------------------------------------------------------------------------


def rematerialized(layer: Layer) -> Layer:
    """Keep nothing of what a layer computes but its output, and compute the rest again for the gradient.

    It takes the memory of one such layer at a time, and about a third more arithmetic (Chen et al. 2016, "Training deep
    nets with sublinear memory cost", section 4.1).
    """

    def apply(variables: Variables, x: Array, *, train: bool, key: Key | None) -> tuple[Array, dict]:
        if not train:
            return layer.apply(variables, x, train=train, key=key)
        return jax.checkpoint(functools.partial(layer.apply, train=train))(variables, x, key=key)

    def trace(variables: Variables, x: Array, field: ReceptiveField) -> Trace:
        visits, field = visit("", layer, variables, x, field)
        *inside, last = (part._replace(name=part.name.removeprefix(".")) for part in visits)
        return [*(part._replace(recomputed="block") for part in inside), last], field

    return layer._replace(apply=apply, batch_last=None, trace=trace)


# ---- looked at while it trains ---------------------------------------------------------------------------------------

_AUXILIARY = "auxiliary_logits"


def auxiliary(head: Layer, *, weight: float) -> Layer:
    """Let a classifier look at what passes by while a network trains, whose loss is added to its own, times `weight`.

    Otherwise it does nothing. Source: Szegedy et al. 2015, "Going deeper with convolutions", section 5.
    """

    def init(key: Key, shape: Shape) -> tuple[Variables, Shape]:
        return _init_part("auxiliary", head, key, shape)[0], shape

    def apply(variables: Variables, x: Array, *, train: bool, key: Key | None) -> tuple[Array, dict]:
        if not train:
            return x, variables.state
        logits, state = head.apply(variables, x, train=train, key=key)
        return x, {**state, _AUXILIARY: (jnp.float32(weight), logits)}

    return Layer(init, apply)


def take_auxiliary(state: dict) -> tuple[list[tuple[Array, Array]], dict]:
    """Return the weights and the logits of the auxiliary heads in a new state, and the state without them."""
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
