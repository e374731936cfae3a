"""The tests of the operations once on kernels that check each access and each arithmetic operation of theirs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lenet_jax.ops.cpu.native import INSTRUCTION_SETS
from lenet_jax.ops.cpu.native.build import build, find_compiler
from tests.conftest import ROOT

RUN = """
import sys
import pytest


class Sanitized:
    def pytest_sessionstart(self):
        from pathlib import Path
        from lenet_jax.ops.cpu import native
        native.LIBRARY = Path(sys.argv[1])


sys.exit(pytest.main(["-n", "0", "-p", "no:cacheprovider", *sys.argv[2:]], plugins=[Sanitized()]))
"""
TESTS = (
    "tests/ops/cpu/native/test_bounds.py",
    "tests/ops/test_pooling.py",
    "tests/ops/test_convolution.py",
    "tests/ops/test_normalization.py",
)


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    compiler = find_compiler()
    if compiler is None or "g++" not in compiler[0]:
        pytest.skip("needs g++, with its sanitizers")
    path = tmp_path_factory.mktemp("sanitized") / "kernels.so"
    build(compiler, path, "-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all")
    return path


def runtime(name):
    command = ["g++", f"-print-file-name=lib{name}.so"]
    return str(Path(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()).resolve())


@pytest.mark.slow
@pytest.mark.parametrize("instruction_set", INSTRUCTION_SETS)
def test_the_sanitizers_find_nothing(library, instruction_set):
    environment = {
        **os.environ,
        "LD_PRELOAD": f"{runtime('asan')}:{runtime('ubsan')}:{runtime('stdc++')}",
        "ASAN_OPTIONS": "detect_leaks=0",  # Python's own
        "LENET_JAX_KERNELS": instruction_set,
    }
    command = [sys.executable, "-c", RUN, str(library), *TESTS]
    finished = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=3_000)
    assert finished.returncode == 0, finished.stdout[-3_000:] + finished.stderr[-3_000:]
