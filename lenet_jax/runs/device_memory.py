"""How much memory the programs of a device may use."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def memory_limit(device: Any) -> int | None:
    """Return the bytes that programs on a device may use, whatever is in use now; None if that is not known.

    Args:
        device: one of JAX. Those of a CPU share the memory of the machine, which is returned for all of them together.
    """
    if device.platform == "cpu":
        return machine_memory()
    return (device.memory_stats() or {}).get("bytes_limit")


def machine_memory(root: Path = Path("/")) -> int:
    """Return the bytes of memory that this process may use: those of the machine, or fewer by a limit of its cgroup.

    Args:
        root: the folder of `proc` and `sys`.
    """
    return min([os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), *_cgroup_limits(root)])


def _cgroup_limits(root: Path) -> Iterator[int]:
    """Yield the limits of the cgroups of this process, version 2 or 1, and of those around them."""
    mount = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top, name = (mount / "memory", "memory.limit_in_bytes") if controllers else (mount, "memory.max")
        inner = top / path.strip("/")
        for folder in (inner, *inner.parents):
            if folder.is_relative_to(top) and (text := _read(folder / name).strip()).isdecimal():  # else "max"
                yield int(text)


def _read(path: Path) -> str:
    """Return the content of a file, "" if there is none to be had: not every system has cgroups."""
    try:
        return path.read_text()
    except OSError:
        return ""
