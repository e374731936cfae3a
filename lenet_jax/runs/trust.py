"""Trust in the directory of a run or a sweep, which somebody else may have made.

What is read from there imports, besides this package, only packages that the user has allowed: on the command line, in
the environment, or in the pyproject.toml of the current project.
"""

import os
import tomllib
from collections.abc import Iterable
from pathlib import Path

from lenet_jax.components import check_allowed, complete_config, targets
from lenet_jax.config import Config
from lenet_jax.errors import InputError
from lenet_jax.runs.run_directory import Record, read_record

ALL = "*"
_VARIABLE = "LENET_JAX_ALLOW"


def allowed_packages(given: Iterable[str] = (), *, trust: bool = False) -> frozenset[str]:
    """Return the packages whose code a directory may name.

    Args:
        given: on the command line, by --allow.
        trust: whether all are allowed, by --trust.

    Raises:
        InputError: if the pyproject.toml of the working directory, or of one above it, is damaged.
    """
    if trust:
        return frozenset([ALL])
    variable = os.environ.get(_VARIABLE, "").replace(",", " ").split()
    return frozenset([*given, *variable, *_allowed_by_project(Path.cwd())])


def _allowed_by_project(folder: Path) -> list[str]:
    path = next(
        (each / "pyproject.toml" for each in (folder, *folder.parents) if (each / "pyproject.toml").is_file()), None
    )
    if path is None:
        return []
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: must be TOML; {error}.") from error
    tools = content.get("tool", {})
    own = tools.get("lenet_jax", {}) if isinstance(tools, dict) else tools
    if not isinstance(own, dict):
        raise InputError(f"{path}: `tool.lenet_jax` must be a table; got {own!r}.")
    found = own.get("allow", [])
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise InputError(f"{path}: `tool.lenet_jax.allow` must be a list of package names; got {found!r}.")
    return found


def read_allowed(directory: Path, allowed: Iterable[str] = ()) -> Record:
    """Read the directory of a run whose components are allowed to run.

    Args:
        directory: of the run.
        allowed: as `allowed_packages`.

    Raises:
        InputError: if it holds no run or a damaged one, names code that is not allowed, or has links that lead out.
    """
    refuse_links(directory)
    record = read_record(directory)
    return record._replace(config=complete_allowed(record.config, allowed, str(directory)))


def complete_allowed(config: Config, allowed: Iterable[str], origin: str) -> Config:
    """Return a recorded configuration complete, if its components are allowed to run; else nothing is imported.

    Raises:
        InputError: if one of them is not allowed, or an option is unknown or out of its range.
    """
    check_allowed(targets(config), allowed, origin)
    return complete_config(config)


def refuse_links(directory: Path) -> None:
    """Check that no link in a directory leads out of it, so that what is written there stays there.

    Raises:
        InputError: for the first one that does.
    """
    root = directory.resolve()
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(folder, name)
            if path.is_symlink() and not path.resolve().is_relative_to(root):
                raise InputError(
                    f"{path}: must not lead out of {directory}, to {path.resolve()}; put what it leads to in its place."
                )
