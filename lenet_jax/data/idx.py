"""The IDX format of the MNIST family: a big-endian header (magic number, sizes), then the bytes; gzip or not.

Source: LeCun, Cortes, Burges, "The MNIST database of handwritten digits", section "File formats".
"""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from lenet_jax.errors import InputError

FILES = {
    "train_images": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}
"""The official names, without the .gz that each may have."""

_UNSIGNED_BYTE = 0x08


def read_idx(path: Path, num_axes: int) -> np.ndarray:
    """Read an IDX file of unsigned bytes.

    Args:
        path: the file; decompressed if it begins as gzip does.
        num_axes: 3 for images, 1 for labels.

    Returns:
        uint8 array with the shape that the header gives.

    Raises:
        InputError: if the file is missing or unreadable, its gzip is damaged, or header and length do not agree.
    """
    raw = _read(path)
    header = 4 + 4 * num_axes
    magic = bytes([0, 0, _UNSIGNED_BYTE, num_axes])
    if len(raw) < header:
        raise InputError(
            f"{path}: the header must have {header} bytes; got {len(raw)}; the file is truncated: fetch it again."
        )
    if raw[:4] != magic:
        raise InputError(
            f"{path}: the magic number of IDX {'images' if num_axes == 3 else 'labels'} must be 0x{magic.hex()}; "
            f"got 0x{raw[:4].hex()}; is it another file?"
        )
    shape = tuple(int(n) for n in np.frombuffer(raw, ">u4", num_axes, offset=4))
    if 0 in shape:
        raise InputError(f"{path}: each size in the header must be 1 or above; got {shape}; is it another file?")
    if len(raw) - header != math.prod(shape):
        raise InputError(
            f"{path}: the header gives {'x'.join(map(str, shape))} = {math.prod(shape)} bytes; "
            f"got {len(raw) - header}; the file is truncated or damaged: fetch it again."
        )
    return np.frombuffer(raw, np.uint8, offset=header).reshape(shape)


def _read(path: Path) -> bytes:
    try:
        raw = path.read_bytes()
        return gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path}: the gzip is damaged ({error}); fetch it again.") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}).") from error


def find_idx_files(directory: Path) -> dict[str, Path]:
    """Return the path of each of the four files in a folder, plain or with .gz.

    Raises:
        InputError: if the folder or one of the files is missing; the message lists what is.
    """
    found = {}
    for role, name in FILES.items():
        candidates = [directory / name, directory / f"{name}.gz"]
        found[role] = next((path for path in candidates if path.is_file()), None)
    missing = [FILES[role] for role, path in found.items() if path is None]
    if missing:
        raise InputError(
            f"`data.directory` {directory} must hold {', '.join(FILES.values())} (or .gz); missing: "
            f"{', '.join(missing)}."
        )
    return found


def read_idx_folder(directory: Path) -> dict[str, np.ndarray]:
    """Read the four IDX files of a folder: train_images, train_labels, test_images and test_labels."""
    return {role: read_idx(path, 3 if "images" in role else 1) for role, path in find_idx_files(directory).items()}
