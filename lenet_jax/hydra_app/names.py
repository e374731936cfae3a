"""Texts that become the names of files, and are shown in messages."""

import re
import unicodedata
from pathlib import PurePosixPath

from lenet_jax.errors import InputError

_MOST_FOLDERS = 200  # one inside the other: they are made by recursion
_OWN_FILES = ("sweep.json", "jobs", ".lock", "optuna.journal", "figures", "index.html", "summary.json", "summary.csv")
NUMBER = re.compile(r"\$\{hydra[.:]job\.(num|id)\}")
_UNSHOWN = ("Cc", "Cs", "Zl", "Zp")  # categories of Unicode: control characters, halves of pairs, ends of lines


def check_text(name: str, text: str) -> None:
    """Check that a text can be shown on a line, and written to a file.

    Raises:
        InputError: if there is a control character in it, or half of a surrogate pair.
    """
    found = next((character for character in text if unicodedata.category(character) in _UNSHOWN), None)
    if found is not None:
        raise InputError(
            f"`{shown(name)}` must not hold control characters or broken Unicode; got {found!a} in it; remove it."
        )


def check_name(key: str, name: str) -> None:
    """Check the name of a file that is made in a folder.

    Raises:
        InputError: if it may lead out of the folder, or no file can have it.
    """
    check_text(key, name)
    if name in ("", ".", "..") or "/" in name or "${" in name or len(name.encode()) > 200:
        raise InputError(
            f"`{key}` must be a file's name of at most 200 bytes, without / and, but for ${{hydra.job.num}}, written "
            f"out; got {shown(name)!r}."
        )


def check_folder(key: str, path: str) -> None:
    """Check the path of a folder that is made.

    Raises:
        InputError: if it cannot be written to a file, or is deeper than any that is meant.
    """
    check_text(key, path)
    if len(PurePosixPath(path).parts) > _MOST_FOLDERS:
        raise InputError(f"`{key}` must be at most {_MOST_FOLDERS} folders deep; got {shown(path)}; use another.")


def check_directory(path: str) -> None:
    """Check the directory of a sweep, which is put into a command line.

    Raises:
        InputError: if it cannot be.
    """
    check_folder("hydra.sweep.dir", path)
    if "${" in path:
        raise InputError(f"`hydra.sweep.dir` must have no ${{ in its name; got {shown(path)!r}; use another.")


def check_subdirectory(subdirectory: str) -> None:
    """Check the directory of a job, which is inside that of its sweep.

    Raises:
        InputError: if it leads out of it, or is one of the sweep's own files.
    """
    check_folder("hydra.sweep.subdir", subdirectory)
    path = PurePosixPath(subdirectory)
    if not path.parts or path.is_absolute() or ".." in path.parts or path.parts[0] in _OWN_FILES:
        raise InputError(
            "`hydra.sweep.subdir` must be inside the directory of the sweep, and none of the sweep's own files; "
            f"got {shown(subdirectory)!r}; use ${{hydra:job.num}}."
        )


def check_numbered(subdirectory: str) -> None:
    """Check the directory of jobs that are not known yet: before values are put in, as it stands in the configuration.

    Raises:
        InputError: as `check_subdirectory`, or if it has a value in it that a job may choose.
    """
    without_number = NUMBER.sub("0", subdirectory)
    if "${" in without_number:
        raise InputError(
            "`hydra.sweep.subdir` must have no values but ${hydra:job.num} in it where a sweeper chooses the jobs as "
            f"it goes; got {shown(subdirectory)!r}."
        )
    check_subdirectory(without_number)


def shown(text: str) -> str:
    """Return a text without its control characters, and not too much of it."""
    plain = "".join(c if unicodedata.category(c) not in _UNSHOWN else "?" for c in text)
    return plain if len(plain) <= 200 else f"{plain[:200]}..."
