"""JAX's persistent compilation cache, kept per version and processor, and checked before it is used.

JAX writes an entry in place and reads it without a checksum, and never replaces one that it cannot read. So each entry
gets a file with its SHA-256 beside it once it is whole; an entry without the right one is removed before JAX looks.
"""

import contextlib
import hashlib
import logging
import os
import platform
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import jax
from jax.experimental.compilation_cache import compilation_cache

from lenet_jax.storage import own_folder, user_cache, write_atomically

_LOG = logging.getLogger(__name__)

_MAX_BYTES = 100_000_000
_MIN_SECONDS = 0.1  # what compiles faster is not worth a file
_SETTINGS = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")


@contextlib.contextmanager
def use_compilation_cache(directory: Path | None = None) -> Iterator[None]:
    """Let JAX keep what it compiles in the block, and find what an earlier process compiled.

    A cache that the user has set up (JAX_COMPILATION_CACHE_DIR) is left as it is. A cache that cannot be written, or
    that others can write, is not used: what is in it is run.

    Args:
        directory: default: a folder for this version of jaxlib and this processor in the user's cache.
    """
    directory = _default_directory() if directory is None else directory
    before = [getattr(jax.config, name) for name in _SETTINGS]
    if before[0] or not _check_entries(directory):
        yield
        return
    _configure(str(directory), _MIN_SECONDS)
    try:
        yield
    finally:
        _configure(*before)
        _seal_entries(directory)


def _configure(directory: str | None, min_seconds: float) -> None:
    for name, value in zip(_SETTINGS, (directory, min_seconds), strict=True):
        jax.config.update(name, value)
    compilation_cache.reset_cache()  # JAX reads the settings once


def _default_directory() -> Path:
    digest = hashlib.sha256(_processor_features().encode()).hexdigest()[:12]
    return user_cache() / "compiled" / f"jaxlib-{metadata.version('jaxlib')}-{digest}"


def _processor_features() -> str:
    """Return what decides whether machine code made here runs: as Linux lists it, elsewhere the processor's name."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("flags", "Features")):
                return line
    return f"{platform.machine()} {platform.processor()}"


def _check_entries(directory: Path) -> bool:
    """Remove damaged entries, and the oldest of too many; tell whether the folder can be used."""
    try:
        if not own_folder(directory):
            _LOG.warning(
                "%s: not used, other users may write to the programs in it; chmod 700 it, or remove it", directory
            )
            return False
        room = _MAX_BYTES
        for entry in sorted(directory.glob("*-cache"), key=lambda path: path.stat().st_mtime, reverse=True):
            content, seal = entry.read_bytes(), _seal(entry)
            room -= len(content)
            if room < 0 or not seal.exists() or seal.read_text() != hashlib.sha256(content).hexdigest():
                entry.unlink(missing_ok=True)
                seal.unlink(missing_ok=True)
    except OSError:
        return False
    return os.access(directory, os.W_OK)


def _seal_entries(directory: Path) -> None:
    with contextlib.suppress(OSError):
        for entry in directory.glob("*-cache"):
            if not _seal(entry).exists():
                write_atomically(_seal(entry), hashlib.sha256(entry.read_bytes()).hexdigest().encode())


def _seal(entry: Path) -> Path:
    return entry.with_name(f"{entry.name}.sha256")
