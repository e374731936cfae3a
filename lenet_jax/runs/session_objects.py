"""The objects that a run from Python has in place of components, by the groups of the configuration."""

import contextlib
import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from lenet_jax.components import targets_in
from lenet_jax.given_objects import is_given, named_objects, returning, to_component
from lenet_jax.runs.prepared_run import forget_components


@dataclasses.dataclass(frozen=True)
class Objects:
    """Functions by the names that a configuration has for them, and those names by group."""

    names: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    functions: Mapping[str, Callable[..., Any]] = dataclasses.field(default_factory=dict)

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Let components be named by these names in the block."""
        if not self.functions:
            yield
            return
        forget_components()
        with named_objects(self.functions):
            yield
        forget_components()

    def adopt(self, config: Mapping[str, Any]) -> "Objects":
        """Return the objects under the names that a recorded configuration has for objects in their places.

        A cell of a notebook that has changed since is another object by its name; whether a run may go on with it, the
        recorded digest of its source decides.
        """
        names, functions = dict(self.names), dict(self.functions)
        for group, own in self.names.items():
            recorded = [target for _, target in targets_in(group, config.get(group))]
            if len(recorded) != len(own):
                continue
            names[group] = tuple(
                then if is_given(then) and is_given(now) else now for then, now in zip(recorded, own, strict=True)
            )
            for now, then in zip(own, names[group], strict=True):
                if now != then:
                    functions[then] = functions.pop(now)
        return Objects(names, functions)


def collect_objects(single: Mapping[str, Any], lists: Mapping[str, Sequence[Any]]) -> Objects:
    """Return the objects that a user has given.

    Args:
        single: by group, what is one component: a function or a class with options of its own, or what it would return.
        lists: by group, what are several: changes of an example, trackers. A tracker with an argument `directory` is
            called with that of the run, and returns the function of the events.
    """
    names: dict[str, tuple[str, ...]] = {}
    functions: dict[str, Callable[..., Any]] = {}
    for group, value in single.items():
        name, function = to_component(value)
        names[group] = (name,)
        functions |= {name: function} if is_given(name) else {}
    for group, values in lists.items():
        found = [to_component(each) if _takes_directory(each) else returning(each) for each in values]
        named = [(f"{name}_{place}" if is_given(name) else name, each) for place, (name, each) in enumerate(found)]
        names[group] = tuple(name for name, _ in named)
        functions |= {name: each for name, each in named if is_given(name)}
    return Objects(names, functions)


def _takes_directory(value: Any) -> bool:
    try:
        return "directory" in inspect.signature(value).parameters
    except (TypeError, ValueError):
        return False
