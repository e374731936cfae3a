"""Objects of a Python session that take the place of components, such as a model that is defined in a notebook.

A configuration names a component by its import path. What has none gets a name below `__main__` for as long as a run
needs it, made of its own name and of a digest of its source text, so that the same cell gives the same name again.
"""

import contextlib
import functools
import hashlib
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

MAIN = "__main__"

_objects: dict[str, Callable[..., Any]] = {}


def find_given(target: str) -> Callable[..., Any] | None:
    """Return the object that has this name at present; None if none has."""
    return _objects.get(target)


def is_given(target: str) -> bool:
    """Tell whether a name can only be that of an object of a Python session."""
    return target.partition(".")[0] == MAIN


@contextlib.contextmanager
def named_objects(objects: Mapping[str, Callable[..., Any]]) -> Iterator[None]:
    """Let components be named by these names in the block."""
    before = dict(_objects)
    _objects.update(objects)
    try:
        yield
    finally:
        _objects.clear()
        _objects.update(before)


def import_path(value: Any) -> str | None:
    """Return the path by which an object can be imported in another process; None if there is none."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or module == MAIN:
        return None
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return f"{module}.{name}" if found is value else None


def to_component(value: Any) -> tuple[str, Callable[..., Any]]:
    """Return the name of a component and its function, for what a user has of it.

    Args:
        value: a function or a class, which is the component and has its options; or the object that such a function
            would return.
    """
    is_function = inspect.isroutine(value) or inspect.isclass(value) or isinstance(value, functools.partial)
    path = import_path(value) if is_function else None
    function = value if is_function else _returning(value)
    return path or f"{MAIN}.{_label(value)}_{_digest(value)}", function


def returning(value: Any) -> tuple[str, Callable[..., Any]]:
    """Return the same for an object that is what the component's function returns, though it may be a function."""
    return f"{MAIN}.{_label(value)}_{_digest(value)}", _returning(value)


def _returning(value: Any) -> Callable[[], Any]:
    """Return a function that returns an object, and that is described as the object is."""

    def given() -> Any:
        return value

    described = value if inspect.isroutine(value) else type(value)
    functools.update_wrapper(given, described, updated=())
    given.__signature__ = inspect.Signature()  # pyright: ignore[reportFunctionMemberAccess]
    return given


def _label(value: Any) -> str:
    name = getattr(value, "__name__", None) or type(value).__name__
    return re.sub(r"\W+", "_", str(name)).strip("_") or "object"


def _digest(value: Any) -> str:
    """Return eight digits that differ between objects as far as their source or what they print differs."""
    described = value if inspect.isroutine(value) or inspect.isclass(value) else type(value)
    try:
        text = inspect.getsource(described)
    except (OSError, TypeError, SyntaxError):
        text = f"{getattr(described, '__module__', '')}.{getattr(described, '__qualname__', '')}"
    if (
        described is not value
        and len(shown := repr(value)) < 10_000
        and not re.search(r" at 0x|Array\(|array\(", shown)
    ):
        text += shown
    return hashlib.sha256(text.encode()).hexdigest()[:8]
