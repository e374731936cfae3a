"""A safe reader of the classic `mnist.pkl.gz` of the Theano tutorials.

The archive is a pickled ((images, labels), (images, labels), (images, labels)) of NumPy arrays. Unpickling can run
any code, so this unpickler allows NumPy arrays only, and it rebuilds them itself: the functions that a pickled array
calls are replaced by small stubs that only record their arguments. No other code of lenet_jax reads pickles.
"""

import gzip
import io
import math
import pickle  # the only import of pickle in the package; _Unpickler restricts what is allowed
import pickletools
from pathlib import Path
from typing import Any

import numpy as np

from lenet_jax.data.splits import describe
from lenet_jax.errors import InputError
from lenet_jax.storage import open_untrusted

_DTYPES = {"u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f4", "f8"}
_SIZE_LIMIT = 2**28  # bytes after decompression; mnist.pkl.gz has 220 million
_OPCODE_LIMIT = 10_000  # six arrays need about 200
_HASHING = {"DICT", "SETITEM", "SETITEMS", "ADDITEMS", "FROZENSET"}


class _Refused(Exception):
    """Raised if the pickle holds anything other than arrays."""


# The stubs are classes with a `__setstate__`, never functions: the opcode BUILD would set attributes of a function.


class _Dtype:
    """Stub of numpy.dtype; allows integers and floats only."""

    def __init__(self, code: Any, *_: Any) -> None:
        code = code.decode("latin1") if isinstance(code, bytes) else code
        if not isinstance(code, str) or code not in _DTYPES:
            raise _Refused(f"an array of type {_shorten(code)}")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "|", "="):
            raise _Refused("a damaged array type")
        self.dtype = self.dtype.newbyteorder("=" if state[1] == "|" else state[1])


class _Encoded:
    """Stub of _codecs.encode, which Python 3 calls for bytes in the old protocols."""

    def __init__(self, text: Any, encoding: Any = None) -> None:
        if encoding != "latin1":
            raise _Refused("a call of _codecs.encode for another encoding than latin1")
        self.text = text

    def __setstate__(self, state: Any) -> None:
        raise _Refused("a damaged text")


class _Ndarray:
    """Stub of numpy.ndarray and of numpy.core.multiarray._reconstruct, which creates an empty array."""

    parts: tuple[Any, ...] = (None, None, None, None)  # content, type, shape, order

    def __init__(self, cls: Any, *_: Any) -> None:
        if cls is not _Ndarray:
            raise _Refused("an array of another class")

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, content = state
        self.parts = (content, dtype, shape, "F" if fortran else "C")

    def make(self) -> np.ndarray:
        """Return the array, after checking its content against its shape."""
        content, dtype, shape, order = self.parts
        content = content.text if isinstance(content, _Encoded) else content
        content = content.encode("latin1") if isinstance(content, str) else content  # Python 2 wrote bytes as str
        plain = isinstance(dtype, _Dtype) and isinstance(content, bytes | bytearray) and order in ("C", "F")
        if not plain or not isinstance(shape, tuple) or not 1 <= len(shape) <= 2:
            raise _Refused("a damaged array")
        sizes = all(isinstance(n, int) and 0 <= n <= _SIZE_LIMIT for n in shape)
        if not sizes or math.prod(shape) * dtype.dtype.itemsize != len(content):
            raise _Refused("an array whose content does not fit its shape")
        return np.frombuffer(content, dtype.dtype).reshape(shape, order=order)


class _FromBuffer(_Ndarray):
    """Stub of numpy.core.numeric._frombuffer, which pickles of protocol 5 call."""

    def __init__(self, content: Any, dtype: Any, shape: Any, order: Any) -> None:
        self.parts = (content, dtype, shape, order)


_ALLOWED = {
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): _Ndarray,
    ("numpy.core.multiarray", "_reconstruct"): _Ndarray,
    ("numpy._core.multiarray", "_reconstruct"): _Ndarray,
    ("numpy.core.numeric", "_frombuffer"): _FromBuffer,
    ("numpy._core.numeric", "_frombuffer"): _FromBuffer,
    ("_codecs", "encode"): _Encoded,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise _Refused(_shorten(f"{module}.{name}")) from None

    def persistent_load(self, pid: Any) -> Any:
        raise _Refused("a persistent object")


def _shorten(value: Any) -> str:
    """Return a short description of an untrusted value, on one line, for a message."""
    return repr(value[:80]) if isinstance(value, str) else f"a {type(value).__name__}"


def read_pickle_archive(path: Path) -> dict[str, np.ndarray]:
    """Read `mnist.pkl.gz`: three pairs of flat images in [0, 1), pixel / 256, and labels.

    Returns:
        train_images, train_labels, validation_images, ... test_labels; images as uint8 (N, side, side).

    Raises:
        InputError: if the file cannot be read, or does not hold exactly three (images, labels) pairs of square images.
    """
    arrays = {}
    for part, (images, labels) in zip(("train", "validation", "test"), _load(path), strict=True):
        arrays[f"{part}_images"] = _to_pixels(images, f"{path} ({part})")
        arrays[f"{part}_labels"] = labels
    return arrays


def _load(path: Path) -> list[list[np.ndarray]]:
    raw = _decompress(path)
    try:
        _check_opcodes(raw)
        # latin1 preserves the bytes of arrays that Python 2 wrote
        content = _Unpickler(io.BytesIO(raw), encoding="latin1").load()
        if not _is_sequence(content, 3) or not all(_is_sequence(pair, 2, _Ndarray) for pair in content):
            raise _Refused("something else")
        return [[array.make() for array in pair] for pair in content]
    except _Refused as error:
        raise InputError(
            f"{path}: the archive must be three (images, labels) pairs of NumPy arrays and nothing else; "
            f"it holds {error}."
        ) from error
    except Exception as error:  # an untrusted pickle can make the unpickler raise almost any exception
        raise InputError(f"{path}: the pickle is damaged ({_shorten(str(error))}); download it again.") from error


def _decompress(path: Path) -> bytes:
    with open_untrusted(path) as file:
        is_unpacked = file.peek(1)[:1] == b"\x80"  # the first byte of a pickle
        raw = (file if is_unpacked else gzip.GzipFile(fileobj=file)).read(_SIZE_LIMIT + 1)
    if len(raw) > _SIZE_LIMIT:
        raise InputError(f"{path}: the archive must have at most {_SIZE_LIMIT} bytes after decompression; got more.")
    return raw


def _check_opcodes(raw: bytes) -> None:
    """Refuse pickles that would take far more memory or time than their size suggests.

    `genops` also checks that the lengths in the pickle do not exceed its size. Dictionaries and sets are refused
    because the unpickler hashes their keys, which takes exponential time for nested tuples that repeat an element.
    """
    for count, (opcode, argument, _) in enumerate(pickletools.genops(raw)):
        index = argument if isinstance(argument, int) and "PUT" in opcode.name else 0  # the memo table grows to it
        if max(count, index) > _OPCODE_LIMIT:
            raise _Refused(f"more than {_OPCODE_LIMIT} objects")
        if opcode.name in _HASHING:
            raise _Refused("a dictionary or a set")


def _is_sequence(value: Any, length: int, cls: type = object) -> bool:
    return isinstance(value, tuple | list) and len(value) == length and all(isinstance(item, cls) for item in value)


def _to_pixels(images: np.ndarray, origin: str) -> np.ndarray:
    side = math.isqrt(images.shape[1]) if images.ndim == 2 else 0
    if images.dtype.kind != "f" or side == 0 or side * side != images.shape[1]:
        raise InputError(
            f"{origin}: images must be rows of square images, floats (N, side * side); got {describe(images)}."
        )
    low, high = images.min(initial=0), images.max(initial=0)
    if not (low >= 0 and high < 1) or np.any(images % (1 / 256)):
        raise InputError(
            f"{origin}: pixels must be whole numbers divided by 256, from 0 to 255/256; got others, {low} to {high}."
        )
    return (images * 256).astype(np.uint8).reshape(-1, side, side)
