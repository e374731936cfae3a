"""Trust in the directory of a run or a sweep, which somebody else may have made.

What is read from there imports, besides this package, only packages that the user has allowed: on the command line, in
the environment, or in the pyproject.toml of the current project.
"""

import importlib.util
import inspect
import os
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from lenet_jax.components import check_allowed, complete_config, locate, targets
from lenet_jax.config import Config
from lenet_jax.config.catalogue import PACKAGE, TARGET
from lenet_jax.errors import InputError
from lenet_jax.given_objects import find_given
from lenet_jax.runs.run_directory import CHECKPOINTS, PLAN, RUN, SWEEP, Record, check_is_run, read_record
from lenet_jax.storage import ENVIRONMENTS, load_verified

ALL = "*"
_VARIABLE = "LENET_JAX_ALLOW"
_RUN_FOLDERS = (CHECKPOINTS, "figures", ".hydra", "tensorboard", "wandb")  # that commands and trackers write into
GRIDS = ("BasicSweeper", "GridSweeper", "RandomSweeper", "HalvingSweeper")
"""Sweepers all of whose jobs are in `plan.json`; others choose jobs as they go."""

_SWEEP_FOLDERS = ("jobs", "figures", ".submitit")


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
    check_is_run(directory)
    refuse_links(directory)
    record = read_record(directory)
    return record._replace(config=complete_allowed(record.config, allowed, str(directory), directory))


def complete_allowed(config: Config, allowed: Iterable[str], origin: str, directory: Path | None = None) -> Config:
    """Return a recorded configuration complete, if its components are allowed to run; else nothing is imported.

    Args:
        config: as it was recorded.
        allowed: as `allowed_packages`.
        origin: where it was read, for messages.
        directory: in which that is; code that lies there is refused. None: the caller's memory.

    Raises:
        InputError: if one of them is not allowed, or an option is unknown or out of its range.
    """
    check_code(list(targets(config)), allowed, origin, directory)
    return complete_config(config)


def check_code(
    found: Sequence[tuple[str, str]], allowed: Iterable[str], origin: str, directory: Path | None = None
) -> None:
    """Check that functions which a directory names are in packages that the user has allowed, and defined there.

    The packages must not lie in the directory itself. A function that an allowed module has merely imported, as
    "mylab.os.system", is of the package that defines it, which has to be allowed as well.

    Args:
        found: the place and the import path of each function, as `lenet_jax.components.targets` yields them.
        allowed: as `allowed_packages`.
        origin: where they were found, for messages.
        directory: as in `complete_allowed`.

    Raises:
        InputError: for the first one that is not. Nothing has been imported then but what is allowed.
    """
    allowed = frozenset(allowed)
    check_allowed(found, allowed, origin)
    foreign = [
        (path, target) for path, target in found if target.partition(".")[0] != PACKAGE and not find_given(target)
    ]
    if ALL in allowed:
        return
    if directory is not None:
        for path, target in foreign:
            _refuse_module_inside(target.partition(".")[0], path, directory)
    for path, target in foreign:
        package = _defining_package(locate(target))
        if package is not None and package not in allowed:
            raise InputError(
                f"`{path}` of {origin} names code to run, {target!r}, which is defined in {package}; if you know it, "
                f"allow that as well: --allow {package}."
            )


def _refuse_module_inside(package: str, path: str, directory: Path) -> None:
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return  # `locate` reports it
    places = [] if spec is None else [*(spec.submodule_search_locations or []), spec.origin or ""]
    inside = [place for place in places if place and Path(place).resolve().is_relative_to(directory.resolve())]
    if inside:
        raise InputError(
            f"`{path}` must not name code that lies in {directory} itself; got {inside[0]}; move it, or use --trust."
        )


def _defining_package(function: Any) -> str | None:
    """Return the package that defines a function or a class; None for an object that a module has made."""
    if not (inspect.isroutine(function) or inspect.isclass(function)):
        return None
    return str(getattr(function, "__module__", None) or "builtins").partition(".")[0]


def refuse_links(directory: Path) -> None:
    """Check that no link in a directory leads out of it, so that what is written there stays there.

    What no command writes into is left alone: a virtual environment, a folder or a link to a folder beside the files of
    a run or of a sweep whose jobs are all known, as of a project that is such a directory itself.

    Raises:
        InputError: for the first one that does.
    """
    root = directory.resolve()
    is_sweep = (root / SWEEP).is_file()
    written = _folders_of_sweep(root) if is_sweep else set(_RUN_FOLDERS) if (root / RUN).is_file() else None
    for folder, folders, files in os.walk(root):
        if Path(folder) == root and written is not None:
            folders[:] = [name for name in folders if name in written]
        elif Path(folder) == root:
            folders[:] = [name for name in folders if name not in ENVIRONMENTS]
        for name in (*folders, *files):
            path = Path(folder, name)
            if path.is_symlink() and not path.resolve().is_relative_to(root):
                raise InputError(
                    f"{path}: must not lead out of {directory}, to {path.resolve()}; put what it leads to in its place."
                )


def _folders_of_sweep(root: Path) -> set[str] | None:
    """Return the folders that commands write into in the directory of a sweep; None if not all its jobs are known."""
    files = [path for path in (root / SWEEP, root / PLAN, *(root / "jobs").glob("*.json")) if path.is_file()]
    try:
        identity, plan, *jobs = (load_verified(path, path.read_bytes()) for path in files)
        entries = [*plan["jobs"], *jobs]
        if identity["hydra"]["sweeper"][TARGET].rpartition(".")[2] not in GRIDS:
            return None
        return {*_SWEEP_FOLDERS, *(PurePosixPath(entry["directory"]).parts[0] for entry in entries)}
    except (AttributeError, LookupError, OSError, TypeError, ValueError):
        return None  # whatever is damaged, the ledger reports
