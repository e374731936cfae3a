"""What an option may be: annotations with ranges, the check of a value against one, and the words for it.

An option is a parameter of a component or a field of a configuration dataclass. Its annotation is a Python type,
possibly with a range: `Annotated[int, AtLeast(1)]`. `convert` checks a value against it and brings it into its type.
"""

import dataclasses
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, dataclass_transform

from lenet_jax.errors import InputError, unknown_name

T = TypeVar("T")


# ---- ranges ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AtLeast:
    """A number that is `low` or above."""

    low: float

    def holds(self, value: Any) -> bool:
        """Tell whether a value is in the range."""
        return value >= self.low

    def describe(self, noun: str) -> str:
        """Return what completes the sentence "must be ..."."""
        return f"{noun}, {self.low} or above"


@dataclass(frozen=True)
class Above:
    """A number above `low`."""

    low: float

    def holds(self, value: Any) -> bool:
        """Tell whether a value is in the range."""
        return value > self.low

    def describe(self, noun: str) -> str:
        """Return what completes the sentence "must be ..."."""
        return f"{noun} above {self.low}"


@dataclass(frozen=True)
class Between:
    """A number from `low` to `high`, which is itself allowed unless `excluded`."""

    low: float
    high: float
    excluded: bool = False

    def holds(self, value: Any) -> bool:
        """Tell whether a value is in the range."""
        return self.low <= value < self.high if self.excluded else self.low <= value <= self.high

    def describe(self, noun: str) -> str:
        """Return what completes the sentence "must be ..."."""
        to = "up to, not including," if self.excluded else "to"
        return f"{noun.replace('finite ', '')} from {self.low} {to} {self.high}"


@dataclass(frozen=True)
class NotEmpty:
    """A text, or a list, that is not empty."""

    def holds(self, value: Any) -> bool:
        """Tell whether a value has anything in it."""
        return len(value) > 0

    def describe(self, noun: str) -> str:
        """Return what completes the sentence "must be ..."."""
        return f"{noun} that is not empty"


@dataclass(frozen=True)
class FileName:
    """The name of a file, in a folder that is known; it has an ending."""

    ending: str

    def holds(self, value: Any) -> bool:
        """Tell whether a value is one, and leads to no other folder."""
        return value.endswith(self.ending) and value.isprintable() and not {"/", "\\"} & set(value)

    def describe(self, noun: str) -> str:
        """Return what completes the sentence "must be ..."."""
        return f"the name of a file that ends in {self.ending}"


Count = Annotated[int, AtLeast(1)]
NonNegativeInt = Annotated[int, AtLeast(0)]
Iterations = Annotated[int, Between(1, 2**31 - 1)]  # counted in int32
Seed = Annotated[int, Between(0, 2**32 - 1)]
Positive = Annotated[float, Above(0)]
NonNegative = Annotated[float, AtLeast(0)]
Fraction = Annotated[float, Between(0, 1)]
Decay = Annotated[float, Between(0, 1, excluded=True)]  # of a moving average; a probability below 1
Text = Annotated[str, NotEmpty()]
CsvName = Annotated[str, FileName(".csv")]
Counts = Annotated[tuple[Count, ...], NotEmpty()]
Weights = Annotated[tuple[NonNegative, ...], NotEmpty()]
Named = Annotated[dict, NotEmpty()]  # values, or components, by name
TwoCounts = tuple[Count, Count]
PerLayer = Count | TwoCounts  # the same for both convolutions of a network, or one for each
Activation = Literal["tanh", "relu", "sigmoid", "gelu", "silu", "elu", "leaky_relu", "softplus", "identity"]
"""Functions of `jax.nn` that work on each value alone, by name."""


# ---- values against annotations -------------------------------------------------------------------------------------


def convert(name: str, annotation: Any, value: Any) -> Any:
    """Check the value of an option against its annotation and return it in that type; a list becomes a tuple.

    Args:
        name: of the option, in full, for the message.
        annotation: a type, a union, a Literal, a tuple, or Annotated with ranges. Any other is not checked.
        value: as it was given.

    Raises:
        InputError: if the value is not what the annotation says.

    >>> convert("model.depth", Annotated[int, AtLeast(1)], 3)
    3
    """
    value = _plain(value)
    for possible in _alternatives(annotation):
        fits, converted = _fit(possible, value)
        if fits and not (value == "None" and type(None) in _alternatives(annotation)):
            return converted
    shown = tuple(value) if isinstance(value, list) else value
    takes_null = type(None) in _alternatives(annotation)
    hint = ", which is a text here; write null" if value == "None" and takes_null else ""
    if isinstance(value, list) and value and _is_number(annotation):
        hint = f"; to sweep over several values: -m {name}={','.join(map(str, value))}"
    raise InputError(f"`{name}` must be {describe(annotation)}; got {'null' if value is None else repr(shown)}{hint}.")


def describe(annotation: Any) -> str:
    """Return what a value of an annotation is, to complete the sentence "must be ..."."""
    alternatives = [a for a in _alternatives(annotation) if a is not type(None)]
    texts = [_describe_one(each) for each in alternatives]
    if len(alternatives) < len(_alternatives(annotation)):
        texts = ["null", *texts]
    return ", or ".join(texts) if any("," in text for text in texts[:-1]) else " or ".join(texts)


def _is_number(annotation: Any) -> bool:
    bases = [getattr(each, "__origin__", each) for each in _alternatives(annotation)]  # without ranges
    return any(base in (int, float) for base in bases) and not any(base in _SEQUENCES for base in bases)


def _plain(value: Any) -> Any:
    """Return a NumPy scalar as the Python number that it is."""
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", None) == 0 else value


def _alternatives(annotation: Any) -> list[Any]:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return [each for part in typing.get_args(annotation) for each in _alternatives(part)]
    return [type(None) if annotation is None else annotation]


def _fit(annotation: Any, value: Any) -> tuple[bool, Any]:
    """Tell whether a value fits an annotation that is no union, and return it in that type."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        base, *ranges = arguments
        fits, converted = _fit(base, value)
        return fits and all(each.holds(converted) for each in ranges if hasattr(each, "holds")), converted
    if origin is Literal:
        found = [each for each in arguments if type(each) is type(value) and each == value]
        return bool(found), value
    if (origin or annotation) in _SEQUENCES:
        return _fit_sequence(origin or annotation, arguments, value)
    if dataclasses.is_dataclass(annotation):
        return isinstance(value, annotation), value  # pyright: ignore[reportArgumentType]
    if annotation is float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        fits = is_number and abs(value) <= sys.float_info.max
        return fits, float(value) if fits else value
    if annotation is int:
        return isinstance(value, int) and not isinstance(value, bool), value
    if annotation in (bool, str, dict, type(None)):
        return isinstance(value, annotation), value
    return True, value  # whatever it is, its function knows


def _fit_sequence(kind: Any, arguments: tuple, value: Any) -> tuple[bool, Any]:
    if not isinstance(value, list | tuple):
        return False, value
    if kind is not tuple or (len(arguments) == 2 and arguments[1] is Ellipsis):
        arguments = arguments[:1] * len(value)
    elif arguments and len(arguments) != len(value):
        return False, value
    converted = []
    for annotation, each in zip(arguments or (Any,) * len(value), value, strict=True):
        fitting = [
            found for possible in _alternatives(annotation) for fits, found in [_fit(possible, _plain(each))] if fits
        ]
        if not fitting:
            return False, value
        converted.append(fitting[0])
    return True, tuple(converted)


_SEQUENCES = (tuple, list, Sequence)
_NOUNS = {
    int: "an integer",
    float: "a finite number",
    bool: "true or false",
    str: "a text",
    dict: "a mapping",
    type(None): "null",
}
_NUMERALS = {2: "two", 3: "three", 4: "four"}


def _describe_one(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        base, *ranges = arguments
        text = _describe_one(base)
        if typing.get_origin(base) is tuple:
            return text  # a list with nothing in it is no list of anything
        for each in ranges:
            text = each.describe(text) if hasattr(each, "describe") else text
        return text
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}" if len(arguments) > 1 else repr(*arguments)
    if origin in _SEQUENCES and arguments:
        of = describe(arguments[0])
        noun, _, rule = of.removeprefix("an ").removeprefix("a ").partition(",")
        number = (
            ""
            if origin is not tuple or arguments[-1] is Ellipsis
            else f"{_NUMERALS.get(len(arguments), len(arguments))} "
        )
        return f"a list of {number}{noun}s{f', each{rule}' if rule else ''}"
    if dataclasses.is_dataclass(annotation):
        name = annotation.__name__  # pyright: ignore[reportAttributeAccessIssue]
        return f"{'an' if name[0] in 'AEIOU' else 'a'} {name}"
    if annotation in _SEQUENCES:
        return "a list"
    return _NOUNS.get(annotation, "a value")


# ---- dataclasses of options -----------------------------------------------------------------------------------------


@dataclass_transform(frozen_default=True)
def config_dataclass(path: str) -> Callable[[type[T]], type[T]]:
    """Make a frozen dataclass whose fields are checked when it is built; `path` is its place in the configuration."""

    def post_init(self: Any) -> None:
        hints = typing.get_type_hints(type(self), include_extras=True)
        for field in dataclasses.fields(self):
            full_name = f"{path}.{field.name}" if path else field.name
            object.__setattr__(self, field.name, convert(full_name, hints[field.name], getattr(self, field.name)))

    def decorate(cls: type[T]) -> type[T]:
        cls.__post_init__ = post_init  # pyright: ignore[reportAttributeAccessIssue]
        return dataclass(frozen=True)(cls)

    return decorate


def build(schema: type[T], path: str, values: Mapping[str, Any]) -> T:
    """Build a configuration dataclass, and those in it, from nested dictionaries.

    Raises:
        InputError: if a key is unknown or a value is not what its annotation says.
    """
    fields = {field.name: field for field in dataclasses.fields(schema)}  # pyright: ignore[reportArgumentType]
    unknown = [name for name in values if name not in fields]
    if unknown:
        raise unknown_name(path or "configuration", unknown[0], fields)
    arguments = dict(values)
    for name, value in values.items():
        schema_of_field = fields[name].type
        if dataclasses.is_dataclass(schema_of_field) and not dataclasses.is_dataclass(value):
            full_name = f"{path}.{name}" if path else name
            keys = [field.name for field in dataclasses.fields(schema_of_field)]  # pyright: ignore[reportArgumentType]
            arguments[name] = build(schema_of_field, full_name, mapping(full_name, value, keys))  # pyright: ignore[reportArgumentType]
    return schema(**arguments)


def mapping(path: str, value: Any, keys: Sequence[str] = ()) -> Mapping[str, Any]:
    """Return a value that must be a group of keys, or raise `InputError`, which names the keys."""
    if not isinstance(value, Mapping):
        remedy = f"; set one of {', '.join(f'{path}.{key}' for key in keys)}" if keys else ""
        raise InputError(f"`{path}` must be a group of keys; got {value!r}{remedy}.")
    return value
