"""What the tests of the data share: IDX files as the format describes them, and the check of a refusal."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lenet_jax.errors import InputError


@pytest.fixture
def message_of() -> Callable[..., str]:
    """Return the one line with which a call is refused."""

    def message_of(function: Callable[..., Any], *args: Any, **options: Any) -> str:
        with pytest.raises(InputError) as caught:
            function(*args, **options)
        assert len(str(caught.value).splitlines()) == 1
        return str(caught.value)

    return message_of


@pytest.fixture(scope="session")
def idx_bytes() -> Callable[[np.ndarray], bytes]:
    """Return an array of unsigned bytes in the IDX format."""
    return lambda array: struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def small_arrays() -> dict[str, np.ndarray]:
    """Thirty images to train, ten to test, of 4x3 pixels in ten classes."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 4, 3), np.uint8)
    labels = np.arange(40, dtype=np.uint8) % 10
    return {
        "train_images": pixels[:30],
        "train_labels": labels[:30],
        "test_images": pixels[30:],
        "test_labels": labels[30:],
    }


@pytest.fixture
def small_folder(tmp_path: Path, small_arrays: dict[str, np.ndarray], idx_bytes: Callable[[np.ndarray], bytes]) -> Path:
    """The same in four IDX files."""
    folder = tmp_path / "small"
    folder.mkdir()
    for role, array in small_arrays.items():
        part, kind = role.replace("test", "t10k").split("_")
        (folder / f"{part}-{kind}-idx{array.ndim}-ubyte").write_bytes(idx_bytes(array))
    return folder
