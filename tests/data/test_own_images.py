"""Images of a user's own are brought to the form of MNIST's digits, and others are left as they are."""

import io

import numpy as np
import pytest
from PIL import Image

import lenet_jax as lj
from lenet_jax.data.embedded import read_embedded
from lenet_jax.data.images import decode_as_seen
from lenet_jax.data.own_images import Style, prepare_files, style_of
from tests.runs.small import component

SHAPE = (28, 28, 1)
DIGITS = Style(on_black=True, box=20, by_mass=True)


def save(path, pixels, **options):
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path, **options)
    return path


def prepare_one(path, shape=SHAPE, style=DIGITS, **options):
    (prepared,) = prepare_files([path], shape, style, **options)
    return prepared


def centre_of_mass(image):
    return [float(image.sum(axis=1 - axis) @ np.arange(28) / image.sum()) for axis in (0, 1)]


def on_paper(digit, *, factor=6, at=(40, 130), size=(300, 420), paper=235, ink=40):
    """Return a digit of MNIST written dark, large, and off the middle of a sheet of grey paper."""
    large = np.kron(digit.astype(float) / 255, np.ones((factor, factor)))
    sheet = np.full(size, float(paper))
    part = sheet[at[0] : at[0] + large.shape[0], at[1] : at[1] + large.shape[1]]
    part += (ink - paper) * large
    return np.rint(sheet)


def test_a_digit_on_paper_becomes_the_one_of_mnist_that_it_was(tmp_path):
    for number, digit in enumerate(read_embedded()["test_images"][:20]):
        prepared = prepare_one(save(tmp_path / f"{number}.png", on_paper(digit)))
        found = prepared.inputs[0, ..., 0].astype(float)
        assert np.corrcoef(found.ravel(), digit.ravel().astype(float))[0, 1] > 0.9
        assert found.max() == 255
        np.testing.assert_allclose(centre_of_mass(found), [14, 14], atol=0.51)
    assert prepared.steps == ("420x300, inverted, the character scaled into 20x20, its centre of mass at that of 28x28")


def test_the_longer_side_of_a_character_fills_the_box(tmp_path):
    sheet = np.zeros((100, 60))
    sheet[10:90, 30:34] = 255
    image = prepare_one(save(tmp_path / "one.png", sheet)).inputs[0, ..., 0]
    rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
    assert (len(rows), len(columns)) == (20, 1)
    assert columns[0] == 14


def test_an_image_of_the_right_size_and_ground_is_taken_as_it_is(tmp_path):
    digit = read_embedded()["test_images"][3]
    prepared = prepare_one(save(tmp_path / "digit.png", digit))
    np.testing.assert_array_equal(prepared.inputs[0, ..., 0], digit)
    assert prepared.steps == "28x28, taken as it is"
    inverted = prepare_one(save(tmp_path / "dark.png", 255 - digit))
    np.testing.assert_array_equal(inverted.inputs, prepared.inputs)
    assert inverted.steps == "28x28, inverted"


def test_what_is_guessed_can_be_said(tmp_path):
    path = save(tmp_path / "light.png", np.full((56, 56), 200))
    plain = prepare_one(path, invert=False, centre=False)
    assert plain.steps == "56x56, scaled to 28x28"
    assert (plain.inputs == 200).all()
    assert (prepare_one(path, style=Style(), invert=True).inputs == 55).all()
    digit = np.roll(read_embedded()["test_images"][3], (3, -4), (0, 1))
    shifted = save(tmp_path / "shifted.png", digit)
    np.testing.assert_allclose(centre_of_mass(prepare_one(shifted, centre=True).inputs[0, ..., 0]), [14, 14], atol=0.51)
    with pytest.raises(lj.InputError, match=r"`--centre` must be used with a run on images of characters"):
        prepare_one(path, style=Style(), centre=True)


def test_photographs_are_scaled_only(tmp_path):
    path = save(tmp_path / "photo.jpg", np.full((64, 48, 3), (250, 10, 20)), quality=95)
    prepared = prepare_one(path, (32, 32, 3), style_of(component("data", "cifar10"), (32, 32, 3)))
    assert prepared.steps == "48x64, scaled to 32x32"
    assert prepared.inputs.shape == (1, 32, 32, 3)
    np.testing.assert_allclose(prepared.inputs[0, 5, 5], [250, 10, 20], atol=3)


def test_a_folder_is_read_in_the_order_of_the_names(tmp_path):
    for name, grey in (("b.png", 2), ("a.jpg", 1), ("c.PNG", 3)):
        save(tmp_path / name, np.full((28, 28), grey))
    (tmp_path / "notes.txt").write_text("no image")
    found = list(prepare_files([tmp_path], SHAPE, DIGITS))
    assert [int(each.inputs[0, 0, 0, 0]) for each in found] == [1, 2, 3]
    with pytest.raises(lj.InputError, match=r"must hold images \(\.png, \.jpg, \.jpeg\); it has none"):
        list(prepare_files([tmp_path.joinpath("empty").mkdir() or tmp_path / "empty"], SHAPE, DIGITS))


def test_arrays_are_taken_as_they_are(tmp_path):
    images = read_embedded()["test_images"][:3]
    np.save(tmp_path / "a.npy", images)
    np.savez_compressed(tmp_path / "b.npz", x_test=images[..., None], y_test=np.arange(3), x_train=images[:1])
    np.savez(tmp_path / "c.npz", anything=images[0])
    np.save(tmp_path / "d.npy", images.astype(np.int64))
    np.save(tmp_path / "e.npy", images / 256)
    for name, number in (("a.npy", 3), ("b.npz", 3), ("c.npz", 1), ("d.npy", 3)):
        prepared = prepare_one(tmp_path / name)
        np.testing.assert_array_equal(prepared.inputs[..., 0], images[:number])
        assert prepared.inputs.dtype == np.uint8
    assert prepared.steps == "3 inputs, taken as they are"
    floats = prepare_one(tmp_path / "e.npy")
    assert floats.inputs.dtype == np.float32
    np.testing.assert_array_equal(prepare_one(tmp_path / "a.npy", invert=True).inputs[..., 0], 255 - images)


def test_inputs_that_are_no_pixels_are_floats(tmp_path):
    np.save(tmp_path / "x.npy", np.array([[1000, -7]]))
    prepared = prepare_one(tmp_path / "x.npy", (2,), Style(), are_pixels=False)
    np.testing.assert_array_equal(prepared.inputs, np.array([[1000, -7]], np.float32))
    np.save(tmp_path / "x.npy", np.array([[np.inf, 0]]))
    with pytest.raises(lj.InputError, match="inputs must be finite numbers; some are not"):
        prepare_one(tmp_path / "x.npy", (2,), Style(), are_pixels=False)
    with pytest.raises(lj.InputError, match="must be an npy or npz file, as the run's inputs are floats"):
        prepare_one(tmp_path / "x.png", are_pixels=False)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 32, 32), np.uint8), r"must be an array \(N, 28, 28, 1\); got shape \(2, 32, 32\)"),
        (np.zeros((0, 28, 28), np.uint8), r"must be an array \(N, 28, 28, 1\); got shape \(0, 28, 28, 1\)"),
        (np.full((1, 28, 28), 300), "pixels must be 0 to 255; got 300 to 300"),
        (np.full((1, 28, 28), 25.5), r"must be 0 to 1; got 25\.5 to 25\.5; save those of 0 to 255 as uint8"),
        (np.full((1, 28, 28), np.nan), "float pixels must be 0 to 1; got nan to nan"),
        (np.array(["a"]), "must be an array of numbers"),
        (np.array([{}], object), "Python objects, which need pickle"),
    ],
)  # fmt: skip
def test_other_arrays_are_refused(tmp_path, array, message):
    np.save(tmp_path / "x.npy", array, allow_pickle=True)
    with pytest.raises(lj.InputError, match=message):
        prepare_one(tmp_path / "x.npy")


def test_files_that_are_no_images_are_refused(tmp_path):
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "text.npz").write_text("no zip")
    np.savez(tmp_path / "two.npz", a=np.zeros(1), b=np.zeros(1))
    blank = save(tmp_path / "blank.png", np.full((50, 50), 255))
    for path, message in (
        (tmp_path / "none.png", "must be a file; it is missing"),
        (tmp_path / "none.npy", "cannot be read"),
        (tmp_path / "text.png", "must be a whole PNG or JPEG file"),
        (tmp_path / "text.npz", "must be an npy or npz file of NumPy; it is none, or damaged"),
        (tmp_path / "two.npz", r"must have one array of inputs, named x, inputs or images; got 'a', 'b'"),
        (blank, "must have a light mark on a dark ground, or a dark one on light; it has none"),
    ):
        with pytest.raises(lj.InputError, match=message):
            prepare_one(path)
    with pytest.raises(lj.InputError, match=r"its inputs have shape \(7,\); give them as an npy file"):
        prepare_one(blank, (7,), Style())


def test_an_image_is_read_as_a_viewer_shows_it():
    pixels = np.zeros((2, 3, 4), np.uint8)
    pixels[0, 0] = (0, 0, 0, 255)
    content = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned to the right
    Image.fromarray(pixels).save(content, "PNG", exif=exif)
    seen = decode_as_seen("x.png", content.getvalue(), "grey")
    np.testing.assert_array_equal(seen[..., 0], [[255, 0], [255, 255], [255, 255]])


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("embedded", {}, DIGITS),
        ("mnist", {}, DIGITS),
        ("idx", {"directory": "."}, DIGITS),
        ("fashion_mnist", {}, Style(on_black=True)),
        ("emnist", {}, Style(on_black=True, box=24, transposed=True)),
        ("emnist", {"upright": True}, Style(on_black=True, box=24)),
        ("npz", {"directory": "."}, Style()),
        ("folder", {"directory": "."}, Style()),
    ],
)
def test_the_style_follows_from_the_data(name, options, expected):
    assert style_of(component("data", name, **options), SHAPE) == expected
