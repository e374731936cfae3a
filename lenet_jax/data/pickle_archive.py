"""The converter of the classic `mnist.pkl.gz` of the Theano tutorials, without trusting the pickle.

The archive is a pickled ((images, labels), (images, labels), (images, labels)) of NumPy arrays. Unpickling can run
any code, so this unpickler admits NumPy arrays and nothing else, and even those it rebuilds itself: the names that a
pickled array calls are bound to small stand-ins that accept plain numbers only. No other code of lenet_jax reads pickles.
"""

import codecs
import gzip
import io
import math
import pickle  # the one place: the archive is a pickle; see _Unpickler for what is admitted
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from lenet_jax.errors import InputError

_DTYPES = {"u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f4", "f8"}
_SIZE_LIMIT = 2**30  # bytes after decompression; mnist.pkl.gz has 220 million


class _Refused(Exception):
    """The pickle holds something other than arrays."""


class _Dtype:
    """Stand-in for numpy.dtype: plain numbers only."""

    def __init__(self, code: Any, *_: Any) -> None:
        code = code.decode("latin1") if isinstance(code, bytes) else code
        if code not in _DTYPES:
            raise _Refused(f"an array of type {code!r}")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "|", "="):
            raise _Refused("a damaged array type")
        self.dtype = self.dtype.newbyteorder("=" if state[1] == "|" else state[1])


class _Ndarray:
    """Stand-in for numpy.ndarray: its content is checked against its shape before an array is made of it."""

    array: np.ndarray

    def __setstate__(self, state: Any) -> None:
        version, shape, dtype, fortran, content = state
        content = content.encode("latin1") if isinstance(content, str) else content
        plain = isinstance(dtype, _Dtype) and isinstance(content, bytes) and isinstance(shape, tuple)
        if not plain or not all(isinstance(n, int) and n >= 0 for n in shape):
            raise _Refused("a damaged array")
        if math.prod(shape) * dtype.dtype.itemsize != len(content):
            raise _Refused("an array whose content does not fit its shape")
        self.array = np.frombuffer(content, dtype.dtype).reshape(shape, order="F" if fortran else "C")


def _reconstruct(cls: Any, shape: Any, code: Any) -> _Ndarray:
    if cls is not _Ndarray:
        raise _Refused(f"an array of class {cls!r}")
    return _Ndarray()


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or encoding != "latin1":
        raise _Refused(f"a call of _codecs.encode with {encoding!r}")
    return codecs.encode(text, "latin1")


_ADMITTED = {
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): _Ndarray,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("_codecs", "encode"): _encode,  # how Python 3 writes bytes in the old protocols
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise _Refused(f"{module}.{name}") from None

    def persistent_load(self, pid: Any) -> Any:
        raise _Refused("a persistent object")


def read_pickle_archive(path: Path) -> dict[str, np.ndarray]:
    """Read `mnist.pkl.gz`: three pairs of flat images in [0, 1), pixel / 256, and labels.

    Returns:
        train_images, train_labels, validation_images, ... test_labels; images as uint8 (N, side, side).

    Raises:
        InputError: if the file cannot be read, or holds anything but three pairs of arrays of square images.
    """
    content = _load(path)
    pairs = isinstance(content, tuple | list) and len(content) == 3 and all(
        isinstance(pair, tuple | list) and len(pair) == 2 and all(isinstance(a, _Ndarray) for a in pair)
        for pair in content
    )
    if not pairs:
        raise InputError(f"{path}: the archive must hold three (images, labels) pairs of NumPy arrays and nothing else.")
    arrays = {}
    for part, (images, labels) in zip(("train", "validation", "test"), content, strict=True):
        arrays[f"{part}_images"] = _to_pixels(images.array, f"{path} ({part})")
        arrays[f"{part}_labels"] = labels.array.astype(np.int64)
    return arrays


def _load(path: Path) -> Any:
    try:
        with gzip.open(path, "rb") as file:
            raw = file.read(_SIZE_LIMIT + 1)
        if len(raw) > _SIZE_LIMIT:
            raise InputError(f"{path}: the archive must have at most {_SIZE_LIMIT} bytes after decompression.")
        # latin1 keeps the bytes of arrays that Python 2 wrote
        return _Unpickler(io.BytesIO(raw), encoding="latin1").load()
    except InputError:
        raise
    except _Refused as error:
        raise InputError(f"{path}: the archive may hold NumPy arrays and nothing else; it holds {error}.") from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path}: the gzip is damaged ({error}); fetch it again.") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}).") from error
    except (pickle.UnpicklingError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise InputError(f"{path}: the pickle is damaged ({error}).") from error


def _to_pixels(images: np.ndarray, origin: str) -> np.ndarray:
    side = math.isqrt(images.shape[1]) if images.ndim == 2 else 0
    if side == 0 or side * side != images.shape[1]:
        raise InputError(
            f"{origin}: images must be rows of square images, (N, side * side); got shape {images.shape}."
        )
    pixels = images * images.dtype.type(256)
    if images.size and not (np.all(pixels == np.floor(pixels)) and 0 <= pixels.min() and pixels.max() <= 255):
        raise InputError(f"{origin}: pixels must be whole numbers divided by 256, from 0 up to 255/256.")
    return pixels.astype(np.uint8).reshape(-1, side, side)
