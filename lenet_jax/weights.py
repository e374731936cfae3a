"""Arrays in safetensors files: the format holds names, shapes and values, but no code."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from safetensors import SafetensorError

from lenet_jax.errors import InputError
from lenet_jax.storage import write_atomically
from lenet_jax.types import Model, Variables

Tensors = dict[str, np.ndarray]
"""Arrays by name."""


def save_variables(path: str | Path, variables: Variables) -> None:
    """Write a model's variables atomically; a tensor's name is its path in the pytree, such as "params/conv1/kernel".

    Args:
        path: the safetensors file to write or replace.
        variables: the variables of the model.

    Raises:
        OSError: if the file cannot be written.
    """
    tensors = {name: np.asarray(leaf, order="C") for name, leaf in named_leaves(unwrap_keys(variables)).items()}
    write_atomically(Path(path), safetensors.numpy.save(tensors))


def load_variables(path: str | Path, model: Model) -> Variables:
    """Read the variables that `save_variables` wrote for the same model.

    The shapes in the header are checked before any values are read.

    Args:
        path: the safetensors file.
        model: the network, built with the same options.

    Raises:
        InputError: if the file is missing or damaged, or its tensors are not those of the model.
    """
    variables = jax.eval_shape(model.init, jax.random.key(0))
    expected = jax.eval_shape(unwrap_keys, variables)
    if not Path(path).is_file():
        raise InputError(f"load_variables: `path` must be a safetensors file; {path} is none.")
    if not os.access(path, os.R_OK):  # safetensors would say that there is no such file
        raise InputError(f"load_variables: `path` must be a file that this user may read; {path} is none.")
    try:
        with safetensors.safe_open(path, "numpy") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            _check_shapes(shapes, expected, path)
            found = from_tensors({name: file.get_tensor(name) for name in shapes}, expected, path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"load_variables: `path` must be an intact safetensors file; {path}: {error}.") from error
    return wrap_keys(found, variables)


def wrap_keys(values: Any, like: Any) -> Any:
    """Reverse `unwrap_keys`; `like` is the pytree with its keys."""
    wrap = jax.random.wrap_key_data
    return jax.tree.map(lambda x, leaf: wrap(jnp.asarray(x)) if is_key(leaf) else x, values, like)


def unwrap_keys(tree: Any) -> Any:
    """Return a pytree with the integers of its random keys in place of the keys, so that it can be saved."""
    return jax.tree.map(lambda leaf: jax.random.key_data(leaf) if is_key(leaf) else leaf, tree)


def is_key(leaf: Any) -> bool:
    """Return whether an array is one of random keys."""
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def named_leaves(tree: Any) -> dict[str, Any]:
    """Return the leaves of a pytree by path, such as "params/conv1/kernel", in the order of the tree."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def from_tensors(tensors: Tensors, expected: Any, path: str | Path) -> Any:
    """Arrange named arrays as a pytree.

    Args:
        tensors: arrays by name, as `named_leaves` names them.
        expected: a pytree of arrays or `jax.ShapeDtypeStruct` with the expected shapes and dtypes.
        path: the file that holds the arrays, for the message.

    Raises:
        InputError: if names, shapes or dtypes differ from those of the pytree.
    """
    _check_shapes({name: tensor.shape for name, tensor in tensors.items()}, expected, path)
    names = named_leaves(expected)
    for name, leaf in names.items():
        if tensors[name].dtype != leaf.dtype:
            raise InputError(f"{path}: {name!r} must be of type {leaf.dtype}; it is of type {tensors[name].dtype}.")
    return jax.tree.unflatten(jax.tree.structure(expected), [tensors[name] for name in names])


def _check_shapes(shapes: Mapping[str, tuple[int, ...]], expected: Any, path: str | Path) -> None:
    names = named_leaves(expected)
    for name in sorted(set(names) ^ set(shapes)):
        raise InputError(
            f"{path}: must hold the tensors of the model; it {'lacks' if name in names else 'also has'} {name!r}; "
            "build the model with the options of that run."
        )
    for name, leaf in names.items():
        if shapes[name] != leaf.shape:
            raise InputError(
                f"{path}: {name!r} must have shape {leaf.shape}; it has {shapes[name]}; build the model with the "
                "options of that run."
            )


def count_bytes(tree: Any) -> int:
    """Return the size of all arrays of a pytree, in bytes."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
