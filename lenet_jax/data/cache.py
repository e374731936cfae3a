"""A cache of decoded arrays: the second load of a data set reads bytes instead of decoding images.

Content-addressed: an array is stored as `objects/<SHA-256 of the file>.npy`, and `entries/<key>.json` names the arrays
that a source with this key decodes to. The key is a digest of the source's own bytes, so a changed source is another
entry. Files are written under a temporary name and renamed, the entry last; whatever does not have the content that its
name promises is decoded again.
"""

import hashlib
import io
import json
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from lenet_jax.storage import user_cache, write_atomically

Arrays = dict[str, np.ndarray]


def cache_directory() -> Path:
    """Return the folder of the cache: `datasets` in the user's cache."""
    return user_cache() / "datasets"


def digest_files(paths: Iterable[Path], *extra: str) -> str:
    """Return the SHA-256 over names and content of files, and further texts."""
    digest = hashlib.sha256()
    for text in extra:
        digest.update(f"{len(text)}:{text}".encode())
    for path in sorted(paths):
        with path.open("rb") as file:
            digest.update(f"{path.name}:{hashlib.file_digest(file, 'sha256').hexdigest()}".encode())
    return digest.hexdigest()


def load_or_decode(key: str, decode: Callable[[], Arrays], directory: Path | None = None) -> Arrays:
    """Return the arrays of an entry, from the cache where it has them whole, else by `decode`, which fills it.

    A cache that cannot be written to costs a warning and the time to decode.
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
    try:
        entry = json.loads((directory / "entries" / f"{key}.json").read_text())
        arrays = {}
        for name, digest in entry.items():
            raw = (directory / "objects" / f"{digest}.npy").read_bytes()
            if hashlib.sha256(raw).hexdigest() != digest:
                warnings.warn(f"the cached data {digest}.npy in {directory} are damaged; decoding again", stacklevel=3)
                return None
            arrays[name] = np.lib.format.read_array(io.BytesIO(raw), allow_pickle=False)
        return arrays
    except (OSError, ValueError, AttributeError):
        return None


def _store(key: str, arrays: Arrays, directory: Path) -> None:
    entry = {}
    for name, array in arrays.items():
        buffer = io.BytesIO()
        np.lib.format.write_array(buffer, np.ascontiguousarray(array), allow_pickle=False)
        raw = buffer.getvalue()
        entry[name] = hashlib.sha256(raw).hexdigest()
        write_atomically(directory / "objects" / f"{entry[name]}.npy", raw)
    write_atomically(directory / "entries" / f"{key}.json", json.dumps(entry, indent=1).encode())
