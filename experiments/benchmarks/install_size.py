"""What an installation takes: packages and MB of an environment, the largest first, and who asks for each.

    python -m experiments.benchmarks.install_size [EXTRA ...]       # a new environment, deleted afterwards
    python -m experiments.benchmarks.install_size --here            # the environment of this Python

Compiled bytecode is not counted: it depends on what has been imported. A megabyte has 1,000,000 bytes.
"""

import argparse
import importlib.metadata
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_OF_THE_ENVIRONMENT = {"pip", "setuptools", "wheel"}  # which venv brings, whatever is installed


def normalized(name: str) -> str:
    """Return the name of a distribution as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def measure(distributions: Iterable[importlib.metadata.Distribution]) -> dict[str, int]:
    """Return distribution -> bytes of its files, without compiled bytecode."""
    sizes = {}
    for distribution in distributions:
        paths = [Path(str(distribution.locate_file(file))) for file in distribution.files or ()]
        kept = (path for path in paths if path.suffix != ".pyc" and path.is_file())
        sizes[normalized(distribution.name)] = sum(path.stat().st_size for path in kept)
    return {name: size for name, size in sizes.items() if name not in _OF_THE_ENVIRONMENT}


def requirements(distributions: Iterable[importlib.metadata.Distribution]) -> dict[str, list[str]]:
    """Return distribution -> the distributions that need it without an extra."""
    needed_by: dict[str, list[str]] = {}
    for distribution in distributions:
        for line in distribution.requires or ():
            if "extra ==" not in line:
                name = normalized(re.split(r"[^\w.-]", line, maxsplit=1)[0])
                needed_by.setdefault(name, []).append(normalized(distribution.name))
    return {name: sorted(set(users)) for name, users in needed_by.items()}


def table(sizes: dict[str, int], needed_by: dict[str, list[str]]) -> str:
    """Return the table of the largest packages, and the sum."""
    lines = ["| package | MB | needed by |", "| --- | --- | --- |"]
    for name in sorted(sizes, key=lambda name: -sizes[name]):
        if sizes[name] >= 1e6:
            lines.append(f"| {name} | {sizes[name] / 1e6:.1f} | {', '.join(needed_by.get(name, ()))} |")
    small = [size for size in sizes.values() if size < 1e6]
    lines.append(f"| {len(small)} others, below 1 MB each | {sum(small) / 1e6:.1f} | |")
    lines.append(f"| **{len(sizes)} packages** | **{sum(sizes.values()) / 1e6:.0f}** | |")
    return "\n".join(lines)


def _in_a_new_environment(extras: list[str]) -> str:
    wanted = f"{ROOT}[{','.join(extras)}]" if extras else str(ROOT)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        inside = f"{folder}/bin/python"
        subprocess.run([inside, "-m", "pip", "install", "--quiet", "--no-compile", wanted], check=True)
        return subprocess.check_output([inside, __file__, "--here"], text=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("extras", nargs="*")
    parser.add_argument("--here", action="store_true", help="the environment of this Python")
    arguments = parser.parse_args()
    if not arguments.here:
        print(_in_a_new_environment(arguments.extras), end="")
        return
    distributions = list(importlib.metadata.distributions())
    print(table(measure(distributions), requirements(distributions)))


if __name__ == "__main__":
    main()
