"""Options that are values of a compiled program, not constants in it.

A float option of a component is given to its function as a `TracedNumber`. What is computed with it is traced, so the
program serves other values as well. Where Python has to know more at once, as in `if rate == 0.0` or in
`round(64 * width)`, the answer is that of the configured value, and is kept as a *guard*: a run may share the program
if all guards give the same answers for its values. So a function need not know of any of this: at worst, each value has
a program of its own.
"""

import math
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

Values = Mapping[str, float]
"""Path of an option, such as "optimizer.learning_rate" -> its value."""


class Guard(NamedTuple):
    """What a program has taken for granted of the values of its options."""

    question: Callable[[Values], Any]
    answer: Any

    def holds(self, values: Values) -> bool:
        """Tell whether the answer is the same for other values."""
        try:
            return bool(self.question(values) == self.answer)
        except (ArithmeticError, ValueError):
            return False


class Guards:
    """The guards of the programs that are traced with some numbers, in the order in which Python asked."""

    def __init__(self, values: Values) -> None:
        """Start without any.

        Args:
            values: the configured values of the options.
        """
        self.values = dict(values)
        self.asked: list[Guard] = []

    def numbers(self, arrays: Mapping[str, Array]) -> dict[str, "TracedNumber"]:
        """Return the options as numbers whose traced values are `arrays`, scalars of these names."""
        return {path: TracedNumber(array, operator.itemgetter(path), self) for path, array in arrays.items()}

    def ask(self, question: Callable[[Values], Any]) -> Any:
        """Return the answer to a question for the configured values, and keep it."""
        answer = question(self.values)
        self.asked.append(Guard(question, answer))
        return answer


Formula = Callable[[Values], float]


@jax.tree_util.register_pytree_node_class
class TracedNumber:
    """A number of a configuration: a traced scalar that also answers as the Python float that was configured.

    It takes part in arithmetic and in `jax.numpy` as a weakly typed scalar.
    """

    __hash__ = None  # pyright: ignore[reportAssignmentType]  a cache must not keep a traced value
    __array_ufunc__ = None  # so that NumPy leaves arithmetic to this class

    def __init__(self, array: Any, formula: Formula, guards: Guards) -> None:
        """Make a number.

        Args:
            array: its traced value, a scalar.
            formula: its value from those of the options.
            guards: where questions about it are kept.
        """
        self._array, self._formula, self._guards = array, formula, guards

    def tree_flatten(self) -> tuple[tuple[Any], tuple[Formula, Guards]]:
        """Return the traced value, which goes through `jax.jit` and its like, and the rest."""
        return (self._array,), (self._formula, self._guards)

    @classmethod
    def tree_unflatten(cls, rest: tuple[Formula, Guards], arrays: tuple[Any]) -> "TracedNumber":
        """Reverse `tree_flatten`."""
        return cls(arrays[0], *rest)

    def __jax_array__(self) -> Array:
        return self._array

    shape, ndim, size = (), 0, 1
    dtype = property(lambda self: self._array.dtype)
    weak_type = property(lambda self: True)

    def _ask(self, question: Callable[[float], Any]) -> Any:
        formula = self._formula
        return self._guards.ask(lambda values: question(formula(values)))

    def _apply(self, function: Callable[..., Any], *others: Any) -> Any:
        """Return function(self, *others): a number again if all others are plain numbers, else an array."""
        plain = [isinstance(other, _PLAIN) for other in others]
        arrays = [each._array if type(each) is TracedNumber else each for each in others]
        result = function(self._array, *arrays)
        if not all(plain):
            return result
        formulas = [_formula(each) for each in (self, *others)]
        return TracedNumber(result, lambda values: function(*(each(values) for each in formulas)), self._guards)

    def _compare(self, function: Callable[[Any, Any], Any], other: Any) -> Any:
        if not isinstance(other, _PLAIN):
            return function(self._array, other) if hasattr(other, "dtype") else NotImplemented
        mine, its = self._formula, _formula(other)
        return self._guards.ask(lambda values: function(mine(values), its(values)))

    def __bool__(self) -> bool:
        return self._ask(bool)

    def __float__(self) -> float:
        return self._ask(float)

    def __int__(self) -> int:
        return self._ask(int)

    __trunc__ = __int__

    def __round__(self, digits: int | None = None) -> Any:
        return self._ask(lambda value: round(value, digits))

    def __floor__(self) -> int:
        return self._ask(math.floor)

    def __ceil__(self) -> int:
        return self._ask(math.ceil)

    def is_integer(self) -> bool:
        """Tell whether the number is whole, as `float.is_integer` does."""
        return self._ask(float.is_integer)

    def __repr__(self) -> str:  # for messages; nothing is computed from it
        return repr(self._formula(self._guards.values))

    def __format__(self, how: str) -> str:
        return format(self._formula(self._guards.values), how)


_PLAIN = (int, float, TracedNumber)


def _formula(number: Any) -> Formula:
    return number._formula if type(number) is TracedNumber else lambda values: number


def _add_operators() -> None:
    def unary(function: Callable[[Any], Any]) -> Callable[[TracedNumber], Any]:
        return lambda self: self._apply(function)

    def binary(function: Callable[[Any, Any], Any]) -> Callable[[TracedNumber, Any], Any]:
        return lambda self, other: self._apply(function, other)

    def compare(function: Callable[[Any, Any], Any]) -> Callable[[TracedNumber, Any], Any]:
        return lambda self, other: self._compare(function, other)

    def reflected(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        return lambda one, other: function(other, one)

    for name in ("neg", "pos", "abs"):
        setattr(TracedNumber, f"__{name}__", unary(getattr(operator, name)))
    for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow"):
        function = getattr(operator, name)
        setattr(TracedNumber, f"__{name}__", binary(function))
        setattr(TracedNumber, f"__r{name}__", binary(reflected(function)))
    for name in ("eq", "ne", "lt", "le", "gt", "ge"):
        setattr(TracedNumber, f"__{name}__", compare(getattr(operator, name)))


_add_operators()


# ---- numbers in a configuration -------------------------------------------------------------------------------------


def floats_in(path: str, value: Any) -> Iterator[tuple[str, float]]:
    """Yield the path and the value of each float in a part of a configuration, which is at `path`."""
    if type(value) is float:
        yield path, value
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from floats_in(f"{path}.{key}", each)
    elif isinstance(value, list | tuple):
        for number, each in enumerate(value):
            yield from floats_in(f"{path}[{number}]", each)


def with_floats(path: str, value: Any, replaced: Mapping[str, Any]) -> Any:
    """Return a part of a configuration with some of its floats replaced, by their paths as `floats_in` yields them."""
    if type(value) is float:
        return replaced.get(path, value)
    if isinstance(value, Mapping):
        return {key: with_floats(f"{path}.{key}", each, replaced) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(with_floats(f"{path}[{number}]", each, replaced) for number, each in enumerate(value))
    return value


def scalar(leading: tuple[int, ...] = ()) -> jax.ShapeDtypeStruct:
    """Return the type of a traced number, or of a column of them: weak, as that of a Python float."""
    return jax.ShapeDtypeStruct(leading, jnp.result_type(float), weak_type=True)
