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
from jax.experimental.compilation_cache import compilation_cache

from lenet_jax.runs.compilation_cache import _default_directory, use_compilation_cache


@pytest.fixture(autouse=True)
def without_the_cache_of_the_tests():
    before = jax.config.jax_compilation_cache_dir
    _set_cache(None)
    yield
    _set_cache(before)


def _set_cache(directory):
    jax.config.update("jax_compilation_cache_dir", directory)
    compilation_cache.reset_cache()


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


def test_another_process_finds_what_was_compiled(tmp_path):
    directory = tmp_path / "compiled"
    assert compile_once(directory) == 0
    assert compile_once(directory) >= 1
    assert len(entries(directory)) == 1


DAMAGES = textwrap.dedent("""
    import random, sys
    from pathlib import Path
    import jax, jax.numpy as jnp
    from jax._src import monitoring
    from lenet_jax.runs import compilation_cache
    compilation_cache._MIN_SECONDS = 0.0
    directory, count = Path(sys.argv[1]), int(sys.argv[2])
    x, hits = jnp.ones((8, 8)), []
    monitoring.register_event_listener(lambda name, **_: hits.append(name) if name.endswith("/cache_hits") else None)

    def compile_once():
        jax.clear_caches()
        hits.clear()
        with compilation_cache.use_compilation_cache(directory):
            value = float(jax.jit(lambda x: jnp.tanh(x @ x).sum()).lower(x).compile()(x))
        return len(hits), value

    _, value = compile_once()
    (entry,) = directory.glob("*-cache")
    for number in range(count):
        whole, chance = entry.read_bytes(), random.Random(number)
        place = chance.randrange(len(whole))
        flipped = whole[:place] + bytes([whole[place] ^ 1 << chance.randrange(8)]) + whole[place + 1 :]
        entry.write_bytes(whole[:place] if number % 2 else flipped)
        damaged = entry.read_bytes()
        assert compile_once() == (0, value), number
        assert entry.read_bytes() != damaged
        assert compile_once() == (1, value), number
    print("done")
""")


@pytest.mark.parametrize("count", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_entries_cut_short_or_with_a_flipped_bit_are_not_used_and_replaced(count, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", DAMAGES, str(tmp_path), str(count)], capture_output=True, text=True, check=False
    )
    assert done.stdout == "done\n", done.stderr[-2000:]


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


def test_a_cache_that_others_can_write_to_is_not_used(tmp_path, caplog):
    tmp_path.chmod(0o777)
    with use_compilation_cache(tmp_path):
        assert jax.config.jax_compilation_cache_dir is None
    (record,) = caplog.records
    assert record.message.startswith(
        f"{tmp_path}: not used because other users may write to the programs in it; chmod 700 it"
    )
