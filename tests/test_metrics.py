"""Counts against counting by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

import lenet_jax as lj
from lenet_jax.metrics import measure


def test_counts_only_what_the_mask_admits():
    logits = jnp.array([[2.0, 0.0], [0.0, 2.0], [0.0, 2.0]])
    counted = measure(logits, jnp.array([0, 0, 1]), jnp.array([True, True, False]))
    assert (int(counted.num_correct), int(counted.num_examples)) == (1, 2)
    assert float(counted.accuracy) == 0.5
    np.testing.assert_allclose(counted.loss, (np.log1p(np.exp(-2)) + np.log1p(np.exp(2))) / 2, rtol=1e-6)


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
