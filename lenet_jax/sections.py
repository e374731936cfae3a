"""Sections of the configuration: frozen dataclasses whose keys have rules, and how they are built from dictionaries."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, dataclass_transform

from lenet_jax.errors import InputError, unknown_name
from lenet_jax.rules import Rule

T = TypeVar("T")


def key(rule: Rule, *, default: Any) -> Any:
    """Return the field of a key, whose values must keep a rule."""
    return dataclasses.field(default=default, metadata={"rule": rule})


def check(config: Any, path: str) -> None:
    """Raise `InputError`, with the key's full path, for the first value that breaks its rule."""
    for field in dataclasses.fields(config):
        rule, value = field.metadata.get("rule"), getattr(config, field.name)
        if rule is not None and not rule.holds(value):
            name = f"{path}.{field.name}" if path else field.name
            raise InputError(f"`{name}` must be {rule.text}; got {value!r}.")


@dataclass_transform(frozen_default=True, field_specifiers=(key,))
def section(path: str) -> Callable[[type[T]], type[T]]:
    """Make a frozen dataclass that checks its values when it is built; `path` is its place in the configuration."""

    def post_init(self: Any) -> None:
        for field in dataclasses.fields(self):
            if isinstance(getattr(self, field.name), list):  # as a sequence arrives from YAML
                object.__setattr__(self, field.name, tuple(getattr(self, field.name)))
        check(self, path)

    def decorate(cls: type[T]) -> type[T]:
        cls.__post_init__ = post_init  # pyright: ignore[reportAttributeAccessIssue]
        return dataclass(frozen=True)(cls)

    return decorate


def build(schema: type[T], path: str, values: Mapping[str, Any]) -> T:
    """Build a section, and those in it, from nested dictionaries.

    Raises:
        InputError: if a key is unknown or a value breaks its rule.
    """
    fields = {field.name: field for field in dataclasses.fields(schema)}  # pyright: ignore[reportArgumentType]
    unknown = [name for name in values if name not in fields]
    if unknown:
        raise unknown_name(path or "configuration", unknown[0], fields)
    arguments = dict(values)
    for name, value in values.items():
        kind = fields[name].type
        if dataclasses.is_dataclass(kind) and not dataclasses.is_dataclass(value):
            full_name = f"{path}.{name}" if path else name
            arguments[name] = build(kind, full_name, mapping(full_name, value))  # pyright: ignore[reportArgumentType]
    return schema(**arguments)


def mapping(path: str, value: Any) -> Mapping[str, Any]:
    """Return a value that must be a group of keys, or raise `InputError`."""
    if not isinstance(value, Mapping):
        raise InputError(f"`{path}` must be a group of keys; got {value!r}.")
    return value
