"""Small archives in the official formats stand for the official ones, of which the digests are pinned."""

import gzip
import hashlib
import io
import tarfile
import zipfile
from importlib import resources

import numpy as np
import pytest
import scipy.io

from lenet_jax.data import archives, load_dataset, official, tfds
from lenet_jax.runs.provenance import digest_dataset
from tests.data.shapes import prepare_as

RNG = np.random.default_rng(0)
NUM_TRAIN, NUM_TEST = 10, 4
COLOR = {
    "train": RNG.integers(0, 256, (10, 32, 32, 3), np.uint8),
    "test": RNG.integers(0, 256, (4, 32, 32, 3), np.uint8),
}
GREY = {part: images[:, :28, :28, 0] for part, images in COLOR.items()}
LABELS = {"train": np.arange(10, dtype=np.uint8), "test": np.arange(4, dtype=np.uint8)[::-1]}


def cifar_rows(part, *labels):
    """Return the bytes of the binary version: the labels, then red, green and blue planes."""
    rows = [bytes([label[number] for label in labels]) for number in range(len(COLOR[part]))]
    planes = [b"".join(image[:, :, channel].tobytes() for channel in range(3)) for image in COLOR[part]]
    return [row + plane for row, plane in zip(rows, planes, strict=True)]


def write_tar(path, files):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def write_cifar10(folder):
    rows = cifar_rows("train", LABELS["train"])
    files = {
        f"cifar-10-batches-bin/data_batch_{number}.bin": b"".join(rows[2 * number - 2 : 2 * number])
        for number in (3, 1, 2, 5, 4)
    }
    files |= {
        "cifar-10-batches-bin/readme.html": b"",
        "cifar-10-batches-bin/test_batch.bin": b"".join(cifar_rows("test", LABELS["test"])),
    }
    write_tar(folder / "cifar-10-binary.tar.gz", files)


def write_cifar100(folder):
    files = {
        f"cifar-100-binary/{part}.bin": b"".join(cifar_rows(part, LABELS[part], 90 + LABELS[part])) for part in LABELS
    }
    write_tar(folder / "cifar-100-binary.tar.gz", files)


def write_svhn(folder):
    for part, images in COLOR.items():
        labels = np.where(LABELS[part] == 0, 10, LABELS[part])[:, None]
        scipy.io.savemat(
            folder / f"{part}_32x32.mat", {"X": images.transpose(1, 2, 3, 0), "y": labels}, do_compression=True
        )


def write_emnist(folder, split, idx_bytes):
    with zipfile.ZipFile(folder / "gzip.zip", "w") as archive:
        for part in LABELS:
            for kind, array in (("images-idx3", GREY[part]), ("labels-idx1", LABELS[part])):
                archive.writestr(f"gzip/emnist-{split}-{part}-{kind}-ubyte.gz", gzip.compress(idx_bytes(array)))


@pytest.fixture
def manual_dir(tmp_path, monkeypatch, idx_bytes):
    """A folder with a small archive of each set, of which the digests count as the official ones."""
    folder = tmp_path / "manual"
    folder.mkdir()
    write_cifar10(folder)
    write_cifar100(folder)
    write_svhn(folder)
    write_emnist(folder, "letters", idx_bytes)
    pinned = {}
    for address, file in official._pinned().items():
        raw = (folder / file.name).read_bytes() if (folder / file.name).exists() else b""
        pinned[address] = file._replace(num_bytes=len(raw), sha256=hashlib.sha256(raw).hexdigest())
    monkeypatch.setattr(official, "_pinned", lambda: pinned)
    monkeypatch.setattr("requests.get", None)  # nothing is downloaded
    return folder


def load(name, manual_dir, **options):
    directory = str(manual_dir.parent / "tfds")
    return load_dataset(name, directory=directory, manual_dir=str(manual_dir), validation_size=4, **options)


def assert_content(data, images, labels):
    np.testing.assert_array_equal(np.concatenate([data.train.inputs, data.validation.inputs]), images["train"])
    np.testing.assert_array_equal(np.concatenate([data.train.targets, data.validation.targets]), labels["train"])
    np.testing.assert_array_equal(data.test.inputs, images["test"])
    np.testing.assert_array_equal(data.test.targets, labels["test"])
    assert len(data.validation.targets) == 4


@pytest.mark.parametrize("name", ["cifar10", "svhn"])
def test_colour_images_are_those_of_the_archive_in_its_order(name, manual_dir):
    data = load(name, manual_dir)
    assert_content(data, COLOR, LABELS)
    assert data.num_classes == 10


def test_cifar100_has_fine_labels_and_coarse_ones_as_an_option(manual_dir):
    fine = load("cifar100", manual_dir)
    assert_content(fine, COLOR, {part: 90 + labels for part, labels in LABELS.items()})
    coarse = load("cifar100", manual_dir, label="coarse")
    assert_content(coarse, COLOR, LABELS)
    assert (fine.num_classes, coarse.num_classes) == (100, 20)
    assert digest_dataset(load("cifar100", manual_dir)) == digest_dataset(fine)


def test_emnist_is_as_it_is_stored_or_upright(manual_dir):
    data = load("emnist", manual_dir, split="letters")
    assert_content(data, {part: images[..., None] for part, images in GREY.items()}, LABELS)
    assert data.num_classes == 27
    upright = load("emnist", manual_dir, split="letters", upright=True)
    assert_content(upright, {part: images.transpose(0, 2, 1)[..., None] for part, images in GREY.items()}, LABELS)


def test_a_prepared_set_needs_its_files_no_more(manual_dir):
    first = load("cifar10", manual_dir)
    (manual_dir / "cifar-10-binary.tar.gz").unlink()
    again = load_dataset("cifar10", directory=str(manual_dir.parent / "tfds"), validation_size=4)
    assert digest_dataset(again) == digest_dataset(first)


def test_a_set_that_tfds_itself_has_prepared_is_read(tmp_path):
    prepare_as(tmp_path, "cifar10", COLOR, LABELS)
    assert_content(load_dataset("cifar10", directory=str(tmp_path), validation_size=4), COLOR, LABELS)


def test_missing_files_are_listed(manual_dir, message_of):
    (manual_dir / "test_32x32.mat").unlink()
    assert message_of(load, "svhn", manual_dir) == (
        f"`data.manual_dir` {manual_dir} must hold the two official files; missing: test_32x32.mat."
    )
    (manual_dir / "gzip.zip").unlink()
    assert message_of(load, "emnist", manual_dir) == (
        f"`data.manual_dir` {manual_dir} must hold the official file; missing: gzip.zip."
    )


def test_an_archive_that_is_not_the_official_one_is_named(manual_dir, message_of):
    file = manual_dir / "cifar-10-binary.tar.gz"
    raw = bytearray(file.read_bytes())
    raw[50] ^= 1
    file.write_bytes(raw)
    assert message_of(load, "cifar10", manual_dir) == (
        f"{file}: the file must be the official one of cifar10; its SHA-256 differs; download it again."
    )


def test_the_pinned_checksums_are_those_of_tfds():
    stock = resources.files("tensorflow_datasets")
    texts = [stock.joinpath("url_checksums", f"{name}.txt").read_text() for name in ("cifar10", "cifar100", "emnist")]
    texts.append(stock.joinpath("datasets", "svhn_cropped", "checksums.tsv").read_text())
    rows = {tuple(line.split("\t")) for text in texts for line in text.splitlines()}
    files = [file for name in official.ARCHIVE_SETS for file in official.official_files(name).values()]
    assert {(file.address, str(file.num_bytes), file.sha256, file.name) for file in files} <= rows
    assert len(official.ARCHIVE_SETS) == 9


def test_classes_and_shapes_are_those_of_tfds():
    import tensorflow_datasets

    names = {"cifar10": "cifar10", "cifar100": "cifar100", "svhn": "svhn_cropped"}
    names |= {name: name for name in archives.SETS if name.startswith("emnist/") and name != "emnist/letters"}
    for name, theirs in names.items():
        features, ours = tensorflow_datasets.builder(theirs).info.features, archives.SETS[name]
        assert features["image"].shape == ours.image_shape
        assert {label: features[label].num_classes for label in ours.num_classes} == ours.num_classes


# ---- damage ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"text", gzip.compress(b"text", mtime=0)])
def test_what_is_no_archive_is_refused(tmp_path, content, message_of):
    path = tmp_path / "file"
    path.write_bytes(content)
    readers = [archives.SETS[name].read for name in ("cifar10", "cifar100", "svhn", "emnist/digits")]
    for read in readers:
        message = message_of(read, {"archive": path, "train": path, "test": path})
        assert message.startswith((f"{path}: the archive is damaged (", f"{path}: must hold "))


def test_members_of_an_archive_that_are_missing_or_cut_are_named(tmp_path, message_of):
    path = tmp_path / "file"
    write_tar(path, {"cifar-100-binary/train.bin": bytes(3074)})
    assert message_of(archives.read_cifar100, {"archive": path}) == (
        f"{path}: must hold cifar-100-binary/test.bin; missing: cifar-100-binary/test.bin."
    )
    write_tar(path, {"cifar-100-binary/train.bin": bytes(3073), "cifar-100-binary/test.bin": bytes(3074)})
    assert message_of(archives.read_cifar100, {"archive": path}) == (
        f"{path}: each example must have 3074 bytes; got 3073 in all."
    )
    scipy.io.savemat(path, {"X": np.zeros((32, 32, 3, 2), np.uint8), "y": np.zeros((2, 1))}, appendmat=False)
    assert message_of(archives.read_svhn, {"train": path, "test": path}) == (
        f"{path}: must have X, uint8 (32, 32, 3, N), and y, 1 to 10, (N, 1); got uint8(32, 32, 3, 2) and float64(2, 1)."
    )
    with zipfile.ZipFile(path, "w"):
        pass
    assert message_of(archives.read_emnist, "digits", {"archive": path}) == (
        f"{path}: must hold gzip/emnist-digits-train-images-idx3-ubyte.gz; it does not."
    )


def test_the_prepared_sets_are_those_of_the_official_files():
    assert tuple(official.BUILT_IN) == tfds.BUILT_IN
    assert set(archives.SETS) == set(official.ARCHIVE_SETS)
