"""JAX primitives of two kinds: bilinear functions with their own gradients, and functions with a method for inference.

A bilinear function is linear in each of two arrays. The function and its two gradients are the derivatives of one
trilinear form of three arrays: the arguments a and b, and the cotangent c. Each is linear in the two arrays that it
takes, so primitives of the three are closed under differentiation of any order in either mode.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from jax.core import ShapedArray
from jax.experimental.xla_metadata import set_xla_metadata
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array


class Rule(NamedTuple):
    """How one of the three functions is computed.

    compute: (array, array, **options) -> array; the options are hashable.
    batch: (bind, arrays, axes, **options) -> (array, axis): the batching rule, where `bind` is the function itself and
        an axis of None means that the array is not mapped.
    """

    compute: Callable[..., Array]
    batch: Callable[..., tuple[Array, int]]


def bilinear_primitive(name: str, product: Rule, b_gradient: Rule, a_gradient: Rule) -> Callable[..., Array]:
    """Return the function (a, b, **options) -> c that is computed by `product` and has these gradients.

    Args:
        name: name of the primitive in printed programs.
        product: function of (a, b).
        b_gradient: function of (a, c): the gradient of the sum of product(a, b) * c with respect to b.
        a_gradient: function of (c, b): the gradient of that sum with respect to a.
    """
    of_ab = _primitive(name, product)
    of_ac = _primitive(f"{name}_b_gradient", b_gradient)
    of_cb = _primitive(f"{name}_a_gradient", a_gradient)
    ad.defbilinear(
        of_ab,
        lambda c, a, b, **options: of_cb.bind(c, b, **options),
        lambda c, a, b, **options: of_ac.bind(a, c, **options),
    )
    ad.defbilinear(
        of_ac,
        lambda b, a, c, **options: of_cb.bind(c, b, **options),
        lambda b, a, c, **options: of_ab.bind(a, b, **options),
    )
    ad.defbilinear(
        of_cb,
        lambda a, c, b, **options: of_ab.bind(a, b, **options),
        lambda a, c, b, **options: of_ac.bind(a, c, **options),
    )
    return of_ab.bind


def batching_rule(general: Callable[..., Array]) -> Callable[..., tuple[Array, int]]:
    """Return a batching rule that maps `general`, another function of the same value."""

    def batch(bind: Callable, arrays: Any, axes: Any, **options: Any) -> tuple[Array, int]:
        return jax.vmap(functools.partial(general, **options), axes)(*arrays), 0

    return batch


def outlined(compute: Callable[..., Array], options: Sequence[str] = ()) -> Callable[..., Array]:
    """Make `compute` a function of its own in the program, so that its arguments are arrays in memory.

    XLA would fuse the operations that make the cotangent, such as the gradient of a pooling, into each of its
    transposed copies, and a fusion that ends in a transpose or in merged axes is computed one number at a time.

    Args:
        compute: function of arrays.
        options: names of its arguments that are not arrays.
    """

    def with_inlined_parts(*arrays: Array, **options: Any) -> Array:
        with set_xla_metadata(inlineable="true"):
            return compute(*arrays, **options)

    function = jax.jit(with_inlined_parts, static_argnames=options)

    def call(*arrays: Array, **options: Any) -> Array:
        with set_xla_metadata(inlineable="false"):
            return function(*arrays, **options)

    return call


def _primitive(name: str, rule: Rule) -> Primitive:
    def abstract_value(*arrays: Any, **options: Any) -> ShapedArray:
        y = jax.eval_shape(functools.partial(rule.compute, **options), *arrays)
        return ShapedArray(y.shape, y.dtype)

    primitive = Primitive(name)
    primitive.def_impl(rule.compute)
    primitive.def_abstract_eval(abstract_value)
    mlir.register_lowering(primitive, mlir.lower_fun(rule.compute, multiple_results=False))
    batching.primitive_batchers[primitive] = functools.partial(rule.batch, primitive.bind)
    return primitive


def inference_only(fast: Callable[..., Array], general: Callable[..., Array]) -> Callable[..., Array]:
    """Return the function that is computed by `fast`, or by `general` under differentiation and `vmap`.

    Args:
        fast: function of arrays or pytrees of arrays.
        general: the same function, in a form that is fast to differentiate, any number of times, and to map.
    """

    def chosen(*args: Any) -> Array:
        leaves, tree = jax.tree.flatten(args)

        def of_leaves(fn: Callable[..., Array]) -> Callable[..., Array]:
            return lambda *leaves: fn(*jax.tree.unflatten(tree, leaves))

        return _inference_only_p.bind(*leaves, fast=of_leaves(fast), general=of_leaves(general))

    return chosen


def _compute(*leaves: Array, fast: Callable, general: Callable) -> Array:
    return fast(*leaves)


def _abstract_value(*leaves: Any, fast: Callable, general: Callable) -> ShapedArray:
    y = jax.eval_shape(general, *leaves)
    return ShapedArray(y.shape, y.dtype)


def _with_fixed(general: Callable, leaves: Sequence[Any], is_fixed: Sequence[bool]) -> Callable[..., Array]:
    """Return `general` as a function of the leaves that are not fixed."""

    def of_others(*others: Any) -> Array:
        rest = iter(others)
        return general(*(leaf if fixed else next(rest) for leaf, fixed in zip(leaves, is_fixed, strict=True)))

    return of_others


def _jvp(leaves: Sequence[Any], tangents: Sequence[Any], *, fast: Callable, general: Callable) -> tuple[Array, Array]:
    is_fixed = [type(tangent) is ad.Zero for tangent in tangents]
    varying = [(x, t) for x, t, fixed in zip(leaves, tangents, is_fixed, strict=True) if not fixed]
    return jax.jvp(_with_fixed(general, leaves, is_fixed), tuple(x for x, _ in varying), tuple(t for _, t in varying))


def _transpose(cotangent: Any, *leaves: Any, fast: Callable, general: Callable) -> list[Array | None]:
    is_fixed = [not ad.is_undefined_primal(leaf) for leaf in leaves]
    unknown = [leaf.aval for leaf, fixed in zip(leaves, is_fixed, strict=True) if not fixed]
    parts = iter(jax.linear_transpose(_with_fixed(general, leaves, is_fixed), *unknown)(cotangent))
    return [None if fixed else next(parts) for fixed in is_fixed]


def _batch(leaves: Sequence[Any], axes: Sequence[Any], *, fast: Callable, general: Callable) -> tuple[Array, int]:
    return jax.vmap(general, axes)(*leaves), 0


_inference_only_p = Primitive("inference_only")
_inference_only_p.def_impl(_compute)
_inference_only_p.def_abstract_eval(_abstract_value)
mlir.register_lowering(_inference_only_p, mlir.lower_fun(_compute, multiple_results=False))
batching.primitive_batchers[_inference_only_p] = _batch
ad.primitive_jvps[_inference_only_p] = _jvp
ad.primitive_transposes[_inference_only_p] = _transpose
