"""Search spaces, read from Hydra's sweep syntax."""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.types import IntervalSweep, Override

from lenet_jax.errors import InputError
from lenet_jax.sweeps.search_space import Axis, Choice, Interval, SearchSpace

_ZIP = "hydra.sweeper.zip"


def search_space(
    overrides: Iterable[Override], zipped: Sequence[Any] | None = None, *, shuffles: bool = False
) -> SearchSpace:
    """Read a search space from overrides in Hydra's sweep syntax.

    `KEY=interval(a,b)` is uniform, `KEY=tag(log,interval(a,b))` log-uniform, and `KEY=int(interval(a,b))` of the
    integers. Lists, `choice(...)` and `range(...)` are their values.

    Args:
        overrides: those of the sweep, as `sweep_overrides` returns them.
        zipped: the option `zip` of a sweeper: keys whose lists go together, or several lists of such.
        shuffles: whether the values of `shuffle(...)` are in a random order, and not in that of the list.

    Raises:
        InputError: if an interval is empty or not finite, a logarithmic one does not start above 0, or zipped keys are
            not swept over lists of one length; or Hydra's own errors.
    """
    texts, axes = [], []
    for place, override in enumerate(overrides):
        if override.is_sweep_override():
            key = override.get_key_element()
            axes.append(Axis((key,), (place,), _domain(override, shuffles)))
            texts.append(key)
        else:
            texts.append(str(override.input_line))
    return SearchSpace(tuple(texts), tuple(_zip(axes, _groups(zipped))))


def _domain(override: Override, shuffles: bool) -> Interval | Choice:
    values: Any = override.value()
    if isinstance(values, IntervalSweep):
        return _interval(override.get_key_element(), values)
    if getattr(values, "shuffle", False) and not shuffles:
        override = dataclasses.replace(override, _value=dataclasses.replace(values, shuffle=False))
    return Choice(tuple((text,) for text in override.sweep_string_iterator()))


def _interval(key: str, values: IntervalSweep) -> Interval:
    low, high, log = values.start, values.end, "log" in values.tags
    if low is None or high is None or not -math.inf < low < high < math.inf or (log and low <= 0):
        rule = "begins above 0 and ends higher" if log else "begins below its end"
        raise InputError(f"`{key}` must be an interval of finite numbers that {rule}; got ({low}, {high}).")
    return Interval(low, high, log, isinstance(low, int) and isinstance(high, int))


# ---- keys that go together ------------------------------------------------------------------------------------------


def _groups(zipped: Sequence[Any] | None) -> list[list[str]]:
    """Return the lists of keys of the option `zip`, which may be a single one.

    Raises:
        InputError: if it is anything else, or names a key twice.
    """
    groups: Any = zipped or []
    if isinstance(groups, Sequence) and all(isinstance(each, str) for each in groups):
        groups = [groups] if groups else []
    lists_of_keys = isinstance(groups, list) and all(
        isinstance(group, list) and len(group) > 1 and all(isinstance(key, str) for key in group) for group in groups
    )
    if not lists_of_keys:
        raise InputError(f"`{_ZIP}` must be null or a list of lists of keys, as [[KEY,KEY]]; got {zipped!r}.")
    plain = [[key.lstrip("+") for key in group] for group in groups]
    keys = [key for group in plain for key in group]
    for key in keys:
        if keys.count(key) > 1:
            raise InputError(f"`{_ZIP}` must name a key once; got {key} {keys.count(key)} times.")
    return plain


def _zip(axes: Sequence[Axis], groups: Sequence[Sequence[str]]) -> list[Axis]:
    """Put the axes of each group of keys together, in the place of the first one."""
    by_key = {axis.keys[0].lstrip("+"): axis for axis in axes}
    joined: dict[Axis, Axis | None] = {}
    for group in groups:
        members = sorted((_member(key, by_key) for key in group), key=lambda axis: axis.places)
        joined |= dict.fromkeys(members)
        joined[members[0]] = _joined(members)
    found = [joined.get(axis, axis) for axis in axes]
    return [axis for axis in found if axis is not None]


def _member(key: str, by_key: Mapping[str, Axis]) -> Axis:
    axis = by_key.get(key)
    if axis is None or isinstance(axis.domain, Interval):
        raise InputError(f"`{_ZIP}` must name keys that are swept over lists, as {key}=a,b; {key} is not.")
    return axis


def _joined(members: Sequence[Axis]) -> Axis:
    lengths = [axis.domain.size for axis in members]
    if len(set(lengths)) > 1:
        got = ", ".join(f"{axis.keys[0]} of {length}" for axis, length in zip(members, lengths, strict=True))
        raise InputError(f"`{_ZIP}` must name keys that are swept over lists of one length; got {got}.")
    rows = zip(*(axis.domain.values for axis in members), strict=True)  # pyright: ignore[reportAttributeAccessIssue]
    values = tuple(tuple(text for texts in row for text in texts) for row in rows)
    keys = tuple(axis.keys[0] for axis in members)
    return Axis(keys, tuple(axis.places[0] for axis in members), Choice(values))
