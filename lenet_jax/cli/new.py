"""The command that writes a project: a package of components, the configuration that names them, and a test.

The template is a project that runs, `experiments/own_project`, whose package is called `tides`; a wheel has a copy.
"""

import importlib.util
import keyword
import re
import sys
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from lenet_jax.config.catalogue import PACKAGE
from lenet_jax.errors import InputError

_TEMPLATE = "tides"  # the name of the package in the template; the word stands for nothing else there
FILES = (
    ".gitignore",
    "README.md",
    "pyproject.toml",
    "conf/data/tide_levels.yaml",
    "conf/experiment/first.yaml",
    "conf/model/tide_net.yaml",
    "conf/objective/huber.yaml",
    "conf/trackers/lines.yaml",
    "tests/test_tides.py",
    "tides/__init__.py",
    "tides/data.py",
    "tides/nets.py",
    "tides/objectives.py",
    "tides/trackers.py",
)
_FOLDERS = frozenset(["conf", "tests", "outputs"])  # beside the package


def new(name: str) -> int:
    """Write a project into a new folder of the working directory and return the exit code.

    Args:
        name: of the folder and of the package in it.

    Raises:
        InputError: if it cannot be the name of a package, something of that name exists, or nothing can be written.
    """
    _check(name)
    try:
        Path(name).mkdir()
        for file in FILES:
            path = Path(name, file.replace(_TEMPLATE, name))
            path.parent.mkdir(parents=True, exist_ok=True)
            text = _template().joinpath(*file.split("/")).read_text(encoding="utf-8")
            path.write_text(text.replace(_TEMPLATE, name), encoding="utf-8")
    except FileExistsError:
        raise InputError(f"new: `NAME` must not exist yet; {name} does; choose another name or folder.") from None
    except OSError as error:
        raise InputError(
            f"new: {error.filename} cannot be written ({error.strerror}); choose another folder."
        ) from None
    print(f"{name}/ is written; {name}/README.md says what is in it. To train:")
    print(f"cd {name} && lenet-jax train --config-dir conf experiment=first")
    return 0


def _check(name: str) -> None:
    rule = None
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) or keyword.iskeyword(name):
        rule = "be the name of a Python package: letters, digits and _, a letter first, no keyword"
    elif name in _FOLDERS:
        rule = f"not be that of a folder beside the package, {', '.join(sorted(_FOLDERS))}"
    elif not Path(name).exists() and _is_taken(name):
        rule = "not be that of a module that Python has already, which `import` would find in its place"
    if rule is not None:
        raise InputError(f"new: `NAME` must {rule}; got {name!r}; choose another, as mylab.")


def _is_taken(name: str) -> bool:
    return name in sys.stdlib_module_names or importlib.util.find_spec(name) is not None


def _template() -> Traversable:
    """Return the folder of the template: inside the installed package, or beside it in a checkout."""
    package = resources.files(PACKAGE)
    candidates = [package / "cli" / "project_template", package / ".." / "experiments" / "own_project"]
    return next(each for each in candidates if each.is_dir())
