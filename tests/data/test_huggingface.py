import io
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from lenet_jax.data import load_dataset

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 5, 4, 3), np.uint8)
LABELS = np.arange(20) % 3
PARTS = {"train": slice(12), "validation": slice(12, 16), "test": slice(16, 20)}


def load(directory=None, **options):
    return load_dataset("huggingface", directory=directory and str(directory), **options)


def test_without_the_library_one_line_says_how_to_install_it(tmp_path, monkeypatch, message_of):
    monkeypatch.setitem(sys.modules, "datasets", None)
    message = message_of(load, tmp_path)
    assert message.startswith("data=huggingface needs the package datasets (")
    assert message.endswith(f"); install it: {sys.executable} -m pip install 'lenet-jax[huggingface]'.")


def test_the_library_is_imported_only_when_it_is_used():
    program = "import sys, lenet_jax.data as data; data.load_dataset(); print('datasets' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.fixture
def datasets(monkeypatch, tmp_path):
    """The library, which needs no network here; the test is skipped without it."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    return datasets


def make(datasets, parts=PARTS, images=IMAGES, **columns):
    """Return a set of images and classes, and further columns."""
    features = {"picture": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b", "c"])}
    features |= {name: datasets.Value("float64") for name in columns}

    def split(where):
        values = {"picture": [Image.fromarray(image) for image in images[where]], "label": LABELS[where].tolist()}
        values |= {name: values_of[where].tolist() for name, values_of in columns.items()}
        return datasets.Dataset.from_dict(values, datasets.Features(features))

    return datasets.DatasetDict({part: split(where) for part, where in parts.items()})


def assert_content(data):
    for part, where in PARTS.items():
        np.testing.assert_array_equal(getattr(data, part).inputs, IMAGES[where])
        np.testing.assert_array_equal(getattr(data, part).targets, LABELS[where])
    assert data.num_classes == 3


def test_a_folder_of_save_to_disk_is_read(datasets, tmp_path):
    make(datasets).save_to_disk(tmp_path / "set")
    assert_content(load(tmp_path / "set"))
    assert load(tmp_path / "set", image_size=[3, 2], colors="grey").test.inputs.shape == (4, 3, 2, 1)


@pytest.mark.parametrize("form", ["{}-00000-of-00001.parquet", "data/{}.parquet", "{}/0000.parquet"])
def test_parquet_files_are_read_by_the_split_in_their_name(datasets, tmp_path, form):
    for part, split in make(datasets).items():
        path = tmp_path / "set" / form.format(part)
        path.parent.mkdir(parents=True, exist_ok=True)
        split.to_parquet(path)
    assert_content(load(tmp_path / "set"))


def test_a_set_in_the_local_cache_is_read_by_its_name(datasets, tmp_path, message_of):
    (tmp_path / "own").mkdir()
    for part, split in make(datasets).items():
        split.to_parquet(tmp_path / "own" / f"{part}.parquet")
    datasets.load_dataset(str(tmp_path / "own"), cache_dir=str(tmp_path / "cache"))
    os.rename(tmp_path / "cache" / "own", tmp_path / "cache" / "mylab___own")  # as if it came from the hub
    assert_content(load(name="mylab/own"))
    assert message_of(load, name="mylab/other") == (
        f"`data.name` mylab/other must be in the local cache, {tmp_path / 'cache'}: Couldn't find cache for "
        'mylab/other; load it once where there is a network: datasets.load_dataset("mylab/other").'
    )


def test_without_a_validation_split_the_end_of_training_or_a_drawn_part_is_held_out(datasets, tmp_path):
    make(datasets, {"train": slice(16), "test": slice(16, 20)}).save_to_disk(tmp_path / "set")
    assert_content(load(tmp_path / "set", validation_size=4))
    assert np.bincount(load(tmp_path / "set", validation_size=3, seed=1).validation.targets).tolist() == [1, 1, 1]


def test_arrays_of_floats_and_numbers_to_regress_on_are_taken_as_they_are(datasets, tmp_path):
    inputs, targets = np.random.default_rng(1).normal(size=(8, 5, 4, 2)), np.arange(8) / 4
    features = datasets.Features({"field": datasets.Array3D((5, 4, 2), "float64"), "target": datasets.Value("float64")})
    split = datasets.Dataset.from_dict({"field": inputs.tolist(), "target": targets.tolist()}, features)
    datasets.DatasetDict({"train": split, "test": split}).save_to_disk(tmp_path / "set")
    data = load(tmp_path / "set")
    np.testing.assert_array_equal(data.test.inputs, inputs.astype(np.float32))
    np.testing.assert_array_equal(data.test.targets, targets.astype(np.float32))
    assert data.num_classes == 1


def test_columns_may_be_named(datasets, tmp_path, message_of):
    make(datasets, weight=LABELS / 2).save_to_disk(tmp_path / "set")
    data = load(tmp_path / "set", input_column="picture", target_column="weight")
    np.testing.assert_array_equal(data.test.targets, (LABELS[16:] / 2).astype(np.float32))
    assert message_of(load, tmp_path / "set", target_column="wait") == (
        f"`data.target_column` must be a column of {tmp_path / 'set'}: one of picture, label, weight; got 'wait'."
    )


def test_a_set_that_does_not_fit_is_refused(datasets, tmp_path, message_of):
    make(datasets, {"train": slice(16)}).save_to_disk(tmp_path / "set")
    assert (
        message_of(load, tmp_path / "set") == f"{tmp_path / 'set'}: must have the splits train and test; it has train."
    )
    assert message_of(load, tmp_path / "nothing").startswith(
        "`data.directory` must be a folder of DatasetDict.save_to_"
    )
    assert message_of(load).startswith("`data.directory` must be a folder or a file, or `data.name` that of a set in ")
    make(datasets)["train"].to_parquet(tmp_path / "data.parquet")
    assert message_of(load, tmp_path / "data.parquet") == (
        f"{tmp_path / 'data.parquet'}: the name of the file or its folder must have a split in it: train, validation, "
        "val, valid, test."
    )


def test_damage_is_one_line(datasets, tmp_path, message_of):
    make(datasets).save_to_disk(tmp_path / "set")
    file = next((tmp_path / "set" / "test").glob("*.arrow"))
    whole = file.read_bytes()
    for content in (b"", whole[:100], b"x" * len(whole)):
        file.write_bytes(content)
        assert message_of(load, tmp_path / "set").startswith(
            f"{tmp_path / 'set'}: cannot be read as a set of the library"
        )
    (tmp_path / "train.parquet").write_bytes(b"PAR1")
    path = tmp_path / "train.parquet"
    assert message_of(load, path).startswith(f"{path}: cannot be read as a set of the library datasets (")


def test_an_image_that_is_damaged_or_elsewhere_is_named(datasets, tmp_path, message_of):
    parquet = pytest.importorskip("pyarrow.parquet")
    png = io.BytesIO()
    Image.fromarray(IMAGES[0]).save(png, "png")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a"])})
    for image, message in (
        (
            {"bytes": png.getvalue()[:60], "path": None},
            "the image must be a whole PNG or JPEG file; it is none, or damaged",
        ),
        ({"bytes": None, "path": "/etc/passwd"}, "an image must be in the set itself, not a path to a file; save the"),
    ):
        values = {"image": [{"bytes": png.getvalue(), "path": None}, image], "label": [0, 0]}
        stored = datasets.Dataset.from_dict(values, features).data.table
        for part in ("train", "test"):
            parquet.write_table(
                stored.replace_schema_metadata(features.arrow_schema.metadata), tmp_path / f"{part}.parquet"
            )
        assert message in message_of(load, tmp_path)
