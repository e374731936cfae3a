"""JAX's persistent compilation cache, in a folder per version and processor, and verified before use.

JAX writes an entry in place, reads it without a checksum, and never replaces an entry that it cannot read. Therefore
this module writes the SHA-256 of each complete entry to a file beside it, and removes every entry that does not match
its digest before JAX reads the cache.
"""

import contextlib
import hashlib
import logging
import os
import platform
import threading
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import jax
from jax.experimental.compilation_cache import compilation_cache

from lenet_jax.storage import own_folder, user_cache, write_atomically

_LOG = logging.getLogger(__name__)

_MAX_BYTES = 100_000_000
_MIN_SECONDS = 0.1  # programs that compile faster are not cached
_SETTINGS = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")


@contextlib.contextmanager
def use_compilation_cache(directory: Path | None = None) -> Iterator[None]:
    """Cache the programs that JAX compiles in the block, and reuse those of earlier processes.

    If the user has configured a cache (JAX_COMPILATION_CACHE_DIR), JAX uses that cache, unverified. A folder that
    cannot be written is not used; nor is one that other users can write, because its programs are executed.

    Args:
        directory: folder of the cache; None: one in the user's cache for this version of jaxlib and this processor.
    """
    directory = _default_directory() if directory is None else directory
    before = [getattr(jax.config, name) for name in _SETTINGS]
    if before[0] or not _check_entries(directory):
        yield
        return
    _configure(str(directory), _MIN_SECONDS)
    try:
        with _without_hints():
            yield
    finally:
        _configure(*before)
        _write_digests(directory)


_HINT = b"Target machine feature +prefer-no-"


@contextlib.contextmanager
def _without_hints() -> Iterator[None]:
    """Keep off standard error what XLA says whenever it loads a program: that its own tuning hints are no features."""
    try:
        kept = os.dup(2)
    except OSError:  # it is closed
        yield
        return
    reader, writer = os.pipe()
    os.dup2(writer, 2)
    os.close(writer)
    thread = threading.Thread(target=_pass_on, args=(reader, kept), daemon=True)
    thread.start()
    try:
        yield
    finally:
        os.dup2(kept, 2)
        thread.join(timeout=1)  # a process that was started meanwhile may keep the pipe open


def _pass_on(reader: int, kept: int) -> None:
    with open(reader, "rb") as lines:
        for line in lines:
            if _HINT not in line:
                os.write(kept, line)
    os.close(kept)


def _configure(directory: str | None, min_seconds: float) -> None:
    for name, value in zip(_SETTINGS, (directory, min_seconds), strict=True):
        jax.config.update(name, value)
    compilation_cache.reset_cache()  # JAX reads the settings only when it initializes the cache


def _default_directory() -> Path:
    digest = hashlib.sha256(_processor_features().encode()).hexdigest()[:12]
    return user_cache() / "compiled" / f"jaxlib-{metadata.version('jaxlib')}-{digest}"


def _processor_features() -> str:
    """Return the instruction sets that Linux lists, on which machine code depends; elsewhere the processor's name."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("flags", "Features")):
                return line
    return f"{platform.machine()} {platform.processor()}"


def _check_entries(directory: Path) -> bool:
    """Remove damaged entries, and the oldest ones above the size limit; return whether the folder can be used."""
    try:
        if not own_folder(directory):
            _LOG.warning(
                "%s: not used because other users may write to the programs in it; chmod 700 it, or remove it",
                directory,
            )
            return False
        free_bytes = _MAX_BYTES
        for entry in sorted(directory.glob("*-cache"), key=lambda path: path.stat().st_mtime, reverse=True):
            content, digest = entry.read_bytes(), _digest_path(entry)
            free_bytes -= len(content)
            if free_bytes < 0 or not digest.exists() or digest.read_text() != hashlib.sha256(content).hexdigest():
                entry.unlink(missing_ok=True)
                digest.unlink(missing_ok=True)
    except OSError:
        return False
    return os.access(directory, os.W_OK)


def _write_digests(directory: Path) -> None:
    with contextlib.suppress(OSError):
        for entry in directory.glob("*-cache"):
            if not _digest_path(entry).exists():
                write_atomically(_digest_path(entry), hashlib.sha256(entry.read_bytes()).hexdigest().encode())


def _digest_path(entry: Path) -> Path:
    return entry.with_name(f"{entry.name}.sha256")
