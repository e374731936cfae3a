"""The contexts of the contract that need two devices: `shard_map`, and arrays that are divided over a mesh."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from tests.ops.contract import (
    Cell,
    Point,
    first_order,
    forward_over_reverse,
    reverse,
    reverse_over_reverse,
)
from tests.ops.contract_contexts import beside, stack

ON_TWO_DEVICES: dict[str, Callable] = {}
"""Name -> context."""


def context(fn: Callable) -> Callable:
    ON_TWO_DEVICES[fn.__name__] = fn
    return fn


def make_mesh(axis_type: AxisType = AxisType.Auto) -> jax.sharding.Mesh:
    return jax.make_mesh((2,), ("b",), (axis_type,), devices=jax.devices()[:2])


def by_images(cell: Cell) -> tuple:
    """Return how the arguments of a data-parallel function are divided: the batch only."""
    return (P("b"), *[P()] * (len(cell.dtypes) - 1))


def parallel(f: Callable, cell: Cell, mesh: jax.sharding.Mesh, **options) -> Callable:
    return jax.shard_map(f, mesh=mesh, in_specs=by_images(cell), out_specs=P("b"), **options)


def two_shards(cell: Cell) -> tuple[Point, dict]:
    """Return a point whose batch is in two shards with the same parameters, and what is right there."""
    points = cell.points([0])

    def joined(*leaves):
        return np.concatenate([np.atleast_1d(a) for a in leaves])

    def of_arguments(name):
        batches, *parameters = zip(*(r[name] for r in right), strict=True)
        return (np.concatenate(batches), *map(sum, parameters))

    cotangent = jax.tree.map(lambda *a: jnp.concatenate([jnp.atleast_1d(x) for x in a]), *(p.cotangent for p in points))
    first, second = points
    args, tangents = (
        (jnp.concatenate([a[0], b[0]]), *a[1:])
        for a, b in ((first.args, second.args), (first.tangents, second.tangents))
    )
    # The parameters change alike on both shards.
    second = second._replace(tangents=(second.tangents[0], *first.tangents[1:]))
    right = [cell.expected(p) for p in (first, second)]
    exact = {name: jax.tree.map(joined, *(r[name] for r in right)) for name in ("value", "jvp")}
    exact |= {"vjp": of_arguments("vjp"), "hvp": of_arguments("hvp")}
    return Point(args, tangents, cotangent), exact


def data_parallel(derivatives: Callable, axis_type: AxisType = AxisType.Auto, wrap: Callable = lambda f: f, **options):
    """Return the context in which derivatives are taken of a function that is mapped over the shards."""

    def run(cell: Cell) -> list:
        mesh = make_mesh(axis_type)
        point, right = two_shards(cell)
        fn = parallel(wrap(_with_axes(cell.f)), cell, mesh, **options)
        specs = Point(by_images(cell), by_images(cell), jax.tree.map(lambda _: P("b"), point.cotangent))
        with jax.set_mesh(mesh):
            divided_point = jax.tree.map(lambda a, spec: jax.device_put(a, NamedSharding(mesh, spec)), point, specs)
            return [(jax.jit(functools.partial(derivatives, fn))(divided_point), right)]

    return run


def _with_axes(f: Callable) -> Callable:
    """Return values without axes as vectors, so that those of the shards can be joined."""
    return lambda *args: jax.tree.map(lambda y: y if y.ndim else y[None], f(*args))


def _scanned(f: Callable) -> Callable:
    def of_a_step(*args):
        ys = lax.map(lambda x: f(x, *args[1:]), args[0][None])
        return jax.tree.map(lambda y: y[0], ys)

    return of_a_step


def _vmapped(f: Callable) -> Callable:
    def of_a_lane(*args):
        ys = jax.vmap(f, (0, *[None] * (len(args) - 1)))(args[0][None], *args[1:])
        return jax.tree.map(lambda y: y[0], ys)

    return of_a_lane


ON_TWO_DEVICES |= {
    "shard_map": data_parallel(first_order),
    "shard_map_hvp": data_parallel(reverse_over_reverse),
    "shard_map_forward_over_reverse": data_parallel(forward_over_reverse),
    "shard_map_unchecked": data_parallel(first_order, check_vma=False),
    "shard_map_explicit": data_parallel(first_order, AxisType.Explicit),
    "shard_map_of_scan": data_parallel(first_order, wrap=_scanned),
    "shard_map_of_checkpoint": data_parallel(first_order, wrap=jax.checkpoint),
    "shard_map_of_vmap": data_parallel(first_order, wrap=_vmapped),
    "shard_map_of_jit": data_parallel(first_order, wrap=jax.jit),
}


@context
def vmap_of_shard_map(cell: Cell) -> list:
    mesh = make_mesh()
    point, right = two_shards(cell)
    lanes = stack([point, point])
    fn = jax.vmap(functools.partial(first_order, parallel(_with_axes(cell.f), cell, mesh)))
    with jax.set_mesh(mesh):
        return [(jax.tree.map(lambda a: a[1], jax.jit(fn)(lanes)), right)]


@context
def shard_map_mean_loss(cell: Cell) -> list:
    """The loss is summed over the devices inside, and differentiated outside."""
    mesh = make_mesh()
    point, right = two_shards(cell)
    specs = by_images(cell)

    def loss(args, cotangent):
        def local(args, cotangent):
            products = jax.tree.map(lambda y, w: (y * w).astype(cell.wide_dtype), _with_axes(cell.f)(*args), cotangent)
            return lax.psum(sum(jnp.sum(p) for p in jax.tree.leaves(products)), "b")

        return jax.shard_map(local, mesh=mesh, in_specs=(specs, P("b")), out_specs=P())(args, cotangent)

    return [({"vjp": jax.jit(jax.grad(loss))(point.args, point.cotangent)}, right)]


@context
def gradients_inside_shard_map(cell: Cell) -> list:
    """JAX adds up the gradients of the parameters, which all devices share."""
    mesh = make_mesh()
    point, right = two_shards(cell)
    specs = by_images(cell)

    def local(args, cotangent):
        y, pull = jax.vjp(_with_axes(cell.f), *args)
        return y, pull(cotangent)

    fn = jax.shard_map(local, mesh=mesh, in_specs=(specs, P("b")), out_specs=(P("b"), specs))
    y, gradients = jax.jit(fn)(point.args, point.cotangent)
    return [({"value": y, "vjp": gradients}, right)]


def one_a_device(varying: Callable, derivatives: Callable = first_order) -> Callable:
    """Return the context in which each device has arguments of its own, or some are shared."""

    def run(cell: Cell) -> list:
        mesh = make_mesh()
        over = varying(len(cell.dtypes))
        points = cell.points(over)

        def local(args, tangents, cotangent):
            args, tangents = (tuple(a[0] if i in over else a for i, a in enumerate(each)) for each in (args, tangents))
            point = Point(args, tangents, jax.tree.map(lambda a: a[0], cotangent))
            y, change = jax.jvp(cell.f, point.args, point.tangents)
            # Each device's own parameters, so that gradients are not added up.
            own = tuple(a if i in over else lax.pcast(a, "b", to="varying") for i, a in enumerate(args))
            found = {**reverse(cell.f, point._replace(args=own)), "value": y, "jvp": change}
            return jax.tree.map(lambda a: a[None], found)

        specs = tuple(P("b") if i in over else P() for i in range(len(cell.dtypes)))
        lanes = stack(points)
        args, tangents = (
            tuple(a if i in over else a[0] for i, a in enumerate(each)) for each in (lanes.args, lanes.tangents)
        )
        fn = jax.shard_map(local, mesh=mesh, in_specs=(specs, specs, P("b")), out_specs=P("b"))
        found = jax.device_get(jax.jit(fn)(args, tangents, lanes.cotangent))
        return beside(cell, found, points)

    return run


ON_TWO_DEVICES |= {
    "shard_map_of_lanes": one_a_device(range),
    "shard_map_of_parameters": one_a_device(lambda count: range(min(1, count - 1), count)),
}


@context
def shard_map_replicated(cell: Cell) -> list:
    """All devices compute the same, and JAX knows it."""
    point = cell.point()
    fn = jax.shard_map(functools.partial(first_order, cell.f), mesh=make_mesh(), in_specs=P(), out_specs=P())
    return [(jax.jit(fn)(point), cell.expected(point))]


def divided(derivatives: Callable, axis_type: AxisType, how: Callable) -> Callable:
    """Return the context in which whole arrays are divided over a mesh, and JAX divides the program."""

    def run(cell: Cell) -> list:
        mesh = make_mesh(axis_type)
        point = cell.whole()
        right = cell.expected(point)
        with jax.set_mesh(mesh):
            args, tangents = (
                tuple(jax.device_put(a, NamedSharding(mesh, how(i, a))) for i, a in enumerate(each))
                for each in (point.args, point.tangents)
            )
            # The type of a cotangent, its sharding included, is that of the value.
            types = jax.eval_shape(cell.f, *args)
            cotangent = jax.tree.map(
                lambda w, y: jax.device_put(w, NamedSharding(mesh, y.sharding.spec if y.sharding else P())),
                point.cotangent,
                types,
            )
            return [(jax.jit(functools.partial(derivatives, cell.f))(Point(args, tangents, cotangent)), right)]

    return run


def _batch(i: int, a: jax.Array) -> P:
    return P("b") if i == 0 else P()


def _channels(i: int, a: jax.Array) -> P:
    return P(*[None] * (a.ndim - 1), "b") if a.shape[-1] % 2 == 0 else P()


def _rows(i: int, a: jax.Array) -> P:
    return P(None, "b") if i == 0 and a.ndim > 2 and a.shape[1] % 2 == 0 else P()


ON_TWO_DEVICES |= {
    "gspmd": divided(first_order, AxisType.Auto, _batch),
    "gspmd_hvp": divided(reverse_over_reverse, AxisType.Auto, _batch),
    "gspmd_channels": divided(first_order, AxisType.Auto, _channels),
    "gspmd_rows": divided(first_order, AxisType.Auto, _rows),
    "explicit": divided(first_order, AxisType.Explicit, _batch),
    "explicit_hvp": divided(reverse_over_reverse, AxisType.Explicit, _batch),
    "explicit_replicated": divided(first_order, AxisType.Explicit, lambda i, a: P()),
}
