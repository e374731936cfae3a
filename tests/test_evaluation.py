"""Every example is counted once, whatever the size of the batches."""

import functools

import jax
import numpy as np
import pytest

import lenet_jax as lj

MODEL = lj.create_model("lenet", input_shape=(10, 10, 1), num_classes=4, num_kernels=(3, 4), kernel_size=2)


@pytest.fixture
def variables():
    """Weights of which none is zero, so that the answers differ."""
    key = jax.random.key(0)
    return jax.tree.map(lambda leaf: leaf + 0.3 * jax.random.normal(key, leaf.shape), MODEL.init(key))


def test_counts_every_example_at_any_batch_size(variables):
    rng = np.random.default_rng(0)
    split = lj.Split(rng.integers(0, 255, (10_000, 10, 10, 1)).astype(np.uint8), rng.integers(0, 4, 10_000))
    counts = {
        (int(m.num_examples), int(m.num_correct))
        for batch_size in (1, 7, 100, 333, 10_000, 20_000)
        for m in [jax.jit(functools.partial(lj.evaluate, MODEL, batch_size=batch_size))(variables, split, 256.0)]
    }
    logits, _ = MODEL.apply(variables, split.images / np.float32(256))
    assert counts == {(10_000, int(np.sum(np.argmax(logits, -1) == split.labels)))}


def test_an_empty_split_is_refused(variables):
    empty = lj.Split(np.zeros((0, 10, 10, 1), np.uint8), np.zeros(0, np.int32))
    with pytest.raises(
        lj.InputError, match="`split` needs at least one example and `batch_size` must be 1 or above; got 0"
    ):
        lj.evaluate(MODEL, variables, empty, 256.0)
