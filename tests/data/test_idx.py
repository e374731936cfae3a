import gzip
import struct

import numpy as np
import pytest

from lenet_jax.data import load_idx
from lenet_jax.data.idx import read_idx, read_idx_folder

IMAGES = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
LABELS = np.array([7, 1], np.uint8)


@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize("array", [IMAGES, LABELS], ids=["images", "labels"])
def test_a_file_is_read_as_it_was_written(array, compress, tmp_path, idx_bytes):
    path = tmp_path / "file"
    path.write_bytes(compress(idx_bytes(array)))
    read = read_idx(path, array.ndim)
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, array)


def test_the_folder_gives_each_file_its_role(small_folder, small_arrays):
    (small_folder / "train-images-idx3-ubyte.gz").write_bytes(
        gzip.compress((small_folder / "train-images-idx3-ubyte").read_bytes())
    )
    (small_folder / "train-images-idx3-ubyte").unlink()
    read = read_idx_folder(small_folder)
    assert read.keys() == small_arrays.keys()
    for role, array in small_arrays.items():
        np.testing.assert_array_equal(read[role], array)


RENAMED = {
    "a dot, as 7-Zip and Kaggle write it": lambda name: name.replace("-idx", ".idx"),
    "a folder of its own name": lambda name: f"{name}/{name}",
    "torchvision's root": lambda name: f"MNIST/raw/{name}",
    "torchvision's folder of the set": lambda name: f"raw/{name}",
    "EMNIST's names": lambda name: f"emnist-digits-{name.replace('t10k', 'test')}",
}


@pytest.mark.parametrize("rename", RENAMED.values(), ids=RENAMED.keys())
def test_files_are_found_under_the_names_that_people_have(rename, small_folder, small_arrays, tmp_path):
    for path in small_folder.iterdir():
        target = tmp_path / "renamed" / rename(path.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    read = read_idx_folder(tmp_path / "renamed")
    for role, array in small_arrays.items():
        np.testing.assert_array_equal(read[role], array)


def test_of_several_sets_none_is_chosen(small_folder, message_of):
    for path in list(small_folder.iterdir()):
        for name in ("digits", "letters"):
            copy = small_folder / f"emnist-{name}-{path.name.replace('t10k', 'test')}"
            copy.write_bytes(path.read_bytes())
        path.unlink()
    assert message_of(read_idx_folder, small_folder) == (
        f"`data.directory` {small_folder} must hold one set; it has {small_folder}/emnist-digits-, "
        f"{small_folder}/emnist-letters-; put one into a folder of its own."
    )


def test_images_of_emnist_are_said_to_be_transposed_and_can_be_turned(small_folder, small_arrays, caplog):
    for path in list(small_folder.iterdir()):
        path.rename(small_folder / f"emnist-letters-{path.name.replace('t10k', 'test')}")
    options = {"directory": str(small_folder), "num_classes": None, "validation_size": 1}
    stored, upright = load_idx(**options), load_idx(**options, upright=True)
    assert [record.getMessage().partition(": ")[2] for record in caplog.records] == [
        "EMNIST's images are stored transposed; data.upright=true makes them stand"
    ]
    np.testing.assert_array_equal(stored.test.inputs[..., 0], small_arrays["test_images"])
    np.testing.assert_array_equal(upright.test.inputs[..., 0], np.transpose(small_arrays["test_images"], (0, 2, 1)))
    assert stored.num_classes == 1 + max(small_arrays[f"{part}_labels"].max() for part in ("train", "test"))


def test_missing_files_are_listed(small_folder, message_of):
    (small_folder / "train-images-idx3-ubyte").unlink()
    (small_folder / "t10k-labels-idx1-ubyte").unlink()
    assert message_of(read_idx_folder, small_folder) == (
        f"`data.directory` {small_folder} must hold train-images-idx3-ubyte, train-labels-idx1-ubyte, "
        "t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte (or .gz); missing: train-images-idx3-ubyte, "
        "t10k-labels-idx1-ubyte."
    )


def test_a_file_that_cannot_be_opened_is_named(tmp_path, message_of):
    assert message_of(read_idx, tmp_path / "no", 3) == f"{tmp_path / 'no'}: cannot be read (No such file or directory)."


HEADER = bytes([0, 0, 8, 3]) + struct.pack(">3I", 2, 3, 4)
TRUNCATED = "the file is truncated: download it again."
DAMAGED = "the file is truncated or damaged: download it again."


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", f"the header must have 16 bytes; got 0; {TRUNCATED}"),
        (HEADER[:10], f"the header must have 16 bytes; got 10; {TRUNCATED}"),
        (HEADER + bytes(23), f"the header gives 2x3x4 = 24 bytes; got 23; {DAMAGED}"),
        (HEADER + bytes(25), f"the header gives 2x3x4 = 24 bytes; got more; {DAMAGED}"),
        (
            HEADER[:4] + b"\xff" * 12,
            "the header must give at most 600000000 bytes; got 4294967295x4294967295x4294967295 = "
            f"{(2**32 - 1) ** 3}; is it another file?",
        ),
        (
            HEADER[:4] + bytes(4) + b"\xff" * 8,
            "each size in the header must be 1 or above; got (0, 4294967295, 4294967295); is it another file?",
        ),
        (
            bytes([0, 0, 8, 1]) + struct.pack(">I", 10) + bytes(10),
            "the magic number of IDX images must be 0x00000803; got 0x00000801; is it another file?",
        ),
    ],
    ids=["empty", "short header", "short body", "extra byte", "huge sizes", "no images of huge size", "labels"],
)
def test_a_file_that_breaks_the_format_is_refused(content, message, tmp_path, message_of):
    path = tmp_path / "file"
    path.write_bytes(content)
    assert message_of(read_idx, path, 3) == f"{path}: {message}"


def test_images_given_for_labels_are_refused(tmp_path, idx_bytes, message_of):
    path = tmp_path / "file"
    path.write_bytes(idx_bytes(IMAGES))
    assert "the magic number of IDX labels must be 0x00000801; got 0x00000803" in message_of(read_idx, path, 1)


def flip(content: bytes, position: int) -> bytes:
    changed = bytearray(content)
    changed[position] ^= 1
    return bytes(changed)


@pytest.mark.parametrize(
    "damage",
    [lambda raw: flip(raw, -8), lambda raw: flip(raw, -1), lambda raw: raw[:-9], lambda raw: raw[:2]],
    ids=["CRC", "length", "truncated", "two bytes"],
)
def test_damaged_gzip_is_refused(damage, tmp_path, idx_bytes, message_of):
    path = tmp_path / "file.gz"
    path.write_bytes(damage(gzip.compress(idx_bytes(IMAGES))))
    message = message_of(read_idx, path, 3)
    assert message.startswith(f"{path}: the gzip is damaged (")
    assert message.endswith("); download it again.")


def test_mnist_is_what_was_published(mnist_directory):
    arrays = read_idx_folder(mnist_directory)
    assert {role: array.shape for role, array in arrays.items()} == {
        "train_images": (60000, 28, 28),
        "train_labels": (60000,),
        "test_images": (10000, 28, 28),
        "test_labels": (10000,),
    }
    assert arrays["train_labels"][:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
