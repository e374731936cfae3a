"""Arrays in an npz file of NumPy's, read without pickle and without more memory than the file can justify.

An npz is a zip of npy files. Sizes are checked, in the directory of the zip and in the header of each array, before
memory is taken for them; arrays of objects, which only pickle could read, are refused.
"""

import contextlib
import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lenet_jax.errors import InputError
from lenet_jax.storage import open_untrusted

_PARTS = {"train": ("train",), "validation": ("validation", "val", "valid"), "test": ("test",)}
_INPUTS = ("{}_inputs", "{}_images", "x_{}", "{}_x")
_TARGETS = ("{}_targets", "{}_labels", "y_{}", "{}_y")
_KINDS = "biuf"
_MOST_ARRAYS = 1000
_SMALL = 1 << 28  # bytes that any file may expand to
_MOST_EXPANSION = 100  # times the size of the file; images of digits compress to a fifth, zeros to a thousandth


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Read inputs and targets from an npz file.

    The arrays of a part (train, validation or val, test) are named x_train and y_train, as Keras has it, train_inputs
    and train_targets, or train_images and train_labels. Others in the file are not read.

    Returns:
        train_images, train_labels, test_images, test_labels, and those of validation if there are any.

    Raises:
        InputError: if the file is missing, damaged or no npz, lacks an array, or an array is of objects or texts or
            expands to more than 256 MiB and 100 times the file.
    """
    with open_untrusted(path) as file:
        limit = max(_SMALL, _MOST_EXPANSION * path.stat().st_size)
        with _reporting(path, "an npz file of numpy.savez"), zipfile.ZipFile(file) as archive:
            return _read_parts(archive, limit, path)


def read_inputs(path: Path) -> tuple[str, np.ndarray]:
    """Read the inputs of a network from an npy file, or from an npz file.

    Returns:
        The name of the array in an npz file, "" of an npy file, and the array: the one called x, inputs, images,
        x_test, test_inputs or test_images; if none is, the only one.

    Raises:
        InputError: as `read_npz`; if not one array may be the inputs.
    """
    limit = max(_SMALL, _MOST_EXPANSION * path.stat().st_size) if path.is_file() else 0
    with open_untrusted(path) as file, _reporting(path, "an npy or npz file of NumPy"):
        if path.suffix.lower() == ".npy":
            return "", _read_stream(file, path.stat().st_size, str(path))
        with zipfile.ZipFile(file) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()[:_MOST_ARRAYS]}
            of_test = [form.format("test") for form in _INPUTS]
            found = [name for name in members if name in ("x", "inputs", "images", *of_test)] or list(members)
            if len(found) != 1:
                shown = ", ".join(map(repr, list(members)[:10]))[:200] or "none"
                raise InputError(
                    f"{path}: must have one array of inputs, named x, inputs or images; got {shown}; save it alone: "
                    "numpy.save."
                )
            info = members[found[0]]
            if info.file_size > limit:
                raise InputError(
                    f"{path}: its array must have at most {limit} bytes, for the size of the file; got "
                    f"{info.file_size}."
                )
            return found[0], _read_array(archive, info, f"{path} ({found[0]})")


@contextlib.contextmanager
def _reporting(path: Path, what: str) -> Iterator[None]:
    """Report whatever a damaged file makes its parser raise as an `InputError`."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # a damaged file can make its parser raise almost any exception
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise InputError(f"{path}: must be {what}; it is none, or damaged ({reason}).") from error


def _read_parts(archive: zipfile.ZipFile, limit: int, path: Path) -> dict[str, np.ndarray]:
    members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()[:_MOST_ARRAYS]}
    found = {}
    for part, words in _PARTS.items():
        for kind, forms in (("images", _INPUTS), ("labels", _TARGETS)):
            names = [form.format(word) for form in forms for word in words]
            found[f"{part}_{kind}"] = next((name for name in names if name in members), None)
    missing = [key for key, name in found.items() if name is None and not _is_optional(key, found)]
    if missing:
        shown = ", ".join(name if name.isprintable() else repr(name) for name in sorted(members)[:10]) or "none"
        raise InputError(
            f"{path}: must have the arrays x_train, y_train, x_test, y_test, or train_inputs, train_targets, "
            f"test_inputs, test_targets; those of {missing[0].partition('_')[0]} are missing; it has {shown[:200]}."
        )
    present = {key: members[name] for key, name in found.items() if name is not None}
    total = sum(info.file_size for info in present.values())
    if total > limit:
        raise InputError(f"{path}: its arrays must have at most {limit} bytes, for the size of the file; got {total}.")
    return {key: _read_array(archive, info, f"{path} ({found[key]})") for key, info in present.items()}


def _is_optional(key: str, found: dict[str, str | None]) -> bool:
    return key.startswith("validation") and found["validation_images"] is found["validation_labels"] is None


def _read_array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, origin: str) -> np.ndarray:
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # lzma takes the memory that a file names
        raise InputError(f"{origin}: must be stored or deflated, as numpy.savez does; it is compressed otherwise.")
    with archive.open(info) as stream:
        return _read_stream(stream, info.file_size, origin)


def _read_stream(stream: Any, num_bytes: int, origin: str) -> np.ndarray:
    """Read an npy file of `num_bytes` from a stream."""
    shape, fortran_order, dtype = _read_header(stream)
    if dtype.hasobject:
        raise InputError(f"{origin}: must be an array of numbers; it has Python objects, which need pickle.")
    if dtype.kind not in _KINDS:
        raise InputError(f"{origin}: must be an array of numbers; got {str(dtype)[:80]}.")
    size = math.prod(shape) * dtype.itemsize
    left = num_bytes - stream.tell()
    if any(n < 0 for n in shape) or size != left:
        raise InputError(f"{origin}: the array must have the {size} bytes of its header; got {left}; it is damaged.")
    content, start = np.empty(size, np.uint8), 0
    while start < size:
        block = stream.read(min(1 << 20, size - start))
        if not block:
            raise EOFError("the array is truncated")
        content[start : start + len(block)] = np.frombuffer(block, np.uint8)
        start += len(block)
    stream.read(1)  # at the end of a member, its checksum is compared
    array = content.view(dtype).reshape(shape, order="F" if fortran_order else "C")
    return array.astype(dtype.newbyteorder("="), copy=False)


def _read_header(stream: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(stream)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(stream)
    raise ValueError(f"version {version} of the npy format")
