"""Which jobs and runs are of one configuration: those that differ in their seeds only, and in what decides nothing."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lenet_jax.components import complete_group, targets_in, with_defaults
from lenet_jax.config import from_dict, to_dict
from lenet_jax.config.catalogue import GROUPS, read_signature
from lenet_jax.errors import InputError
from lenet_jax.storage import to_json
from lenet_jax.sweeps.replicates import without_replicate

_SEED = "seed"


def group_by_configuration(configs: Sequence[Mapping[str, Any]]) -> list[list[int]]:
    """Return the indices of the configurations that are the same but for their seeds, folds, notes and tags.

    An option that is called `seed` and follows that of the run in all of them, as `data.seed=${seed}`, is one of their
    seeds.

    Args:
        configs: configurations as nested dictionaries, the results of `lenet_jax.config.to_dict`.
    """
    following = set.intersection(*(set(_seeds(config, config.get(_SEED))) for config in configs)) if configs else set()
    groups: dict[str, list[int]] = {}
    for index, config in enumerate(configs):
        groups.setdefault(to_json(_without(without_replicate(config), following)), []).append(index)
    return list(groups.values())


def _seeds(node: Any, seed: Any, *path: str) -> Iterator[tuple[str, ...]]:
    """Yield the path of each option `seed` inside of a component that has the seed of the run."""
    for key, value in node.items() if isinstance(node, Mapping) else ():
        if path and key == _SEED and value == seed:
            yield (*path, key)
        yield from _seeds(value, seed, *path, key)


def _without(node: Any, paths: set[tuple[str, ...]], *path: str) -> Any:
    """Return nested dictionaries in the order of their keys, without those at some paths."""
    if not isinstance(node, Mapping):
        return node
    return {key: _without(node[key], paths, *path, key) for key in sorted(node) if (*path, key) not in paths}


def complete_recorded(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recorded configuration with the options that it lacks, because it is older, at their defaults of today.

    Components that are not of this package stay as they were recorded: nothing is imported. A configuration with keys
    that there are no more is returned unchanged.

    Args:
        values: the configuration of a run or a job, as its record holds it.
    """
    try:
        completed = to_dict(from_dict(values))
    except InputError:
        return dict(values)
    return completed | {group: _complete_own(group, completed[group]) for group in GROUPS}


def _complete_own(group: str, node: Any) -> Any:
    if any(read_signature(target) is None for _, target in targets_in(group, node)):
        return node
    try:
        return _to_lists(complete_group(group, node))
    except InputError:  # an option that its function has no more
        return _to_lists(with_defaults(group, node))


def _to_lists(value: Any) -> Any:
    """Return nested dictionaries with lists in place of tuples, as a record holds them."""
    if isinstance(value, Mapping):
        return {key: _to_lists(each) for key, each in value.items()}
    return [_to_lists(each) for each in value] if isinstance(value, list | tuple) else value
