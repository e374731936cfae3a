"""A library that cannot be used costs one warning, and operations are computed without it."""

import subprocess
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lenet_jax import ops
from lenet_jax.errors import InputError
from lenet_jax.ops.cpu import native
from tests.ops.cpu.native.library import COMPILER

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="needs g++")
needs_library = pytest.mark.skipif(not native.LIBRARY.exists(), reason="the kernels are not built")


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Return a function that puts a library in the place of the installed one, compiled if it is given as C."""

    def install(content: str | bytes) -> None:
        library = tmp_path / "kernels.so"
        if isinstance(content, bytes):
            library.write_bytes(content)
        else:
            source = tmp_path / "kernels.cc"
            source.write_text(content)
            subprocess.run([COMPILER, "-shared", "-fPIC", str(source), "-o", str(library)], check=True)
        monkeypatch.setattr(native, "LIBRARY", library)

    monkeypatch.delenv("LENET_JAX_KERNELS", raising=False)
    native._choose.cache_clear()
    jax.clear_caches()  # of programs with other kernels
    yield install
    native._choose.cache_clear()
    jax.clear_caches()


def _library(minor_version: int = 3, use: int = 1, missing: str = "") -> str:
    functions = "".join(f"void lenet_jax_{name}() {{}}\n" for name in native._TARGETS if name != missing)
    named = f"int lenet_jax_ffi_minor_version() {{ return {minor_version}; }}\n"
    chosen = f"bool lenet_jax_use(const char*) {{ return {use}; }}\n"
    return f'extern "C" {{\n{named}{chosen}{functions}}}'


def _falls_back(reason: str) -> None:
    x, kernel = jnp.ones((1, 4, 4, 1)), jnp.ones((3, 3, 1, 2))
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        y = jax.jit(ops.conv2d)(x, kernel)
        ops.max_pool(x, 2)
    assert native.instruction_set() == "none"
    assert len(found) == 1
    assert str(found[0].message).startswith("lenet_jax: the native kernels cannot be used and operations are slower: ")
    assert reason in str(found[0].message)
    assert native.describe().startswith("plain JAX, because ")
    assert reason in native.describe()
    np.testing.assert_array_equal(y, np.full((1, 2, 2, 2), 9))


@needs_compiler
@pytest.mark.parametrize(
    ("library", "reason"),
    [
        (_library(minor_version=4), "built for version 0.4 of XLA's interface, later than 0.3"),
        (_library(missing="sum_pool"), "undefined symbol: lenet_jax_sum_pool"),
        ("int other() { return 1; }", "undefined symbol: lenet_jax_ffi_minor_version"),
        (_library(use=0), "built for another processor"),
    ],
)
def test_a_library_of_other_sources_or_for_another_processor(library, reason, installed):
    installed(library)
    _falls_back(reason)


@pytest.mark.parametrize("damage", ["empty", "cut", "other machine"])
@needs_library
def test_a_file_that_is_no_library_of_this_machine(damage, installed):
    content = bytearray(Path(native.LIBRARY).read_bytes())
    if damage == "other machine":
        content[18:20] = (0x16).to_bytes(2, "little")  # of the ELF header: IBM S/390
    installed(b"" if damage == "empty" else bytes(content[:100] if damage == "cut" else content))
    _falls_back("kernels.so")


@needs_compiler
def test_instructions_that_the_processor_lacks_are_refused_by_name(installed, monkeypatch):
    installed(_library(use=0))
    monkeypatch.setenv("LENET_JAX_KERNELS", "avx512")
    with pytest.raises(InputError, match="LENET_JAX_KERNELS=avx512: this processor does not have these instructions"):
        native.instruction_set()
    monkeypatch.delenv("LENET_JAX_KERNELS")
    native._choose.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        native._choose()
