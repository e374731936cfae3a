import functools
import pickle

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("grain")

from lenet_jax.data import load_dataset
from lenet_jax.data.images import make_form
from lenet_jax.data.stream_reader import part_of_process, read_chunks
from lenet_jax.data.streamed_images import ImageFiles
from lenet_jax.data.streams import Checked, Reading, StreamedDataset, load_sources, make_stream
from lenet_jax.data.synthetic import SyntheticImages, load_synthetic
from tests.data.shapes import prepare_shapes


class Numbers:
    """Examples whose inputs are their places."""

    def __init__(self, count, inputs=lambda index: np.full((2, 3), index, np.float64)):
        self.count, self.inputs = count, inputs

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return self.inputs(index), index % 10


def read(source, order, size, reading=Reading(workers=3)):  # noqa: B008
    """Return all examples that the chunks hold, without what pads the last one, and the sizes."""
    chunks = list(read_chunks(source, np.asarray(order), size, reading))
    assert all(len(inputs) == size and len(targets) == size for (inputs, targets), _ in chunks)
    kept = [(inputs[:count], targets[:count]) for (inputs, targets), count in chunks]
    inputs, targets = map(np.concatenate, zip(*kept, strict=True))
    return inputs, targets, [count for _, count in chunks]


# ---- reading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2, 7])
@pytest.mark.parametrize("size", [1, 10, 64, 500])
def test_chunks_hold_the_examples_in_the_order_asked_for_whatever_the_number_of_workers(workers, size):
    order = np.random.default_rng(0).permutation(150)[:123]
    inputs, targets, counts = read(Checked(Numbers(150), "train"), order, size, Reading(workers))
    np.testing.assert_array_equal(inputs[:, 1, 2], order)
    np.testing.assert_array_equal(targets, order % 10)
    assert counts == [size] * (123 // size) + ([123 % size] if 123 % size else [])


def test_the_rest_of_the_last_chunk_repeats_the_last_example():
    chunks = list(read_chunks(Checked(Numbers(9), "train"), np.arange(5), 4, Reading()))
    assert [count for _, count in chunks] == [4, 1]
    np.testing.assert_array_equal(chunks[1][0][0][:, 0, 0], [4, 4, 4, 4])


@pytest.mark.slow
def test_processes_read_in_the_same_order():
    source, order = Checked(SyntheticImages((5, 4, 1), 10, 200, 0), "train"), np.arange(200)[::-1]
    expected = read(source, order, 50)
    found = read(source, order, 50, Reading(workers=2, processes=2))
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_two_processes_read_disjoint_parts_that_together_are_the_epoch():
    minibatches = np.random.default_rng(0).permutation(120).reshape(6, 20)
    source = Checked(Numbers(120), "train")
    parts = []
    for index in range(2):
        order = part_of_process(minibatches, index, 2)
        parts.append(read(source, order.ravel(), 10)[0][:, 0, 0].astype(int).reshape(6, 10))
    assert not set(parts[0].ravel()) & set(parts[1].ravel())
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), minibatches)  # each minibatch, in order


def test_processes_need_equal_parts(message_of):
    assert message_of(part_of_process, np.zeros((3, 10), int), 0, 4) == (
        "`trainer.batch_size` must be a multiple of the number of processes, 4, for streamed data; got 10."
    )


def test_an_example_of_another_shape_is_named(message_of):
    source = Checked(Numbers(9, lambda index: np.zeros((3, 3) if index == 7 else (2, 3), np.uint8)), "train")
    message = message_of(lambda: read(source, np.arange(9), 4))
    assert message == (
        "data (train): all examples must have the same shapes and dtypes; example 0 has (uint8[2,3,1], int32[]), "
        "example 7 (uint8[3,3,1], int32[]); bring them to one size."
    )


def test_what_a_source_raises_is_one_line(message_of):
    source = Checked(Numbers(9, lambda index: np.zeros(2) / (index != 3) if index != 3 else 1 // 0), "train")
    assert message_of(lambda: read(source, np.arange(9), 4)).startswith(
        "data: an example cannot be read (ZeroDivisionError: integer division or modulo by zero"
    )


def test_a_reader_that_is_left_early_ends():
    chunks = read_chunks(Checked(Numbers(10_000), "train"), np.arange(10_000), 4, Reading())
    next(chunks)
    chunks.close()
    assert list(chunks) == []


# ---- sources ---------------------------------------------------------------------------------------------------------


def test_a_stream_has_the_shapes_of_its_examples():
    data = make_stream({"train": Numbers(30), "validation": Numbers(4), "test": Numbers(5)}, num_classes=10)
    assert isinstance(data, StreamedDataset)
    assert [len(source) for source in data.sources.values()] == [30, 4, 5]
    assert (data.train.inputs.shape, str(data.train.inputs.dtype)) == ((30, 2, 3), "float32")
    assert (data.test.targets.shape, str(data.test.targets.dtype)) == ((5,), "int32")


def test_the_digest_tells_other_content():
    def digest(offset, count=30):
        source = Numbers(count, lambda index: np.full(3, index + offset, np.float32))
        return make_stream(dict.fromkeys(("train", "validation", "test"), source), num_classes=10).digest()

    assert digest(0) == digest(0)
    assert len({digest(0), digest(1), digest(0, 31)}) == 3


@pytest.mark.parametrize(
    ("sources", "line"),
    [
        ({}, "`data.train` must be a source, such as {_target_: mylab.data.Photos, split: train}; got null."),
        ({"train": Numbers(0)}, "data (train): a source must have at least one example; got none."),
        ({"train": 5}, "data (train): a source must have __len__ and __getitem__; got a int."),
        ({"train": "abc"}, "data (train): an example must be a pair (inputs, targets); got a str."),
    ],
)
def test_what_is_no_source_is_refused(sources, line, message_of, without_type_checks):
    rest = {} if not sources else {"validation": Numbers(3), "test": Numbers(3)}
    assert message_of(functools.partial(load_sources, **sources, **rest)) == line


def test_the_splits_must_be_of_one_kind(message_of):
    sources = {"train": Numbers(3), "validation": Numbers(3, lambda index: np.zeros(4)), "test": Numbers(3)}
    assert message_of(lambda: make_stream(sources, num_classes=10)).startswith(
        "data: the examples of all splits must have the same shapes and dtypes; got {'train': "
    )


# ---- the same examples as in memory ----------------------------------------------------------------------------------


def assert_same_examples(streamed, whole):
    assert (streamed.num_classes, streamed.pixel_divisor) == (whole.num_classes, whole.pixel_divisor)
    for part, split in whole.splits().items():
        inputs, targets, _ = read(streamed.sources[part], np.arange(len(split.targets)), 16)
        assert (inputs.dtype, targets.dtype) == (split.inputs.dtype, split.targets.dtype)
        np.testing.assert_array_equal(inputs, split.inputs)
        np.testing.assert_array_equal(targets, split.targets)


@pytest.fixture(params=["divided", "of splits"])
def folder(request, tmp_path):
    """Images of several sizes and colours, in a folder a class."""
    rng = np.random.default_rng(0)
    parts = [""] if request.param == "divided" else ["train", "test"]
    for part in parts:
        for name in ("a", "b", "c"):
            (tmp_path / part / name).mkdir(parents=True)
            for number in range(8):
                size = (9, 12, 3) if number % 2 else (14, 10)
                pixels = rng.integers(0, 256, size, np.uint8)
                Image.fromarray(pixels).save(tmp_path / part / name / f"{number}.png")
    return tmp_path


@pytest.mark.parametrize(
    "options", [{}, {"seed": 3, "train_size": 7, "crop": True}, {"train_on_validation": True, "image_size": (4, 6)}]
)
def test_a_streamed_folder_has_the_examples_of_the_folder_in_memory(folder, options):
    options = {"directory": str(folder), "image_size": 6, "colors": "rgb", **options}
    assert_same_examples(load_dataset("folder", stream=True, **options), load_dataset("folder", **options))


@pytest.mark.parametrize("options", [{}, {"train_size": 5}, {"train_on_validation": True}, {"image_size": 4}])
def test_a_streamed_tfds_set_has_the_examples_of_the_set_in_memory(tmp_path, options):
    prepare_shapes(tmp_path)
    options = {"name": "shapes", "directory": str(tmp_path), "validation_size": 4, **options}
    streamed = load_dataset("tfds", stream=True, **options)
    assert_same_examples(streamed, load_dataset("tfds", **options))
    copied = pickle.loads(pickle.dumps(streamed.sources["train"]))  # as for a process that reads
    np.testing.assert_array_equal(copied[2][0], streamed.sources["train"][2][0])


def test_streamed_synthetic_images_are_those_in_memory():
    options = {"image_size": (5, 4), "channels": 1, "num_classes": 3, "train_size": 20, "seed": 4}
    data = load_synthetic(**options)
    assert_same_examples(load_synthetic(stream=True, **options), data)
    assert data.train.inputs.shape == (20, 5, 4, 1)
    assert set(data.train.targets) == {0, 1, 2}
    assert not np.array_equal(data.train.inputs[0], data.validation.inputs[0])
    assert_same_examples(*(load_synthetic(stream=flag, train_on_validation=True, **options) for flag in (True, False)))


@pytest.mark.parametrize("stream", [False, True])
def test_another_split_of_tfds_may_be_the_test(tmp_path, stream, message_of):
    prepare_shapes(tmp_path)
    options = {"name": "shapes", "directory": str(tmp_path), "stream": stream, "validation_size": 2}
    data = load_dataset("tfds", test_split="validation", **options)
    assert [split.inputs.shape[0] for split in data.splits().values()] == [10, 2, 4]
    assert message_of(lambda: load_dataset("tfds", test_split="tset", **options)).startswith(
        "`data.test_split` has no 'tset'"
    )


def test_a_streamed_folder_needs_colours(folder, message_of):
    assert message_of(lambda: load_dataset("folder", stream=True, directory=str(folder), image_size=6)) == (
        "`data.colors` must be grey or rgb with data.stream=true, which does not look at all images first; got null."
    )


def test_a_crop_needs_a_size(folder, message_of):
    assert message_of(lambda: load_dataset("folder", directory=str(folder), crop=True)) == (
        "`data.image_size` must be given with data.crop=true; got null."
    )


def test_a_crop_keeps_the_middle_unsqueezed(tmp_path):
    (tmp_path / "a").mkdir()
    pixels = np.zeros((8, 16), np.uint8)
    pixels[:, 4:12] = 200
    Image.fromarray(pixels).save(tmp_path / "a" / "0.png")
    for form, expected in (("crop", 200), ("squeeze", 100)):
        images = ImageFiles(
            tmp_path, [tmp_path / "a" / "0.png"], np.zeros(1), make_form(8, "grey", crop=form == "crop")
        )
        assert images[0][0].mean() == pytest.approx(expected, abs=5)


def test_a_damaged_image_is_named_when_it_is_read(folder, message_of):
    path, *_ = sorted(folder.rglob("3.png"))
    data = load_dataset("folder", stream=True, directory=str(folder), image_size=6, colors="grey")
    path.write_bytes(path.read_bytes()[:60])

    def read_all():
        for source in data.sources.values():
            read(source, np.arange(len(source)), 16)

    assert message_of(read_all).startswith(
        f"{path}: the image must be a whole PNG or JPEG file; it is none, or damaged"
    )


def test_grain_is_named_where_it_is_missing(message_of, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "grain", None)
    message = message_of(lambda: load_synthetic(stream=True))
    assert message.startswith("`data.stream` needs the package grain (")
    assert message.endswith(" -m pip install 'lenet-jax[stream]'.")
