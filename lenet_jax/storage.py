"""Files that are whole or absent, whatever instant the process dies in, and where those of the cache are."""

import contextlib
import errno
import fcntl
import hashlib
import json
import math
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lenet_jax.errors import InputError

SCHEMA = 1  # of the JSON files
_SEAL = "sha256"  # the key under which such a file has the digest of the rest of it
_TEMPORARY = ".tmp"
LOCK = ".lock"
MOST_HEADER_BYTES = 1 << 20  # of a JSON file that describes others, and of the header of a safetensors file


def user_cache() -> Path:
    """Return the folder for what can be made again: $XDG_CACHE_HOME/lenet_jax, by default ~/.cache/lenet_jax."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lenet_jax"


def own_folder(path: Path) -> bool:
    """Tell whether a folder, which is made if needed, is this user's alone: its own, and nobody else may write to it.

    Raises:
        OSError: if it cannot be made.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = path.lstat()  # a link may be anybody's
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022


# ---- files ----------------------------------------------------------------------------------------------------------


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
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}{_TEMPORARY}")
    try:
        write_file(temporary, content, durable=durable)
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def write_file(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Write a new file.

    Raises:
        OSError: if it exists or cannot be written whole; a part of it may be left.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        write_all(descriptor, content)
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, content: bytes) -> None:
    """Write to an open file; the system may take less than it is given at once."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def read_file(path: Path, most_bytes: int) -> bytes:
    """Return the bytes of a file, after a look at what it is and how large.

    Raises:
        InputError: if it is no file, larger than that, or cannot be read.
    """
    try:
        if not path.is_file():
            raise InputError(f"{path}: must be a file; it is {'something else' if path.exists() else 'missing'}.")
        size = path.stat().st_size
        if size > most_bytes:
            raise InputError(f"{path}: must have at most {most_bytes} bytes; got {size}.")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}.") from error


def sync_folder(path: Path) -> None:
    """Have the names in a folder on the disk before this returns."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_partial(folder: Path) -> None:
    """Remove what was left in a folder, under a temporary name, by a process that was killed."""
    for path in folder.glob(f".*{_TEMPORARY}"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(folder: Path, kind: str) -> Iterator[None]:
    """Keep every other process out of a folder; the system forgets the lock when this one ends, however it does.

    Args:
        folder: made if needed.
        kind: what is in it, for the message.

    Raises:
        InputError: if another process works on it.
        OSError: if the folder cannot be made or written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as opened:
        # NFS locks no folders, and files only that are open for writing.
        for path, flags in ((folder, os.O_RDONLY), (folder / LOCK, os.O_RDWR | os.O_CREAT)):
            descriptor = os.open(path, flags, 0o666)
            opened.callback(os.close, descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                raise InputError(f"{folder}: another process works on this {kind}; wait for its end.") from error
            except OSError as error:
                if path != folder or error.errno not in (errno.EBADF, errno.EINVAL):
                    raise
        yield


# ---- JSON -----------------------------------------------------------------------------------------------------------


def to_json(content: Any, indent: int | None = None) -> str:
    """Return content as JSON; numbers that are not finite become null, which JSON has no other word for."""
    return json.dumps(_finite(content), indent=indent, allow_nan=False)


def seal(content: Mapping[str, Any]) -> bytes:
    """Return a JSON file with its schema first and, last, the SHA-256 of its content."""
    content = {"schema": SCHEMA, **_finite(dict(content))}
    return (to_json({**content, _SEAL: _digest(content)}, indent=2) + "\n").encode()


def unseal(path: Path, file: bytes) -> dict[str, Any]:
    """Return the content of a JSON file, without schema and digest; one without a digest is taken as it is.

    Args:
        path: of the file, for the message.
        file: its bytes.

    Raises:
        InputError: if it is not what was written, or of another schema.
    """
    try:
        content = json.loads(file)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: must be JSON as lenet-jax writes it; {error}.") from error
    if not isinstance(content, dict) or content.get("schema", SCHEMA) != SCHEMA:
        raise InputError(
            f"{path}: must be an object of schema {SCHEMA}; if it is whole, use the version of lenet-jax that wrote it."
        )
    expected = content.pop(_SEAL, None)
    if expected is not None and (found := _digest(content)) != expected:
        raise InputError(f"{path}: is damaged, or was changed; its content must have SHA-256 {expected}; got {found}.")
    content.pop("schema", None)
    return content


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _finite(content: Any) -> Any:
    if isinstance(content, dict):
        return {str(key): _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
