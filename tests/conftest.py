"""Every test runs with strict promotion of dtypes and ranks, and with shapes and types checked at each call."""

import importlib
import logging
import os
import sys
import tempfile
from importlib import metadata
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Most of the time goes into compilation, and without XLA's optimizations it takes less than half as long. With
# JAX_DISABLE_MOST_OPTIMIZATIONS=0 the tests run what users run.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
if os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] == "1" and metadata.version("jaxlib").startswith("0.10."):
    # The older way to machine code halves it once more; later versions do not have it.
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_use_fusion_emitters=false".strip()

import absl.logging
import hypothesis
import jax
import jaxtyping
import pytest

import tests.typechecking  # noqa: F401  the hook finds it as an attribute

# Checks the annotations of the package while the tests run; it must come before the package is imported.
jaxtyping.install_import_hook("lenet_jax", "tests.typechecking.check")

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# Many tests compile the same program. Each process keeps its own: JAX writes the entries in place.
COMPILED = tempfile.TemporaryDirectory(prefix="lenet-jax-compiled-")
jax.config.update("jax_compilation_cache_dir", COMPILED.name)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)

# Most properties compile a program for each example, so few of them; `pytest --hypothesis-profile thorough` takes many.
hypothesis.settings.register_profile("default", max_examples=5, deadline=None)
hypothesis.settings.register_profile("thorough", max_examples=200, deadline=None)
hypothesis.settings.load_profile("default")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def mnist_directory() -> Path:
    """The four official MNIST files; the test is skipped where they are not."""
    candidates = [Path(os.environ.get("LENET_JAX_DATA_DIR", "")) / "mnist", ROOT.parent / "shared" / "data" / "mnist"]
    for directory in candidates:
        if (directory / "train-images-idx3-ubyte.gz").is_file():
            return directory
    pytest.skip("full MNIST is in neither $LENET_JAX_DATA_DIR/mnist nor ../shared/data/mnist")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep tests out of the user's cache, and the cache out of the folder that a test looks at."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def optimized():
    """Compile as users do, for tests in which rounding decides when a run stops."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture
def without_type_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """As users have it: wrong types meet the package's own rules, and lists of YAML become tuples."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture
def in_an_empty_folder(tmp_path, monkeypatch, without_type_checks):
    """A folder of its own, and nothing of Hydra left behind, nor modules of the user's that were imported there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    modules = set(sys.modules)
    root = logging.getLogger()
    own_handlers, levels = [*root.handlers], {logger: logger.level for logger in _loggers()}
    monkeypatch.setattr(root, "handlers", [*own_handlers])
    # Hydra closes all handlers before it sets up its own, and that of absl would close the stream that pytest captures.
    monkeypatch.setattr(absl.logging.PythonHandler, "close", lambda handler: None)
    yield
    for handler in set(logging.getLogger().handlers) - set(own_handlers):
        handler.close()  # the log of a run that did not end
    for logger in _loggers():
        logger.setLevel(levels.get(logger, logging.NOTSET))
    forget_modules(set(sys.modules) - modules, tmp_path)


def forget_modules(names, folder):
    """Leave behind none of the modules that lie in a folder: another test may have one of that name."""
    found = [name for name in names if any(_lies_in(place, folder) for place in _places(sys.modules[name]))]
    for name in found:
        del sys.modules[name]
    if found:
        from lenet_jax import components
        from lenet_jax.runs import source_code

        components.signature.cache_clear()
        source_code._describe_once.cache_clear()
    importlib.invalidate_caches()


def _places(module):
    return [getattr(module, "__file__", None), *getattr(module, "__path__", [])]


def _lies_in(place, folder):
    return place is not None and Path(place).is_relative_to(folder)


def _loggers():
    loggers = logging.getLogger().manager.loggerDict.values()
    return [logging.getLogger(), *(logger for logger in loggers if isinstance(logger, logging.Logger))]
