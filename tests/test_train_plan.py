"""The lengths of a run, and the examples of its minibatches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lenet_jax as lj
from lenet_jax.config import EarlyStoppingConfig, TrainerConfig
from lenet_jax.train_plan import TrainPlan, minibatches, plan_run

KEY = jax.random.key(7)
WITHOUT = EarlyStoppingConfig(enabled=False)


def trainer(**options):
    return TrainerConfig(**{"batch_size": 4, "max_epochs": 4, **options})


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, TrainPlan(4, 5, 5, 4)),
        ({"batch_size": 6}, TrainPlan(6, 3, 3, 4)),  # two examples of an epoch are left out
        ({"batch_size": None, "max_epochs": 3}, TrainPlan(20, 1, 1, 3)),
        ({"early_stopping": EarlyStoppingConfig(patience=4)}, TrainPlan(4, 5, 2, 10)),
        ({"early_stopping": EarlyStoppingConfig(patience=6)}, TrainPlan(4, 5, 3, 6)),  # the last 2 of 20 are left out
        ({"early_stopping": WITHOUT, "max_epochs": 1}, TrainPlan(4, 5, 5, 1)),
    ],
)
def test_lengths_by_hand(options, expected):
    assert plan_run(trainer(**options), 20) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 21}, "`trainer.batch_size` must be at most the size of the training set, 20; got 21."),
        (
            {"grad_accumulation_steps": 3},
            "`trainer.grad_accumulation_steps` must divide the batch of 4 examples; got 3.",
        ),
        (
            {"max_epochs": 2**30},
            "`trainer.max_epochs` must be below 429496729 for 5 iterations an epoch; got 1073741824.",
        ),
    ],
)
def test_a_run_that_does_not_fit_its_data_is_refused(options, message):
    with pytest.raises(lj.InputError) as error:
        plan_run(trainer(**options), 20)
    assert str(error.value) == message


def batches_of_run(config, num_steps, num_train=20):
    """Return the examples of every minibatch of a run, in order."""
    plan = plan_run(config, num_train)
    batches = [
        minibatches(plan, num_train, KEY, jnp.int32(i * plan.interval), shuffle=config.shuffle)
        for i in range(-(-num_steps // plan.interval))
    ]
    return np.concatenate(batches)[:num_steps]


@pytest.mark.parametrize("patience", [10_000, 4, 6])  # validation each epoch, or in the middle of one
def test_each_epoch_sees_each_example_once_in_an_order_of_its_own(patience):
    config = trainer(early_stopping=EarlyStoppingConfig(patience=patience))
    epochs = batches_of_run(config, 15).reshape(3, 20)
    assert all(sorted(epoch) == list(range(20)) for epoch in epochs.tolist())
    assert len({tuple(epoch) for epoch in epochs.tolist()}) == 3
    whole_epochs = batches_of_run(trainer(), 15).reshape(3, 20)
    np.testing.assert_array_equal(epochs, whole_epochs)


def test_without_shuffling_the_order_is_that_of_the_file_and_the_ragged_end_is_left_out():
    epochs = batches_of_run(trainer(batch_size=6, shuffle=False), 6)
    np.testing.assert_array_equal(epochs.reshape(2, 18), np.tile(np.arange(18), (2, 1)))


def test_the_order_is_traced():
    plan = plan_run(trainer(), 20)
    order = jax.jit(lambda key, iteration: minibatches(plan, 20, key, iteration, shuffle=True))
    np.testing.assert_array_equal(order(KEY, jnp.int32(5)).ravel(), batches_of_run(trainer(), 10)[5:].ravel())
    assert not np.array_equal(order(jax.random.key(8), jnp.int32(5)), order(KEY, jnp.int32(5)))
