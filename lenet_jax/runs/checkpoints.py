"""Checkpoints: folders that are whole or absent, of which two are kept, and what is read of them is what was written.

`checkpoints/0000000160/` is the state after 160 iterations: `state.safetensors`, and `manifest.json` with the size and
the SHA-256 of it and of itself. Both are written and flushed in a folder of another name, the manifest last, and that
folder is renamed. An older one is removed only after the newer has been read back.

Imports no jax.
"""

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from lenet_jax.errors import InputError
from lenet_jax.storage import MOST_HEADER_BYTES, read_file, seal, sync_folder, unseal, write_file

KEPT = 2
STATE = "state.safetensors"
MANIFEST = "manifest.json"

Tensors = dict[str, np.ndarray]


class Checkpoint(NamedTuple):
    """What a checkpoint holds."""

    path: Path
    iteration: int
    facts: dict[str, Any]  # JSON, as it was given
    tensors: Tensors


def save_checkpoint(folder: Path, iteration: int, tensors: Tensors, facts: Mapping[str, Any]) -> None:
    """Write a checkpoint into a folder, and remove all but the newest `KEPT` once it is known to be whole.

    Args:
        folder: of the checkpoints of a run.
        iteration: 0 or above; a checkpoint of the same iteration, which must be damaged, is replaced.
        tensors: the state.
        facts: what else is to be known with it; JSON.

    Raises:
        OSError: if it cannot be written; the older ones are as they were.
        InputError: if it was written and something else is read back.
    """
    target = folder / f"{iteration:010d}"
    partial = folder / f".{target.name}.tmp"
    shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
    partial.mkdir(parents=True)
    content = safetensors.numpy.save({name: np.asarray(tensor, order="C") for name, tensor in tensors.items()})
    try:
        write_file(partial / STATE, content)
        described = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        write_file(
            partial / MANIFEST, seal({"iteration": iteration, "facts": dict(facts), "files": {STATE: described}})
        )
        sync_folder(partial)
        if target.exists():
            _remove(target)
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    sync_folder(folder)
    _read_state(target, len(content))
    for path in newest_first(folder)[KEPT:]:
        _remove(path)


def newest_first(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder, good or damaged; none if there is no such folder."""
    if not folder.is_dir():
        return []
    names = (path.name for path in folder.iterdir())
    return [folder / name for name in sorted(filter(_is_checkpoint, names), reverse=True)]


def read_checkpoint(path: Path, most_bytes: int) -> Checkpoint:
    """Read a checkpoint.

    Args:
        path: of its folder.
        most_bytes: what the numbers in it may take; a larger file is not read.

    Raises:
        InputError: if it is damaged; the message names file, expected and found.
    """
    manifest, content = _read_state(path, most_bytes + MOST_HEADER_BYTES)
    try:
        tensors = safetensors.numpy.load(content)
    except SafetensorError as error:
        raise InputError(f"{path / STATE}: must be in the safetensors format; {error}.") from error
    return Checkpoint(path, manifest["iteration"], manifest["facts"], tensors)


def _is_checkpoint(name: str) -> bool:
    return len(name) == 10 and name.isdecimal() and name.isascii()


def _remove(path: Path) -> None:
    """Remove a checkpoint: at no time is a part of it there under its name."""
    discarded = path.with_name(f".{path.name}.old.tmp")
    shutil.rmtree(discarded, ignore_errors=True)
    path.rename(discarded)
    shutil.rmtree(discarded)


def _read_state(path: Path, most_bytes: int) -> tuple[dict[str, Any], bytes]:
    """Return the manifest of a checkpoint, and the bytes of its state, which are those that the manifest promises."""
    manifest = unseal(path / MANIFEST, read_file(path / MANIFEST, MOST_HEADER_BYTES))
    try:
        described = manifest["files"][STATE]
        expected, size = str(described["sha256"]), int(described["bytes"])
        complete = manifest["iteration"] == int(path.name) and isinstance(manifest["facts"], dict)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path / MANIFEST}: is damaged, it lacks {error}.") from error
    if not complete:
        raise InputError(f"{path / MANIFEST}: must be of iteration {int(path.name)}; got {manifest['iteration']!r}.")
    content = read_file(path / STATE, most_bytes)
    if len(content) != size:
        raise InputError(f"{path / STATE}: is damaged, it must have {size} bytes; got {len(content)}.")
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise InputError(f"{path / STATE}: is damaged, it must have SHA-256 {expected}; got {found}.")
    return manifest, content
