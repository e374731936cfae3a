"""Rules that a configuration value can have to keep, and the words for them."""

import sys
from collections.abc import Callable
from typing import Any, NamedTuple


class Rule(NamedTuple):
    """What a configuration value must satisfy; `text` completes the sentence "`key` must be ..."."""

    holds: Callable[[Any], bool]
    text: str


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _positive_integer(value: Any) -> bool:
    return _integer(value) and value >= 1


def _integers(value: Any) -> bool:
    return isinstance(value, tuple) and all(map(_positive_integer, value))


def one_of(*names: str) -> Rule:
    """Admit these names."""
    text = f"one of {', '.join(names)}" if len(names) > 1 else repr(*names)
    return Rule(lambda value: value in names, text)


def optional(rule: Rule) -> Rule:
    """Admit None as well."""
    return Rule(lambda value: value is None or rule.holds(value), f"null or {rule.text}")


POSITIVE = Rule(lambda v: _number(v) and v > 0, "a finite number above 0")
NON_NEGATIVE = Rule(lambda v: _number(v) and v >= 0, "a finite number, 0 or above")
FRACTION = Rule(lambda v: _number(v) and 0 <= v <= 1, "a number from 0 to 1")
DECAY = Rule(lambda v: _number(v) and 0 <= v < 1, "a number from 0 up to, not including, 1")
COUNT = Rule(_positive_integer, "an integer, 1 or above")
ITERATIONS = Rule(lambda v: _positive_integer(v) and v < 2**31, "an integer from 1 to 2147483647")  # fits an int32
SEED = Rule(lambda v: _integer(v) and 0 <= v < 2**32, "an integer from 0 to 4294967295")
COUNTS = Rule(lambda v: _integers(v) and len(v) > 0, "a list of integers, each 1 or above")
TWO_COUNTS = Rule(lambda v: _integers(v) and len(v) == 2, "a list of two integers, each 1 or above")
SWITCH = Rule(lambda v: isinstance(v, bool), "true or false")
TEXT = Rule(lambda v: isinstance(v, str) and v != "", "a text that is not empty")
