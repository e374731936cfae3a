"""The persistent compilation cache: used, kept whole, and never in the way."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import jax
import jax.numpy as jnp
import jaxlib
import pytest

from lenet_jax.runs.compilation_cache import _default_directory, use_compilation_cache

PROGRAM = textwrap.dedent("""
    import sys
    from pathlib import Path
    import jax, jax.numpy as jnp
    from jax._src import monitoring
    from lenet_jax.runs import compilation_cache
    compilation_cache._MIN_SECONDS = 0.0
    x = jnp.ones((8, 8))
    hits = []
    monitoring.register_event_listener(lambda name, **_: hits.append(name) if name.endswith("/cache_hits") else None)
    with compilation_cache.use_compilation_cache(Path(sys.argv[1])):
        program = jax.jit(lambda x: jnp.tanh(x @ x).sum()).lower(x).compile()
    assert jax.config.jax_compilation_cache_dir is None
    print(len(hits), float(program(x)))
""")


def compile_once(directory):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, str(directory)], capture_output=True, text=True, check=True
    )
    hits, value = done.stdout.split()
    assert float(value) == pytest.approx(64)
    return int(hits)


def entries(directory):
    return sorted(directory.glob("*-cache"))


def test_another_process_finds_what_was_compiled_and_a_damaged_entry_is_replaced(tmp_path):
    directory = tmp_path / "compiled"
    assert compile_once(directory) == 0
    assert compile_once(directory) >= 1
    (entry,) = entries(directory)
    whole = entry.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", bytes([whole[0] ^ 1]) + whole[1:]):
        entry.write_bytes(damaged)
        assert compile_once(directory) == 0
        assert len(entry.read_bytes()) > 100
        assert compile_once(directory) >= 1


def test_an_entry_that_was_not_finished_is_not_used(tmp_path):
    compile_once(tmp_path)
    entries(tmp_path)[0].with_name(f"{entries(tmp_path)[0].name}.sha256").unlink()
    assert compile_once(tmp_path) == 0


def test_the_folder_is_the_users_own_and_named_after_version_and_processor():
    with use_compilation_cache():
        pass
    directory = _default_directory()
    assert directory.parent == Path(os.environ["XDG_CACHE_HOME"]) / "lenet_jax" / "compiled"
    assert directory.name.startswith(f"jaxlib-{jaxlib.__version__}-")
    assert directory.stat().st_mode & 0o077 == 0


def test_a_folder_that_cannot_be_made_costs_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    with use_compilation_cache(tmp_path / "file" / "compiled"):
        assert jax.jit(lambda x: x + 1)(jnp.float32(1)) == 2


def test_a_cache_of_the_users_own_is_left_alone(tmp_path, monkeypatch):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "own"))
    try:
        with use_compilation_cache(tmp_path / "ours"):
            assert jax.config.jax_compilation_cache_dir == str(tmp_path / "own")
    finally:
        jax.config.update("jax_compilation_cache_dir", None)
    assert not (tmp_path / "ours").exists()
