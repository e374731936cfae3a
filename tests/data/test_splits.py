import numpy as np
import pytest

from lenet_jax.data.splits import hold_out, make_split, take_first
from lenet_jax.types import Split

IMAGES = np.arange(5 * 2 * 3, dtype=np.uint8).reshape(5, 2, 3)
LABELS = np.array([0, 1, 2, 0, 1], np.uint8)
SPLIT = Split(IMAGES[..., None], LABELS.astype(np.int32))


def test_a_split_has_a_channel_axis_and_int32_labels():
    split = make_split(IMAGES, LABELS, 3, "file")
    assert split.images.shape == (5, 2, 3, 1)
    assert split.images.flags.c_contiguous
    assert split.labels.dtype == np.int32
    np.testing.assert_array_equal(split.images[..., 0], IMAGES)
    np.testing.assert_array_equal(split.labels, [0, 1, 2, 0, 1])


def test_channels_that_are_there_are_kept():
    assert make_split(np.zeros((5, 2, 2, 3), np.uint8), LABELS, 3, "file").images.shape == (5, 2, 2, 3)


IMAGE_RULE = "images must be uint8 of shape (N, H, W) or (N, H, W, C)"
LABEL_RULE = "labels must be integers of shape (N,)"
RANGE_REMEDY = "set `data.num_classes=4` if the set has more classes."


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (IMAGES.astype(np.float32), LABELS, f"{IMAGE_RULE}; got float32 (5, 2, 3)."),
        (IMAGES.reshape(5, 6), LABELS, f"{IMAGE_RULE}; got uint8 (5, 6)."),
        (IMAGES, LABELS.astype(np.float64), f"{LABEL_RULE}; got float64 (5,)."),
        (IMAGES, LABELS[:, None], f"{LABEL_RULE}; got uint8 (5, 1)."),
        (IMAGES, LABELS[:4], "there must be one label an image; got 5 and 4."),
        (IMAGES[:0], LABELS[:0], "there must be at least one example; got none."),
        (IMAGES, LABELS + 1, f"labels must be 0 to 2; got 1 to 3; {RANGE_REMEDY}"),
        (IMAGES, LABELS.astype(np.int8) - 1, "labels must be 0 to 2; got -1 to 1; count from 0."),
        (IMAGES, LABELS.astype(np.uint64) + np.uint64(2**63), f"labels must be 0 to 2; got {2**63} to {2**63 + 2}; "),
    ],
    ids=["float images", "flat", "float labels", "rank 2", "lengths", "empty", "too high", "negative", "beyond int64"],
)
def test_examples_that_break_a_rule_are_refused(images, labels, message, message_of):
    assert message_of(make_split, images, labels, 3, "file (train)").startswith(f"file (train): {message}")


def test_the_last_examples_are_held_out_in_their_order():
    train, validation = hold_out(SPLIT, 2)
    np.testing.assert_array_equal(train.images, SPLIT.images[[0, 1, 2]])
    np.testing.assert_array_equal(train.labels, [0, 1, 2])
    np.testing.assert_array_equal(validation.images, SPLIT.images[[3, 4]])
    np.testing.assert_array_equal(validation.labels, [0, 1])


def test_something_is_left_to_train_on(message_of):
    assert len(hold_out(SPLIT, 4)[0].labels) == 1
    assert message_of(hold_out, SPLIT, 5) == (
        "`data.validation_size` must be below the number of training examples, 5; got 5."
    )


@pytest.mark.parametrize(("size", "kept"), [(2, 2), (5, 5), (None, 5)])
def test_the_first_examples_are_taken(size, kept):
    images, labels = take_first(SPLIT, size)
    np.testing.assert_array_equal(images, SPLIT.images[:kept])
    np.testing.assert_array_equal(labels, [0, 1, 2, 0, 1][:kept])


def test_no_more_can_be_taken_than_there_are(message_of):
    assert message_of(take_first, SPLIT, 6) == (
        "`data.train_size` must be at most the number of training examples, 5; got 6."
    )
