"""Checkpoints: folders that are written atomically and verified when read. The two newest ones are kept.

`checkpoints/0000000160/` holds the state after 160 iterations: the tensors in `state.safetensors`, and their size and
SHA-256 in `manifest.json`, which also holds a digest of its own content. Both files are written and flushed to disk in
a temporary folder, the manifest last; then the folder is renamed. An older checkpoint is removed only after the newer
one has been read back.

Imports no jax.
"""

import errno
import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from lenet_jax.errors import InputError
from lenet_jax.storage import (
    MAX_HEADER_BYTES,
    dump_with_digest,
    load_verified,
    read_file,
    rename_folder,
    sync_folder,
    write_file,
)

MAX_CHECKPOINTS = 2
STATE = "state.safetensors"
MANIFEST = "manifest.json"

Tensors = dict[str, np.ndarray]


class Checkpoint(NamedTuple):
    """The content of a checkpoint."""

    path: Path
    iteration: int
    metadata: dict[str, Any]  # the JSON that `save_checkpoint` received
    tensors: Tensors


def save_checkpoint(folder: Path, iteration: int, tensors: Tensors, metadata: Mapping[str, Any]) -> None:
    """Write a checkpoint, verify it, and remove all but the newest `MAX_CHECKPOINTS`.

    Args:
        folder: the folder of a run's checkpoints.
        iteration: number of iterations done, 0 or above. An existing checkpoint of the same iteration is replaced.
        tensors: the state, arrays by name.
        metadata: further values to store, as JSON.

    Raises:
        OSError: if the checkpoint cannot be written; the older checkpoints are unchanged.
        InputError: if the files read back differ from those written.
    """
    target = folder / f"{iteration:010d}"
    partial = folder / f".{target.name}.tmp"
    shutil.rmtree(partial, ignore_errors=True)  # a killed process may have left it
    partial.mkdir(parents=True)
    content = safetensors.numpy.save({name: np.asarray(tensor, order="C") for name, tensor in tensors.items()})
    try:
        write_file(partial / STATE, content)
        state_file = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        write_file(
            partial / MANIFEST,
            dump_with_digest({"iteration": iteration, "facts": dict(metadata), "files": {STATE: state_file}}),
        )
        sync_folder(partial)
        if target.exists():
            _remove(target)
        rename_folder(partial, target, MANIFEST)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    sync_folder(folder)
    _read_state(target, len(content))
    for path in newest_first(folder)[MAX_CHECKPOINTS:]:
        _remove(path)


def newest_first(folder: Path) -> list[Path]:
    """Return the paths of the checkpoints in a folder, intact or damaged, newest first; empty if it does not exist."""
    if not folder.is_dir():
        return []
    names = (path.name for path in folder.iterdir())
    return [folder / name for name in sorted(filter(_is_checkpoint, names), reverse=True)]


def read_checkpoint(path: Path, max_bytes: int) -> Checkpoint:
    """Read a checkpoint.

    Args:
        path: the folder of the checkpoint.
        max_bytes: the largest allowed size of all tensors together; a larger file is not read.

    Raises:
        InputError: if the checkpoint is damaged; the message has the file, the expected and the actual value.
    """
    manifest, content = _read_state(path, max_bytes + MAX_HEADER_BYTES)
    try:
        tensors = safetensors.numpy.load(content)
    except SafetensorError as error:
        raise InputError(f"{path / STATE}: must be in the safetensors format; {error}.") from error
    return Checkpoint(path, manifest["iteration"], manifest["facts"], tensors)


def is_intact(path: Path) -> bool:
    """Return whether a checkpoint has the bytes that were written, whatever its size."""
    try:
        _read_state(path, (path / STATE).stat().st_size)
    except (InputError, OSError):
        return False
    return True


def _is_checkpoint(name: str) -> bool:
    return len(name) == 10 and name.isdecimal() and name.isascii()


def _remove(path: Path) -> None:
    """Remove a checkpoint atomically: its folder is renamed first, so that no partial checkpoint has its name.

    Where it cannot be renamed, as in a lower layer of overlayfs, its manifest goes first: the rest is no checkpoint.
    """
    discarded = path.with_name(f".{path.name}.old.tmp")
    shutil.rmtree(discarded, ignore_errors=True)
    try:
        path.rename(discarded)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        (path / MANIFEST).unlink(missing_ok=True)
        sync_folder(path)
        discarded = path
    shutil.rmtree(discarded)


def _read_state(path: Path, max_bytes: int) -> tuple[dict[str, Any], bytes]:
    """Return the manifest of a checkpoint, and the bytes of its state after comparing them with the manifest."""
    manifest = load_verified(path / MANIFEST, read_file(path / MANIFEST, MAX_HEADER_BYTES))
    try:
        state_file = manifest["files"][STATE]
        expected, size = str(state_file["sha256"]), int(state_file["bytes"])
        complete = manifest["iteration"] == int(path.name) and isinstance(manifest["facts"], dict)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path / MANIFEST}: is damaged; it lacks {error}.") from error
    if not complete:
        raise InputError(f"{path / MANIFEST}: must be of iteration {int(path.name)}; got {manifest['iteration']!r}.")
    content = read_file(path / STATE, max_bytes)
    if len(content) != size:
        raise InputError(f"{path / STATE}: is damaged; it must have {size} bytes; got {len(content)}.")
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise InputError(f"{path / STATE}: is damaged; it must have SHA-256 {expected}; got {found}.")
    return manifest, content
