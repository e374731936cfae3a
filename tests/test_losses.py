"""Cross-entropy against the formula in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lenet_jax as lj


def test_is_the_negative_log_of_the_softmax_of_the_label():
    logits = np.random.default_rng(0).standard_normal((6, 10)) * 5
    labels = np.arange(6)
    softmax = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    loss = lj.cross_entropy(jnp.asarray(logits, jnp.float32), jnp.asarray(labels))
    np.testing.assert_allclose(loss, -np.log(softmax[np.arange(6), labels]), rtol=1e-5)


def test_its_gradient_is_softmax_minus_label():
    logits = jax.random.normal(jax.random.key(0), (3, 4))
    labels = jnp.array([1, 3, 0])
    gradient = jax.grad(lambda z: jnp.sum(lj.cross_entropy(z, labels)))(logits)
    np.testing.assert_allclose(gradient, jax.nn.softmax(logits) - jax.nn.one_hot(labels, 4), atol=1e-6)


def test_huge_logits_stay_finite():
    assert jnp.isfinite(lj.cross_entropy(jnp.array([[1e30, -1e30]]), jnp.array([0])))[0]


def test_smoothed_labels_share_a_probability_among_all_classes():
    logits = np.random.default_rng(0).standard_normal((6, 10)) * 5
    targets = np.full((6, 10), 0.1 / 10) + 0.9 * np.eye(10)[:6]
    expected = -(targets * np.log(np.exp(logits) / np.exp(logits).sum(1, keepdims=True))).sum(1)
    loss = lj.cross_entropy(jnp.asarray(logits, jnp.float32), jnp.arange(6), label_smoothing=0.1)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_labels_that_are_known_and_do_not_fit_are_refused(without_type_checks):
    logits = jnp.zeros((2, 3))
    for labels in ([-1, 0], [0, 3], jnp.array([7, 1])):
        with pytest.raises(lj.InputError, match=r"cross_entropy: `labels` must be 0 to 2, as there are 3 logits; got"):
            lj.cross_entropy(logits, labels)
    for labels in ([0], [[0], [1]], [0.0, 1.0]):
        with pytest.raises(lj.InputError, match=r"cross_entropy: `labels` must be integers of shape \(2,\)"):
            lj.cross_entropy(logits, labels)
    assert lj.cross_entropy(logits, [0, 2]).shape == (2,)


def test_labels_may_be_constants_of_a_program():
    logits = jnp.zeros((2, 3))
    assert jax.jit(lambda logits: lj.cross_entropy(logits, jnp.array([0, 2])))(logits).shape == (2,)


@pytest.mark.parametrize("smoothing", [-0.1, 1.5, None, "much", float("nan")])
@pytest.mark.usefixtures("without_type_checks")
def test_label_smoothing_out_of_its_range_is_refused(smoothing):
    with pytest.raises(lj.InputError, match=r"cross_entropy: `label_smoothing` must be from 0 to 1; got "):
        lj.cross_entropy(jnp.zeros((1, 3)), jnp.array([0]), label_smoothing=smoothing)


def test_label_smoothing_may_be_traced():
    logits, labels = jnp.array([[0.0, 1.0, 3.0]]), jnp.array([0])
    found = jax.jit(lambda smoothing: lj.cross_entropy(logits, labels, label_smoothing=smoothing))(0.1)
    np.testing.assert_allclose(found, lj.cross_entropy(logits, labels, label_smoothing=0.1), rtol=1e-6)
