import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
NATIVE = HERE.parents[3] / "lenet_jax" / "ops" / "cpu" / "native"
FLAGS = {
    "avx512": ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mprefer-vector-width=512", "-mfma"],
    "avx2": ["-mavx2", "-mfma"],
    "baseline": [],
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++"),
]


def has(instruction_set):
    flag = {"avx512": "avx512dq", "avx2": "avx2", "baseline": ""}[instruction_set]
    cpu = Path("/proc/cpuinfo")
    return not flag or (platform.machine() == "x86_64" and cpu.exists() and flag in cpu.read_text().split())


def build(folder, instruction_set, *options):
    library = folder / f"{instruction_set}.so"
    sources = [HERE / "driver.cc", NATIVE / "kernels.cc"]
    flags = ["-std=c++17", "-shared", "-fPIC", "-pthread", "-Wall", "-Wextra", "-Werror", "-I", NATIVE]
    define = f"-DLENET_JAX_INSTRUCTION_SET={instruction_set}"
    subprocess.run(
        ["g++", *flags, define, *FLAGS[instruction_set], *options, *sources, "-o", library], check=True, timeout=600
    )
    return library


def run(library, seed, count, **environment):
    command = [sys.executable, HERE / "run_geometries.py", library, str(seed), str(count)]
    result = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, timeout=1800)
    assert result.returncode == 0, result.stderr[-4000:]


@pytest.mark.parametrize("instruction_set", FLAGS)
def test_random_convolutions_equal_their_definition_on_any_number_of_threads(instruction_set, tmp_path):
    if not has(instruction_set):
        pytest.skip("this processor lacks it")
    run(build(tmp_path, instruction_set, "-O3"), seed=0, count=300)


def test_nothing_beyond_an_array_is_touched(tmp_path):
    best = next(name for name in FLAGS if has(name))
    library = build(tmp_path, best, "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined")
    runtimes = [
        subprocess.run(["g++", f"-print-file-name={name}"], capture_output=True, text=True, check=True).stdout.strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    run(library, seed=1, count=100, LD_PRELOAD=" ".join(runtimes), ASAN_OPTIONS="detect_leaks=0")
