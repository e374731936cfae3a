"""Files that are whole or absent, whatever instant the process dies in, and where those of the cache are."""

import json
import math
import os
import tempfile
from pathlib import Path
from typing import Any


def user_cache() -> Path:
    """Return the folder for what can be made again: $XDG_CACHE_HOME/lenet_jax, by default ~/.cache/lenet_jax."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lenet_jax"


def write_atomically(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Write a file under a temporary name in its folder and rename it; make the folder if needed.

    Args:
        path: of the file.
        content: of the file.
        durable: whether it is on the disk before this returns; else a loss of power, not the end of the process,
            may undo it.

    Raises:
        OSError: if the folder or the file cannot be written; nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def to_json(content: Any, indent: int | None = None) -> str:
    """Return content as JSON; numbers that are not finite become null, which JSON has no other word for."""
    return json.dumps(_finite(content), indent=indent, allow_nan=False)


def _finite(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
