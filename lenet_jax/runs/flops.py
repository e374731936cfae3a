"""The operations of a function, as XLA counts them in its program."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, jaxpr_as_fun

_DEFINED = ("tpu",)  # a platform on which operations are lowered to their definitions, of which XLA knows each


def count_flops(fn: Callable[..., Any], *args: Any) -> float | None:
    """Return the floating-point operations of a call: a multiply-add counts two, an element of a result at least one.

    They are those of the definitions, whichever kernels compute them: XLA cannot look into a native kernel. A loop of
    known length, as `lax.scan` makes it, counts in full, one that ends by a condition once.

    Args:
        fn: a function that JAX can trace.
        args: its arguments, arrays or their shapes.

    Returns:
        The number; None if this version of JAX cannot tell it.
    """
    return _count(jax.make_jaxpr(fn)(*args))


def _count(program: ClosedJaxpr) -> float | None:
    total = _count_once(program)
    for loop in _loops(program.jaxpr):
        body, once = _count(loop.params["jaxpr"]), _count_once(loop.params["jaxpr"])
        if total is None or body is None or once is None:
            return None
        total += loop.params["length"] * body - once
    return total


def _count_once(program: ClosedJaxpr) -> float | None:
    """Return the operations of a program in which each loop, and each one in it, is gone through once."""
    analysis = _analyze(program)
    return None if analysis is None else analysis["flops"]


def _analyze(program: ClosedJaxpr) -> Any:
    """Return XLA's analysis of a program that is lowered and not compiled; only the client of a CPU makes it."""
    shapes = [jax.ShapeDtypeStruct(each.shape, each.dtype) for each in program.in_avals]
    try:
        device = jax.local_devices(backend="cpu")[0]
    except RuntimeError:  # JAX_PLATFORMS leaves the CPU out
        return None
    with jax.default_device(device):
        traced = jax.jit(jaxpr_as_fun(program)).trace(*shapes)
        return traced.lower(lowering_platforms=_DEFINED).cost_analysis()


def _loops(jaxpr: Jaxpr) -> Iterator[Any]:
    """Yield the loops of known length that are in no other one."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "scan":
            yield equation
            continue
        values = itertools.chain.from_iterable(
            value if isinstance(value, tuple | list) else [value] for value in equation.params.values()
        )
        for value in values:
            if isinstance(value, ClosedJaxpr):
                yield from _loops(value.jaxpr)
            elif isinstance(value, Jaxpr):
                yield from _loops(value)
