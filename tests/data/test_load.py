import gzip
import json
import pickle

import numpy as np
import pytest

from lenet_jax import components
from lenet_jax.config.catalogue import TARGET, built_in, read_signature
from lenet_jax.data import load_dataset
from lenet_jax.data.embedded import read_embedded
from lenet_jax.hydra_app.composition import compose_config
from lenet_jax.runs.provenance import digest_dataset


def load_small(folder, **options):
    """Load thirty and ten images, of which ten are held out."""
    return load_dataset("small", "idx", **{"directory": str(folder), "validation_size": 10, **options})


def test_the_embedded_digits_are_the_default():
    dataset, stored = load_dataset(), read_embedded()
    for part in ("train", "validation", "test"):
        np.testing.assert_array_equal(getattr(dataset, part).images[..., 0], stored[f"{part}_images"])
        np.testing.assert_array_equal(getattr(dataset, part).labels, stored[f"{part}_labels"])
        assert getattr(dataset, part).labels.dtype == np.int32
    assert (dataset.num_classes, dataset.pixel_divisor) == (10, 256.0)
    assert load_dataset(num_classes=None).num_classes == 10


@pytest.mark.parametrize("name", [[], ["embedded"], ["mnist_5k"], ["mnist_5k", "embedded"], ["mnist", "embedded"]])
def test_only_the_name_embedded_and_no_name_are_the_small_set(name):
    assert len(load_dataset(*name).train.targets) == 4000
    assert len(load_dataset(*name, train_size=7).train.targets) == 7


def test_a_name_is_that_of_a_file_of_the_configuration(small_folder):
    options = {"directory": str(small_folder), "validation_size": 10}
    assert digest_dataset(load_dataset("idx", **options)) == digest_dataset(load_small(small_folder))
    assert digest_dataset(load_dataset(name="idx", **options)) == digest_dataset(load_small(small_folder))
    assert digest_dataset(load_dataset("idx", name="own", **options)) == digest_dataset(load_small(small_folder))


@pytest.mark.slow
def test_mnist_is_the_full_set(mnist_directory, tmp_path):
    data = load_dataset("mnist", directory=str(tmp_path), manual_dir=str(mnist_directory))
    assert [len(split.targets) for split in data.splits().values()] == [50_000, 10_000, 10_000]


@pytest.mark.parametrize("name", sorted(built_in("data")))
def test_every_option_of_a_data_set_can_be_set_on_the_command_line(name, without_type_checks):
    target = built_in("data")[name][TARGET]
    options = {option: each.default for option, each in read_signature(target).parameters.items()}
    given = {"directory": "a/b", "image_size": [32, 24], "validation_size": 7, "seed": 3, "train_size": 5} | {
        "name": "mnist"
    }
    overrides = {option: given.get(option, default) for option, default in options.items()}
    texts = [f"data.{option}={json.dumps(value)}".replace('"', "") for option, value in overrides.items()]
    composed = compose_config([f"data={name}", *texts]).data
    assert composed == {TARGET: target} | {
        option: tuple(value) if isinstance(value, list) else value for option, value in overrides.items()
    }


def test_a_configuration_loads_what_its_options_load(small_folder):
    options = {"name": "small", "directory": str(small_folder), "validation_size": 10}
    node = components.built_in_component("data", "idx", options)
    assert digest_dataset(components.build(node)) == digest_dataset(load_small(small_folder))


def test_validation_is_the_end_of_the_training_files(small_folder, small_arrays):
    dataset = load_small(small_folder, pixel_divisor=255.0)
    np.testing.assert_array_equal(dataset.train.images[..., 0], small_arrays["train_images"][:20])
    np.testing.assert_array_equal(dataset.validation.images[..., 0], small_arrays["train_images"][20:])
    np.testing.assert_array_equal(dataset.validation.labels, small_arrays["train_labels"][20:])
    np.testing.assert_array_equal(dataset.test.images[..., 0], small_arrays["test_images"])
    assert dataset.pixel_divisor == 255


def test_training_images_are_taken_after_validation_is_held_out(small_folder, small_arrays):
    dataset = load_small(small_folder, train_size=7)
    np.testing.assert_array_equal(dataset.train.labels, small_arrays["train_labels"][:7])
    np.testing.assert_array_equal(dataset.validation.labels, small_arrays["train_labels"][20:])


@pytest.fixture
def archive_folder(tmp_path, small_arrays):
    """A folder with `square.pkl.gz`: the first 3x3 pixels of the same images."""
    images, labels = small_arrays["train_images"][:, :3].reshape(-1, 9) / np.float32(256), small_arrays["train_labels"]
    pairs = [(images[part], labels[part].astype(np.int64)) for part in (slice(0, 20), slice(20, 25), slice(25, 30))]
    (tmp_path / "square.pkl.gz").write_bytes(gzip.compress(pickle.dumps(pairs)))
    return tmp_path


@pytest.mark.parametrize("file", ["", "square.pkl.gz"])
def test_the_pickle_archive_brings_its_own_validation(archive_folder, small_arrays, file):
    dataset = load_dataset("square", "pickle_archive", directory=str(archive_folder / file))
    for part, where in (("train", slice(0, 20)), ("validation", slice(20, 25)), ("test", slice(25, 30))):
        np.testing.assert_array_equal(getattr(dataset, part).images[..., 0], small_arrays["train_images"][where, :3])
        np.testing.assert_array_equal(getattr(dataset, part).labels, small_arrays["train_labels"][where])


def test_a_missing_archive_is_named(tmp_path, message_of):
    path = tmp_path / "mnist.pkl.gz"
    assert message_of(load_dataset, "mnist", "pickle_archive", directory=str(tmp_path)) == (
        f"{path}: cannot be read (No such file or directory)."
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"train_sise": 5},
            "`data` has no 'train_sise'; choose one of: train_size, fold, folds, name, num_classes, "
            "pixel_divisor, train_on_validation.",
        ),
        (
            {"directory": "a"},
            "`data` has no 'directory'; choose one of: fold, folds, name, num_classes, pixel_divisor, "
            "train_on_validation, train_size.",
        ),
        (
            {"source": "csv"},
            "`data source` has no 'csv'; choose one of: embedded, folder, huggingface, idx, npz, pickle_archive, tfds.",
        ),
        ({"source": "embedded", "name": "mnist_6k"}, "`data.name` must be one of mnist_5k, mnist; got 'mnist_6k'."),
        (
            {"name": "mnist_6k"},
            "`data` has no 'mnist_6k'; choose one of: mnist, kmnist, emnist, cifar10, cifar100, embedded, "
            "fashion_mnist, folder, huggingface, idx, imagenet, npz, pickle_archive, sources, svhn, synthetic, "
            "tfds.",
        ),
        ({"name": "idx", "source": "idx"}, "`data.directory` must be a folder of IDX files; got null."),
        ({"source": "pickle_archive"}, "`data.directory` must be the archive or its folder; got null."),
        (
            {"num_classes": 9},
            "data mnist_5k (train): labels must be 0 to 8; got 0 to 9; "
            "set `data.num_classes=10` if the set has more classes.",
        ),
        ({"train_size": 4001}, "`data.train_size` must be at most the number of training examples, 4000; got 4001."),
        ({"train_size": 0}, "`data.train_size` must be null or an integer, 1 or above; got 0."),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, dict) else "",
)
def test_an_option_that_breaks_its_rule_is_refused(arguments, message, message_of):
    assert message_of(load_dataset, **arguments) == message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 0}, "`data.num_classes` must be null or an integer, 1 or above; got 0."),
        ({"train_size": 21}, "`data.train_size` must be at most the number of training examples, 20; got 21."),
        (
            {"validation_size": 30},
            "`data.validation_size` must be below the number of training examples, 30; got 30.",
        ),
    ],
)
def test_an_option_that_does_not_fit_the_files_is_refused(small_folder, options, message, message_of):
    assert message_of(load_small, small_folder, **options) == message


def test_all_splits_have_one_shape(small_folder, small_arrays, idx_bytes, message_of):
    (small_folder / "t10k-images-idx3-ubyte").write_bytes(idx_bytes(small_arrays["test_images"][:, :3]))
    assert message_of(load_small, small_folder) == (
        "data small: the images of all splits must have the same shape; got "
        "{'train': (4, 3, 1), 'test': (3, 3, 1), 'validation': (4, 3, 1)}."
    )


def test_the_digest_is_of_the_content(small_folder, small_arrays, idx_bytes):
    digest = digest_dataset(load_small(small_folder))
    assert digest == digest_dataset(load_small(small_folder, pixel_divisor=255.0))
    for role, array in small_arrays.items():
        path = next(small_folder.glob(f"{role.replace('test', 't10k').replace('_', '-')}*"))
        changed = array.copy()
        changed.flat[-1] ^= 1  # one pixel or one label
        path.write_bytes(idx_bytes(changed))
        assert digest_dataset(load_small(small_folder)) != digest
        path.write_bytes(idx_bytes(array))
    assert digest_dataset(load_small(small_folder)) == digest


def test_the_digest_is_of_the_shape_and_the_place(small_folder, small_arrays, idx_bytes):
    digests = {digest_dataset(load_small(small_folder, validation_size=size)) for size in (9, 10)}
    for part in ("train", "t10k"):
        path = small_folder / f"{part}-images-idx3-ubyte"
        images = small_arrays["train_images" if part == "train" else "test_images"]
        path.write_bytes(idx_bytes(images.reshape(-1, 3, 4)))
    digests.add(digest_dataset(load_small(small_folder)))
    assert len(digests) == 3


def test_a_system_without_validation_set_trains_on_all(mnist_directory):
    data = load_dataset("mnist", "idx", directory=str(mnist_directory), train_on_validation=True)
    assert [len(split.labels) for split in (data.train, data.validation, data.test)] == [60_000, 10_000, 10_000]
    np.testing.assert_array_equal(data.train.labels[50_000:], data.validation.labels)
    np.testing.assert_array_equal(data.train.images[50_000:], data.validation.images)
