"""A cell of the contract: a row at a dtype, the points where it is computed, and what is right there.

Tolerances. A result may differ from the definition, computed in float64 from the same numbers, by the rounding of its
parts: each sum of n numbers, taken in float32 at least (float64 for float64), errs by at most n epsilons of that type,
and each number that is rounded to the dtype by half an epsilon of the dtype. Errors are compared with the largest
value, since sums of either sign cancel. A first derivative is rounded up to three times as often as the value, as where
parts of it from two uses or two devices are added, a second derivative six times. In half precision the
sums' part is nothing, so a result is right within a
rounding or two of the dtype, which sums in half precision are not.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tests.ops.contract_rows import Row


class Point(NamedTuple):
    """Where a function is computed, in which direction it changes, and the cotangent of its value."""

    args: tuple
    tangents: tuple
    cotangent: Any


def first_order(f: Callable, point: Point) -> dict:
    """Return the value and its derivatives in both modes."""
    return {**reverse(f, point), "jvp": jax.jvp(f, point.args, point.tangents)[1]}


def reverse(f: Callable, point: Point) -> dict:
    y, pull = jax.vjp(f, *point.args)
    return {"value": y, "vjp": pull(point.cotangent)}


def forward_over_reverse(f: Callable, point: Point) -> dict:
    """Return the gradient and its derivative along the tangents."""
    gradient, change = jax.jvp(lambda *a: jax.vjp(f, *a)[1](point.cotangent), point.args, point.tangents)
    return {"vjp": gradient, "hvp": change}


def reverse_over_forward(f: Callable, point: Point) -> dict:
    change, pull = jax.vjp(lambda *a: jax.jvp(f, a, point.tangents)[1], *point.args)
    return {"jvp": change, "hvp": pull(point.cotangent)}


def reverse_over_reverse(f: Callable, point: Point) -> dict:
    gradient, pull = jax.vjp(lambda *a: jax.vjp(f, *a)[1](point.cotangent), *point.args)
    return {"vjp": gradient, "hvp": pull(point.tangents)}


def forward_over_forward(f: Callable, point: Point) -> dict:
    """Return the second derivative along the tangents."""
    return {
        "second": jax.jvp(lambda *a: jax.jvp(f, a, point.tangents)[1], point.args, point.tangents)[1],
    }


class Cell:
    """A row at a dtype."""

    def __init__(self, row: Row, dtype: str):
        self.row, self.dtype, self.f = row, jnp.dtype(dtype), row.fn
        self.wide_dtype = np.promote_types(self.dtype, np.float32)
        self.dtypes = [self.wide_dtype if i in row.wide else self.dtype for i in range(len(row.shapes))]
        self.choices = _choose(row, self.dtypes)

    def point(self, choice: Sequence[int] | None = None, batch: int | None = None) -> Point:
        """Return a point in the cell's dtype, whose argument i is number `choice[i]` of those that there are."""
        args, tangents = (
            tuple(
                jnp.asarray(each[i][n] if batch is None or i else np.concatenate([each[i][n]] * batch), dtype)
                for i, (n, dtype) in enumerate(zip(choice or [0] * len(each), self.dtypes, strict=True))
            )
            for each in self.choices
        )
        return Point(args, tangents, self.cotangent(args, sum(choice or ())))

    def cotangent(self, args: tuple, seed: int = 0) -> Any:
        y = jax.eval_shape(self.f, *args)
        draw = np.random.default_rng(100 + seed).standard_normal
        return jax.tree.map(lambda y: jnp.asarray(draw(y.shape), y.dtype), y)

    def points(self, varying: Sequence[int] | None = None) -> list[Point]:
        """Return two points that differ in the arguments `varying`, by default in all."""
        varying = range(len(self.dtypes)) if varying is None else varying
        return [self.point([n if i in varying else 0 for i in range(len(self.dtypes))]) for n in (0, 1)]

    def whole(self) -> Point:
        """Return a point whose batch is that of two points, one after the other."""
        first, second = self.points([0])
        args = (jnp.concatenate([first.args[0], second.args[0]]), *first.args[1:])
        tangents = (jnp.concatenate([first.tangents[0], second.tangents[0]]), *first.tangents[1:])
        return Point(args, tangents, self.cotangent(args))

    def expected(self, point: Point) -> dict:
        """Return what is right at a point, in float64."""
        with jax.enable_x64(True):
            exact = jax.tree.map(lambda a: np.asarray(a).astype(np.float64), point)
            return _by_definition(self.row.definition)(exact)

    def check(self, found: dict, expected: dict) -> None:
        """Raise AssertionError where a value or derivative is not that of the definition."""
        for name, value in found.items():
            pairs = list(zip(jax.tree.leaves(value), jax.tree.leaves(expected[name]), strict=True))
            largest = max((np.abs(right).max(initial=0) for _, right in pairs), default=0)
            for number, (leaf, right) in enumerate(pairs):
                where = f"{name}[{number}]" if len(pairs) > 1 else name
                if number == 0:
                    assert leaf.dtype == self.dtype, f"{where} is {leaf.dtype}"
                assert leaf.shape == right.shape, f"{where} has shape {leaf.shape}, not {right.shape}"
                scale = max(np.abs(right).max(initial=0), largest / 10)
                error = np.abs(np.asarray(leaf, np.float64) - right).max(initial=0) / (scale or 1)
                limit = self.tolerance(name)
                assert error <= limit, f"{where} errs by {error:.2g} of the largest value, more than {limit:.2g}"

    def tolerance(self, quantity: str) -> float:
        roundings = self.row.roundings * {"value": 1, "vjp": 3, "jvp": 3}.get(quantity, 6)
        summands = max(np.prod(shape) for shape in self.row.shapes) + 10
        return (roundings + 0.1) * jnp.finfo(self.dtype).eps / 2 + summands * jnp.finfo(self.wide_dtype).eps


@functools.cache
def _by_definition(definition: Callable) -> Callable:
    first = jax.jit(functools.partial(first_order, definition))
    second = jax.jit(
        lambda point: {**forward_over_reverse(definition, point), **forward_over_forward(definition, point)}
    )
    return lambda point: _Quantities(first, second, point)


class _Quantities(dict):
    """The quantities at a point, of which those of second order are computed if they are asked for."""

    def __init__(self, first, second, point):
        super().__init__(jax.device_get(first(point)))
        self.second, self.at = second, point

    def __missing__(self, name):
        with jax.enable_x64(True):
            self.update(jax.device_get(self.second(self.at)))
        return dict.__getitem__(self, name)


def _choose(row: Row, dtypes: Sequence[Any]) -> tuple[list, list]:
    """Draw two values of each argument and of each tangent, rounded to the dtypes."""
    for seed in range(1000):
        rng = np.random.default_rng(seed)

        args, tangents = (
            [
                [rng.standard_normal(shape).astype(dtype).astype(np.float64) for _ in range(2)]
                for shape, dtype in zip(row.shapes, dtypes, strict=True)
            ]
            for _ in range(2)
        )
        for i in row.positive:
            args[i] = [np.abs(a) + 0.5 for a in args[i]]
        if row.maxima is None or _are_apart(row.maxima, args, jnp.finfo(dtypes[0]).eps):
            return args, tangents
    raise ValueError("no arguments whose maxima differ by more than a rounding error; use smaller shapes")


def _are_apart(maxima: Callable, args: list, eps: float) -> bool:
    for x, *parameters in itertools.product(*args):
        with jax.enable_x64(True):
            values = np.sort(_jitted(maxima)(x, *parameters), axis=0)
        if (values[-1] - values[-2]).min() < 2 * eps * np.abs(values).max():
            return False
    return True


_jitted = functools.cache(jax.jit)
