"""Initial weights of a run from the result of another run, or from a file: all of them, or a part.

An array of the file is taken for the one of the network that has the same path, as "conv1/kernel", and the same shape.
The weights of an output layer for another number of classes are left as the seed has made them.
"""

import os
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
from safetensors import SafetensorError

from lenet_jax.config import Config
from lenet_jax.errors import InputError
from lenet_jax.interop.orbax import is_orbax, read_orbax
from lenet_jax.runs.provenance import digest_parameters
from lenet_jax.runs.run_directory import damaged_files, file_of_result, read_record
from lenet_jax.types import Variables
from lenet_jax.weights import Tensors, named_leaves

_REMEDY = "leave them to the seed: init_exclude=[{}]"


class InitialWeights(NamedTuple):
    """Arrays that a run begins with, in place of those that its seed makes."""

    tensors: Tensors  # by path, such as "params/conv1/kernel"
    description: dict[str, Any]  # what `run.json` records: the file, digests, and what was taken and what not


def read_initial_weights(config: Config, variables: Variables, num_outputs: int) -> InitialWeights | None:
    """Read the initial weights that a configuration names; None if it names none.

    Args:
        config: its `init` is the directory of a finished run, a safetensors file or an Orbax checkpoint; `init_include`
            and `init_exclude` are patterns of the paths of parameters and state, as "conv1/*".
        variables: of the network, or their shapes and dtypes.
        num_outputs: number of outputs of the network, such as classes.

    Raises:
        InputError: if the file cannot be read, or a chosen array is not in it or has another shape and is none of an
            output layer; if a pattern matches nothing, or nothing is taken.
    """
    if config.init is None:
        if tuple(config.init_include) != ("*",) or config.init_exclude:
            raise InputError("`init` must name a run or a file where `init_include` or `init_exclude` is given.")
        return None
    path = _find_file(Path(config.init).expanduser())
    expected = named_leaves(variables)
    found = _read(path)
    chosen = _choose(list(expected), config.init_include, config.init_exclude)
    taken: Tensors = {}
    left = {_short(name): "not chosen" for name in expected if name not in chosen}
    for name in chosen:
        leaf = expected[name]
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            left[_short(name)] = "a random key"
            continue
        if name not in found:
            raise InputError(
                f"`init`: {path} must have the array {_short(name)!r} of the network; it has "
                f"{', '.join(map(_short, list(found)[:20]))}; {_REMEDY.format(_short(name))}."
            )
        tensor = found[name]
        if tensor.shape == leaf.shape:
            taken[name] = _cast(path, name, tensor, leaf.dtype)
        elif _is_of_outputs(tensor.shape, leaf.shape, num_outputs):
            left[_short(name)] = f"of {tensor.shape[-1]} outputs there, of {num_outputs} here"
        else:
            raise InputError(
                f"`init`: {_short(name)!r} of {path} must have shape {leaf.shape}, as that of the network; it has "
                f"{tensor.shape}; {_REMEDY.format(_short(name))}."
            )
    if not taken:
        raise InputError(f"`init`: an array of {path} must be taken; none is: {_listed(left)}.")
    description = {
        "source": str(config.init),
        "file": str(path),
        "sha256": digest_parameters(taken),
        "taken": [_short(name) for name in taken],
        "left": left,
        "unused": [_short(name) for name in found if name not in expected],
    }
    return InitialWeights(taken, description)


def describe_initial_weights(description: Mapping[str, Any]) -> list[str]:
    """Return what was taken of a file and what was not, as lines."""
    taken, left, unused = (description[name] for name in ("taken", "left", "unused"))
    count = len(taken) + len(left)
    lines = [f"init: {len(taken)} of {count} arrays from {description['file']}: {', '.join(taken)}"]
    lines += [f"init: by the seed: {_listed(left)}"] if left else []
    lines += [f"init: of the file, not of the network: {', '.join(unused)}"] if unused else []
    return lines


def _listed(left: Mapping[str, str]) -> str:
    return ", ".join(f"{name} ({why})" for name, why in left.items())


def _find_file(path: Path) -> Path:
    """Return a file of weights, or that with the result of the run whose directory is given, which is intact."""
    if is_orbax(path):
        return path
    if not path.is_dir():
        if not (path.is_file() and os.access(path, os.R_OK)):  # safetensors would say that there is no such file
            raise InputError(
                f"`init` must be the directory of a run, a safetensors file that this user may read, or an Orbax "
                f"checkpoint; {path} is none."
            )
        return path
    record = read_record(path)
    if record.result is None:
        raise InputError(f"`init` must be a finished run; finish it: lenet-jax resume {path}.")
    file = path / file_of_result(record.config.trainer.weights)
    if not file.is_file():
        raise InputError(f"`init` must have the weights of its run; {file} is missing.")
    for line in damaged_files(record):
        if line.startswith(f"{file}:"):
            raise InputError(f"`init`: {line}.")
    return file


def _read(path: Path) -> Tensors:
    """Return the arrays of a file by the paths of this package; names without "params/" are those of parameters."""
    try:
        if path.is_dir():
            found = read_orbax(path)
        else:
            with safetensors.safe_open(path, "numpy") as file:
                found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, TypeError, AttributeError) as error:  # the last two of a dtype that NumPy lacks
        raise InputError(f"`init` must be an intact safetensors file; {path}: {error}.") from error
    if any(name.startswith(("params/", "state/")) for name in found):
        return found
    return {f"params/{name.replace('.', '/')}": tensor for name, tensor in found.items()}


def _choose(names: Sequence[str], include: Sequence[str], exclude: Sequence[str]) -> list[str]:
    for key, patterns in (("init_include", include), ("init_exclude", exclude)):
        for pattern in patterns:
            if not any(fnmatchcase(_short(name), pattern) for name in names):
                shown = ", ".join(map(_short, names))
                raise InputError(f"`{key}` must be patterns of paths of the network, {shown}; got {pattern!r}.")

    def matches(name: str, patterns: Sequence[str]) -> bool:
        return any(fnmatchcase(_short(name), pattern) for pattern in patterns)

    return [name for name in names if matches(name, include) and not matches(name, exclude)]


def _short(name: str) -> str:
    return name.removeprefix("params/")


def _is_of_outputs(found: tuple[int, ...], expected: tuple[int, ...], num_outputs: int) -> bool:
    """Tell whether shapes differ in the number of outputs only, the last axis of an output layer's weights."""
    return found[:-1] == expected[:-1] and len(found) == len(expected) and expected[-1:] == (num_outputs,)


def _cast(path: Path, name: str, tensor: np.ndarray, dtype: Any) -> np.ndarray:
    """Return an array in the dtype of the network's."""
    if not (jnp.issubdtype(tensor.dtype, jnp.floating) and jnp.issubdtype(dtype, jnp.floating)):
        if tensor.dtype != dtype:
            raise InputError(f"`init`: {_short(name)!r} of {path} must be of type {dtype}; it is of {tensor.dtype}.")
        return tensor
    if not np.isfinite(tensor.astype(np.float64)).all():
        raise InputError(f"`init`: {_short(name)!r} of {path} must be finite; it has values that are not.")
    return tensor.astype(dtype)
