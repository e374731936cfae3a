import io
import zipfile

import numpy as np
import pytest

from lenet_jax.data import load_dataset
from lenet_jax.runs.provenance import digest_dataset

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (40, 4, 3), np.uint8)
LABELS = np.arange(40) % 4


def save(folder, **arrays):
    np.savez_compressed(folder / "my.npz", **arrays)
    return str(folder / "my.npz")


def keras(inputs=GREY, targets=LABELS, cut=30):
    return {"x_train": inputs[:cut], "y_train": targets[:cut], "x_test": inputs[cut:], "y_test": targets[cut:]}


def load(path, **options):
    return load_dataset("npz", directory=path, **options)


def test_the_arrays_of_keras_are_grey_images_and_labels(tmp_path):
    data = load(save(tmp_path, **keras()), validation_size=10)
    np.testing.assert_array_equal(data.train.inputs, GREY[:20, ..., None])
    np.testing.assert_array_equal(data.validation.inputs, GREY[20:30, ..., None])
    np.testing.assert_array_equal(data.test.targets, LABELS[30:])
    assert (data.train.inputs.dtype, data.train.targets.dtype, data.num_classes) == (np.uint8, np.int32, 4)


@pytest.mark.parametrize("form", ["{}_inputs {}_targets", "{}_images {}_labels", "x_{} y_{}", "{}_x {}_y"])
@pytest.mark.parametrize("validation", ["validation", "val", "valid"])
def test_each_way_of_naming_is_read_and_its_validation_kept(tmp_path, form, validation):
    inputs, targets = form.split()
    arrays = {}
    for part, where in (("train", slice(20)), (validation, slice(20, 25)), ("test", slice(25, 40))):
        arrays |= {inputs.format(part): GREY[where], targets.format(part): LABELS[where]}
    data = load(save(tmp_path, other=np.zeros(3), **arrays))
    np.testing.assert_array_equal(data.train.targets, LABELS[:20])
    np.testing.assert_array_equal(data.validation.inputs[..., 0], GREY[20:25])
    np.testing.assert_array_equal(data.test.inputs[..., 0], GREY[25:])


@pytest.mark.parametrize("dtype", ["u1", "i1", ">i2", "u4", "<i8", "u8", "?"])
def test_labels_may_be_integers_of_any_dtype_and_have_an_axis_of_one(tmp_path, dtype):
    labels = (LABELS % 2).astype(dtype)
    for targets in (labels, labels[:, None]):
        data = load(save(tmp_path, **keras(targets=targets)))
        np.testing.assert_array_equal(data.test.targets, LABELS[30:] % 2)
        assert (data.test.targets.dtype, data.num_classes) == (np.int32, 2)


@pytest.mark.parametrize("shape", [(40, 5), (40, 4, 3), (40, 4, 3, 1), (40, 4, 3, 7)])
@pytest.mark.parametrize("dtype", ["f2", "<f4", ">f8"])
def test_floats_are_taken_as_they_are(tmp_path, shape, dtype):
    inputs = RNG.normal(size=shape).astype(dtype)
    data = load(save(tmp_path, **keras(inputs)))
    np.testing.assert_array_equal(data.test.inputs, inputs[30:].astype(np.float32))
    assert data.test.inputs.dtype == np.float32


def test_images_may_have_any_number_of_channels(tmp_path):
    images = RNG.integers(0, 256, (40, 4, 3, 7), np.uint8)
    np.testing.assert_array_equal(load(save(tmp_path, **keras(images))).test.inputs, images[30:])


@pytest.mark.parametrize(("shape", "num_outputs"), [((40,), 1), ((40, 1), 1), ((40, 3), 3), ((40, 2, 3), 6)])
def test_float_targets_are_regressed_on_and_their_size_is_the_number_of_outputs(tmp_path, shape, num_outputs):
    targets = RNG.normal(size=shape)
    data = load(save(tmp_path, **keras(targets=targets)))
    np.testing.assert_array_equal(data.test.targets, targets[30:].astype(np.float32))
    assert data.num_classes == num_outputs


def test_rows_of_integers_are_labels_of_their_own_each(tmp_path):
    targets = RNG.integers(0, 2, (40, 5))
    data = load(save(tmp_path, **keras(targets=targets)))
    np.testing.assert_array_equal(data.test.targets, targets[30:])
    assert data.num_classes == 5


def test_classes_of_pixels_are_counted(tmp_path):
    assert load(save(tmp_path, **keras(targets=GREY % 6))).num_classes == 6


def test_a_fraction_is_held_out_at_the_end_or_by_a_seed_of_each_label_its_share(tmp_path):
    path = save(tmp_path, **keras(cut=36))
    np.testing.assert_array_equal(load(path, validation_size=0.25).validation.targets, LABELS[27:36])
    drawn = load(path, validation_size=8, seed=3)
    assert np.bincount(drawn.validation.targets).tolist() == [2, 2, 2, 2]
    together = np.concatenate([drawn.train.inputs, drawn.validation.inputs])[..., 0]
    assert sorted(map(bytes, together)) == sorted(map(bytes, GREY[:36]))
    assert digest_dataset(drawn) == digest_dataset(load(path, validation_size=8, seed=3))
    assert digest_dataset(drawn) != digest_dataset(load(path, validation_size=8, seed=4))


def test_the_number_of_classes_may_be_given(tmp_path, message_of):
    path = save(tmp_path, **keras())
    assert load(path, num_classes=9).num_classes == 9
    assert message_of(load, path, num_classes=3) == (
        "data npz (train): labels must be 0 to 2; got 0 to 3; set `data.num_classes=4` if the set has more classes."
    )


INPUTS = "inputs must be uint8 images of shape (N, H, W) or (N, H, W, C), or floats (N, ...)"


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (keras(GREY.astype(np.int32)), f"data npz (train): {INPUTS}; got int32 (30, 4, 3)."),
        (keras(GREY[:, 0]), f"data npz (train): {INPUTS}; got uint8 (30, 3)."),
        (keras(np.zeros(40)), f"data npz (train): {INPUTS}; got float64 (30,)."),
        (keras(targets=LABELS - 1), "data npz (train): labels must be 0 to 2; got -1 to 2; "),
        (keras(targets=np.full(40, np.nan)), "data npz (train): targets must be finite numbers; got others."),
        (keras(targets=LABELS[:35]) | {"y_train": LABELS[:29]}, "data npz (train): there must be one label an image; "),
        (keras(np.ones((40, 3))) | {"y_train": LABELS[:29]}, "data npz (train): there must be one target an input; "),
        (keras(np.ones((30, 3)), LABELS[:30]), "data npz (test): there must be at least one example; got none."),
        (keras() | {"x_test": GREY[30:, :2]}, "data npz: the images of all splits must have the same shape; got {"),
        (
            keras(targets=np.ones((40, 2))) | {"y_test": np.ones(10)},
            "data npz: the targets of all splits must have the same shape; got {",
        ),
    ],
)
def test_arrays_that_break_a_rule_are_refused(tmp_path, arrays, message, message_of):
    assert message_of(load, save(tmp_path, **arrays)).startswith(message)


def test_missing_arrays_are_named(tmp_path, message_of):
    path = save(tmp_path, x_train=GREY, y_train=LABELS, z=LABELS)
    assert message_of(load, path) == (
        f"{path}: must have the arrays x_train, y_train, x_test, y_test, or train_inputs, train_targets, test_inputs, "
        "test_targets; those of test are missing; it has x_train, y_train, z."
    )
    assert message_of(load, save(tmp_path, **keras(), x_val=GREY)).startswith(f"{path}: must have the arrays ")
    assert message_of(load_dataset, "npz") == "`data.directory` must be an npz file; got null."


def test_an_array_in_fortran_order_is_the_same_array(tmp_path):
    data = load(save(tmp_path, **keras(np.asfortranarray(GREY))))
    np.testing.assert_array_equal(data.test.inputs[..., 0], GREY[30:])


def test_a_flipped_byte_is_refused(tmp_path, message_of):
    path = save(tmp_path, **keras())
    raw = bytearray((tmp_path / "my.npz").read_bytes())
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        start = archive.getinfo("x_train.npy").header_offset + 100
    raw[start] ^= 1
    (tmp_path / "my.npz").write_bytes(raw)
    assert message_of(load, path).startswith(f"{path}: must be an npz file of numpy.savez; it is none, or damaged (")
