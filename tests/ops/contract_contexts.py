"""The contexts of the contract: where JAX lets a function go.

A context takes a cell and returns pairs: the quantities that it found, and those that are right.
"""

import functools
import importlib.util
import re
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import export, lax
from jax.experimental.jet import jet

from tests.ops.contract import (
    Cell,
    Point,
    first_order,
    forward_over_forward,
    forward_over_reverse,
    reverse,
    reverse_over_forward,
    reverse_over_reverse,
)

ON_ONE_DEVICE: dict[str, Callable] = {}
"""Name -> context."""


def context(fn: Callable) -> Callable:
    ON_ONE_DEVICE[fn.__name__] = fn
    return fn


def at_a_point(derivatives: Callable, *, wrap: Callable = lambda f: f, jit: bool = True) -> Callable:
    """Return the context in which `wrap` of the operation is differentiated."""

    def run(cell: Cell) -> list:
        point = cell.point()
        compute = functools.partial(derivatives, wrap(cell.f))
        return [((jax.jit(compute) if jit else compute)(point), cell.expected(point))]

    return run


def stack(points: list) -> Point:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *points)


def unstack(tree, count: int) -> list:
    return [jax.tree.map(lambda a, i=i: a[i], tree) for i in range(count)]


def shared(cell: Cell, points: list) -> dict:
    """Return what is right for several batches with the same parameters, whose gradient is the sum."""
    right = [cell.expected(p) for p in points]
    batches, *parameters = zip(*(r["vjp"] for r in right), strict=True)
    value = jax.tree.map(lambda *a: np.stack(a), *(r["value"] for r in right))
    return {"value": value, "vjp": (np.stack(batches), *map(sum, parameters))}


def beside(cell: Cell, found, points: list) -> list:
    """Return the quantities of each lane beside those that are right."""
    return [(f, cell.expected(p)) for f, p in zip(unstack(found, len(points)), points, strict=True)]


ON_ONE_DEVICE |= {
    "eager": at_a_point(first_order, jit=False),
    "jit": at_a_point(first_order),
    "forward_over_reverse": at_a_point(forward_over_reverse),
    "reverse_over_forward": at_a_point(reverse_over_forward),
    "reverse_over_reverse": at_a_point(reverse_over_reverse),
    "forward_over_forward": at_a_point(forward_over_forward),
    "checkpoint": at_a_point(first_order, wrap=jax.checkpoint),
    "checkpoint_hvp": at_a_point(
        forward_over_reverse, wrap=functools.partial(jax.checkpoint, policy=jax.checkpoint_policies.dots_saveable)
    ),
    "jit_inside_jit": at_a_point(reverse_over_reverse, wrap=jax.jit),
    "vjp_without_jit": at_a_point(forward_over_reverse, jit=False),
}


@context
def one_argument_at_a_time(cell: Cell) -> list:
    """The others are constants: symbolic zeros stand for their tangents."""
    point = cell.point()
    results = []
    for i in range(len(point.args)):

        def derivatives(point: Point, i: int = i) -> dict:
            def of_one(a):
                return cell.f(*point.args[:i], a, *point.args[i + 1 :])

            y, pull = jax.vjp(of_one, point.args[i])
            return {
                "value": y,
                "vjp": pull(point.cotangent),
                "jvp": jax.jvp(of_one, point.args[i : i + 1], point.tangents[i : i + 1])[1],
            }

        only = [t if j == i else jnp.zeros_like(t) for j, t in enumerate(point.tangents)]
        right = cell.expected(point._replace(tangents=tuple(only)))
        results.append((jax.jit(derivatives)(point), {**right, "vjp": right["vjp"][i : i + 1]}))
    return results


@context
@jax.numpy_dtype_promotion("standard")  # JAX puts the derivatives for arguments of several dtypes into one array
def jacobians(cell: Cell) -> list:
    point = cell.point()
    arguments = tuple(range(len(point.args)))
    forward, backward = jax.jit(lambda a: tuple(jac(cell.f, arguments)(*a) for jac in (jax.jacfwd, jax.jacrev)))(
        point.args
    )
    right = cell.expected(point)
    return [({"value": cell.f(*point.args)} | along(j, point), right) for j in (forward, backward)]


def along(jacobian, point: Point) -> dict:
    """Multiply the Jacobian of each output by the tangents and the cotangents, in float64."""
    leaves, tree = jax.tree.flatten(point.cotangent)
    cotangents = [np.asarray(w, np.float64) for w in leaves]
    rows = tree.flatten_up_to(jacobian)  # one for each output: the Jacobians with respect to the arguments
    parts = [[np.asarray(j, np.float64) for j in row] for row in rows]
    dtypes = [w.dtype for w in leaves]
    jvp = [
        sum(np.tensordot(j, np.asarray(t, np.float64), t.ndim) for j, t in zip(row, point.tangents, strict=True))
        for row in parts
    ]
    vjp = [
        sum(np.tensordot(w, row[i], w.ndim) for w, row in zip(cotangents, parts, strict=True)).astype(a.dtype)
        for i, a in enumerate(point.args)
    ]
    jvp = [np.asarray(t).astype(dtype) for t, dtype in zip(jvp, dtypes, strict=True)]
    return {"jvp": tree.unflatten(jvp), "vjp": tuple(vjp)}


@context
@jax.numpy_dtype_promotion("standard")
def hessian(cell: Cell) -> list:
    point = cell.point()
    arguments = tuple(range(len(point.args)))

    def weighted(*args):
        products = jax.tree.map(lambda y, w: jnp.sum(y * w), cell.f(*args), point.cotangent)
        return sum(p.astype(cell.wide_dtype) for p in jax.tree.leaves(products))

    blocks = jax.jit(jax.hessian(weighted, arguments))(*point.args)
    found = tuple(
        sum(
            np.tensordot(np.asarray(b, np.float64), np.asarray(t, np.float64), t.ndim)
            for b, t in zip(row, point.tangents, strict=True)
        ).astype(a.dtype)
        for row, a in zip(blocks, point.args, strict=True)
    )
    return [({"hvp": found}, cell.expected(point))]


def mapped(derivatives: Callable, varying: Callable = lambda count: range(count)) -> Callable:
    """Return the context in which two points, that differ in some arguments, are lanes of `vmap`."""

    def run(cell: Cell) -> list:
        over = varying(len(cell.dtypes))
        points = cell.points(over)
        axes = tuple(0 if i in over else None for i in range(len(cell.dtypes)))
        lanes = stack(points)
        args, tangents = (
            tuple(a if axis == 0 else a[0] for a, axis in zip(each, axes, strict=True))
            for each in (lanes.args, lanes.tangents)
        )
        in_axes = (Point(axes, axes, 0),)
        fn = jax.vmap(functools.partial(derivatives, cell.f), in_axes)
        return beside(cell, jax.jit(fn)(Point(args, tangents, lanes.cotangent)), points)

    return run


ON_ONE_DEVICE |= {
    "vmap": mapped(first_order),
    "vmap_of_the_batch": mapped(first_order, lambda count: [0]),
    "vmap_of_the_parameters": mapped(first_order, lambda count: range(min(1, count - 1), count)),
    "vmap_of_the_last_argument": mapped(first_order, lambda count: [count - 1]),
    "vmap_of_hvp": mapped(reverse_over_reverse),
    "vmap_of_hvp_of_the_batch": mapped(forward_over_reverse, lambda count: [0]),
}


@context
def vmap_of_last_axes(cell: Cell) -> list:
    points = cell.points()
    last = jax.tree.map(lambda a: jnp.moveaxis(a, 0, -1), stack(points))
    fn = jax.vmap(functools.partial(first_order, cell.f), in_axes=-1, out_axes=-1)
    found = jax.tree.map(lambda a: jnp.moveaxis(a, -1, 0), jax.jit(fn)(last))
    return beside(cell, found, points)


@context
def nested_vmap(cell: Cell) -> list:
    """The batch is mapped outside, the parameters inside."""
    count = len(cell.dtypes)
    points = [[cell.point([n] + [m] * (count - 1)) for m in (0, 1)] for n in (0, 1)]
    batch = jnp.stack([row[0].args[0] for row in points])
    parameters = tuple(jnp.stack([p.args[i] for p in points[0]]) for i in range(1, count))
    cotangents = stack([stack(row) for row in points]).cotangent

    def derivatives(x, parameters, cotangent):
        return reverse(cell.f, Point((x, *parameters), (), cotangent))

    inner = jax.vmap(derivatives, (None, 0, 0), axis_size=2)
    found = jax.jit(jax.vmap(inner, (0, None, 0)))(batch, parameters, cotangents)
    rows = unstack(found, 2)
    return [pair for f, row in zip(rows, points, strict=True) for pair in beside(cell, f, row)]


@context
def vmap_over_no_lanes(cell: Cell) -> list:
    point = cell.point()
    none = jax.tree.map(lambda a: jnp.zeros((0, *a.shape), a.dtype), point)
    found = jax.jit(jax.vmap(functools.partial(first_order, cell.f)))(none)
    right = cell.expected(point)
    return [(found, {k: jax.tree.map(lambda a: np.zeros((0, *a.shape)), right[k]) for k in found})]


@context
def gradient_of_vmap(cell: Cell) -> list:
    """The parameters are those of both lanes: their gradient is the sum."""
    points = cell.points([0])
    lanes = stack(points)
    parameters = points[0].args[1:]
    fn = jax.vmap(cell.f, (0, *[None] * len(parameters)))
    found = jax.jit(lambda args, w: reverse(fn, Point(args, (), w)))((lanes.args[0], *parameters), lanes.cotangent)
    return [(found, shared(cell, points))]


@context
def scan_over_gradients(cell: Cell) -> list:
    points = cell.points()

    def step(carry, point):
        return carry, first_order(cell.f, point)

    return beside(cell, jax.jit(lambda p: lax.scan(step, None, p)[1])(stack(points)), points)


@context
def gradient_of_scan(cell: Cell) -> list:
    """The parameters are those of both steps: their gradient is the sum."""
    points = cell.points([0])
    lanes = stack(points)

    def whole(batches, *parameters):
        return lax.scan(lambda carry, x: (carry, jax.checkpoint(cell.f)(x, *parameters)), None, batches)[1]

    args = (lanes.args[0], *points[0].args[1:])
    found = jax.jit(lambda args, w: reverse(whole, Point(args, (), w)))(args, lanes.cotangent)
    return [(found, shared(cell, points))]


@context
def map_over_points(cell: Cell) -> list:
    points = cell.points()
    fn = functools.partial(forward_over_reverse, cell.f)
    return beside(cell, jax.jit(lambda p: lax.map(fn, p))(stack(points)), points)


@context
def while_loop(cell: Cell) -> list:
    """Values and gradients are carried by a loop of unknown length, so their types may not change."""
    point = cell.point()

    @jax.jit
    def loop(point, count):
        start = jax.tree.map(jnp.zeros_like, jax.eval_shape(functools.partial(first_order, cell.f), point))
        return lax.fori_loop(0, count, lambda _, carry: first_order(cell.f, point), start)

    return [(loop(point, 2), cell.expected(point))]


@context
def gradient_of_cond(cell: Cell) -> list:
    point = cell.point()

    def chosen(*args):
        zeros = lambda *a: jax.tree.map(lambda y: jnp.zeros(y.shape, y.dtype), jax.eval_shape(cell.f, *a))  # noqa: E731
        return lax.cond(jnp.sum(args[0]) < jnp.inf, cell.f, zeros, *args)

    return [(jax.jit(functools.partial(first_order, chosen))(point), cell.expected(point))]


@context
def linearize(cell: Cell) -> list:
    point = cell.point()
    y, push = jax.linearize(cell.f, *point.args)
    pulled = jax.linear_transpose(push, *point.args)(point.cotangent)
    return [({"value": y, "jvp": jax.jit(push)(*point.tangents), "vjp": pulled}, cell.expected(point))]


@context
def jets(cell: Cell) -> list:
    point = cell.point()
    series = [[t, jnp.zeros_like(t)] for t in point.tangents]
    y, terms = jet(cell.f, point.args, series)
    tree = jax.tree.structure(y)
    first, second = (tree.unflatten(term) for term in zip(*tree.flatten_up_to(terms), strict=True))
    return [({"value": y, "jvp": first, "second": second}, cell.expected(point))]


@context
def jaxpr(cell: Cell) -> list:
    point = cell.point()
    closed, shape = jax.make_jaxpr(functools.partial(first_order, cell.f), return_shape=True)(point)
    found = jax.core.eval_jaxpr(closed.jaxpr, closed.consts, *jax.tree.leaves(point))
    return [(jax.tree.unflatten(jax.tree.structure(shape), found), cell.expected(point))]


@context
def ahead_of_time(cell: Cell) -> list:
    point = cell.point()
    traced = jax.jit(functools.partial(reverse, cell.f)).trace(jax.eval_shape(lambda: point))
    compiled = traced.lower().compile()
    found = compiled(point)
    assert jax.tree.map(lambda s: s.shape, compiled.out_info) == jax.tree.map(lambda a: a.shape, found)
    return [(found, cell.expected(point))]


@context
def donated_arguments(cell: Cell) -> list:
    point = cell.point()
    right = cell.expected(point)
    fn = jax.jit(lambda point: (reverse(cell.f, point), jax.tree.map(lambda a: a * 2, point)), donate_argnums=0)
    return [(fn(jax.tree.map(jnp.copy, point))[0], right)]


@context
def exported(cell: Cell) -> list:
    """For any number of images, stored and loaded again, with its gradient."""
    loaded = _through_bytes(cell, vjp_order=1)
    results = []
    for point in (cell.point(), cell.whole()):
        y, pull = jax.vjp(loaded.call, *point.args)
        results.append(({"value": y, "vjp": pull(point.cotangent)}, cell.expected(point)))
    return results


def _through_bytes(cell: Cell, vjp_order: int = 0, **options) -> export.Exported:
    fn = export.export(jax.jit(cell.f), **options)(*_symbolic(cell))
    if importlib.util.find_spec("flatbuffers") is None:  # which the stored form needs
        return fn
    return export.deserialize(fn.serialize(vjp_order=vjp_order))


def _symbolic(cell: Cell) -> list:
    """Return the shapes of the arguments, with any number of images."""
    shapes = [",".join(map(str, a.shape)) for a in cell.point().args]
    batch = ",".join(["b", *shapes[0].split(",")[1:]])
    if not len(cell.point().args[0]):  # "b" stands for any number but none
        batch = shapes[0]
    scope = export.SymbolicScope()
    symbolic = [export.symbolic_shape(s, scope=scope) for s in (batch, *shapes[1:])]
    return [jax.ShapeDtypeStruct(s, dtype) for s, dtype in zip(symbolic, cell.dtypes, strict=True)]


@context
def exported_for_several_platforms(cell: Cell) -> list:
    loaded = _through_bytes(cell, platforms=["cpu", "cuda", "tpu"])
    point = cell.point()
    return [({"value": loaded.call(*point.args)}, cell.expected(point))]


@context
def exported_for_other_platforms(cell: Cell) -> list:
    """What is meant is computed by XLA's own operations there, gradients included."""
    shapes = jax.eval_shape(cell.point)
    for platform in ("cuda", "tpu"):
        program = export.export(jax.jit(functools.partial(reverse, cell.f)), platforms=[platform])(shapes)
        value = export.export(jax.jit(cell.f), platforms=[platform])(*_symbolic(cell))
        called = set(re.findall(r"custom_call @(\w+)", program.mlir_module() + value.mlir_module()))
        assert called <= {"shape_assertion"}, f"custom calls for {platform}: {called}"  # that one checks the batch
    return []


def configured(derivatives: Callable, *settings: Callable, jit: bool = True) -> Callable:
    """Return the context in which settings of JAX, given as context managers, hold."""

    def run(cell: Cell) -> list:
        results = []
        for setting in settings:
            point = cell.point()
            compute = functools.partial(derivatives, cell.f)
            with setting():
                found = jax.device_get((jax.jit(compute) if jit else compute)(point))
                right = cell.expected(point)
            results.append((found, right))
        return results

    return run


def _both(derivatives: tuple) -> Callable:
    return lambda f, point: functools.reduce(lambda a, b: a | b, (d(f, point) for d in derivatives))


ON_ONE_DEVICE |= {
    "disable_jit": configured(_both((first_order, forward_over_reverse)), lambda: jax.disable_jit(True), jit=False),
    "checking_leaks": configured(reverse_over_reverse, jax.checking_leaks),
    "debug_nans": configured(first_order, lambda: jax.debug_nans(True)),
    "debug_nans_without_jit": configured(reverse, lambda: jax.debug_nans(True), jit=False),
    "enable_x64": configured(_both((first_order, forward_over_reverse)), lambda: jax.enable_x64(True)),
    "promotion": configured(
        reverse, *(functools.partial(jax.numpy_dtype_promotion, kind) for kind in ("standard", "strict"))
    ),
    "threefry": configured(reverse, *(functools.partial(jax.threefry_partitionable, on) for on in (False, True))),
    "matmul_precision": configured(
        reverse, *(functools.partial(jax.default_matmul_precision, p) for p in ("highest", "bfloat16"))
    ),
}


@context
def numpy_arguments(cell: Cell) -> list:
    """Arrays of NumPy in any order of memory."""
    point = cell.point()
    turned = tuple(np.asfortranarray(np.asarray(a)) for a in point.args)
    backwards = tuple(np.ascontiguousarray(np.asarray(a)[..., ::-1])[..., ::-1] for a in point.args)
    right = cell.expected(point)
    found = [cell.f(*turned), cell.f(*backwards), jax.jit(cell.f)(*turned)]
    return [({"value": y}, right) for y in found]


@context
def weak_types(cell: Cell) -> list:
    """A value is no weaker than the arguments, so that it may be carried by a loop."""
    point = cell.point()
    y = jax.eval_shape(cell.f, *point.args)
    assert not any(leaf.weak_type for leaf in jax.tree.leaves(y)), f"{y} has a weak type"
    if cell.dtype != jnp.float32:
        return []
    weak = tuple(jax.jit(lambda shape=a.shape: jnp.full(shape, 0.5))() for a in point.args)
    ones = Point(weak, point.tangents, point.cotangent)
    return [({"value": jax.jit(cell.f)(*weak)}, cell.expected(ones))]


@context
def integers_beside(cell: Cell) -> list:
    """The batch is gathered by indices, whose tangents are float0."""
    point = cell.point()
    indices = jnp.arange(len(point.args[0]))

    def gathered(indices, x, *rest):
        return cell.f(x[indices], *rest)

    zeros = np.zeros(indices.shape, jax.dtypes.float0)
    y, change = jax.jvp(gathered, (indices, *point.args), (zeros, *point.tangents))
    _, pull = jax.vjp(gathered, indices, *point.args)
    return [({"value": y, "jvp": change, "vjp": pull(point.cotangent)[1:]}, cell.expected(point))]


@context
def custom_derivatives(cell: Cell) -> list:
    """Inside a function whose derivative the user gives by that of the operation."""

    @jax.custom_vjp
    def own(*args):
        return cell.f(*args)

    own.defvjp(lambda *args: jax.vjp(cell.f, *args), lambda pull, w: pull(w))
    point = cell.point()
    return [(jax.jit(functools.partial(reverse, own))(point), cell.expected(point))]
