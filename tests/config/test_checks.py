"""Values against annotations: what is taken, what it becomes, and the exact words of what is refused."""

import dataclasses
import math
import typing
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lenet_jax.config import checks
from lenet_jax.config.checks import Above, AtLeast, Between, NotEmpty, build, config_dataclass, convert, describe
from lenet_jax.errors import InputError

pytestmark = pytest.mark.usefixtures("without_type_checks")

NOT_COUNT = (0, -1, 1.0, 1.5, True, "1", None, math.nan)
COUNT = "an integer, 1 or above"
TWO_COUNTS = "a list of two integers, each 1 or above"

# Annotation, the words for it, values that it takes, and values that it does not.
ANNOTATIONS = [
    (int, "an integer", (0, -3, 10**30), (1.0, True, "1", None)),
    (float, "a finite number", (0.5, 0, -3), (math.nan, math.inf, 10**400, True, "0.1", None)),
    (bool, "true or false", (True, False), (0, 1, "true", None)),
    (str, "a text", ("", "a"), (1, None, ["a"])),
    (None, "null", (None,), (0, "", False)),
    (checks.Count, COUNT, (1, 28), NOT_COUNT),
    (checks.NonNegativeInt, "an integer, 0 or above", (0, 5), (-1, 0.0, False)),
    (checks.Iterations, "an integer from 1 to 2147483647", (1, 2**31 - 1), (*NOT_COUNT, 2**31)),
    (checks.Seed, "an integer from 0 to 4294967295", (0, 2**32 - 1), (-1, 2**32, 0.0, False, "0", None)),
    (checks.Positive, "a finite number above 0", (1e-9, 1), (0, -0.1, math.nan, math.inf, 10**400, True, "0.1", None)),
    (checks.NonNegative, "a finite number, 0 or above", (0, 1e-4), (-1e-9, math.nan, math.inf, False, "0", None)),
    (checks.Fraction, "a number from 0 to 1", (0, 1, 0.5), (-0.01, 1.01, math.nan, True, "1", None)),
    (checks.Decay, "a number from 0 up to, not including, 1", (0, 0.999), (1, 1.0, -0.1, math.nan, False)),
    (checks.Text, "a text that is not empty", ("a",), ("", 3, None)),
    (checks.Text | None, "null or a text that is not empty", (None, "a"), ("", 3)),
    (checks.Count | None, f"null or {COUNT}", (None, 1), NOT_COUNT[:6]),
    (checks.Counts, "a list of integers, each 1 or above", ((1,), (5, 9)), ((), (0,), 5, (1.5,), ("1",))),
    (checks.TwoCounts, TWO_COUNTS, ((1, 1),), ((2,), (2, 3, 4), (), (0, 1), (1, True), (1, 2.0), 20, "12")),
    (checks.PerLayer, f"{COUNT}, or {TWO_COUNTS}", (7, (7, 3), [7, 3]), (0, (7,), (7, 0), 1.0, "7")),
    (checks.CsvName, "the name of a file that ends in .csv", ("a.csv", ".csv", "a b.csv"),
     ("", "a.txt", "../a.csv", "/a.csv", "a/b.csv", "a\n.csv", "run.json", 3, None)),
    (Literal["VALID", "SAME"], "one of VALID, SAME", ("VALID",), ("FULL", "valid", 0, ["VALID"])),
    (Literal["lenet"], "'lenet'", ("lenet",), ("mnist_cnn", 1, ["lenet"])),
    (Literal[18, 34], "one of 18, 34", (18,), (19, "18", 18.0, True)),
    (list[int], "a list of integers", ([], [1]), (1, ["a"], "ab")),
    (Sequence[int], "a list of integers", ([], (1, 2)), (1, ["a"], "ab")),
    (typing.Sequence[checks.Count], "a list of integers, each 1 or above", ([3],), ([0], "3")),
    (list, "a list", ([], ["a", 1]), (1, "ab", None)),
    (tuple[float, float, float], "a list of three finite numbers", ((1, 2, 3),), ((1, 2), (1, 2, "3"))),
    (Annotated[int, AtLeast(2), "documentation"], "an integer, 2 or above", (2,), (1,)),
    (Annotated[float, Above(0.5)], "a finite number above 0.5", (0.6,), (0.5,)),
    (Annotated[float, Between(-1, 1)], "a number from -1 to 1", (-1, 1), (1.1,)),
    (Annotated[list[str], NotEmpty()], "a list of texts that is not empty", (["a"],), ([], ["a", 1])),
]  # fmt: skip


def cases(which):
    return [(annotation, words, value) for annotation, words, *values in ANNOTATIONS for value in values[which]]


@pytest.mark.parametrize(("annotation", "_", "value"), cases(0))
def test_a_value_inside_its_range_is_taken(annotation, _, value):
    assert convert("a.b", annotation, value) == (tuple(value) if isinstance(value, list) else value)


@pytest.mark.parametrize(("annotation", "words", "value"), cases(1))
def test_a_value_outside_its_range_is_refused_with_key_rule_and_value(annotation, words, value):
    got = tuple(value) if isinstance(value, list) else value
    with pytest.raises(InputError) as refused:
        convert("a.b", annotation, value)
    assert str(refused.value) == f"`a.b` must be {words}; got {'null' if value is None else repr(got)}."


@pytest.mark.parametrize("annotation", [Any, Callable[[int], int], object, np.ndarray])
@pytest.mark.parametrize("value", [None, "a", [1], {"a": 1}])
def test_any_other_annotation_is_left_to_its_function(annotation, value):
    assert convert("a.b", annotation, value) == value


def test_a_value_gets_the_type_of_its_annotation():
    converted = convert("a", checks.Positive, 3)
    assert (converted, type(converted)) == (3.0, float)
    assert convert("a", checks.TwoCounts, [2, 3]) == (2, 3)
    assert [type(each) for each in convert("a", tuple[float, float], [2, 3])] == [float, float]
    assert type(convert("a", float | None, 2)) is float


@pytest.mark.parametrize(
    ("annotation", "value"),
    [(int, np.int64(3)), (float, np.float32(0.5)), (bool, np.bool_(True)), (checks.TwoCounts, [np.int32(2), 3])],
)
def test_a_scalar_of_numpy_is_the_number_that_it_is(annotation, value):
    converted = convert("a", annotation, value)
    assert converted == (tuple(value) if isinstance(value, list) else value)
    assert type(converted).__module__ == "builtins"


@given(st.integers(), st.integers(), st.integers())
def test_a_range_has_its_ends(low, high, value):
    annotation = Annotated[int, Between(low, high)]
    if low <= value <= high:
        assert convert("a", annotation, value) == value
    else:
        with pytest.raises(InputError, match=f"must be an integer from {low} to {high}; got {value}"):
            convert("a", annotation, value)


def test_the_words_for_a_union_are_those_of_its_parts():
    assert describe(int | str) == "an integer or a text"
    assert describe(checks.Count | Literal["auto"] | None) == "null, or an integer, 1 or above, or 'auto'"


@config_dataclass("part.inner")
class Inner:
    """A part of another one."""

    size: checks.Count = 1


@config_dataclass("part")
class Outer:
    """A part of a configuration."""

    rate: checks.Positive = 0.1
    sizes: checks.TwoCounts = (1, 1)
    inner: Inner = Inner()


def test_a_dataclass_checks_itself_when_it_is_built():
    assert Outer(rate=3, sizes=[2, 3]).sizes == (2, 3)  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match=r"^`part\.inner\.size` must be an integer, 1 or above; got 0\.$"):
        Inner(0)
    with pytest.raises(InputError, match=r"^`part\.inner` must be an Inner; got 5\.$"):
        Outer(inner=5)  # pyright: ignore[reportArgumentType]
    with pytest.raises(dataclasses.FrozenInstanceError):
        Outer().rate = 3  # pyright: ignore[reportAttributeAccessIssue]


def test_a_dataclass_is_built_from_nested_dictionaries():
    assert build(Outer, "part", {}) == Outer()
    assert build(Outer, "part", {"inner": {"size": 4}, "sizes": [2, 3]}) == Outer(sizes=(2, 3), inner=Inner(4))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rat": 1}, "`part` has no 'rat'; choose one of: rate, inner, sizes."),
        ({"inner": {"sise": 1}}, "`part.inner` has no 'sise'; choose one of: size."),
        ({"inner": 3}, "`part.inner` must be a group of keys; got 3; set one of part.inner.size."),
        ({"inner": None}, "`part.inner` must be a group of keys; got None; set one of part.inner.size."),
        ({"rate": None}, "`part.rate` must be a finite number above 0; got null."),
        ({"rate": "None"}, "`part.rate` must be a finite number above 0; got 'None'."),
        ({"inner": {"size": 0}}, "`part.inner.size` must be an integer, 1 or above; got 0."),
    ],
)
def test_what_is_unknown_is_refused_with_its_place_and_the_valid_names(values, message):
    with pytest.raises(InputError) as refused:
        build(Outer, "part", values)
    assert str(refused.value) == message
