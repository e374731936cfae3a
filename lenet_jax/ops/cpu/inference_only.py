"""One function, computed in another way where its value is all that is wanted."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array


def forward_only(fast: Callable[..., Array], general: Callable[..., Array]) -> Callable[..., Array]:
    """Return a function that is `fast` as long as it is neither differentiated nor mapped, and `general` otherwise.

    Args:
        fast: of arrays or trees of arrays.
        general: the same function, in a form whose derivatives of any order, and whose maps, are fast too.
    """

    def chosen(*args: Any) -> Array:
        leaves, tree = jax.tree.flatten(args)

        def of_leaves(fn: Callable[..., Array]) -> Callable[..., Array]:
            return lambda *leaves: fn(*jax.tree.unflatten(tree, leaves))

        return _forward_only_p.bind(*leaves, fast=of_leaves(fast), general=of_leaves(general))

    return chosen


def _fast(*leaves: Array, fast: Callable, general: Callable) -> Array:
    return fast(*leaves)


def _shape(*leaves: Any, fast: Callable, general: Callable) -> ShapedArray:
    y = jax.eval_shape(general, *leaves)
    return ShapedArray(y.shape, y.dtype)


def _of_some(general: Callable, leaves: Sequence[Any], is_fixed: Sequence[bool]) -> Callable[..., Array]:
    """Return `general` as a function of the leaves that are not fixed."""

    def of_some(*others: Any) -> Array:
        rest = iter(others)
        return general(*(leaf if fixed else next(rest) for leaf, fixed in zip(leaves, is_fixed, strict=True)))

    return of_some


def _differentiate(
    leaves: Sequence[Any], tangents: Sequence[Any], *, fast: Callable, general: Callable
) -> tuple[Array, Array]:
    is_fixed = [type(tangent) is ad.Zero for tangent in tangents]
    moving = [(x, t) for x, t, fixed in zip(leaves, tangents, is_fixed, strict=True) if not fixed]
    return jax.jvp(_of_some(general, leaves, is_fixed), tuple(x for x, _ in moving), tuple(t for _, t in moving))


def _transpose(cotangent: Any, *leaves: Any, fast: Callable, general: Callable) -> list[Array | None]:
    is_fixed = [not ad.is_undefined_primal(leaf) for leaf in leaves]
    unknown = [leaf.aval for leaf, fixed in zip(leaves, is_fixed, strict=True) if not fixed]
    parts = iter(jax.linear_transpose(_of_some(general, leaves, is_fixed), *unknown)(cotangent))
    return [None if fixed else next(parts) for fixed in is_fixed]


def _map(leaves: Sequence[Any], axes: Sequence[Any], *, fast: Callable, general: Callable) -> tuple[Array, int]:
    return jax.vmap(general, axes)(*leaves), 0


_forward_only_p = Primitive("forward_only")
_forward_only_p.def_impl(_fast)
_forward_only_p.def_abstract_eval(_shape)
mlir.register_lowering(_forward_only_p, mlir.lower_fun(_fast, multiple_results=False))
batching.primitive_batchers[_forward_only_p] = _map
ad.primitive_jvps[_forward_only_p] = _differentiate
ad.primitive_transposes[_forward_only_p] = _transpose
