"""The lengths of a run, and which examples make up each of its minibatches; all known before it starts."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int

from lenet_jax import early_stopping
from lenet_jax.config import TrainerConfig
from lenet_jax.errors import InputError
from lenet_jax.types import Key


class TrainPlan(NamedTuple):
    """The lengths of a run, in minibatch iterations."""

    batch_size: int
    epoch: int  # iterations an epoch: the whole batches in the training set
    interval: int  # iterations from one validation to the next
    num_intervals: int  # in the longest possible run


def plan_run(config: TrainerConfig, num_train: int) -> TrainPlan:
    """Work out the lengths of a run on `num_train` training examples.

    Raises:
        InputError: if a batch is larger than the training set, or the run is longer than can be counted.
    """
    batch_size = num_train if config.batch_size is None else config.batch_size
    if batch_size > num_train:
        raise InputError(
            f"`trainer.batch_size` must be at most the size of the training set, {num_train}; got {batch_size}."
        )
    if batch_size % config.grad_accumulation_steps:
        raise InputError(
            f"`trainer.grad_accumulation_steps` must divide the batch of {batch_size} examples; "
            f"got {config.grad_accumulation_steps}."
        )
    epoch = num_train // batch_size
    if config.max_epochs * epoch >= 2**31:  # iterations are counted in int32
        raise InputError(
            f"`trainer.max_epochs` must be below {2**31 // epoch} for {epoch} iterations an epoch; "
            f"got {config.max_epochs}."
        )
    interval = early_stopping.validation_interval(epoch, config.early_stopping)
    return TrainPlan(batch_size, epoch, interval, config.max_epochs * epoch // interval)


def minibatches(
    plan: TrainPlan, num_train: int, key: Key, iteration: Int[Array, ""], *, shuffle: bool
) -> Int[Array, "steps batch"]:
    """Return the examples of each minibatch up to the next validation.

    An interval is an epoch or shorter, so it lies in at most two epochs.

    Args:
        plan: the lengths of the run.
        num_train: size of the training set.
        key: of the order of the examples; the same in all of a run.
        iteration: minibatch iterations done.
        shuffle: whether each epoch has an order of its own; else that of the data.
    """
    epoch, start = iteration // plan.epoch, iteration % plan.epoch
    order = functools.partial(_epoch_order, plan, num_train, key, shuffle)
    if plan.interval == plan.epoch:
        examples = order(epoch)
    else:
        two_epochs = jnp.concatenate([order(epoch), order(epoch + 1)])
        examples = lax.dynamic_slice(two_epochs, (start * plan.batch_size,), (plan.interval * plan.batch_size,))
    return examples.reshape(plan.interval, plan.batch_size)


def _epoch_order(plan: TrainPlan, num_train: int, key: Key, shuffle: bool, epoch: Array) -> Array:
    """Return the training examples of one epoch in order, whole batches only."""
    if shuffle:
        return jax.random.permutation(jax.random.fold_in(key, epoch), num_train)[: plan.epoch * plan.batch_size]
    return jnp.arange(plan.epoch * plan.batch_size)
