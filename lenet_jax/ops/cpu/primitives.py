"""Functions linear in each of two arrays, with gradients of our own, differentiable any number of times in either mode.

Such a function and its two gradients are the derivatives of one trilinear form of three arrays: the arguments a and b,
and the cotangent c. Each is linear in the two arrays that it takes, so primitives of the three are closed under
differentiation.
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


class Form(NamedTuple):
    """One of the three functions.

    compute: (array, array, **options) -> array; the options are hashable.
    batch: (bind, arrays, axes, **options) -> (array, axis): the rule of `jax.vmap`, where `bind` is the function itself
        and an axis of None means that the array is not mapped.
    """

    compute: Callable[..., Array]
    batch: Callable[..., tuple[Array, int]]


def trilinear(name: str, product: Form, b_gradient: Form, a_gradient: Form) -> Callable[..., Array]:
    """Return the function (a, b, **options) -> c that is `product` and has these gradients.

    Args:
        name: of the primitives, for those who read programs.
        product: of (a, b).
        b_gradient: of (a, c): the gradient of the sum of product(a, b) * c with respect to b.
        a_gradient: of (c, b): that with respect to a.
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


def mapped_as(general: Callable[..., Array]) -> Callable[..., tuple[Array, int]]:
    """Return a rule of `jax.vmap` for `Form.batch`: the map of another function of the same value."""

    def batch(bind: Callable, arrays: Any, axes: Any, **options: Any) -> tuple[Array, int]:
        return jax.vmap(functools.partial(general, **options), axes)(*arrays), 0

    return batch


def apart(compute: Callable[..., Array], options: Sequence[str] = ()) -> Callable[..., Array]:
    """Make `compute` a function of its own in the program, so that its arguments are arrays in memory.

    `options` are the names of its arguments that are not arrays.

    XLA would fuse what computes the cotangent, as the gradient of a pooling, into each of its transposed copies, and a
    fusion that ends in a transpose or in merged axes is computed one number at a time.
    """

    def with_inlined_parts(*arrays: Array, **options: Any) -> Array:
        with set_xla_metadata(inlineable="true"):
            return compute(*arrays, **options)

    function = jax.jit(with_inlined_parts, static_argnames=options)

    def call(*arrays: Array, **options: Any) -> Array:
        with set_xla_metadata(inlineable="false"):
            return function(*arrays, **options)

    return call


def _primitive(name: str, form: Form) -> Primitive:
    def shape(*arrays: Any, **options: Any) -> ShapedArray:
        y = jax.eval_shape(functools.partial(form.compute, **options), *arrays)
        return ShapedArray(y.shape, y.dtype)

    primitive = Primitive(name)
    primitive.def_impl(form.compute)
    primitive.def_abstract_eval(shape)
    mlir.register_lowering(primitive, mlir.lower_fun(form.compute, multiple_results=False))
    batching.primitive_batchers[primitive] = functools.partial(form.batch, primitive.bind)
    return primitive
