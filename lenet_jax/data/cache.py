"""A cache of decoded arrays: the second load of a data set reads bytes instead of decoding images.

The cache is content-addressed. An array is stored as `objects/<SHA-256 of the file>.npy`. The file `entries/<key>.json`
names the arrays of a source and holds a digest of its own content. The key is a digest of the bytes of the source, so a
changed source gets a new entry. All files are written atomically, the entry last. If a file does not match its digest,
the source is decoded again, with a warning.
"""

import hashlib
import io
import math
import os
import re
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from lenet_jax.storage import MAX_HEADER_BYTES, dump_with_digest, load_verified, read_file, user_cache, write_atomically

Arrays = dict[str, np.ndarray]

_DIGEST = re.compile("[0-9a-f]{64}")


def cache_directory() -> Path:
    """Return the folder of the cache: `datasets` in the user's cache."""
    return user_cache() / "datasets"


def digest_files(paths: Iterable[Path], *extra: str) -> str:
    """Return the SHA-256 of the names and contents of files, and of further texts."""
    digest = hashlib.sha256()
    for text in extra:
        digest.update(f"{len(text)}:{text}".encode())
    for path in sorted(paths):
        with path.open("rb") as file:
            digest.update(f"{path.name}:{hashlib.file_digest(file, 'sha256').hexdigest()}".encode())
    return digest.hexdigest()


def load_or_decode(key: str, decode: Callable[[], Arrays], directory: Path | None = None) -> Arrays:
    """Return the arrays of a cache entry; if it is missing or damaged, call `decode` and store the result.

    If the cache cannot be written, a warning is given.

    Args:
        key: the entry, the result of `digest_files`.
        decode: returns the arrays by name.
        directory: folder of the cache; None: `cache_directory()`.
    """
    directory = cache_directory() if directory is None else directory
    cached = _load(key, directory)
    if cached is not None:
        return cached
    arrays = decode()
    try:
        _store(key, arrays, directory)
    except OSError as error:
        warnings.warn(f"the decoded data were not cached in {directory}: {error}", stacklevel=2)
    return arrays


def _load(key: str, directory: Path) -> Arrays | None:
    entry = directory / "entries" / f"{key}.json"
    if not os.path.lexists(entry):
        return None
    path, arrays = entry, {}
    try:
        for name, digest in load_verified(entry, read_file(entry, MAX_HEADER_BYTES)).items():
            if not _DIGEST.fullmatch(digest):
                raise ValueError
            path = directory / "objects" / f"{digest}.npy"
            if not os.path.lexists(path):
                return None
            arrays[name] = _read_object(path, digest)
        if not arrays:
            raise ValueError
    except Exception:  # a damaged file can make its parser raise almost any exception
        warnings.warn(f"the cached data {path.name} in {directory} are damaged; decoding again", stacklevel=3)
        return None
    return arrays


def _read_object(path: Path, digest: str) -> np.ndarray:
    """Return an array from an intact file; the size in the header is compared with that of the file before reading."""
    if not path.is_file():
        raise ValueError
    with path.open("rb") as file:
        np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        offset = file.tell()
        if offset + math.prod(shape) * dtype.itemsize != path.stat().st_size:
            raise ValueError
        file.seek(0)
        raw = file.read()
    if hashlib.sha256(raw).hexdigest() != digest:
        raise ValueError
    return np.frombuffer(raw, dtype, offset=offset).reshape(shape)


def _store(key: str, arrays: Arrays, directory: Path) -> None:
    entry = {}
    for name, array in arrays.items():
        buffer = io.BytesIO()
        np.lib.format.write_array(buffer, np.ascontiguousarray(array), allow_pickle=False)
        raw = buffer.getvalue()
        entry[name] = hashlib.sha256(raw).hexdigest()
        write_atomically(directory / "objects" / f"{entry[name]}.npy", raw)
    write_atomically(directory / "entries" / f"{key}.json", dump_with_digest(entry))
