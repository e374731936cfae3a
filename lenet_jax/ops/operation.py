"""Operations that have a definition in `jax.lax` and, on a CPU, a faster way to be computed.

The public ways of JAX do not combine the three things that are needed here. `jax.custom_vjp` has no forward mode,
`jax.custom_derivatives.linear_call` no `vmap`, and neither lets the program's platform, an export or `jet` choose the
definition. So there is one JAX primitive of our own, with an `Operation` as its parameter; every rule of the primitive
calls a method of the operation. An operation whose gradients are operations again can be differentiated any number of
times, in either mode.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import jet
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jax.sharding import AxisType
from jaxtyping import Array

Arrays = tuple[Array, ...]
Tangents = Sequence[Array | None]


@dataclasses.dataclass(frozen=True)
class Operation:
    """A function of arrays to a tuple of arrays; the fields of a subclass are its options, which are hashable."""

    def define(self, *arrays: Array) -> Arrays:
        """Return the results by functions of `jax.lax`: what the operation means."""
        raise NotImplementedError

    def on_cpu(self, *arrays: Array) -> Arrays:
        """Return the same results as they are computed on a CPU; never differentiated or mapped."""
        return self.define(*arrays)

    def jvp(
        self, primals: Sequence[Array], tangents: Sequence[Array | None]
    ) -> tuple[Arrays, tuple[Array | None, ...]]:
        """Return the results and their tangents; None stands for zeros."""
        return self.jvp_of_definition(primals, tangents)

    def jvp_of_definition(
        self, primals: Sequence[Array], tangents: Sequence[Array | None]
    ) -> tuple[Arrays, tuple[Array, ...]]:
        """Return the results of the definition and their tangents."""
        varying = [i for i, tangent in enumerate(tangents) if tangent is not None]
        define = _with_constants(self.define, primals, varying)
        return jax.jvp(define, tuple(primals[i] for i in varying), tuple(tangents[i] for i in varying))

    def transpose(self, cotangents: Sequence[Array], *arrays: Any) -> list[Array | None]:
        """Return the cotangents of the arrays that are None, in which the operation is linear; None for the others."""
        raise NotImplementedError

    def map_first_axes(self, arrays: Sequence[Array], axes: Sequence[int | None]) -> Arrays | None:
        """Return the results for every entry of the first axis of those arrays that have 0 in `axes`, else None.

        The default, None, stands for one entry after another.
        """
        return None


def apply(operation: Operation, *arrays: Array) -> Arrays:
    """Return the results of an operation.

    Where shapes are symbolic or a mesh has explicit axes, they are those of the definition, and so are the derivatives.
    """
    if not all(map(_has_known_layout, arrays)):
        return operation.define(*arrays)
    varying = frozenset().union(*map(_varying_axes, arrays))
    return tuple(_operation_p.bind(*(_vary_over(varying, x) for x in arrays), operation=operation))


def merge_first_axes(x: Array) -> Array:
    """Reshape (A, B, ...) to (A * B, ...)."""
    return x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])


def split_first_axis(shape: Sequence[int], results: Arrays) -> Arrays:
    """Reshape every (A * B, ...) to (A, B, ...), the two numbers of `shape`."""
    return tuple(y.reshape(*shape, *y.shape[1:]) for y in results)


def zeros(shape: Sequence[int], like: Array) -> Array:
    """Return zeros of the dtype of `like`, which vary over the same axes of a mesh."""
    return _vary_over(_varying_axes(like), jnp.zeros(shape, like.dtype))


def _has_known_layout(x: Array) -> bool:
    is_explicit = AxisType.Explicit in jax.typeof(x).sharding.mesh.axis_types
    return not is_explicit and all(isinstance(n, int) for n in x.shape)


# Inside `jax.shard_map` the type of an array tells along which axes of the mesh it varies. The arrays of an operation
# have to agree: the transpose of `pcast` is the sum over the devices that the gradient of a replicated array needs.


def _varying_axes(x: Array) -> frozenset:
    return jax.typeof(x).manual_axis_type.varying


def _vary_over(axes: frozenset, x: Array) -> Array:
    missing = tuple(axes - _varying_axes(x))
    return lax.pcast(x, missing, to="varying") if missing else x


@dataclasses.dataclass(frozen=True)
class _Mapped(Operation):
    """An operation for each entry of the first axis of those arrays that have an axis of 0."""

    operation: Operation
    axes: tuple[int | None, ...]

    def define(self, *arrays: Array) -> Arrays:
        return jax.vmap(self.operation.define, self.axes)(*arrays)

    def on_cpu(self, *arrays: Array) -> Arrays:
        mapped = [i for i, axis in enumerate(self.axes) if axis is not None]
        compute = _with_constants(self.operation.on_cpu, arrays, mapped)
        return lax.map(lambda entries: compute(*entries), [arrays[i] for i in mapped])

    def jvp(
        self, primals: Sequence[Array], tangents: Sequence[Array | None]
    ) -> tuple[Arrays, tuple[Array | None, ...]]:
        return jax.vmap(self.operation.jvp, (list(self.axes), list(self.axes)))(list(primals), list(tangents))

    def transpose(self, cotangents: Sequence[Array], *arrays: Any) -> list[Array | None]:
        axes = [None if x is None else axis for x, axis in zip(arrays, self.axes, strict=True)]
        parts = jax.vmap(self.operation.transpose, (0, *axes))(list(cotangents), *arrays)
        return [
            part if part is None or axis == 0 else jnp.sum(part, 0, dtype=part.dtype)
            for part, axis in zip(parts, self.axes, strict=True)
        ]


@functools.partial(jax.jit, static_argnames="operation")
def _compute(*arrays: Array, operation: Operation) -> Arrays:
    return lax.platform_dependent(*arrays, cpu=operation.on_cpu, default=operation.define)


def _abstract_value(*avals: Any, operation: Operation) -> list[Any]:
    return jax.make_jaxpr(operation.define)(*avals).out_avals


def _jvp(primals: Sequence[Any], tangents: Sequence[Any], *, operation: Operation) -> tuple[list[Any], list[Any]]:
    given = [None if type(tangent) is ad.Zero else jnp.asarray(tangent) for tangent in tangents]
    results, dots = operation.jvp([jnp.asarray(x) for x in primals], given)
    return list(results), [
        ad.Zero(jax.typeof(y).to_tangent_aval()) if dot is None else dot for y, dot in zip(results, dots, strict=True)
    ]


def _transpose(cotangents: Sequence[Any], *arrays: Any, operation: Operation) -> list[Any]:
    given = [None if ad.is_undefined_primal(x) else jnp.asarray(x) for x in arrays]
    return operation.transpose([jnp.asarray(ad.instantiate_zeros(ct)) for ct in cotangents], *given)


def _batch(arrays: Sequence[Any], axes: Sequence[Any], *, operation: Operation) -> tuple[Arrays, list[int]]:
    first = [None if axis is None else 0 for axis in axes]
    arrays = [x if axis is None else jnp.moveaxis(x, axis, 0) for x, axis in zip(arrays, axes, strict=True)]
    results = operation.map_first_axes(arrays, first)
    if results is None:
        results = apply(_Mapped(operation, tuple(first)), *arrays)
    return results, [0] * len(results)


def _lower_on_cpu(context: Any, *arrays: Any, operation: Operation) -> Any:
    module = context.module_context
    is_exported = module.lowering_parameters.for_export  # and may run where our kernels are not
    can_be_kernel = not is_exported and not _is_split_by_xla(module.axis_context)
    return mlir.lower_fun(operation.on_cpu if can_be_kernel else operation.define)(context, *arrays)


def _is_split_by_xla(axes: Any) -> bool:
    """Return whether XLA splits the program over devices: it can split a definition, and would gather for a kernel."""
    if hasattr(axes, "manual_axes"):
        return set(axes.manual_axes) != set(axes.mesh.axis_names)
    return getattr(axes, "num_devices", 1) not in (None, 1)


def _jet(primals: Sequence[Any], series: Sequence[Any], *, operation: Operation) -> tuple[Any, Any]:
    """Taylor-mode differentiation of the definition; integers are constants."""
    varying = [i for i, x in enumerate(primals) if jnp.issubdtype(x.dtype, jnp.inexact)]
    define = _with_constants(operation.define, primals, varying)
    # Inside a rule the series are coefficients, not derivatives.
    return jet.jet(define, [primals[i] for i in varying], [series[i] for i in varying], factorial_scaled=False)


def _with_constants(
    fn: Callable[..., Arrays], arrays: Sequence[Array], varying: Sequence[int]
) -> Callable[..., Arrays]:
    """Return `fn` as a function of the arrays at the positions `varying`."""

    def of_varying(*values: Array) -> Arrays:
        every = dict(enumerate(arrays)) | dict(zip(varying, values, strict=True))
        return fn(*every.values())

    return of_varying


_operation_p = Primitive("lenet_jax_operation")
_operation_p.multiple_results = True
_operation_p.def_impl(_compute)
_operation_p.def_abstract_eval(_abstract_value)
ad.primitive_jvps[_operation_p] = _jvp
ad.primitive_transposes[_operation_p] = _transpose
batching.primitive_batchers[_operation_p] = _batch
jet.jet_rules[_operation_p] = _jet
mlir.register_lowering(_operation_p, mlir.lower_fun(lambda *arrays, operation: operation.define(*arrays)))
mlir.register_lowering(_operation_p, _lower_on_cpu, platform="cpu")
