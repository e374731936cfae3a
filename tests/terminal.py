"""Command lines of READMEs, run as a user runs them who has installed this package."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.conftest import ROOT

# Python looks for modules in the working directory where it is run by -c; an installed program does not.
_MAIN = "import sys; sys.path.remove(''); from lenet_jax.cli import main; sys.exit(main())"


def terminal(folder: Path, programs: Path) -> Callable[[str], tuple[int, str, str]]:
    """Return a function that runs lines in bash, up to the first that fails, and returns exit code, output and errors.

    Args:
        folder: the working directory.
        programs: a new folder, for `lenet-jax` and `python`.
    """
    programs.mkdir()
    for name, command in (("python", ""), ("lenet-jax", f' -c "{_MAIN}"')):
        (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable}{command} "$@"\n')
        (programs / name).chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}  # jax sets it
    environment |= {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}

    def run(lines: str) -> tuple[int, str, str]:
        process = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", lines],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            out, err = process.communicate(timeout=200)
        finally:  # also what is left in the background
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        return process.returncode, out, err

    return run
