"""Bad files, each with what reading it must say: python -m tests.data.hostile FOLDER.

The command reads all of them in one process with little memory and prints, as JSON, what happened.
"""

import gzip
import hashlib
import io
import json
import os
import pickle
import resource
import shutil
import struct
import sys
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lenet_jax.data import embedded
from lenet_jax.data.cache import load_or_decode
from lenet_jax.data.embedded import read_embedded
from lenet_jax.data.idx import read_idx
from lenet_jax.data.npz import read_npz
from lenet_jax.data.pickle_archive import read_pickle_archive
from tests.data.malicious_pickles import live_pickles, text

MOST_BYTES = 1 << 30
SENTINEL = "executed"


class Case(NamedTuple):
    """A bad file: what it is, how it is made at a path, how it is read there, and a part of what that must say."""

    name: str
    write: Callable[[Path], object]
    read: Callable[[Path], object]
    message: str


def content(raw: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(raw)


def loop(path: Path) -> None:
    path.symlink_to(path.name)


NO_FILES = {
    "a folder": (Path.mkdir, "must be a file; it is something else."),
    "a pipe": (os.mkfifo, "must be a file; it is something else."),
    "nothing": (lambda path: None, "cannot be read (No such file or directory)."),
    "a link to itself": (loop, "cannot be read (Too many levels of symbolic links)."),
    "a device": (lambda path: path.symlink_to("/dev/zero"), "must be a file; it is something else."),
}

# ---- IDX and gzip ----------------------------------------------------------------------------------------------------


def idx_header(*shape: int) -> bytes:
    return struct.pack(f">4B{len(shape)}I", 0, 0, 8, len(shape), *shape)


IMAGES = idx_header(2, 3, 4) + bytes(range(24))
FULL = 2**32 - 1
MEMBER = gzip.compress(bytes(1 << 24))  # 16 MiB in 16 KB
BOMB = 640 * MEMBER  # 10 GiB in 10 MB


def gzip_with_name(name: bytes) -> bytes:
    plain = gzip.compress(IMAGES)
    return plain[:3] + b"\x08" + plain[4:10] + name + b"\0" + plain[10:]


BAD_IDX = {
    "empty": (b"", "the header must have 16 bytes; got 0"),
    "half a header": (IMAGES[:9], "the header must have 16 bytes; got 9"),
    "a header alone": (IMAGES[:16], "the header gives 2x3x4 = 24 bytes; got 0"),
    "a byte short": (IMAGES[:-1], "the header gives 2x3x4 = 24 bytes; got 23"),
    "a byte more": (IMAGES + b"\0", "the header gives 2x3x4 = 24 bytes; got more"),
    "two files": (IMAGES + IMAGES, "the header gives 2x3x4 = 24 bytes; got more"),
    "wrong magic": (b"\x01" + IMAGES[1:], "the magic number of IDX images must be 0x00000803; got 0x01000803"),
    "signed bytes": (b"\0\0\x09\x03" + IMAGES[4:], "must be 0x00000803; got 0x00000903"),
    "floats": (b"\0\0\x0d\x03" + IMAGES[4:], "must be 0x00000803; got 0x00000d03"),
    "little-endian": (IMAGES[3::-1] + IMAGES[4:], "must be 0x00000803; got 0x03080000"),
    "one axis": (idx_header(24) + bytes(24), "must be 0x00000803; got 0x00000801"),
    "255 axes": (b"\0\0\x08\xff" + 255 * b"\xff\xff\xff\xff", "must be 0x00000803; got 0x000008ff"),
    "no images": (idx_header(0, 28, 28), "each size in the header must be 1 or above; got (0, 28, 28)"),
    "no pixels": (idx_header(2, 0, FULL), "each size in the header must be 1 or above"),
    "2^96 bytes": (idx_header(FULL, FULL, FULL), "the header must give at most 600000000 bytes; got 4294967295x"),
    "2^64 bytes": (idx_header(2**31, 2**31, 4), "the header must give at most 600000000 bytes"),
    "a size that 32 bits overflow": (idx_header(2**16, 2**8, 2**8 + 1), "the header must give at most 600000000 bytes"),
    "600 million bytes": (idx_header(600_000, 1000, 1), "= 600000000 bytes; got 0"),
    "an image": (b"\x89PNG\r\n\x1a\n" + bytes(50), "got 0x89504e47; is it another file?"),
    "a page": (b"<!DOCTYPE html><html>404</html>", "got 0x3c21444f; is it another file?"),
}
BAD_GZIP = {
    "the magic alone": (b"\x1f\x8b", "the gzip is damaged"),
    "a header alone": (gzip.compress(IMAGES)[:10], "the gzip is damaged"),
    "truncated": (gzip.compress(IMAGES)[:-9], "the gzip is damaged"),
    "without length": (gzip.compress(IMAGES)[:-4], "the gzip is damaged"),
    "wrong CRC": (gzip.compress(IMAGES)[:-8] + bytes(4) + gzip.compress(IMAGES)[-4:], "the gzip is damaged"),
    "wrong length": (gzip.compress(IMAGES)[:-4] + bytes(4), "the gzip is damaged"),
    "another method": (b"\x1f\x8b\x07" + gzip.compress(IMAGES)[3:], "the gzip is damaged"),
    "garbage at the end": (gzip.compress(IMAGES) + b"garbage", "the gzip is damaged"),
    "garbage inside": (gzip.compress(IMAGES)[:10] + b"\xff" * 40, "the gzip is damaged"),
    "empty content": (gzip.compress(b""), "the header must have 16 bytes; got 0"),
    "a gzip in a gzip": (gzip.compress(gzip.compress(IMAGES)), "must be 0x00000803; got 0x1f8b0800"),
    "a second file": (2 * gzip.compress(IMAGES), "the header gives 2x3x4 = 24 bytes; got more"),
    "a bomb of zeros": (BOMB, "must be 0x00000803; got 0x00000000"),
    "a bomb after two images": (
        gzip.compress(IMAGES) + BOMB,
        "the header gives 2x3x4 = 24 bytes; got more",
    ),
    "a bomb after the header of 60,000": (
        gzip.compress(idx_header(60_000, 28, 28)) + BOMB,
        "the header gives 60000x28x28 = 47040000 bytes; got more",
    ),
    "a bomb of what its header says": (
        gzip.compress(idx_header(640 << 4, 1 << 10, 1 << 10)) + BOMB,
        "the header must give at most 600000000 bytes; got 10240x1024x1024 = 10737418240",
    ),
    "a long name": (gzip_with_name(b"x" * 200_000)[:-1], "the gzip is damaged"),
    "many empty members": (20_000 * gzip.compress(b""), "the header must have 16 bytes; got 0"),
}


def idx_cases() -> Iterator[Case]:
    def read(path: Path) -> np.ndarray:
        return read_idx(path, 3)

    for kind, bad in (("IDX", BAD_IDX), ("gzip", BAD_GZIP)):
        for name, (raw, message) in bad.items():
            yield Case(f"{kind}: {name}", content(raw), read, message)
    for name, (write, message) in NO_FILES.items():
        yield Case(f"IDX: {name}", write, read, message)


# ---- the archive of pickles ------------------------------------------------------------------------------------------

TWICE = b"N" + 60 * b"2\x86"  # a tuple of twice the same tuple of twice the same tuple ...: its hash takes 2^60 steps
NOTHING_ELSE = "the archive must be three (images, labels) pairs of NumPy arrays and nothing else; it holds "
DAMAGED = "the pickle is damaged ("
BAD_PICKLES = {
    "empty": (b"", DAMAGED),
    "text": (b"not a pickle", DAMAGED),
    "a key that hashes forever": (b"}" + TWICE + b"Ns.", NOTHING_ELSE),
    "keys that hash forever": (b"(" + TWICE + b"Nd.", NOTHING_ELSE),
    "an item that hashes forever": (b"\x80\x04\x8f(" + TWICE + b"\x90.", NOTHING_ELSE),
    "a set that hashes forever": (b"\x80\x04(" + TWICE + b"\x91.", NOTHING_ELSE),
    "a huge memo": (b"Nr\xff\xff\xff\xff.", NOTHING_ELSE),
    "a huge memo in text": (b"Np4294967295\n.", NOTHING_ELSE),
    "a memo of what is not there": (b"h\xff.", DAMAGED),
    "tuples 9,000 deep": (b"N" + 9_000 * b"\x85" + b".", NOTHING_ELSE),
    "tuples a million deep": (b"N" + 1_000_000 * b"\x85" + b".", NOTHING_ELSE),
    "marks a million deep": (1_000_000 * b"(" + b".", NOTHING_ELSE),
    "lists in themselves": (b"]q\x00h\x00a.", NOTHING_ELSE),
    "a text of 4 GiB": (b"X\xff\xff\xff\xffabc.", DAMAGED),
    "a text of 2^63 bytes": (b"\x80\x04\x8d" + b"\xff" * 7 + b"\x7fabc.", DAMAGED),
    "a text of -1 bytes": (b"\x80\x04\x8d" + b"\xff" * 8 + b"abc.", DAMAGED),
    "bytes of 2^63": (b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7fabc.", DAMAGED),
    "a bytearray of 2^63 bytes": (b"\x80\x05\x96" + b"\xff" * 7 + b"\x7fabc.", DAMAGED),
    "a string of -1 bytes": (b"T\xff\xff\xff\xffabc.", DAMAGED),
    "a frame of 2^63 bytes": (b"\x80\x04\x95" + b"\xff" * 7 + b"\x7fN.", DAMAGED),
    "a number of 2 GiB": (b"\x8b\xff\xff\xff\x7fabc.", DAMAGED),
    "a number of 5,000 digits": (b"I" + b"9" * 5000 + b"\n.", DAMAGED),
    "a number of 10 million digits": (b"L" + b"9" * 10_000_000 + b"L\n.", DAMAGED),
    "a number that is none": (b"F" + b"x" * 10_000_000 + b"\n.", DAMAGED),
    "an extension": (b"\x82\x01.", DAMAGED),
    "a persistent object": (b"Pid\n.", NOTHING_ELSE),
    "copyreg._reconstructor": (b"ccopyreg\n_reconstructor\n.", NOTHING_ELSE + "'copyreg._reconstructor'"),
    "copyreg.__newobj__": (b"ccopyreg\n__newobj__\n.", NOTHING_ELSE + "'copyreg.__newobj__'"),
    "_codecs.decode": (b"c_codecs\ndecode\n.", NOTHING_ELSE + "'_codecs.decode'"),
    "another codec": (b"c_codecs\nencode\n" + text("a") + text("zlib") + b"\x86R.", NOTHING_ELSE),
    "a class for objects": (b"csubprocess\nPopen\n)\x81.", NOTHING_ELSE + "'subprocess.Popen'"),
    "a class for objects with names": (b"\x80\x04csubprocess\nPopen\n)}\x92.", NOTHING_ELSE + "'subprocess.Popen'"),
    "two pairs": (pickle.dumps([[np.zeros((1, 4), "f4"), np.zeros(1, int)]] * 2), NOTHING_ELSE),
    "objects": (pickle.dumps([[np.array([None]), np.zeros(1, int)]] * 3), NOTHING_ELSE),
}


def pickle_cases(folder: Path) -> Iterator[Case]:
    for name, raw in live_pickles(folder / SENTINEL).items():
        yield Case(f"pickle: {name}", content(gzip.compress(raw)), read_pickle_archive, NOTHING_ELSE)
    for name, (raw, message) in BAD_PICKLES.items():
        yield Case(f"pickle: {name}", content(gzip.compress(raw)), read_pickle_archive, message)
    yield Case("pickle: a bomb", content(BOMB), read_pickle_archive, "at most 268435456 bytes after decompression")
    yield Case("pickle: no gzip", content(b"no gzip"), read_pickle_archive, "the gzip is damaged (Not a gzipped")
    yield Case(
        "pickle: unpacked, of a number", content(pickle.dumps(1)), read_pickle_archive, "it holds something else"
    )
    yield Case("pickle: garbage at the end", content(MEMBER + b"x"), read_pickle_archive, "the gzip is damaged")
    for name, (write, message) in NO_FILES.items():
        yield Case(f"pickle: {name}", write, read_pickle_archive, message)


# ---- the cache -------------------------------------------------------------------------------------------------------

ARRAYS = {"images": np.arange(12, dtype=np.uint8).reshape(3, 4), "labels": np.array([1, 0, 2])}


def read_cache(folder: Path) -> None:
    """Load what the cache should have; the arrays must be right whatever is in it."""
    loaded = load_or_decode("key", lambda: ARRAYS, folder)
    assert loaded.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(loaded[name], array, strict=True)


def entry_of(folder: Path) -> Path:
    return folder / "entries" / "key.json"


def object_of(folder: Path) -> Path:
    raw = io.BytesIO()
    np.lib.format.write_array(raw, ARRAYS["images"])
    return folder / "objects" / f"{hashlib.sha256(raw.getvalue()).hexdigest()}.npy"


def in_cache(find: Callable[[Path], Path], write: Callable[[Path], object]) -> Callable[[Path], None]:
    """Return how to fill a cache and put another thing in the place of one of its files."""

    def fill(folder: Path) -> None:
        read_cache(folder)
        find(folder).unlink()
        write(find(folder))

    return fill


def naming(name: str, digest: object) -> bytes:
    return json.dumps({name: digest}).encode()


def npy(header: str, raw: bytes = b"") -> bytes:
    encoded = header.encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(encoded)) + encoded + raw


def sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)


def objects_npy() -> bytes:
    raw = io.BytesIO()
    np.save(raw, np.array([None]), allow_pickle=True)
    return raw.getvalue()


def claimed(shape: str, dtype: str = "|u1") -> str:
    return f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n"


BAD_ENTRIES = {
    "empty": b"",
    "cut": b'{"images": "01',
    "no text": b"\xff\xfe",
    "a list": b"[]",
    "no arrays": b"{}",
    "a number as digest": naming("images", 5),
    "a list as digest": naming("images", ["0" * 64]),
    "a path as digest": naming("images", "../../x"),
    "an absolute path as digest": naming("images", "/dev/zero"),
    "a zero byte in the digest": naming("images", "0" * 63 + "\0"),
    "a newline after the digest": naming("images", "0" * 64 + "\n"),
    "lists 100,000 deep": b"[" * 100_000,
    "a number of a million digits": b"1" * 1_000_000,
    "another schema": b'{"schema": 2}',
    "a wrong seal": b'{"schema": 1, "sha256": "0"}',
    "2 MiB": b" " * (2 << 20),
}
BAD_OBJECTS = {
    "empty": b"",
    "no npy": b"PK\x03\x04" + bytes(100),
    "half a header": npy(claimed("(3, 4)"))[:30],
    "2^60 bytes": npy(claimed(f"({2**30}, {2**30})"), bytes(12)),
    "2^96 bytes": npy(claimed(f"({2**48}, {2**48})"), bytes(12)),
    "sizes below zero": npy(claimed("(-3, -4)"), bytes(12)),
    "sizes of text": npy(claimed("('3', '4')"), bytes(12)),
    "no size": npy("{'descr': '|u1', 'fortran_order': False}", bytes(12)),
    "bytes of no size": npy(claimed(f"({2**60},)", "|V0")),
    "code as header": npy("__import__('os').system('true')"),
    "parentheses 9,000 deep": npy("(" * 9_000),
    "minus 9,000 deep": npy("-" * 9_000 + "1"),
    "a header of 60,000 bytes": npy(claimed("(3, 4)") + " " * 60_000, bytes(12)),
    "an open text": npy("{'descr': '"),
    "objects": objects_npy(),
    "a wrong digest": npy(claimed("(3, 4)"), bytes(12)),
}


def write_named_by_content(raw: bytes) -> Callable[[Path], None]:
    """Return how to fill a cache with an object under its true digest."""

    def fill(folder: Path) -> None:
        read_cache(folder)
        digest = hashlib.sha256(raw).hexdigest()
        (folder / "objects" / f"{digest}.npy").write_bytes(raw)
        entry_of(folder).write_bytes(naming("images", digest))

    return fill


def cache_cases() -> Iterator[Case]:
    def case(name: str, write: Callable[[Path], object]) -> Case:
        return Case(f"cache: {name}", write, read_cache, "are damaged; decoding again")

    for name, raw in BAD_ENTRIES.items():
        yield case(f"an entry: {name}", in_cache(entry_of, content(raw)))
    for name, raw in BAD_OBJECTS.items():
        yield case(f"an object: {name}", in_cache(object_of, content(raw)))
        if name != "a wrong digest":
            yield case(f"an object under its digest: {name}", write_named_by_content(raw))
    for name, (write, _) in NO_FILES.items():
        if name not in ("nothing", "a folder"):  # nothing is no damage, and what is in the place of a file stays there
            yield case(f"an entry: {name}", in_cache(entry_of, write))
            yield case(f"an object: {name}", in_cache(object_of, write))
    yield case("an object: 1 TiB of zeros", in_cache(object_of, sparse))


# ---- the embedded digits ---------------------------------------------------------------------------------------------


def read_embedded_at(path: Path) -> None:
    original, embedded._FILE = embedded._FILE, path
    try:
        read_embedded()
    finally:
        embedded._FILE = original


def replaced(raw: bytes) -> bytes:
    """Return an npz of the right length with other content."""
    return raw[:-100] + bytes(100)


def npz_bomb() -> bytes:
    raw = io.BytesIO()
    np.savez_compressed(raw, images=np.zeros(1 << 28, np.uint8), labels=np.zeros(1))
    return raw.getvalue()


def embedded_cases() -> Iterator[Case]:
    raw = embedded._FILE.read_bytes()
    sha, size = "must have SHA-256", "must have at most"
    bad = {
        "empty": (b"", sha),
        "truncated": (raw[:-1], sha),
        "a byte more": (raw + b"\0", size),
        "wrong CRC": (replaced(raw), sha),
        "no zip": (b"x" * len(raw), sha),
        "another npz": (npz_bomb(), sha),
        "pickled content": (pickle.dumps([1, 2]), sha),
        "large": (raw * 10, size),
    }
    for name, (content_of, message) in bad.items():
        yield Case(f"npz: {name}", content(content_of), read_embedded_at, message)
    for name, (write, _) in NO_FILES.items():
        yield Case(f"npz: {name}", write, read_embedded_at, "must be a file; it is ")


# ---- npz files of the user -------------------------------------------------------------------------------------------


def zip_of(members: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", compression) as archive:
        for name, member in members.items():
            archive.writestr(f"{name}.npy", member)
    return raw.getvalue()


GOOD = npy(claimed("(2,)"), bytes(2))


def npz_with(member: bytes) -> bytes:
    """Return an npz of four good arrays but for the first."""
    return zip_of({"x_train": member, "y_train": GOOD, "x_test": GOOD, "y_test": GOOD})


def member_bomb() -> bytes:
    """Return an npz of 1 MB whose first array has 1 GiB of zeros, as its header says."""
    raw, zeros = io.BytesIO(), bytes(1 << 20)
    with zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("x_train", "y_train", "x_test", "y_test"):
            with archive.open(f"{name}.npy", "w") as member:
                member.write(npy(claimed(f"({1 << 30},)")))
                for _ in range(1 << 10):
                    member.write(zeros)
                    if name != "x_train":
                        break
    return raw.getvalue()


def lying(raw: bytes) -> bytes:
    """Return a zip whose directory says that its members have 4 bytes."""
    start = raw.index(b"PK\x01\x02")
    return raw[:start] + raw[start:].replace(struct.pack("<I", len(GOOD)), struct.pack("<I", 4))


def user_npz_cases(folder: Path) -> Iterator[Case]:
    none, bytes_of = "must be an npz file of numpy.savez; it is none, or damaged (", "the array must have the "
    lacking, objects = "must have the arrays x_train", "must be an array of numbers; it has Python objects, which need"
    live = next(iter(live_pickles(folder / SENTINEL).values()))
    bad = {
        "empty": (b"", none),
        "text": (b"not a zip", none),
        "a pickle": (live, none),
        "an npy": (GOOD, none),
        "an empty zip": (zip_of({}), lacking),
        "a folder's end": (zip_of({"../../x_train": b""}), lacking),
        "10,000 members": (zip_of({f"x{n}": b"" for n in range(10_000)}), lacking),
        "no npy": (npz_with(b"x" * 100), none),
        "objects": (npz_with(npy(claimed("(1,)", "|O"), live)), objects),
        "objects in a structure": (
            npz_with(npy("{'descr': [('a', '|O')], 'fortran_order': False, 'shape': (1,)}\n", live)),
            objects,
        ),
        "texts": (npz_with(npy(claimed("(1,)", "<U2"), bytes(8))), "must be an array of numbers; got <U2"),
        "a structure": (
            npz_with(npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}\n", bytes(4))),
            "must be an array of",
        ),
        "complex numbers": (
            npz_with(npy(claimed("(1,)", "<c8"), bytes(8))),
            "must be an array of numbers; got complex64",
        ),
        "2^60 bytes": (npz_with(npy(claimed(f"({2**30}, {2**30})"), bytes(12))), bytes_of),
        "2^96 bytes": (npz_with(npy(claimed(f"({2**48}, {2**48})"), bytes(12))), bytes_of),
        "sizes below zero": (npz_with(npy(claimed("(-3, -4)"), bytes(12))), bytes_of),
        "a byte short": (npz_with(npy(claimed("(3, 4)"), bytes(11))), bytes_of),
        "a byte more": (npz_with(npy(claimed("(3, 4)"), bytes(13))), bytes_of),
        "code as header": (npz_with(npy("__import__('os').system('true')")), none),
        "parentheses 9,000 deep": (npz_with(npy("(" * 9_000)), none),
        "a header of 60,000 bytes": (npz_with(npy(claimed("(2,)") + " " * 60_000, bytes(2))), none),
        "another version": (npz_with(b"\x93NUMPY\x03\x00" + bytes(100)), none),
        "a bomb": (member_bomb(), "its arrays must have at most 268435456 bytes, for the size of the file; got 107"),
        "a directory that lies": (lying(npz_with(GOOD)), none),
        "encrypted": (
            npz_with(b"").replace(b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01"),
            none,
        ),
        "lzma": (
            zip_of(dict.fromkeys(("x_train", "y_train", "x_test", "y_test"), GOOD), zipfile.ZIP_LZMA),
            "must be stored or deflated",
        ),
        "cut": (npz_with(GOOD)[:-30], none),
    }
    for name, (raw, message) in bad.items():
        yield Case(f"user npz: {name}", content(raw), read_npz, message)
    for name, (write, message) in NO_FILES.items():
        yield Case(f"user npz: {name}", write, read_npz, message)


# ---- prepared sets of TFDS -------------------------------------------------------------------------------------------


def tfds_cases(folder: Path) -> Iterator[Case]:
    from lenet_jax.data import load_dataset
    from tests.data.shapes import prepare_shapes

    prepare_shapes(folder / "good")

    def read(path: Path) -> None:
        load_dataset("shapes", "tfds", directory=str(path), num_classes=None)

    read(folder / "good")  # the threads that array_record starts once wait forever if they do not fit the limit

    def case(name: str, file: str, damage: Callable[[Path], object], message: str) -> Case:
        def write(path: Path) -> None:
            shutil.copytree(folder / "good", path)
            damage(next((path / "shapes" / "1.2.3").glob(file)))

        return Case(f"TFDS: {name}", write, read, message)

    def changed(change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
        return lambda path: path.write_bytes(change(path.read_bytes()))

    def pipe(path: Path) -> None:
        path.unlink()
        os.mkfifo(path)

    shard, info, features = "*train.array_record*", "dataset_info.json", "features.json"
    damaged, no_features = "the prepared set is damaged (", "the set must have the features `image`"
    yield case("an empty shard", shard, changed(lambda raw: b""), damaged)
    yield case("half a shard", shard, changed(lambda raw: raw[: len(raw) // 2]), damaged)
    yield case("a shard of zeros", shard, changed(lambda raw: bytes(len(raw))), damaged)
    yield case("a shard of ones", shard, changed(lambda raw: b"\xff" * len(raw)), damaged)
    yield case("a shard with a block twice", shard, changed(lambda raw: raw[:300] + raw), damaged)
    yield case("a shard of text", shard, changed(lambda raw: b"x" * len(raw)), damaged)
    yield case("a shard that is a pipe", shard, pipe, "must be a file; it is something else.")
    yield case("an empty description", info, changed(lambda raw: b""), damaged)
    yield case("a deep description", info, changed(lambda raw: b'{"a":' * 100_000), damaged)
    yield case("no features", features, changed(lambda raw: b"{}"), no_features)
    yield case("deep features", features, changed(lambda raw: b"[" * 100_000), no_features)
    yield case("2 MiB of features", features, changed(lambda raw: b" " * (2 << 20)), no_features)
    yield case(
        "infinitely many classes",
        features,
        changed(lambda raw: raw.replace(b'"numClasses": "3"', b'"numClasses": 1e999')),
        no_features,
    )
    module = "module_of_a_bad_file"
    (folder / f"{module}.py").write_text(f"open({str(folder / SENTINEL)!r}, 'w')")
    sys.path.append(str(folder))
    yield case(
        "a class of another module",
        features,
        changed(lambda raw: raw.replace(b"tensorflow_datasets.core.features.image_feature", module.encode())),
        f"each feature must be one of tensorflow_datasets; got '{module}.Image'",
    )


# ---- all of them -----------------------------------------------------------------------------------------------------


def all_cases(folder: Path) -> Iterator[Case]:
    yield from idx_cases()
    yield from pickle_cases(folder)
    yield from cache_cases()
    yield from embedded_cases()
    yield from user_npz_cases(folder)
    yield from tfds_cases(folder)


def outcome(case: Case, path: Path) -> dict[str, object]:
    """Read a bad file, and return what was raised or warned, and the seconds of the processor that it took."""
    case.write(path)
    start = time.process_time()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            case.read(path)
            kind, message = "returned", ""
        except Exception as error:
            kind, message = type(error).__name__, str(error)
    if kind == "returned" and caught:
        kind, message = "warned", "; ".join(str(warning.message) for warning in caught)
    seconds = time.process_time() - start
    return {"name": case.name, "kind": kind, "message": message, "seconds": seconds, "path": str(path)}


def virtual_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def main(folder: Path) -> None:
    cases = list(all_cases(folder))
    resource.setrlimit(resource.RLIMIT_AS, (virtual_bytes() + MOST_BYTES,) * 2)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcomes = []
    for index, case in enumerate(cases):
        path = folder / str(index) / "file"
        path.parent.mkdir()
        outcomes.append(outcome(case, path) | {"expected": case.message})
    more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(json.dumps({"outcomes": outcomes, "more_bytes": more * 1024, "executed": (folder / SENTINEL).exists()}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
