"""Counts against counting by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

import lenet_jax as lj
from lenet_jax.metrics import expected_calibration_error, is_correct, precision_and_recall


def test_an_answer_is_correct_if_the_largest_logit_is_that_of_the_label():
    logits = jnp.array([[2.0, 0.0], [0.0, 2.0], [0.0, 2.0]])
    assert is_correct(logits, jnp.array([0, 0, 1], jnp.int32)).tolist() == [True, False, True]
    assert is_correct(logits, jnp.array([0, 0, 1], jnp.uint8)).tolist() == [True, False, True]


def test_confusion_matrix_counts_pairs():
    rng = np.random.default_rng(0)
    labels, predictions = rng.integers(0, 4, 100), rng.integers(0, 4, 100)
    expected = np.zeros((4, 4), int)
    for label, prediction in zip(labels, predictions, strict=True):
        expected[label, prediction] += 1
    np.testing.assert_array_equal(lj.confusion_matrix(jnp.asarray(labels), jnp.asarray(predictions), 4), expected)


def test_confusion_matrix_refuses_what_it_cannot_count():
    zeros = jnp.zeros(3, int)
    with pytest.raises(lj.InputError, match=r"two lists of one length; got shapes \(3, 1\) and \(3, 1\)"):
        lj.confusion_matrix.__wrapped__(zeros[:, None], zeros[:, None], 2)
    with pytest.raises(lj.InputError, match="`num_classes` must be 1 or above; got 0"):
        lj.confusion_matrix(zeros, zeros, 0)


def test_precision_and_recall_by_hand():
    precision, recall = precision_and_recall(jnp.array([[8, 2, 0], [1, 3, 0], [0, 0, 0]]))
    np.testing.assert_allclose(precision, [8 / 9, 3 / 5, 0], rtol=1e-6)
    np.testing.assert_allclose(recall, [8 / 10, 3 / 4, 0], rtol=1e-6)


def test_calibration_error_by_hand():
    """Confidences .95, .95 (one right) and .6 (right): 2/3 x |.5 - .95| + 1/3 x |1 - .6|."""
    confidences, right = np.array([0.95, 0.95, 0.6]), np.array([True, False, True])
    logits = jnp.asarray(np.log(np.stack([confidences, 1 - confidences], axis=1)), jnp.float32)
    error = expected_calibration_error(logits, jnp.asarray(np.where(right, 0, 1)), num_bins=10)
    np.testing.assert_allclose(error, 2 / 3 * 0.45 + 1 / 3 * 0.4, rtol=1e-5)
    with pytest.raises(lj.InputError, match="`num_bins` must be 1 or above; got 0"):
        expected_calibration_error(logits, jnp.zeros(3, jnp.int32), num_bins=0)


def test_a_sure_and_right_network_is_calibrated():
    logits = 100 * jnp.eye(3)
    assert float(expected_calibration_error(logits, jnp.arange(3))) == pytest.approx(0, abs=1e-6)
