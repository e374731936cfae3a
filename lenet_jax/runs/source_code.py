"""The code of a run: this package's, and the user's own, which components of the configuration come from.

Of the user's project, each module that is loaded is recorded, once the components are built; of installed packages,
the version. The digest of a module is taken when it is first asked for, near its import, and kept: a file that is
edited while a sweep runs is not what the sweep runs.
"""

import contextlib
import functools
import hashlib
import inspect
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from lenet_jax.components import locate
from lenet_jax.config.catalogue import PACKAGE
from lenet_jax.given_objects import import_path
from lenet_jax.runs.repository import find_root, open_repository
from lenet_jax.runs.run_directory import PATCH

_NO_PATCH = "LENET_JAX_NO_PATCH"
_INSTALLED = frozenset(["site-packages", "dist-packages"])  # folders of installed packages
_OWN_FOLDERS = ("lenet_jax", "conf")  # of the repository of this package, that a run executes
_TEMPLATE = Path("cli", "project_template")
BAKED = "revision.json"
_OWN_SUFFIXES = (".py", ".yaml")


def describe_code(targets: Iterable[str]) -> dict[str, Any]:
    """Return what `run.json` records of the code of a run whose components are built.

    Args:
        targets: the import paths of their functions.

    Returns:
        `revision`, `dirty` and `sha256` of this package. Of the user's own code: `components`, where the functions come
        from; `modules`, the file and the SHA-256 of each; `project`, the revision of the repository that they lie in,
        else of the one of the working directory, whether it has changes, and the digest of `uncommitted_changes`.
    """
    found = _own_components(targets)
    digests = {name: _digest(name) for name in _own_modules(found)}
    return {
        **_describe_own(),
        "components": {target: describe_object(each) for target, each in found.items()},
        "modules": {name: {"file": _relative(name), "sha256": digest} for name, digest in digests.items()},
        "project": _find_project(digests)[0],
    }


def uncommitted_changes(targets: Iterable[str]) -> bytes | None:
    """Return the content of `code.patch`, for `git apply`: what the project of `describe_code` has not committed.

    They are the changes of its tracked files, and those modules that are not tracked. If that is more than
    `lenet_jax.runs.repository.MAX_PATCH_BYTES`, the last files are left out.

    Returns:
        The patch; None if there are no changes, or LENET_JAX_NO_PATCH is set.
    """
    return _find_project({name: _digest(name) for name in _own_modules(_own_components(targets))})[1]


def describe_versions(targets: Iterable[str]) -> dict[str, str]:
    """Return the versions of the distributions that components come from, installed or in development mode."""
    found = _own_components(targets)
    own = {_top(name) for name in _own_modules(found)}
    versions = {}
    for package in sorted(_packages(found)):
        for name in _distributions().get(package, [package]):
            with contextlib.suppress(metadata.PackageNotFoundError):
                distribution = metadata.distribution(name)
                if package not in own or _is_in_development(distribution):
                    versions[distribution.metadata["Name"]] = distribution.version
    return versions


def describe_object(value: Any) -> dict[str, str | None]:
    """Return where a function, a class or another object comes from.

    Returns:
        `name`: its import path, None if no import leads to it, as to a lambda, a local function, or what a notebook
        or a script defines; `module`; `file`, as of a module in `describe_code`; `sha256` of its source text. None
        stands for what cannot be had.
    """
    module = _module(value)
    try:
        source = inspect.getsource(value)
    except (OSError, TypeError, SyntaxError):
        source = None
    return {
        "name": import_path(value),
        "module": module,
        "file": _relative(module) if module in sys.modules else None,
        "sha256": None if source is None else hashlib.sha256(source.encode()).hexdigest(),
    }


def changed_modules(recorded: Mapping[str, Any], current: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield the file of each module that has changed since, its recorded digest and its current one.

    Only modules that were loaded then and now are compared: others of the project may be loaded for another purpose.

    Args:
        recorded: the `modules` of a record, as `describe_code` returns them.
        current: those of now.
    """
    for name, now in current.items():
        then = recorded.get(name)
        if isinstance(then, Mapping) and then.get("sha256") != now["sha256"]:
            yield now["file"], then.get("sha256"), now["sha256"]


# ---- modules of the user's project ----------------------------------------------------------------------------------


def _top(name: str) -> str:
    return name.partition(".")[0]


def _own_components(targets: Iterable[str]) -> dict[str, Any]:
    """Return the functions that are not this package's, by their import paths."""
    return {target: locate(target) for target in sorted(set(targets)) if _top(target) != PACKAGE}


def _packages(components: Mapping[str, Any]) -> set[str]:
    """Return the packages that components come from: those that are named, and those that define them."""
    modules = filter(None, map(_module, components.values()))
    return {*map(_top, components), *map(_top, modules)} - {PACKAGE, *sys.stdlib_module_names}


def _module(value: Any) -> str | None:
    """Return the name of the module that defines an object."""
    found = getattr(value, "__module__", None)
    return found if isinstance(found, str) else None


def _file(name: str) -> Path | None:
    """Return the absolute path of a module's file, which may be missing; None for a module without one."""
    file = getattr(sys.modules[name], "__file__", None)
    return Path(os.path.abspath(file)) if isinstance(file, str) else None  # noqa: PTH100  links are kept


def _own_modules(components: Mapping[str, Any]) -> list[str]:
    """Return the names of the loaded modules of the project that components come from, without installed packages.

    They are those of the components' packages, and those beside them: imported from the same folder.
    """
    packages = _packages(components)
    if not packages:
        return []
    files = {name: _file(name) for name in sorted(sys.modules) if _top(name) not in (PACKAGE, *sys.stdlib_module_names)}
    folders = {
        name: _import_folder(name, file) for name, file in files.items() if file and _INSTALLED.isdisjoint(file.parts)
    }
    own = {folder for name, folder in folders.items() if _top(name) in packages}
    return [
        name
        for name, folder in folders.items()
        if _top(name) in packages or (folder in own and not name.startswith("__"))  # as __main__
    ]


def _import_folder(name: str, file: Path) -> Path:
    """Return the folder on the path for imports that a module was found in."""
    depth = name.count(".") + (file.stem == "__init__")
    return file.parents[min(depth, len(file.parents) - 1)]


def _relative(name: str) -> str | None:
    """Return a module's file, relative to its repository, or without one to the folder that it is imported from."""
    file = _file(name)
    if file is None:
        return None
    folder = _import_folder(name, file)
    root = find_root(folder) if _INSTALLED.isdisjoint(file.parts) else None
    return os.fsencode(file.relative_to(root or folder)).decode(errors="backslashreplace")


_digests: dict[str, tuple[Any, str | None]] = {}  # by the name of a module: its spec, and the digest that was taken


def _digest(name: str) -> str | None:
    """Return the SHA-256 of a module's file when it was first asked for; None if its source is missing."""
    spec = getattr(sys.modules[name], "__spec__", None)  # a new one when the module is loaded again
    if name not in _digests or _digests[name][0] is not spec:
        file, digest = _file(name), None
        with contextlib.suppress(OSError):  # it is in a zip file, or was removed
            if file is not None and file.suffix != ".pyc":
                digest = hashlib.sha256(file.read_bytes()).hexdigest()
        _digests[name] = spec, digest
    return _digests[name][1]


# ---- installed distributions ----------------------------------------------------------------------------------------


@functools.cache
def _distributions() -> Mapping[str, list[str]]:
    """Return the names of the distributions by the packages that they install."""
    return metadata.packages_distributions()


def _is_in_development(distribution: metadata.Distribution) -> bool:
    """Return whether a distribution was installed by `pip install -e`, so that its modules lie in a project."""
    try:
        origin = json.loads(distribution.read_text("direct_url.json") or "{}")
    except ValueError:
        return False
    return isinstance(origin, dict) and bool(origin.get("dir_info", {}).get("editable"))


# ---- the project and its repository ---------------------------------------------------------------------------------

Project = tuple[dict[str, Any] | None, bytes | None]  # its record, and its patch


def _find_project(digests: Mapping[str, str | None]) -> Project:
    """Return the record and the patch of the project that modules lie in, else of the one of the working directory.

    Of a project whose modules run, they are kept as the modules' digests are: what is edited or committed later does
    not run.
    """
    folders = [_import_folder(name, file) for name in digests if (file := _file(name))]
    root = next((found for folder in (*folders, Path.cwd()) if (found := find_root(folder))), None)
    if root is None:
        return None, None
    describe = _describe_once if digests else _describe_project
    return describe(root, tuple(digests.items()), os.environ.get(_NO_PATCH, "0") in ("", "0"))


def _describe_project(root: Path, modules: tuple[tuple[str, str | None], ...], wants_patch: bool) -> Project:
    repository = open_repository(root)
    if repository is None:
        return None, None
    loaded = (_file(name) for name, _ in modules)
    patch = repository.uncommitted([file for file in loaded if file and file.is_relative_to(root)])
    record = {"revision": repository.revision(), "dirty": patch and patch.is_dirty, "patch": None}
    if patch is None or not patch.is_dirty or not wants_patch:
        return record, None
    digest = hashlib.sha256(patch.content).hexdigest()
    described = {"file": PATCH, "bytes": len(patch.content), "cut": patch.cut, "sha256": digest}
    return {**record, "patch": described}, patch.content


_describe_once = functools.lru_cache(maxsize=8)(_describe_project)


# ---- this package ---------------------------------------------------------------------------------------------------


def _describe_own() -> dict[str, Any]:
    """Return the git revision of the package, whether the code differs from that revision, and a digest of the code.

    A package that is installed without its repository has those that its wheel was built with, in `revision.json`; it
    is dirty as well if its code is no more that of the wheel. `revision` and `dirty` are None if that file is missing.
    """
    package = Path(__file__).resolve().parents[1]
    root = package.parent
    repository = open_repository(root) if (root / ".git").exists() else None
    if repository is not None:
        revision = repository.revision()
        files = (file for folder in _OWN_FOLDERS for file in (root / folder).rglob("*"))
        patch = repository.uncommitted([each for each in files if each.suffix in _OWN_SUFFIXES], within=_OWN_FOLDERS)
        return {"revision": revision, "dirty": patch and patch.is_dirty, "sha256": digest_package(package)}
    baked, digest = _baked(package), digest_package(package)
    changed = baked.get("sha256") not in (None, digest)
    return {"revision": baked.get("revision"), "dirty": True if changed else baked.get("dirty"), "sha256": digest}


def _baked(package: Path) -> dict[str, Any]:
    """Return what the build of a wheel has written of its code; see `lenet_jax.ops.cpu.native.build`."""
    try:
        found = json.loads((package / BAKED).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def digest_package(package: Path) -> str:
    """Return the SHA-256 of the names and the bytes of a package's modules."""
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        if path.is_relative_to(package / _TEMPLATE):  # of `lenet-jax new`; only a wheel has it
            continue
        content = path.read_bytes()
        digest.update(f"{path.relative_to(package).as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()
