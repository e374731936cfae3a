"""Crash-safe files, written atomically and verified when read, and the folder of the user's cache."""

import contextlib
import errno
import fcntl
import functools
import gzip
import hashlib
import io
import json
import logging
import math
import os
import shutil
import stat
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lenet_jax.errors import InputError

_log = logging.getLogger(__name__)

ENVIRONMENTS = (".venv", "venv", ".git", "node_modules")
"""Folders of a project whose links may lead out of it."""

SCHEMA = 1  # of the JSON files
_DIGEST_KEY = "sha256"  # the key that holds the digest of the other keys of a JSON file
_MAX_DEPTH = 100  # of the objects and lists of a JSON file; those of lenet-jax have less than 20 levels
_TEMPORARY = ".tmp"
LOCK = ".lock"
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # NFS without lockd, Lustre without -o flock, others
_NO_FOLDER_SYNC = (errno.EINVAL, errno.EBADF, errno.ENOSYS, errno.EOPNOTSUPP)  # CIFS, shared folders, some FUSE
MAX_HEADER_BYTES = 1 << 20  # maximum size of a JSON manifest, and of the header of a safetensors file


def user_cache() -> Path:
    """Return the folder for reproducible files: $XDG_CACHE_HOME/lenet_jax, by default ~/.cache/lenet_jax."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lenet_jax"


def own_folder(path: Path) -> bool:
    """Return whether a folder belongs to this user and no other user may write to it; create it if needed.

    Raises:
        OSError: if the folder cannot be created.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = path.lstat()  # not `stat`: a symbolic link may belong to another user
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022


# ---- files ----------------------------------------------------------------------------------------------------------


def write_atomically(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Write a file under a temporary name in its folder and rename it; create the folder if needed.

    Args:
        path: the file to write or replace.
        content: the bytes to write.
        durable: whether the file is flushed to disk before this returns. Otherwise a power failure may undo the
            write, but the exit of the process does not.

    Raises:
        OSError: if the folder or the file cannot be written; no temporary file remains.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}{_TEMPORARY}")
    try:
        write_file(temporary, content, durable=durable)
        try:
            temporary.replace(path)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            _warn_of_no_rename(path.absolute().parent)
            _overwrite(path, content)
            temporary.unlink()
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def write_file(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Write a new file.

    Args:
        path: the file, which must not exist yet.
        content: the bytes to write.
        durable: whether the file is flushed to disk before this returns.

    Raises:
        OSError: if the file exists or cannot be written completely; a partial file may remain.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        write_all(descriptor, content)
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _overwrite(path: Path, content: bytes) -> None:
    """Write a file in place, where files cannot be renamed."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
    try:
        write_all(descriptor, content)
        os.ftruncate(descriptor, len(content))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, content: bytes) -> None:
    """Write all bytes to an open file; a single call of `os.write` may write only some of them."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def read_file(path: Path, max_bytes: int) -> bytes:
    """Return the bytes of a file, after checking its type and size.

    Args:
        path: the file.
        max_bytes: the largest allowed size.

    Raises:
        InputError: if the path is not a file, the file is larger than `max_bytes`, or it cannot be read.
    """
    try:
        if not path.is_file():
            raise InputError(f"{path}: must be a file; it is {'something else' if path.exists() else 'missing'}.")
        size = path.stat().st_size
        if size > max_bytes:
            raise InputError(f"{path}: must have at most {max_bytes} bytes; got {size}.")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}.") from error


@contextlib.contextmanager
def open_untrusted(path: Path) -> Iterator[io.BufferedReader]:
    """Open a file for reading, and report errors of the file or of its gzip compression as `InputError`.

    Raises:
        InputError: now or during reading, if the path is not a file, cannot be read or its gzip is damaged.
    """
    try:
        if path.exists() and not path.is_file():  # opening a named pipe would block
            raise InputError(f"{path}: must be a file; it is something else.")
        with path.open("rb") as file:
            yield file
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path}: the gzip is damaged ({error}); download it again.") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}).") from error


def sync_folder(path: Path) -> None:
    """Flush the names of the files in a folder to disk; a file system that cannot costs a warning."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
        _warn_of_no_folder_sync()
    finally:
        os.close(descriptor)


def rename_folder(old: Path, new: Path, last: str) -> None:
    """Rename a folder of files, or where that is not possible move its files one after the other.

    Folders of a lower layer of overlayfs, for example, cannot be renamed.

    Args:
        old: the folder.
        new: its new path, which does not exist.
        last: the file whose presence says that the folder is complete; it leaves `old` first and enters `new` last.

    Raises:
        OSError: if it cannot be moved.
    """
    try:
        old.rename(new)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        files = {path.name: path.read_bytes() for path in sorted(old.iterdir())}
        (old / last).unlink(missing_ok=True)
        new.mkdir()
        for name in sorted(files, key=lambda name: name == last):
            write_file(new / name, files[name])
        sync_folder(new)
        shutil.rmtree(old)


def remove_partial(folder: Path) -> None:
    """Remove partial writes from a folder: files under temporary names that a killed process left."""
    for path in folder.glob(f".*{_TEMPORARY}"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(folder: Path, what: str, *, shared: bool = False, wait: bool = False) -> Iterator[None]:
    """Lock a folder for this process; the operating system releases the lock when the process exits or is killed.

    A file system without locks, as of some clusters, costs a warning; then nothing keeps others out.

    Args:
        folder: the folder, created if needed.
        what: the name of its content, such as "run", for the message.
        shared: whether others may hold a shared lock at the same time.
        wait: whether to wait until the folder is free; otherwise it is refused.

    Raises:
        InputError: if another process holds the lock.
        OSError: if the folder cannot be created or written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    operation = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    with contextlib.ExitStack() as opened:
        # NFS cannot lock folders; it locks files that are open for writing.
        for path, flags in ((folder, os.O_RDONLY), (folder / LOCK, os.O_RDWR | os.O_CREAT)):
            descriptor = os.open(path, flags, 0o666)
            opened.callback(os.close, descriptor)
            try:
                _lock(descriptor, operation, folder, what, wait=wait)
                break
            except OSError as error:
                if error.errno in _NO_LOCKS:
                    _warn_of_no_locks(folder.absolute().parent)
                    break
                if path != folder or error.errno not in (errno.EBADF, errno.EINVAL):
                    raise
        yield


def is_locked(folder: Path) -> bool:
    """Tell whether another process holds the lock of a folder, as `locked` takes it; False where there are no locks.

    To find out, it is taken for an instant.
    """
    for path in (folder, folder / LOCK):
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return False
        except BlockingIOError:
            return True
        except OSError:  # a file system that cannot lock folders, or none at all
            continue
        finally:
            os.close(descriptor)
    return False


def _lock(descriptor: int, operation: int, folder: Path, what: str, *, wait: bool) -> None:
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
    except BlockingIOError as error:
        if not wait:
            raise InputError(
                f"{folder}: in use by another process, which works on this {what}; wait until it exits."
            ) from error
        _log.warning("%s: waits until another process, which works on this %s, exits", folder, what)
        fcntl.flock(descriptor, operation)


@functools.cache
def _warn_of_no_folder_sync() -> None:
    _log.warning("the file system cannot flush folders: a power failure, not a killed process, may undo the last write")


@functools.cache
def _warn_of_no_rename(folder: Path) -> None:
    _log.warning("%s: its file system cannot replace files at once; a killed process may leave a damaged one", folder)


@functools.cache
def _warn_of_no_locks(folder: Path) -> None:
    _log.warning("%s: its file system has no locks; let only one process at a time work on what is in it", folder)


# ---- JSON -----------------------------------------------------------------------------------------------------------


def to_json(content: Any, indent: int | None = None) -> str:
    """Return content as JSON; NaN and infinities, which JSON cannot represent, become null."""
    return json.dumps(_finite(content), indent=indent, allow_nan=False)


def dump_with_digest(content: Mapping[str, Any]) -> bytes:
    """Return the bytes of a JSON file that starts with its schema and ends with the SHA-256 of its content."""
    content = {"schema": SCHEMA, **_finite(dict(content))}
    return (to_json({**content, _DIGEST_KEY: _digest(content)}, indent=2) + "\n").encode()


def load_verified(path: Path, file: bytes) -> dict[str, Any]:
    """Return the content of a JSON file, without its schema and digest.

    Args:
        path: the path of the file, for the message.
        file: the bytes of the file.

    Raises:
        InputError: if the file is not JSON, has another schema, or its content does not match its digest. A file
            without a digest is accepted.
    """
    try:
        content = json.loads(file)
        if _depth(content) > _MAX_DEPTH:
            raise ValueError(f"nested more than {_MAX_DEPTH} levels deep")
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: must be JSON as lenet-jax writes it; {error}.") from error
    if not isinstance(content, dict) or content.get("schema", SCHEMA) != SCHEMA:
        raise InputError(
            f"{path}: must be an object of schema {SCHEMA}; if it is whole, use the version of lenet-jax that wrote it."
        )
    expected = content.pop(_DIGEST_KEY, None)
    if expected is not None and (found := _digest(content)) != expected:
        raise InputError(f"{path}: is damaged, or was changed; its content must have SHA-256 {expected}; got {found}.")
    content.pop("schema", None)
    return content


def _depth(content: Any) -> int:
    parts = content.values() if isinstance(content, dict) else content if isinstance(content, list) else ()
    return 1 + max(map(_depth, parts), default=0)


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _finite(content: Any) -> Any:
    if isinstance(content, dict):
        return {str(key): _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
