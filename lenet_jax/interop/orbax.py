"""Weights as Orbax checkpoints, the format of flax; Orbax comes with flax."""

import math
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lenet_jax.errors import InputError
from lenet_jax.types import Model, Variables
from lenet_jax.weights import Tensors, from_tensors, named_leaves, unwrap_keys, wrap_keys

_SMALL = 1 << 28  # bytes that any checkpoint may expand to
_MOST_EXPANSION = 100  # times the size of its files
_MARKS = ("_CHECKPOINT_METADATA", "_METADATA", "manifest.ocdbt")  # files of an Orbax checkpoint


def save_orbax(path: str | Path, variables: Variables) -> None:
    """Write a model's variables as an Orbax checkpoint, {"params": ..., "state": ...}.

    Args:
        path: the folder to write, which must not exist.
        variables: the variables of the model.

    Raises:
        InputError: if there is something at the path.
    """
    path = Path(path).absolute()
    if path.exists():
        raise InputError(f"save_orbax: `path` must not exist yet; got {path}; use another.")
    import orbax.checkpoint as ocp

    tree = jax.tree.map(np.asarray, unwrap_keys(variables))
    with ocp.PyTreeCheckpointer() as checkpointer:
        checkpointer.save(path, {"params": tree.params, "state": tree.state})


def load_orbax(path: str | Path, model: Model) -> Variables:
    """Read the variables of a model from an Orbax checkpoint, as `save_orbax` writes it.

    Args:
        path: the folder.
        model: the network, built with the same options.

    Raises:
        InputError: if it is none or damaged, or its arrays are not those of the model.
    """
    expected = jax.eval_shape(model.init, jax.random.key(0))
    found = from_tensors(read_orbax(path), jax.eval_shape(unwrap_keys, expected), path)
    return wrap_keys(found, expected)


def is_orbax(path: str | Path) -> bool:
    """Tell whether a folder is an Orbax checkpoint."""
    return any((Path(path) / name).exists() for name in _MARKS)


def read_orbax(path: str | Path) -> Tensors:
    """Return the arrays of an Orbax checkpoint by their paths, such as "params/conv1/kernel".

    Raises:
        InputError: if it is none, or damaged.
    """
    if not is_orbax(path):
        raise InputError(f"load_orbax: `path` must be the folder of an Orbax checkpoint; {path} is none.")
    import orbax.checkpoint as ocp

    try:
        with ocp.PyTreeCheckpointer() as checkpointer:
            tree: Any = checkpointer.metadata(Path(path).absolute()).item_metadata.tree
            _check_size(Path(path), tree)
            arguments = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
            found = checkpointer.restore(Path(path).absolute(), restore_args=arguments)
    except InputError:
        raise
    except Exception as error:  # a damaged checkpoint can make its parser raise almost any exception
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise InputError(f"load_orbax: `path` must be an intact Orbax checkpoint; {path}: {reason}.") from error
    return {name: np.asarray(leaf) for name, leaf in named_leaves(found).items()}


def _check_size(path: Path, tree: Any) -> None:
    """Check, before arrays are read, that their declared sizes are such as their compressed files may have."""
    total = sum(math.prod(leaf.shape) * np.dtype(leaf.dtype).itemsize for leaf in jax.tree.leaves(tree))
    files = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    limit = max(_SMALL, _MOST_EXPANSION * files)
    if total > limit:
        raise InputError(
            f"load_orbax: `path` must hold arrays of at most {limit} bytes, for the size of its files; {path} has "
            f"{total}."
        )
