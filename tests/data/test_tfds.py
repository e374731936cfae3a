import contextlib
import hashlib
import shutil
import subprocess
import sys
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from importlib import resources

import numpy as np
import pytest
import requests

from lenet_jax.data import load_dataset, tfds, tfds_builder
from lenet_jax.data.idx import read_idx_folder
from lenet_jax.data.official import IDX_SETS, addresses
from lenet_jax.runs.provenance import digest_dataset
from lenet_jax.storage import is_locked, locked
from tests.data.shapes import IMAGES, LABELS, SPLITS, prepare_shapes

# ---- the sets that this project prepares itself ----------------------------------------------------------------------

Prepared = namedtuple("Prepared", ["directory", "cache", "digest"])


@pytest.fixture(scope="module")
def prepared_mnist(mnist_directory, tmp_path_factory):
    """Full MNIST, prepared and decoded once: where, and the digest of that first load."""
    directory, cache = tmp_path_factory.mktemp("tfds"), tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(cache))
        patch.setattr(requests.Session, "request", None)  # nothing is downloaded
        dataset = load_dataset("mnist", "tfds", directory=str(directory), manual_dir=str(mnist_directory))
    return Prepared(directory, cache, digest_dataset(dataset))


def test_mnist_is_that_of_the_idx_files_in_the_published_order(prepared_mnist, mnist_directory):
    dataset = load_dataset("mnist", "idx", directory=str(mnist_directory))
    assert [len(part.labels) for part in (dataset.train, dataset.validation, dataset.test)] == [50_000, 10_000, 10_000]
    np.testing.assert_array_equal(dataset.validation.labels, read_idx_folder(mnist_directory)["train_labels"][50_000:])
    assert prepared_mnist.digest == digest_dataset(dataset)


def test_the_second_load_decodes_nothing(prepared_mnist, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(prepared_mnist.cache))
    monkeypatch.setattr(tfds, "_decode", None)
    dataset = load_dataset("mnist", "tfds", directory=str(prepared_mnist.directory))
    assert digest_dataset(dataset) == prepared_mnist.digest


def test_tensorflow_is_never_imported(prepared_mnist):
    assert "tensorflow_datasets" in sys.modules
    assert "tensorflow" not in sys.modules


def test_the_pinned_checksums_are_those_of_tfds():
    folder = resources.files("tensorflow_datasets").joinpath("url_checksums")
    pinned = resources.files("lenet_jax.data").joinpath("checksums.tsv").read_text().splitlines()
    stock = {line for name in IDX_SETS for line in folder.joinpath(f"{name}.txt").read_text().splitlines()}
    assert set(pinned[:12]) <= stock
    assert [line.split("\t")[0] for line in pinned[:12]] == [
        addresses(name)[role]
        for name in IDX_SETS
        for role in ("test_images", "test_labels", "train_images", "train_labels")
    ]


@pytest.fixture
def manual_dir(mnist_directory, tmp_path):
    """Links to the four official files."""
    folder = tmp_path / "manual dir"
    folder.mkdir()
    for file in mnist_directory.glob("*.gz"):
        (folder / file.name).symlink_to(file)
    return folder


def prepare(directory, manual_dir=None):
    return tfds.prepare("mnist", str(directory), manual_dir and str(manual_dir))


def test_a_file_missing_in_manual_dir_is_listed(manual_dir, tmp_path, message_of):
    (manual_dir / "train-labels-idx1-ubyte.gz").unlink()
    assert message_of(prepare, tmp_path / "tfds", manual_dir) == (
        f"`data.manual_dir` {manual_dir} must hold the four official files; missing: train-labels-idx1-ubyte.gz."
    )


def test_a_file_that_is_not_the_official_one_is_named(manual_dir, tmp_path, message_of):
    file = manual_dir / "t10k-labels-idx1-ubyte.gz"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.unlink()
    file.write_bytes(content)
    assert message_of(prepare, tmp_path / "tfds", manual_dir) == (
        f"{file}: the file must be the official one of mnist; its SHA-256 differs; download it again."
    )
    assert not list((tmp_path / "tfds").rglob("dataset_info.json"))


@pytest.mark.parametrize(
    ("change", "got"), [(lambda raw: raw[:-1], "4541"), (lambda raw: raw + b"\0", "more")], ids=["short", "long"]
)
def test_a_file_of_another_size_is_refused_before_it_is_read(
    manual_dir, tmp_path, change, got, monkeypatch, message_of
):
    file = manual_dir / "t10k-labels-idx1-ubyte.gz"
    content = change(file.read_bytes())
    file.unlink()
    file.write_bytes(content)
    digested, digest = [], hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda file, name: digested.append(file.name) or digest(file, name))
    assert message_of(prepare, tmp_path / "tfds", manual_dir) == (
        f"{file}: the file must be the official one of mnist, of 4542 bytes; got {got}; download it again."
    )
    assert str(file) not in map(str, digested)


class Server:
    """Stands for `requests.get`: sends blocks without end, or an error after some files."""

    def __init__(self, folder=None, num_files=0, status=200):
        self.folder, self.num_files, self.status = folder, num_files, status
        self.num_sent = 0

    def __call__(self, address, **options):
        assert options == {"stream": True, "timeout": 10}
        self.file = address.split("/")[-1]
        self.num_files -= 1
        return contextlib.nullcontext(self)

    def raise_for_status(self):
        if self.status != 200:
            raise requests.HTTPError("no\nfile")

    def iter_content(self, size):
        if self.num_files >= 0:
            yield (self.folder / self.file).read_bytes()
            return
        if self.folder is not None:
            raise requests.ConnectionError("no\nroute")
        while True:
            self.num_sent += size
            yield bytes(size)


@pytest.mark.parametrize("num_files", [0, 2], ids=["from the start", "in between"])
def test_without_network_the_folder_of_files_is_asked_for(
    mnist_directory, tmp_path, monkeypatch, num_files, message_of
):
    monkeypatch.setattr(requests, "get", Server(mnist_directory, num_files))
    assert message_of(load_dataset, "mnist", "tfds", directory=str(tmp_path)) == no_download("ConnectionError")
    assert message_of(load_dataset, "mnist", directory=str(tmp_path)) == no_download("ConnectionError")


def test_a_server_without_the_files_is_as_none(tmp_path, monkeypatch, message_of):
    monkeypatch.setattr(requests, "get", Server(status=404))
    assert message_of(load_dataset, "mnist", "tfds", directory=str(tmp_path)) == no_download("HTTPError")


def no_download(reason):
    return (
        f"`data.name` mnist is not prepared and cannot be downloaded ({reason}); put its four official files "
        "(train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz, "
        "t10k-labels-idx1-ubyte.gz) into a folder and set data.manual_dir=FOLDER; data=embedded has 5,000 of its "
        "digits."
    )


def test_a_download_ends_at_the_size_of_the_official_file(tmp_path, monkeypatch, message_of):
    server = Server()
    monkeypatch.setattr(requests, "get", server)
    assert message_of(prepare, tmp_path) == (
        "https://storage.googleapis.com/cvdf-datasets/mnist/train-images-idx3-ubyte.gz: the file must be the official "
        "one of mnist, of 9912422 bytes; got more; download it again."
    )
    assert server.num_sent < 9912422 + 100_000
    assert not list(tmp_path.rglob("*.gz*"))


def test_a_directory_that_cannot_be_written_is_named(manual_dir, tmp_path, message_of):
    (tmp_path / "file").write_bytes(b"")
    assert message_of(prepare, tmp_path / "file", manual_dir) == (
        f"`data.directory` {tmp_path / 'file'}: mnist cannot be prepared there (Not a directory); set another folder."
    )


class Builder:
    """Prepares a set without examples."""

    def __init__(self, *, config, data_dir, file_format):
        self.folder = data_dir / "idx_images" / config

    def download_and_prepare(self, **options):
        assert [path.name for path in self.folder.iterdir()] == []  # what a killed process has left is gone
        assert is_locked(self.folder)
        (self.folder / "1.0.0").mkdir()
        (self.folder / "1.0.0" / "dataset_info.json").write_text("{}")


def test_of_two_that_prepare_a_set_the_second_one_waits_and_takes_it(tmp_path, monkeypatch):
    monkeypatch.setattr(tfds, "official_files", lambda name: {})
    monkeypatch.setattr(tfds, "_check_manual_dir", lambda *arguments: None)
    monkeypatch.setattr(tfds_builder, "IdxImages", Builder)
    folder = tmp_path / "idx_images" / "mnist"
    (folder / "incomplete.ABCDEF_1.0.0").mkdir(parents=True)
    with ThreadPoolExecutor(1) as pool:
        with locked(folder, "data set"):
            second = pool.submit(tfds.prepare, "mnist", str(tmp_path), str(tmp_path))
            with pytest.raises(TimeoutError):
                second.result(timeout=0.2)
            shutil.rmtree(folder / "incomplete.ABCDEF_1.0.0")
            Builder(config="mnist", data_dir=tmp_path, file_format="").download_and_prepare()
        assert second.result() == folder / "1.0.0"
    shutil.rmtree(folder / "1.0.0")
    (folder / "incomplete.GHIJKL_1.0.0").mkdir()
    assert tfds.prepare("mnist", str(tmp_path), str(tmp_path)) == folder / "1.0.0"


# ---- any other set ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shapes_once(tmp_path_factory):
    directory = tmp_path_factory.mktemp("shapes")
    prepare_shapes(directory)
    return directory


@pytest.fixture
def directory(shapes_once, tmp_path):
    """A folder of prepared sets with one in it: shapes, 8x6x3 pixels, three classes, 12 + 4 + 4 images."""
    return shutil.copytree(shapes_once, tmp_path / "tfds")


def load_shapes(directory, name="shapes", num_classes=None, **options):
    return load_dataset(name, "tfds", directory=str(directory), num_classes=num_classes, **options)


def assert_content(dataset):
    for part, where in SPLITS.items():
        np.testing.assert_array_equal(getattr(dataset, part).images, IMAGES[where])
        np.testing.assert_array_equal(getattr(dataset, part).labels, LABELS[where])


@pytest.mark.parametrize("name", ["shapes", "shapes:1.2.3"])
def test_a_prepared_set_is_read_by_its_name(directory, name):
    dataset = load_shapes(directory, name)
    assert_content(dataset)
    assert dataset.num_classes == 3


def test_the_folder_may_be_in_the_environment(directory, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(directory))
    assert_content(load_dataset("shapes", "tfds", num_classes=None))


def test_a_given_number_of_classes_is_kept(directory, message_of):
    assert load_shapes(directory, num_classes=7).num_classes == 7
    assert message_of(load_shapes, directory, num_classes=2).startswith(
        "data shapes (train): labels must be 0 to 1; got 0 to 2;"
    )


def test_a_cached_load_imports_neither_tfds_nor_an_image_library(directory):
    load_shapes(directory)
    program = (
        "import sys, lenet_jax.data as data\n"
        f"data.load_dataset('shapes', 'tfds', directory={str(directory)!r}, num_classes=None)\n"
        "print({'tensorflow', 'tensorflow_datasets', 'PIL', 'array_record'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_two_versions_must_be_told_apart(directory, message_of):
    shutil.copytree(directory / "shapes" / "1.2.3", directory / "shapes" / "2.0.0")
    assert message_of(load_shapes, directory) == (
        "`data.name` 'shapes' must name one prepared set; choose one of: shapes:1.2.3, shapes:2.0.0."
    )
    assert_content(load_shapes(directory, "shapes:1.2.3"))


@pytest.mark.parametrize("name", ["caltech101", "shapes:9.9.9", "shapes/config"])
def test_a_set_that_is_not_prepared_is_refused(directory, name, message_of):
    assert message_of(load_shapes, directory, name) == (
        "`data.name` must be one of mnist, fashion_mnist, kmnist, cifar10, cifar100, svhn, emnist/balanced, "
        "emnist/byclass, emnist/bymerge, emnist/letters, emnist/digits, emnist/mnist or a set that is already prepared "
        f"in {directory}; "
        f"got {name!r}; prepare it there with "
        f'tfds.builder("{name}", file_format="array_record").download_and_prepare(), or set data.directory.'
    )


@pytest.mark.parametrize("name", ["../x", "shapes/..", "/shapes", "shapes:1", "shapes/a/b", "sha pes", "shapes\n"])
def test_a_name_that_is_no_tfds_name_is_refused(directory, name, message_of):
    assert message_of(load_shapes, directory, name) == (
        f'`data.name` must be like "name", "name/config" or "name:1.0.0"; got {name!r}.'
    )


def test_without_a_validation_split_the_end_of_training_is_held_out(tmp_path):
    prepare_shapes(tmp_path, {"train": slice(0, 16), "test": slice(16, 20)})
    assert_content(load_shapes(tmp_path, validation_size=4))


def test_a_set_without_test_split_is_refused(tmp_path, message_of):
    prepare_shapes(tmp_path, {"train": slice(0, 16), "validation": slice(16, 20)})
    assert message_of(load_shapes, tmp_path) == ("`data.name` shapes must have a test split; it has train, validation.")


def test_images_of_two_sizes_are_refused(tmp_path, message_of):
    images = np.empty(20, object)
    images[:] = [image[: 7 + index % 2] for index, image in enumerate(IMAGES)]
    folder = prepare_shapes(tmp_path, images=images, shape=(None, None, 3))
    assert message_of(load_shapes, tmp_path) == (
        f"{folder} (train): all images must have the same size; got 2, such as [(7, 6, 3), (8, 6, 3)]; "
        "set `data.image_size`."
    )


def test_a_set_that_is_no_image_classification_is_refused(tmp_path, message_of):
    folder = prepare_shapes(tmp_path, target="kind")
    assert message_of(load_shapes, tmp_path) == (
        f"{folder}: the set must have the features `image`, an image, and `label`, a class; see its features.json."
    )


def test_a_set_in_another_format_is_refused(directory, message_of):
    folder = directory / "shapes" / "1.2.3"
    info = (folder / "dataset_info.json").read_text()
    (folder / "dataset_info.json").write_text(info.replace('"array_record"', '"tfrecord"'))
    assert message_of(load_shapes, directory) == (
        f"{folder}: the set must be prepared in the array_record format; got tfrecord; prepare it again with "
        'file_format="array_record".'
    )


# ---- damage ----------------------------------------------------------------------------------------------------------


def assert_damage_is_named(directory, message_of):
    message = message_of(load_shapes, directory)
    assert message.startswith(f"{directory / 'shapes' / '1.2.3'}: the prepared set is damaged (")
    assert message.endswith("); delete the folder, prepare it again.")


@pytest.mark.parametrize("keep", [0, 1000, 0.5, -1, None], ids=["empty", "head", "half", "all but one byte", "missing"])
def test_a_shard_that_is_not_whole_is_refused(directory, keep, message_of):
    shard = next(directory.rglob("*train.array_record*"))
    raw = shard.read_bytes()
    if keep is None:
        shard.unlink()
    else:
        shard.write_bytes(raw[: int(keep * len(raw)) if isinstance(keep, float) else keep])
    assert_damage_is_named(directory, message_of)


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff"])
def test_a_damaged_description_is_refused(directory, content, message_of):
    (directory / "shapes" / "1.2.3" / "dataset_info.json").write_bytes(content)
    assert_damage_is_named(directory, message_of)


def test_a_flipped_byte_in_a_shard_is_refused_unless_it_changes_nothing(directory, message_of):
    folder, num_refused = directory / "shapes" / "1.2.3", 0
    shard = next(folder.glob("*train.array_record*"))
    raw = shard.read_bytes()
    used = np.flatnonzero(np.frombuffer(raw, np.uint8))  # the rest pads the file to blocks of 64 KiB
    for position in used[:: len(used) // 60]:
        damaged = bytearray(raw)
        damaged[position] ^= 0xFF
        shard.write_bytes(damaged)
        try:
            arrays = tfds._decode(folder)
        except tfds.InputError:
            num_refused += 1
        else:
            np.testing.assert_array_equal(arrays["train_images"], IMAGES[SPLITS["train"]])
            np.testing.assert_array_equal(arrays["train_labels"], LABELS[SPLITS["train"]])
    assert num_refused > 50
