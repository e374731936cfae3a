"""Builds the native kernels: `python -m lenet_jax.ops.cpu.native.build`, and by hatchling when a wheel is built.

Without a C++ compiler nothing is built, one line says so, and the package works without them. CXX names the compiler.
"""

import hashlib
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface  # pyright: ignore[reportMissingImports]
except ImportError:  # run by hand
    BuildHookInterface = object

FOLDER = Path(__file__).resolve().parent
LIBRARY = FOLDER / "kernels.so"
INCLUDE = FOLDER / "include"  # XLA's headers, of the oldest version that is supported

COMPILE = "-O3 -std=c++20 -fPIC -fvisibility=hidden -ffp-contract=fast -fno-math-errno -pthread"
# No folder of the machine that compiles is left in the library: the same sources and compiler give the same bytes.
REPRODUCIBLE = f"-ffile-prefix-map={shlex.quote(str(FOLDER))}=."
# The baseline first: of a function of the standard library that several objects hold, the linker keeps the first.
X86_64 = {
    "baseline": "",
    "avx2": "-mavx2 -mfma",
    "avx512": "-mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx2 -mfma -mprefer-vector-width=512",
}
OTHERS = {"baseline": ""}


def find_compiler() -> list[str] | None:
    """Return the command of a C++ compiler, or None."""
    if os.environ.get("CXX"):
        return shlex.split(os.environ["CXX"])
    found = next(filter(None, map(shutil.which, ("g++", "clang++", "c++"))), None)
    return [found] if found else None


def is_up_to_date() -> bool:
    """Return whether the library is later than everything that it is built from."""
    sources = [*FOLDER.glob("*.h"), *FOLDER.glob("*.cc"), Path(__file__)]
    return LIBRARY.exists() and all(LIBRARY.stat().st_mtime > source.stat().st_mtime for source in sources)


def build(compiler: list[str], library: Path = LIBRARY, options: str = "") -> None:
    """Compile the kernels for each instruction set, and link them into one shared library.

    Args:
        compiler: the command.
        library: file to write.
        options: further options of the compiler, such as -fsanitize=address.

    Raises:
        subprocess.CalledProcessError: if the compiler fails; its messages are in `stderr`.
    """
    sets = X86_64 if platform.machine() in ("x86_64", "AMD64") else OTHERS
    with tempfile.TemporaryDirectory() as work:
        compiles = [
            (f"{COMPILE} {flags} -DLENET_JAX_INSTRUCTION_SET={name}", FOLDER / "kernels.cc", Path(work) / f"{name}.o")
            for name, flags in sets.items()
        ]
        compiles.append(
            (f"{COMPILE} -isystem {shlex.quote(str(INCLUDE))}", FOLDER / "bindings.cc", Path(work) / "bindings.o")
        )

        def compile_one(flags: str, source: Path, target: Path) -> None:
            _run([*compiler, *shlex.split(f"{flags} {REPRODUCIBLE} {options}"), "-c", str(source), "-o", str(target)])

        with ThreadPoolExecutor(os.cpu_count()) as threads:
            list(threads.map(compile_one, *zip(*compiles, strict=True)))
        linked = Path(work) / "kernels.so"
        objects = [str(target) for _, _, target in compiles]
        _run([*compiler, "-shared", "-pthread", *shlex.split(options), *objects, "-o", str(linked)])
        shutil.copy(linked, library.with_suffix(".new"))
    library.with_suffix(".new").replace(library)


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


class KernelsBuildHook(BuildHookInterface):  # pyright: ignore[reportGeneralTypeIssues]
    """Builds the kernels into a wheel or an editable installation."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the library, or say in one line that it is left out."""
        if version != "editable":  # which has its repository
            self._bake_revision(build_data)
        if self.target_name != "wheel":
            return
        compiler = find_compiler()
        problem = "no C++ compiler was found"
        if compiler:
            try:
                if not is_up_to_date():
                    build(compiler)
            except subprocess.CalledProcessError as error:
                said = error.stderr.strip().splitlines() or [f"exit code {error.returncode}"]
                problem = f"{compiler[0]} failed: {said[-1]}"
            except OSError as error:
                problem = f"{compiler[0]} cannot be run: {error.strerror}"
            else:
                build_data["artifacts"].append(str(LIBRARY.relative_to(self.root)))
                build_data["pure_python"] = False
                build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"
                return
        self.app.display_warning(f"lenet_jax is installed without its native kernels, and is slower: {problem}.")

    def _bake_revision(self, build_data: dict[str, Any]) -> None:
        """Write the commit and the digest of the code into the package; `run.json` has them then."""
        root = Path(self.root)
        described = describe_code(root)
        if described is None:  # an sdist has the file already
            return
        self._folder = tempfile.TemporaryDirectory()  # as long as the hook lives
        file = Path(self._folder.name) / "revision.json"
        file.write_text(json.dumps(described))
        build_data["force_include"][str(file)] = "lenet_jax/revision.json"


def describe_code(root: Path) -> dict[str, Any] | None:
    """Return the commit of a clone, whether its code differs from it, and the digest of the package's modules.

    The digest is that of `lenet_jax.runs.source_code.digest_package`, which cannot be imported while a wheel is built.

    Returns:
        None if the folder is no clone, or there is no git.
    """

    def git(*arguments: str) -> str:
        command = ["git", *arguments]
        return subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout.strip()

    if not (root / ".git").exists():
        return None
    try:
        revision, changes = git("rev-parse", "HEAD"), git("status", "--porcelain", "--", "lenet_jax", "conf")
    except (OSError, subprocess.CalledProcessError):
        return None
    digest, package = hashlib.sha256(), root / "lenet_jax"
    for path in sorted(package.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(package).as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return {"revision": revision, "dirty": bool(changes), "sha256": digest.hexdigest()}


def main() -> int:
    """Build the kernels in place."""
    compiler = find_compiler()
    if compiler is None:
        print("no C++ compiler was found: install g++, or name one in CXX", file=sys.stderr)
        return 1
    try:
        build(compiler)
    except subprocess.CalledProcessError as error:
        print(error.stderr, file=sys.stderr)
        return 1
    print(LIBRARY)
    return 0


if __name__ == "__main__":
    sys.exit(main())
