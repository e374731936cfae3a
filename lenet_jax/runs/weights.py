"""The weights of a trained network as a file, in the safetensors format: names, shapes and numbers, nothing to run."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from lenet_jax.errors import InputError
from lenet_jax.storage import write_atomically
from lenet_jax.types import Model, Variables


def save_variables(path: str | Path, variables: Variables) -> None:
    """Write a model's variables; a tensor is named after its place, as "params/conv1/kernel".

    The file is replaced whole or not at all.
    """
    tensors = {name: np.ascontiguousarray(leaf) for name, leaf in _named_leaves(variables).items()}
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_atomically(Path(path), safetensors.numpy.save(tensors))


def load_variables(path: str | Path, model: Model) -> Variables:
    """Read what `save_variables` wrote for the same model.

    Raises:
        InputError: if the file is missing or damaged, or its tensors are not those of the model.
    """
    try:
        tensors = safetensors.numpy.load(Path(path).read_bytes())
    except (OSError, SafetensorError) as error:
        raise InputError(f"load_variables: `path` must be a whole safetensors file; {path}: {error}.") from error
    expected = jax.eval_shape(model.init, jax.random.key(0))
    names = _named_leaves(expected)
    for name in sorted(set(names) ^ set(tensors)):
        raise InputError(
            f"load_variables: `path` must hold the tensors of the model; {path} "
            f"{'lacks' if name in names else 'also has'} {name!r}; build the model with the options of that run."
        )
    for name, leaf in names.items():
        found = tensors[name]
        if found.shape != leaf.shape or found.dtype != leaf.dtype:
            raise InputError(
                f"load_variables: {name!r} must have shape {leaf.shape} and type {leaf.dtype}; {path} has "
                f"{found.shape} and {found.dtype}; build the model with the options of that run."
            )
    return jax.tree.unflatten(jax.tree.structure(expected), [tensors[name] for name in names])


def _named_leaves(variables: Variables) -> dict[str, Any]:
    """Return the leaves by name, in the order of the tree."""
    leaves = jax.tree_util.tree_leaves_with_path(variables)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}
