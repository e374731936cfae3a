"""Opening the files of others."""

import contextlib
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path

from lenet_jax.errors import InputError


@contextlib.contextmanager
def open_foreign(path: Path) -> Iterator[io.BufferedReader]:
    """Open a file for reading, as it is or through gzip.

    Raises:
        InputError: here or while it is read, if it is no file, cannot be read or its gzip is damaged.
    """
    try:
        if path.exists() and not path.is_file():  # opening a pipe would wait for its other end
            raise InputError(f"{path}: must be a file; it is something else.")
        with path.open("rb") as file:
            yield file
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path}: the gzip is damaged ({error}); fetch it again.") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}).") from error
