import sys
from collections.abc import Iterator

import pytest

from lenet_jax.runs import source_code
from tests.conftest import forget_modules
from tests.default_signals import default_signals


@pytest.fixture(autouse=True)
def signals_by_default() -> Iterator[None]:
    """Whatever started the tests, signals interrupt: runs are asked to stop by them."""
    with default_signals():
        yield


@pytest.fixture
def project(tmp_path, monkeypatch):
    """The folder of a project of a user, which is the working directory and on the path for imports."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield folder
    forget_modules(set(sys.modules) - before, tmp_path)
    source_code._describe_once.cache_clear()
