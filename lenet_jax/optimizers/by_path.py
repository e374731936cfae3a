"""An optimizer of its own for each part of the parameters, which are named by patterns of their paths."""

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any

import jax
import optax

from lenet_jax.config.checks import Named
from lenet_jax.errors import InputError
from lenet_jax.optimizers.standard_form import standard_form


def by_path(*, rules: Named) -> optax.GradientTransformationExtraArgs:
    """Return the optimizer that treats each parameter by the last rule whose pattern matches its path.

    So layers are frozen (`optax.set_to_zero`), have learning rates of their own, or decay while others do not.

    Args:
        rules: pattern -> optimizer, a component. A path is like "conv1/kernel", a pattern one of the shell: "*" for
            all, then exceptions, as "conv1/*" or "*/bias".

    Raises:
        InputError: if there are no rules; from `init`, if a rule applies to no parameter, or no rule to one.
    """
    if not rules:
        raise InputError(f'`optimizer.rules` must be optimizers by pattern, as {{"*": ...}}; got {rules!r}.')
    return optax.multi_transform({pattern: standard_form(each) for pattern, each in rules.items()}, _Labels(rules))


class _Labels:
    """The pattern that applies to each parameter."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._patterns = list(patterns)

    def __call__(self, params: Any) -> Any:
        paths = _paths(params)
        found = {path: [each for each in self._patterns if fnmatchcase(path, each)][-1:] for path in paths}
        labels = [label for each in found.values() for label in each]
        unused = [pattern for pattern in self._patterns if pattern not in labels]
        if unused:
            raise InputError(
                f"`optimizer.rules` must apply to a parameter each; {unused[0]!r} is the last match of none of "
                f"{', '.join(paths)}."
            )
        if len(labels) < len(paths):
            path = next(path for path, label in found.items() if not label)
            raise InputError(f'`optimizer.rules` must have a pattern for each parameter, as "*"; {path} has none.')
        return jax.tree.unflatten(jax.tree.structure(params), labels)


def _paths(params: Any) -> list[str]:
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves]
