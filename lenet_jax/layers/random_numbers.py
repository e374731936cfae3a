"""Draws the random numbers of a network's initialization together.

XLA compiles the generator anew for every array that is drawn and for every key that is split, which takes most of the
time until a large network is initialized. Here the draws that do not depend on each other share one generator. The
numbers are those of `jax.random`.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal
from jaxtyping import Array, PyTree

from lenet_jax.types import Key

_ROW = 2**14
"""Most numbers that are hashed at once; arrays are drawn in rows of so many."""

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


def draw_together(init: Callable[[Key], PyTree], key: Key, *, separately: bool) -> PyTree:
    """Return init(key), with the same random numbers from fewer generators.

    Args:
        init: a function that can be traced. What it calls by `jax.jit` with shardings, layouts or compiler options is
            drawn by itself.
        key: consumed.
        separately: whether each operation of `init` rounds its results, as in a call outside of a program; otherwise
            XLA may join operations, as it may those of `init` inside of a program.
    """
    closed, shapes = jax.make_jaxpr(init, return_shape=True)(key)
    if any(
        each.equation is not None and each.equation.effects for each in _operations(closed, None, {}, is_outer=True)
    ):
        return init(key)  # whose order matters
    return jax.tree.unflatten(jax.tree.structure(shapes), _evaluate(closed, [key], separately))


class _Operation(NamedTuple):
    """An operation of a jaxpr, or of a jitted function in it; without an equation it hands its inputs on."""

    inputs: Sequence[Any]  # (call, variable) each, or a literal
    outputs: Sequence[Any]
    equation: JaxprEqn | None
    is_outer: bool  # of the jaxpr itself


def _operations(closed: ClosedJaxpr, call: object, values: dict, *, is_outer: bool) -> Iterator[_Operation]:
    """Yield the operations of a jaxpr and of the jitted functions in it, and put its constants into `values`."""

    def within(call: object, variables: Sequence[Any]) -> list[Any]:
        return [variable if isinstance(variable, Literal) else (call, variable) for variable in variables]

    values.update(zip(within(call, closed.jaxpr.constvars), closed.consts, strict=True))
    for equation in closed.jaxpr.eqns:
        inputs, outputs = within(call, equation.invars), within(call, equation.outvars)
        if not _is_plain_call(equation):
            yield _Operation(inputs, outputs, equation, is_outer)
            continue
        inner, inner_call = equation.params["jaxpr"], object()
        yield _Operation(inputs, within(inner_call, inner.jaxpr.invars), None, False)
        yield from _operations(inner, inner_call, values, is_outer=False)
        yield _Operation(within(inner_call, inner.jaxpr.outvars), outputs, None, is_outer)


def _is_plain_call(equation: JaxprEqn) -> bool:
    """Return whether an equation is the call of a jitted function whose options leave nothing to say."""
    if equation.primitive.name not in ("jit", "pjit"):
        return False
    options = equation.params
    shardings = (*options.get("in_shardings", ()), *options.get("out_shardings", ()))
    layouts = (*options.get("in_layouts", ()), *options.get("out_layouts", ()))
    return (
        not any(isinstance(each, jax.sharding.Sharding) for each in shardings)
        and all(each is None for each in layouts)
        and not any(options.get("donated_invars", ()))
        and not options.get("compiler_options_kvs")
    )


def _evaluate(closed: ClosedJaxpr, arguments: Sequence[Any], separately: bool) -> list[Any]:
    """Compute a jaxpr, in turns: all operations whose inputs are known, then all draws whose keys are."""
    values: dict[Any, Any] = {}
    call = object()
    values.update(((call, variable), value) for variable, value in zip(closed.jaxpr.invars, arguments, strict=True))

    def value_of(place: Any) -> Any:
        return place.val if isinstance(place, Literal) else values[place]

    left = list(_operations(closed, call, values, is_outer=True))
    while left:
        waiting: list[_Operation] = []
        draws: list[tuple[_Operation, JaxprEqn]] = []
        for operation in left:
            if not all(isinstance(place, Literal) or place in values for place in operation.inputs):
                waiting.append(operation)
            elif operation.equation is not None and _can_be_shared(operation.equation):
                draws.append((operation, operation.equation))
            else:
                results = _compute(operation.equation, [value_of(place) for place in operation.inputs])
                if separately and operation.is_outer:
                    results = [_rounded(each) for each in results]
                values.update(zip(operation.outputs, results, strict=True))
        alike: dict[Any, list[tuple[_Operation, Key, Any]]] = {}  # keys that vary over the same devices
        for draw, equation in draws:
            key = value_of(draw.inputs[0])
            of = equation.primitive.name, jax.typeof(key)
            alike.setdefault(of, []).append((draw, key, equation.params["shape"]))
        for (name, _), group in alike.items():
            operations, keys, shapes = zip(*group, strict=True)
            for operation, result in zip(operations, _draw(name, keys, shapes), strict=True):
                values[operation.outputs[0]] = result
        left = waiting
    results = [place if isinstance(place, Literal) else (call, place) for place in closed.jaxpr.outvars]
    return [jnp.asarray(value_of(place)) for place in results]  # a constant may be one of Python or NumPy


def _rounded(result: Array) -> Array:
    """Keep XLA from joining an operation on floats with the next one; keys and integers are not rounded."""
    return lax.optimization_barrier(result) if jnp.issubdtype(result.dtype, jnp.floating) else result


def _compute(equation: JaxprEqn | None, inputs: list[Any]) -> list[Any]:
    if equation is None:
        return inputs
    with equation.ctx.manager:  # such as `jax.threefry_partitionable(False)` around an initializer
        results = equation.primitive.bind(*inputs, **equation.primitive.get_bind_params(equation.params))
    return list(results) if equation.primitive.multiple_results else [results]


def _can_be_shared(equation: JaxprEqn) -> bool:
    """Return whether an equation draws what `_draw` does: 32 bits a number, or keys, by JAX's default generator."""
    if equation.primitive.name not in ("random_bits", "random_split"):
        return False
    key: Any = equation.invars[0].aval
    size = math.prod(equation.params["shape"])
    return (
        equation.ctx.threefry_partitionable
        and key.shape == ()
        and str(key.dtype) == "key<fry>"
        and equation.params.get("bit_width", 32) == 32
        and 0 < size < 2**32
    )


def _draw(name: str, keys: Sequence[Key], shapes: Sequence[tuple[int, ...]]) -> list[Array]:
    """Return for each key and shape `jax.random.bits(key, shape)`, or `jax.random.split(key, shape)`."""
    sizes = [math.prod(shape) for shape in shapes]
    row = min(_ROW, max(sizes))
    owners = np.array([owner for owner, size in enumerate(sizes) for _ in range(0, size, row)])
    starts = np.array([start for size in sizes for start in range(0, size, row)], np.uint32)

    def draw_row(words: Array, start: Array) -> Array:
        first, second = _threefry(words, start + jnp.arange(row, dtype=jnp.uint32))
        return first ^ second if name == "random_bits" else jnp.stack([first, second], axis=-1)

    words = jnp.stack([jax.random.key_data(key) for key in keys])[owners]
    rows = lax.map(lambda pair: draw_row(*pair), (words, jnp.asarray(starts)))  # a loop: one generator, little memory
    numbers = rows.reshape(-1, *rows.shape[2:])
    results, start = [], 0
    for shape, size in zip(shapes, sizes, strict=True):
        result = numbers[start : start + size].reshape(*shape, *numbers.shape[1:])
        results.append(result if name == "random_bits" else jax.random.wrap_key_data(result, impl="threefry2x32"))
        start += -(-size // row) * row
    return results


def _threefry(key: Array, counts: Array) -> tuple[Array, Array]:
    """Return the hashes of the 64-bit numbers `counts`, below 2**32, as two words.

    Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", section 3.3, 20 rounds.
    """
    schedule = (key[0], key[1], key[0] ^ key[1] ^ np.uint32(0x1BD11BDA))
    first, second = jnp.broadcast_to(schedule[0], counts.shape), counts + jnp.broadcast_to(schedule[1], counts.shape)
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            first = first + second
            second = first ^ ((second << np.uint32(rotation)) | (second >> np.uint32(32 - rotation)))
        first = first + jnp.broadcast_to(schedule[(group + 1) % 3], counts.shape)
        second = second + jnp.broadcast_to(schedule[(group + 2) % 3] + np.uint32(group + 1), counts.shape)
    return first, second
