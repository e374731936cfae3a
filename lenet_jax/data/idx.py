"""The IDX format of the MNIST family: a big-endian header (magic number, sizes) and the bytes, with or without gzip.

Source: LeCun, Cortes, Burges, "The MNIST database of handwritten digits", section "File formats".
"""

import gzip
import math
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from lenet_jax.errors import InputError
from lenet_jax.storage import open_untrusted

FILES = {
    "train_images": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}
"""The official file names; each file may have the additional ending .gz."""

_NAME = re.compile(r"(?P<set>(emnist-\w+-)?)(?P<part>train|t10k|test)-(?P<kind>images|labels)[-.]idx[13]-ubyte(\.gz)?")
_UNSIGNED_BYTE = 0x08
_SIZE_LIMIT = 600_000_000  # bytes after decompression; the largest of this family, EMNIST's, has 547 million


def read_idx(path: Path, num_axes: int) -> np.ndarray:
    """Read an IDX file of unsigned bytes.

    Args:
        path: the file; decompressed if it starts with gzip's magic number.
        num_axes: 3 for images, 1 for labels.

    Returns:
        A uint8 array with the shape in the header.

    Raises:
        InputError: if the file is missing or unreadable, its gzip is damaged, or its length contradicts its header.
    """
    with open_untrusted(path) as file:
        stream = gzip.GzipFile(fileobj=file) if file.peek(2)[:2] == b"\x1f\x8b" else file
        shape = _parse_header(stream.read(4 + 4 * num_axes), num_axes, path)
        size = math.prod(shape)
        content = stream.read(size + 1)  # limited, as gzip may expand to any size; one byte more detects a longer file
    if len(content) != size:
        raise InputError(
            f"{path}: the header gives {_product(shape)} bytes; got {len(content) if len(content) < size else 'more'}; "
            "the file is truncated or damaged: download it again."
        )
    return np.frombuffer(content, np.uint8).reshape(shape)


def _parse_header(header: bytes, num_axes: int, path: Path) -> tuple[int, ...]:
    magic = bytes([0, 0, _UNSIGNED_BYTE, num_axes])
    if len(header) < 4 + 4 * num_axes:
        raise InputError(
            f"{path}: the header must have {4 + 4 * num_axes} bytes; got {len(header)}; the file is truncated: "
            "download it again."
        )
    if header[:4] != magic:
        raise InputError(
            f"{path}: the magic number of IDX {'images' if num_axes == 3 else 'labels'} must be 0x{magic.hex()}; "
            f"got 0x{header[:4].hex()}; is it another file?"
        )
    shape = tuple(int(n) for n in np.frombuffer(header, ">u4", num_axes, offset=4))
    if 0 in shape:
        raise InputError(f"{path}: each size in the header must be 1 or above; got {shape}; is it another file?")
    if math.prod(shape) > _SIZE_LIMIT:
        raise InputError(
            f"{path}: the header must give at most {_SIZE_LIMIT} bytes; got {_product(shape)}; is it another file?"
        )
    return shape


def _product(shape: tuple[int, ...]) -> str:
    return f"{'x'.join(map(str, shape))} = {math.prod(shape)}"


def find_idx_files(directory: Path) -> dict[str, Path]:
    """Return the path of each of the four files of a set, plain or with .gz.

    Besides the official names are found those that people have: with a dot for the first hyphen of "idx", as 7-Zip and
    Kaggle write them; in a folder of its own name; in the folder `MNIST/raw` of torchvision; with the beginning of
    EMNIST's files, "emnist-letters-", and "test" in place of "t10k".

    Raises:
        InputError: if the folder or one of the files is missing, the message lists the missing files; or if there are
            several sets.
    """
    sets: dict[tuple[Path, str], dict[str, Path]] = {}
    for folder in (directory, directory / "raw", *sorted(directory.glob("*/raw"))):
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            match = _NAME.fullmatch(path.name)
            file = path / path.name if path.is_dir() else path
            if match and file.is_file():
                role = f"{'train' if match['part'] == 'train' else 'test'}_{match['kind']}"
                sets.setdefault((folder, match["set"]), {}).setdefault(role, file)  # plain before .gz
    complete = [files for files in sets.values() if len(files) == len(FILES)]
    if len(complete) > 1:
        names = [str(folder / name) for (folder, name), files in sets.items() if len(files) == len(FILES)]
        raise InputError(
            f"`data.directory` {directory} must hold one set; it has {', '.join(names)}; put one into a folder of its "
            "own."
        )
    if complete:
        return {role: complete[0][role] for role in FILES}
    found = max(sets.values(), key=len, default={})
    raise InputError(
        f"`data.directory` {directory} must hold {', '.join(FILES.values())} (or .gz); missing: "
        f"{', '.join(name for role, name in FILES.items() if role not in found)}."
    )


def is_emnist(files: Mapping[str, Path]) -> bool:
    """Return whether files have the names of EMNIST, whose images are stored transposed."""
    return any(path.name.startswith("emnist-") for path in files.values())


def read_idx_folder(directory: Path) -> dict[str, np.ndarray]:
    """Read the four IDX files of a folder: train_images, train_labels, test_images and test_labels.

    Raises:
        InputError: as `find_idx_files` and `read_idx`.
    """
    return read_idx_files(find_idx_files(directory))


def read_idx_files(files: Mapping[str, Path]) -> dict[str, np.ndarray]:
    """Read the files that `find_idx_files` has found.

    Raises:
        InputError: as `read_idx`.
    """
    return {role: read_idx(path, 3 if "images" in role else 1) for role, path in files.items()}
