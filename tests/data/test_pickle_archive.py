import contextlib
import gzip
import os
import pickle
import struct

import numpy as np
import pytest
from numpy._core.multiarray import _reconstruct
from numpy._core.numeric import _frombuffer  # pyright: ignore[reportAttributeAccessIssue]

from lenet_jax.data import pickle_archive
from lenet_jax.data.pickle_archive import read_pickle_archive
from lenet_jax.errors import InputError

PIXELS = {
    "train": np.arange(3 * 4, dtype=np.uint8).reshape(3, 2, 2),
    "validation": np.full((1, 2, 2), 255, np.uint8),
    "test": np.zeros((2, 2, 2), np.uint8),
}
LABELS = {"train": np.array([3, 1, 2]), "validation": np.array([9]), "test": np.array([0, 7])}


def archive(dtype="float32"):
    """The content of the classic archive: pixel / 256 in flat rows, and labels."""
    return tuple((PIXELS[part].reshape(-1, 4) / np.array(256, dtype), LABELS[part]) for part in PIXELS)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "mnist.pkl.gz"


@pytest.fixture
def message(path, message_of):
    """Return how the archive with a pickle, given as bytes or as what to pickle, is refused."""

    def message(content, protocol=2):
        raw = content if isinstance(content, bytes) else pickle.dumps(content, protocol)
        path.write_bytes(gzip.compress(raw))
        text = message_of(read_pickle_archive, path)
        assert text.startswith(str(path))
        assert len(text) < len(str(path)) + 300
        return text.removeprefix(str(path))

    return message


def holds(what):
    return f": the archive must be three (images, labels) pairs of NumPy arrays and nothing else; it holds {what}."


def assert_content(path):
    read = read_pickle_archive(path)
    assert len(read) == 6
    for part in PIXELS:
        np.testing.assert_array_equal(read[f"{part}_images"], PIXELS[part], strict=True)
        np.testing.assert_array_equal(read[f"{part}_labels"], LABELS[part])


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("dtype", ["float32", "float64", ">f4"])
def test_the_archive_is_read_whatever_protocol_wrote_it(path, protocol, dtype):
    content = tuple((images.astype(dtype), labels) for images, labels in archive())
    path.write_bytes(gzip.compress(pickle.dumps(content, protocol)))
    assert_content(path)


@pytest.mark.parametrize("protocol", [2, 5])
def test_the_order_in_memory_does_not_matter(path, protocol):
    content = [[np.asfortranarray(images), labels[::-1][::-1]] for images, labels in archive()]
    path.write_bytes(gzip.compress(pickle.dumps(content, protocol)))
    assert_content(path)


def python_2_array(array, code):
    """Opcodes with which Python 2 and its NumPy pickled an array in protocol 2, its content a byte string."""
    dtype = (
        b"cnumpy\ndtype\nU"
        + bytes([len(code)])
        + code
        + b"K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    )
    shape = b"".join(b"K" + bytes([size]) for size in array.shape) + {1: b"\x85", 2: b"\x86"}[array.ndim]
    content = b"T" + struct.pack("<I", array.nbytes) + array.tobytes()
    empty = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    return empty + b"(K\x01" + shape + dtype + b"\x89" + content + b"tb"


def python_2_archive():
    pairs = [
        python_2_array(images, b"f4") + python_2_array(labels.astype(np.int64), b"i8") + b"\x86"
        for images, labels in archive()
    ]
    return b"\x80\x02" + b"".join(pairs) + b"\x87."


def test_the_archive_is_read_as_python_2_wrote_it(path):
    assert [array.tolist() for pair in pickle.loads(python_2_archive(), encoding="latin1") for array in pair] == [
        array.tolist() for pair in archive() for array in pair
    ]
    path.write_bytes(gzip.compress(python_2_archive()))
    assert_content(path)


class Call:
    """An object whose pickle is a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class Array(np.ndarray):
    """A class of its own, which the unpickler must not import."""


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "place", [lambda call: call, lambda call: ((call, call), *archive()[1:])], ids=["all", "inside"]
)
@pytest.mark.parametrize(("call", "name"), [(os.system, "posix.system"), (eval, "builtins.eval")])
def test_nothing_is_executed(call, name, place, protocol, tmp_path, message):
    sentinel = tmp_path / "executed"
    code = f"touch {sentinel}" if call is os.system else f"open({str(sentinel)!r}, 'w')"
    expected = name.replace("builtins", "__builtin__") if protocol < 3 else name
    assert message(place(Call(call, code)), protocol) == holds(repr(expected))
    assert not sentinel.exists()


def test_the_executed_file_would_be_seen(tmp_path):
    pickle.loads(pickle.dumps(Call(eval, f"open({str(tmp_path / 'executed')!r}, 'w').close()")))
    assert (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ({"train": archive()[0]}, "a dictionary or a set"),
        (archive()[:2], "something else"),
        ((*archive(), archive()[0]), "something else"),
        ([pair[:1] for pair in archive()], "something else"),
        ("abc", "something else"),
        ([[1, 2]] * 3, "something else"),
        ([[np.array([None]), np.array([1])]] * 3, "an array of type 'O8'"),
        ([[np.zeros(2, "f4,f4"), np.array([1])]] * 3, "a dictionary or a set"),
        ([[np.zeros(2, complex), np.array([1])]] * 3, "an array of type 'c16'"),
        ([[np.zeros((1, 2, 2), "f4"), np.array([1])]] * 3, "a damaged array"),
        (np.dtype(object), "an array of type 'O8'"),
        (Call(np.dtype, ["f4"]), "an array of type a list"),
        (np.float32(1), "'numpy._core.multiarray.scalar'"),
    ],
    ids=["dict", "two pairs", "four pairs", "no labels", "text", "numbers", "objects", "records", "complex", "rank 3",
         "type of objects", "list as type", "scalar"],
)  # fmt: skip
def test_anything_but_three_pairs_of_arrays_is_refused(content, what, message):
    assert message(content) == holds(what)


@pytest.mark.parametrize("protocol", range(6))
def test_a_subclass_of_array_is_refused(protocol, message):
    assert message(np.zeros((2, 4)).view(Array), protocol) == holds(repr(f"{__name__}.Array"))


NUMPY_DTYPE = b"cnumpy\ndtype\n"
NDARRAY = b"cnumpy\nndarray\n"
RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n"
ENCODE = b"c_codecs\nencode\n"


def text(value):
    """The opcode that pushes a text."""
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def six(opcodes):
    """A pickle of three pairs of the object that some opcodes make."""
    return b"\x80\x02" + 3 * (2 * opcodes + b"\x86") + b"\x87."


@pytest.mark.parametrize(
    ("opcodes", "what"),
    [
        (b"\x80\x04" + text("numpy") + text("ndarray.tofile") + b"\x93.", "'numpy.ndarray.tofile'"),
        (b"\x80\x04" + text("os\n") + text("x" * 1000) + b"\x93.", repr("os\n." + "x" * 76)),
        (b"Pid\n.", "a persistent object"),
        (text("id") + b"Q.", "a persistent object"),
        (six(RECONSTRUCT + NUMPY_DTYPE + b"K\x00\x85U\x01b\x87R"), "an array of another class"),
        (six(NDARRAY + b")\x81"), "a damaged array"),
        (six(NDARRAY), "something else"),
        (six(NUMPY_DTYPE + text("f4") + b"\x85R"), "something else"),
        (NUMPY_DTYPE + text("f4") + b"\x85R}b.", "a damaged array type"),
        (ENCODE + text("a") + text("zlib") + b"\x86R.", "a call of _codecs.encode for another encoding than latin1"),
        (ENCODE + text("a") + text("latin1") + b"\x86R}b.", "a damaged text"),
        (ENCODE + b"N}" + text("text") + b"Ns\x86b.", "a dictionary or a set"),
        (b"N" * 10_001 + b".", "more than 10000 objects"),
        (b"Nr\xff\xff\xff\xff.", "more than 10000 objects"),
        (b"Np99999999999\n.", "more than 10000 objects"),
    ],
    ids=["nested global", "newline in global", "persistent id", "binary persistent id", "class", "without init",
         "class itself", "types", "state of type", "codec", "state of text",
         "attribute of function", "many objects", "huge memo", "text memo"],
)  # fmt: skip
def test_hostile_opcodes_are_refused(opcodes, what, message):
    assert message(opcodes) == holds(what)


class Stated:
    """An object that is pickled as an array with any state."""

    def __init__(self, *state):
        self.state = state

    def __reduce__(self):
        return _reconstruct, (np.ndarray, (0,), b"b"), self.state


FLOAT = np.dtype("f4")


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize(
    ("state", "what"),
    [
        ((1, (2, 4), FLOAT, False, bytes(31)), "an array whose content does not fit its shape"),
        ((1, (2, 4), FLOAT, False, bytes(33)), "an array whose content does not fit its shape"),
        ((1, (2**40, 2**40), FLOAT, False, bytes(32)), "an array whose content does not fit its shape"),
        ((1, (10**4000, 10**4000), FLOAT, False, bytes(32)), "an array whose content does not fit its shape"),
        ((1, (0, 2**62), FLOAT, False, bytes(1)), "an array whose content does not fit its shape"),
        ((1, (-2, -4), FLOAT, False, bytes(32)), "an array whose content does not fit its shape"),
        ((1, (2.0, 4.0), FLOAT, False, bytes(32)), "an array whose content does not fit its shape"),
        ((1, [2, 4], FLOAT, False, bytes(32)), "a damaged array"),
        ((1, (), FLOAT, False, bytes(4)), "a damaged array"),
        ((1, (2, 4), "f4", False, bytes(32)), "a damaged array"),
        ((1, (2, 4), FLOAT, False, [None] * 8), "a damaged array"),
    ],
)
def test_a_shape_that_is_not_its_content_s_is_refused(state, what, protocol, message):
    assert message([[Stated(*state)] * 2] * 3, protocol) == holds(what)


@pytest.mark.parametrize("order", ["K", "A", None])
def test_an_order_that_a_plain_array_cannot_have_is_refused(order, message):
    made = Call(_frombuffer, bytes(32), FLOAT, (2, 4), order)
    assert message([[made] * 2] * 3, 5) == holds("a damaged array")


@pytest.mark.parametrize(
    "opcodes",
    [
        b"",
        pickle.dumps(archive(), 2)[:-20],
        pickle.dumps(archive(), 4)[:40],
        python_2_archive()[:-1],
        b"\xff",
        b"0.",
        b"B\xff\xff\xff\xffabc.",
        b"\x80\x05\x96" + b"\xff" * 7 + b"\x3fabc.",
        b"\x80\x04\x8e" + b"\xff" * 8 + b"abc.",
        b"\x80\x04\x95" + b"\xff" * 7 + b"\x3fN.",
        b"I" + b"9" * 5000 + b"\n.",
        b"\x82\x01.",
        NUMPY_DTYPE + b"}b.",
        RECONSTRUCT + b"N}\x86b.",
        NDARRAY + b")R.",
        six(RECONSTRUCT + NDARRAY + b"\x85R(K\x01K\x01\x85" + NUMPY_DTYPE + text("u1") + b"\x85RN" + text("Δ") + b"tb"),
    ],
    ids=["empty", "cut", "cut early", "no stop", "no opcode", "no stack", "long bytes", "long bytearray", "huge bytes",
         "long frame", "long number", "extension", "state of class", "state of function",
         "call without arguments", "no latin1"],
)  # fmt: skip
def test_a_damaged_pickle_is_refused(opcodes, message):
    refused = message(opcodes)
    assert refused.startswith(": the pickle is damaged (")
    assert refused.endswith("); download it again.")


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_flipped_byte_raises_nothing_else(path, protocol):
    raw = pickle.dumps(archive(), protocol)
    for position in range(0, len(raw), 3):
        damaged = bytearray(raw)
        damaged[position] ^= (0x01, 0x80, 0xFF)[position // 3 % 3]
        path.write_bytes(gzip.compress(damaged, 0))
        with contextlib.suppress(InputError):
            read_pickle_archive(path)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda raw: b"no gzip", "the gzip is damaged (Not a gzipped file (b'no')); download it again."),
        (
            lambda raw: raw[:-12],
            "the gzip is damaged (Compressed file ended before the end-of-stream marker was reached)",
        ),
        (lambda raw: raw[:-8] + bytes(8), "the gzip is damaged (CRC check failed"),
        (lambda raw: raw[:30] + b"\xff" * 30 + raw[60:], "the gzip is damaged (Error -3 while decompressing"),
    ],
    ids=["no gzip", "cut", "CRC", "bytes"],
)
def test_a_damaged_gzip_is_refused(path, damage, reason, message_of):
    path.write_bytes(damage(gzip.compress(pickle.dumps(archive()))))
    assert message_of(read_pickle_archive, path).startswith(f"{path}: {reason}")


def test_a_missing_archive_is_named(path, message_of):
    assert message_of(read_pickle_archive, path) == f"{path}: cannot be read (No such file or directory)."


def test_an_archive_that_grows_too_large_is_refused(monkeypatch, message):
    monkeypatch.setattr(pickle_archive, "_SIZE_LIMIT", 1000)
    assert message(bytes(1001)) == ": the archive must have at most 1000 bytes after decompression; got more."


IMAGE_RULE = " (train): images must be rows of square images, floats (N, side * side)"
PIXEL_RULE = " (train): pixels must be whole numbers divided by 256, from 0 to 255/256; got others"


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (np.zeros((3, 5), "f4"), f"{IMAGE_RULE}; got float32 (3, 5)."),
        (np.zeros((3, 0), "f4"), f"{IMAGE_RULE}; got float32 (3, 0)."),
        (np.zeros(3, "f4"), f"{IMAGE_RULE}; got float32 (3,)."),
        (np.full((3, 4), 256, "u2"), f"{IMAGE_RULE}; got uint16 (3, 4)."),
        (np.zeros((3, 4), "u1"), f"{IMAGE_RULE}; got uint8 (3, 4)."),
        (np.full((3, 4), 0.3, "f8"), f"{PIXEL_RULE}, 0.0 to 0.3."),
        (np.full((3, 4), 1, "f4"), f"{PIXEL_RULE}, 0.0 to 1.0."),
        (np.full((3, 4), -1 / 256, "f4"), f"{PIXEL_RULE}, -0.00390625 to 0.0."),
        (np.full((3, 4), np.nan, "f4"), f"{PIXEL_RULE}, nan to nan."),
        (np.full((3, 4), 3e38, "f4"), f"{PIXEL_RULE}, 0.0 to 3"),
        (np.full((3, 4), np.inf, "f4"), f"{PIXEL_RULE}, 0.0 to inf."),
        (np.full((3, 4), 1e-45, "f4"), f"{PIXEL_RULE}, 0.0 to 1"),
    ],
    ids=lambda value: (
        f"{value.dtype}{value.shape}{value.flat[0] if value.size else ''}" if isinstance(value, np.ndarray) else ""
    ),
)
def test_images_that_are_not_mnist_s_are_refused(images, expected, message):
    if images.size:  # NumPy pickles nothing as a call of bytes() in protocol 2
        assert message(((images, LABELS["train"]), *archive()[1:])).startswith(expected)
    assert message(((images, LABELS["train"]), *archive()[1:]), 5).startswith(expected)


def test_labels_stay_as_they_are_for_the_check_of_the_split(path):
    content = tuple((images, labels + 0.5) for images, labels in archive())
    path.write_bytes(gzip.compress(pickle.dumps(content)))
    assert read_pickle_archive(path)["train_labels"].tolist() == [3.5, 1.5, 2.5]


def test_an_archive_that_somebody_has_unpacked_is_read_as_well(tmp_path):
    (tmp_path / "mnist.pkl").write_bytes(pickle.dumps(archive()))
    assert_content(tmp_path / "mnist.pkl")
