from collections.abc import Iterator

import pytest

from tests.default_signals import default_signals


@pytest.fixture(autouse=True)
def signals_by_default() -> Iterator[None]:
    """Whatever started the tests, signals interrupt: runs are asked to stop by them."""
    with default_signals():
        yield
