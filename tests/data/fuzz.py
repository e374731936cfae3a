"""Random damage to good files: python -m tests.data.fuzz [COUNT [SEED]], by default 50,000 for each kind of file.

Whatever happened to a file, reading it gives arrays or an `InputError` of one line, within two seconds: the right
arrays if the file has a checksum. The cache decodes again instead. A slow reader takes a share of the count. Prints a
line for each kind of file; ends with a traceback at the first file that breaks the rule, which it leaves as
`fuzz-failure` in the current folder. CI runs 2,000 for each kind.
"""

import gzip
import io
import pickle
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lenet_jax.data import embedded, tfds
from lenet_jax.data.cache import Arrays, load_or_decode
from lenet_jax.data.embedded import read_embedded
from lenet_jax.data.idx import read_idx
from lenet_jax.data.npz import read_npz
from lenet_jax.data.pickle_archive import read_pickle_archive
from lenet_jax.errors import InputError
from tests.data.shapes import prepare_shapes

MOST_SECONDS = 2.0


class Subject(NamedTuple):
    """A kind of file: a good one, how it is read, and whether a checksum guards it."""

    path: Path
    good: bytes
    read: Callable[[], Arrays]
    has_checksum: bool
    share: float = 1.0  # of the count; a slow reader takes less
    wrap: Callable[[bytes], bytes] = bytes  # what the damaged content is put into


class _DecodedAgain(Exception):
    pass


def damage(raw: bytes, rng: np.random.Generator) -> bytes:
    """Return content with a random change, in every third file up to four."""
    changed = bytearray(raw)
    for _ in range(max(1, rng.integers(-6, 5))):
        size = len(changed)
        start, other = (int(n) for n in rng.integers(0, size + 1, 2)) if size else (0, 0)
        length = int(rng.integers(1, 65))
        match int(rng.integers(9)):
            case 0 | 8 if start < size:
                changed[start] ^= 1 << int(rng.integers(8))
            case 1 if start < size:
                changed[start] = int(rng.integers(256))
            case 2:
                del changed[start:]
            case 3:
                del changed[start : start + length]
            case 4:  # a block twice
                changed[start:start] = changed[start : start + length]
            case 5:  # a block over another
                changed[other : other + length] = changed[start : start + length]
            case 6:
                changed[start : start + length] = rng.bytes(length)
            case 7:  # numbers that break limits
                changed[start : start + 4] = (b"\xff\xff\xff\xff", bytes(4), b"\x7f\xff\xff\xff")[int(rng.integers(3))]
    return bytes(changed)


def make_subjects(folder: Path) -> dict[str, Subject]:
    """Write a good file of each kind."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (20, 4, 4), np.uint8), np.arange(20) % 10
    idx = bytes([0, 0, 8, 3, 0, 0, 0, 20, 0, 0, 0, 4, 0, 0, 0, 4]) + images.tobytes()
    pairs = [(images[part].reshape(-1, 16) / np.float32(256), labels[part]) for part in (slice(8), slice(5), slice(7))]
    own = io.BytesIO()
    np.savez_compressed(own, x_train=images[:12], y_train=labels[:12], x_test=images[12:], y_test=labels[12:])
    cached, data = folder / "cache", {"images": images, "labels": labels}
    load_or_decode("key", lambda: data, cached)
    entry = cached / "entries" / "key.json"
    stored = next(path for path in (cached / "objects").iterdir() if path.stat().st_size > 400)

    def decode() -> Arrays:
        raise _DecodedAgain

    def idx_file() -> Arrays:
        return {"images": read_idx(folder / "idx", 3)}

    def archive() -> Arrays:
        return read_pickle_archive(folder / "archive")

    def npz() -> Arrays:
        original, embedded._FILE = embedded._FILE, folder / "npz"
        try:
            return read_embedded()
        finally:
            embedded._FILE = original

    def user_npz() -> Arrays:
        return read_npz(folder / "user.npz")

    def cache() -> Arrays:
        return load_or_decode("key", decode, cached)

    subjects = {
        "IDX": Subject(folder / "idx", idx, idx_file, False),
        "IDX.gz": Subject(folder / "idx", gzip.compress(idx), idx_file, True),
        "npz": Subject(folder / "npz", embedded._FILE.read_bytes(), npz, True, share=0.1),
        "npz of a user": Subject(folder / "user.npz", own.getvalue(), user_npz, True),
        "cache entry": Subject(entry, entry.read_bytes(), cache, True),
        "cached array": Subject(stored, stored.read_bytes(), cache, True),
        "pickle.gz": Subject(folder / "archive", gzip.compress(pickle.dumps(pairs, 2)), archive, True),
    }
    for protocol in (0, 2, 5):
        subjects[f"pickle of protocol {protocol} in a whole gzip"] = Subject(
            folder / "archive", pickle.dumps(pairs, protocol), archive, False, wrap=lambda raw: gzip.compress(raw, 0)
        )
    prepared = prepare_shapes(folder / "tfds")
    shard = next(prepared.glob("*train.array_record*"))
    return subjects | {
        "array_record": Subject(shard, shard.read_bytes(), lambda: tfds._decode(prepared), True, share=0.05)
    }


def check(subject: Subject, expected: Arrays, content: bytes) -> str:
    """Read damaged content, check what must hold and return what happened."""
    subject.path.write_bytes(subject.wrap(content))
    start = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error")
            warnings.filterwarnings("ignore", "the cached data .* are damaged; decoding again")
            arrays = subject.read()
        happened = "right" if _are_equal(arrays, expected) else "other arrays"
        assert happened == "right" or not subject.has_checksum
    except InputError as error:
        happened = "refused" if len(str(error).splitlines()) == 1 else "refused in many lines"
    except _DecodedAgain:
        happened = "decoded again"
    assert happened != "refused in many lines"
    assert time.perf_counter() - start < MOST_SECONDS
    return happened


def _are_equal(arrays: Arrays, expected: Arrays) -> bool:
    return arrays.keys() == expected.keys() and all(
        np.array_equal(array, expected[name]) and array.dtype == expected[name].dtype for name, array in arrays.items()
    )


def fuzz(subject: Subject, count: int, seed: int) -> Counter[str]:
    """Damage a good file at random, so many times; return how often what happened."""
    rng, happened = np.random.default_rng(seed), Counter()
    subject.path.write_bytes(subject.wrap(subject.good))
    expected = subject.read()
    for _ in range(max(1, int(count * subject.share))):
        content = damage(subject.good, rng)
        try:
            happened[check(subject, expected, content)] += 1
        except BaseException:
            Path("fuzz-failure").write_bytes(subject.wrap(content))
            raise
    subject.path.write_bytes(subject.wrap(subject.good))
    return happened


def main(count: int = 50_000, seed: int = 0) -> None:
    with tempfile.TemporaryDirectory() as folder:
        subjects = make_subjects(Path(folder))
        for name, subject in subjects.items():
            start = time.perf_counter()
            happened = fuzz(subject, count, seed)
            seconds = time.perf_counter() - start
            numbers = ", ".join(f"{number} {what}" for what, number in sorted(happened.items()))
            print(f"{name}: {happened.total()} files in {seconds:.0f} s: {numbers}", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
