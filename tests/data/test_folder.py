import os
import shutil

import numpy as np
import pytest
from PIL import Image

from lenet_jax.data import load_dataset
from lenet_jax.errors import InputError
from lenet_jax.runs.provenance import digest_dataset

RNG = np.random.default_rng(0)
CLASSES = ("cat", "dog", "a bird")


def write(path, pixels, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).convert(mode).save(path) if mode else Image.fromarray(pixels).save(path)


def pixels_of(number):
    return np.random.default_rng(number).integers(0, 256, (5, 4), np.uint8)


@pytest.fixture
def classes(tmp_path):
    """A folder a class, ten PNG images in each; the first pixel is the place of its class among sorted names."""
    for name in CLASSES:
        for number in range(10):
            pixels = pixels_of(number)
            pixels[0, 0] = sorted(CLASSES).index(name)
            write(tmp_path / "set" / name / f"{number}.png", pixels)
    return tmp_path / "set"


@pytest.fixture
def splits(tmp_path):
    """Train, val and test, of two images a class each."""
    for part in ("train", "val", "test"):
        for name in ("cat", "dog"):
            for number in range(2):
                write(tmp_path / "set" / part / name / f"{number}.PNG", pixels_of(number))
    return tmp_path / "set"


def load(folder, **options):
    return load_dataset("folder", directory=str(folder), **options)


def test_classes_are_divided_by_a_seed_each_by_its_share(classes):
    data = load(classes, validation_size=6, test_size=0.2)
    assert data.num_classes == 3
    for part, size in (("train", 6), ("validation", 2), ("test", 2)):
        split = getattr(data, part)
        assert np.bincount(split.targets).tolist() == [size] * 3
        np.testing.assert_array_equal(split.inputs[:, 0, 0, 0], split.targets)  # labels are places of sorted names
    every = np.concatenate([split.inputs for split in (data.train, data.validation, data.test)])
    assert len({bytes(image) for image in every}) == 30
    assert digest_dataset(data) == digest_dataset(load(classes, validation_size=6, test_size=0.2))
    assert digest_dataset(data) != digest_dataset(load(classes, validation_size=6, test_size=0.2, seed=1))


def test_the_order_of_the_files_on_disk_does_not_matter(classes, tmp_path):
    other = tmp_path / "other"
    for name in reversed(CLASSES):
        (other / name).mkdir(parents=True)
        for number in reversed(range(10)):
            shutil.copy(classes / name / f"{number}.png", other / name)
    (other / "cat" / "Thumbs.db").write_bytes(b"x")
    (other / ".DS_Store").write_bytes(b"x")
    assert digest_dataset(load(other)) == digest_dataset(load(classes))


def test_a_few_training_images_are_of_all_classes(classes):
    assert set(load(classes, train_size=12).train.targets) == {0, 1, 2}


def test_folders_of_splits_are_kept(splits):
    data = load(splits)
    for split in (data.train, data.validation, data.test):
        assert sorted(split.targets) == [0, 0, 1, 1]
    np.testing.assert_array_equal(data.test.inputs[..., 0], [pixels_of(number) for number in (0, 1, 0, 1)])
    shutil.rmtree(splits / "val")
    held_out = load(splits, validation_size=2)
    assert (sorted(held_out.validation.targets), sorted(held_out.train.targets)) == ([0, 1], [0, 1])


def test_the_second_load_decodes_nothing(classes, monkeypatch):
    first = digest_dataset(load(classes))
    monkeypatch.setattr("lenet_jax.data.folder.decode_images", None)
    assert digest_dataset(load(classes)) == first
    with pytest.raises(InputError, match="NoneType"):
        load(classes, image_size=3)


def test_colours_and_sizes_are_brought_to_one(splits):
    color = RNG.integers(0, 256, (10, 8, 3), np.uint8)
    write(splits / "test" / "cat" / "0.PNG", color)
    write(splits / "test" / "cat" / "1.jpg", color[:5, :4], "L")
    (splits / "test" / "cat" / "1.PNG").unlink()
    data = load(splits, image_size=[3, 2])
    assert data.test.inputs.shape == (4, 3, 2, 3)
    expected = Image.fromarray(color).resize((2, 3), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(data.test.inputs[0], expected)
    assert (data.test.inputs[2:, ..., :1] == data.test.inputs[2:]).all()  # grey, three times
    grey = load(splits, image_size=3, colors="grey")
    assert grey.test.inputs.shape == (4, 3, 3, 1)
    expected = Image.fromarray(color).convert("L").resize((3, 3), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(grey.test.inputs[0, ..., 0], expected)


@pytest.mark.parametrize(("mode", "channels"), [("1", 1), ("LA", 1), ("P", 3), ("RGBA", 3)])
def test_transparency_is_dropped_and_palettes_are_resolved(splits, mode, channels):
    write(splits / "test" / "cat" / "0.PNG", pixels_of(0), mode)
    assert load(splits).test.inputs.shape == (4, 5, 4, channels)


def test_images_of_different_sizes_are_refused(splits, message_of):
    write(splits / "train" / "dog" / "0.PNG", pixels_of(0)[:3])
    other, first = splits / "train" / "dog" / "0.PNG", splits / "train" / "cat" / "0.PNG"
    assert message_of(load, splits) == (
        f"{other}: all images must have the same size; it has 3x4 pixels, {first} has 5x4; set `data.image_size`."
    )


def test_images_that_cannot_be_used_are_named(splits, message_of):
    path = splits / "val" / "cat" / "1.PNG"
    whole = path.read_bytes()
    unusable = f"{path}: the image must be a whole PNG or JPEG file; it is none, or damaged ("
    for content in (b"", b"text", whole[:-30], whole[:40], whole[:60] + bytes([whole[60] ^ 1]) + whole[61:]):
        path.write_bytes(content)
        assert message_of(load, splits).startswith(unusable)
    Image.fromarray(np.zeros((5, 4), np.uint16)).save(path)
    assert message_of(load, splits) == f"{path}: the image must have 8 bits a channel; got the mode 'I;16' of Pillow."


@pytest.mark.parametrize("side", [8200, 10_000, 20_000])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(splits, side, message_of, monkeypatch):
    path = splits / "test" / "dog" / "0.PNG"
    Image.new("1", (side, side)).save(path)
    assert path.stat().st_size < 100_000
    asarray = np.asarray
    monkeypatch.setattr(
        np, "asarray", lambda image: asarray(image) if image.size == (8, 8) else pytest.fail("it was decoded")
    )
    assert message_of(load, splits, image_size=8).startswith(
        f"{path}: the image must have at most 67108864 pixels; got"
    )


def test_splits_of_other_classes_are_refused(splits, message_of):
    (splits / "test" / "dog").rename(splits / "test" / "fox")
    assert message_of(load, splits) == (
        f"`data.directory` {splits}: all splits must have the same classes; only train of train and test has 'dog'."
    )


def test_a_folder_without_images_is_refused(tmp_path, splits, message_of):
    endings = ".png, .jpg, .jpeg"
    empty = tmp_path / "empty"
    assert message_of(load, empty) == f"`data.directory` must be a folder of folders of images; got {empty}."
    (empty / "cat").mkdir(parents=True)
    assert message_of(load, empty) == f"{empty}: must have a folder a class, with images in it ({endings}); got none."
    (splits / "train" / "fox").mkdir()
    fox = splits / "train" / "fox"
    assert message_of(load, splits) == f"{fox}: a class must have at least one image ({endings}); got none."
    (fox / "deep").mkdir()
    assert message_of(load, splits) == (
        f"{fox / 'deep'}: the folder of a class must hold images only; this is a folder; move it."
    )
    shutil.rmtree(fox)
    shutil.rmtree(splits / "test")
    assert message_of(load, splits) == f"`data.directory` {splits} must have a folder test beside train; it has none."


def test_a_link_may_not_lead_out(tmp_path, splits, message_of):
    (splits / "train" / "cat" / "2.png").symlink_to(splits / "train" / "dog" / "0.PNG")
    assert len(load(splits).train.targets) == 5
    link = splits / "train" / "cat" / "3.png"
    for target in ("/etc/passwd", "../../../outside.png", "/dev/zero", str(tmp_path)):
        link.symlink_to(target)
        assert message_of(load, splits) == (
            f"{link}: a symbolic link must stay inside {splits}; it leads to {target!r}."
        )
        link.unlink()
    link.symlink_to("nothing.png")
    assert message_of(load, splits) == f"{link}: cannot be read (No such file or directory)."
    link.unlink()
    (splits / "train" / "out").symlink_to(tmp_path)
    assert message_of(load, splits).startswith(
        f"{splits / 'train' / 'out'}: a symbolic link must stay inside {splits};"
    )


def test_what_is_no_file_is_refused(splits, message_of):
    os.mkfifo(splits / "train" / "cat" / "2.png")
    assert message_of(load, splits) == f"{splits / 'train' / 'cat' / '2.png'}: must be a file; it is something else."


def test_names_are_sorted_in_one_form_of_unicode(tmp_path):
    for number, name in enumerate(["z", "e\u0301", "f", "10", "9"]):
        for each in range(3):
            write(tmp_path / "set" / name / f"{each}.png", np.full((2, 2), number, np.uint8))
    data = load(tmp_path / "set", validation_size=5, test_size=5)
    assert dict(zip(data.test.targets.tolist(), data.test.inputs[:, 0, 0, 0].tolist(), strict=True)) == {
        0: 3, 1: 4, 2: 2, 3: 0, 4: 1
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"test_size": 30}, "`data.test_size` must hold out at least 1 and leave at least 1 of 30 examples; got 30."),
        (
            {"validation_size": 27},
            "`data.validation_size` must hold out at least 1 and leave at least 1 of 27 examples",
        ),
        ({"image_size": 0}, "`data.image_size` must be null, or an integer, 1 or above, or a list of two integers"),
        ({"colors": "blue"}, "`data.colors` must be null or one of grey, rgb; got 'blue'."),
        (
            {"test_size": 1.0},
            "`data.test_size` must be an integer, 1 or above, or a number from 0 up to, not including,",
        ),
    ],
)
def test_options_that_break_a_rule_are_refused(classes, options, message, message_of):
    assert message_of(load, classes, **options).startswith(message)
