"""Files that are whole or absent, whatever instant the process dies in, and where those of the cache are."""

import os
import tempfile
from pathlib import Path


def user_cache() -> Path:
    """Return the folder for what can be made again: $XDG_CACHE_HOME/lenet_jax, by default ~/.cache/lenet_jax."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lenet_jax"


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file under a temporary name in its folder, flush it to the disk and rename it; make the folder if needed.

    Raises:
        OSError: if the folder or the file cannot be written; nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
