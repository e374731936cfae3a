"""An interval of a run in pieces, for data that are not on the device as a whole.

The examples arrive in chunks, in the order in which the run uses them: those of several minibatches for training, of
several batches for an evaluation. The steps are those of `lenet_jax.training`, the sums those of
`lenet_jax.evaluation`.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, PyTree

from lenet_jax.config import TrainerConfig
from lenet_jax.objective import Task, Totals, add_examples
from lenet_jax.optimizers.standard_form import Optimizer
from lenet_jax.training import TrainState, make_step
from lenet_jax.types import Split, Variables


def train_chunk(
    task: Task,
    optimizer: Optimizer,
    config: TrainerConfig,
    state: TrainState,
    examples: Split,
    num_steps: Int[Array, ""],
    *,
    batch_size: int,
) -> tuple[TrainState, tuple[Float[Array, "steps"], dict[str, Float[Array, "steps"]]]]:  # noqa: F821
    """Take a step on each minibatch of a chunk.

    Args:
        task: what is trained.
        optimizer: any Optax gradient transformation.
        config: the trainer's configuration.
        state: before the first of these steps.
        examples: of whole minibatches, one after another.
        num_steps: how many of them to take, at most as many as there are.
        batch_size: number of examples of a minibatch.

    Returns:
        The state after the steps; the loss of each, and the means of the running metrics; 0 for steps not taken.
    """
    step = make_step(task, optimizer, config, examples)
    rows = _rows(examples, batch_size)

    def body(number: Array, carry: PyTree) -> PyTree:
        state, measured = carry
        state, new = step(state, lax.dynamic_index_in_dim(rows, number, keepdims=False))
        return state, jax.tree.map(lambda c, x: lax.dynamic_update_index_in_dim(c, x, number, 0), measured, new)

    shapes = jax.eval_shape(step, state, rows[0])[1]
    measured = jax.tree.map(lambda x: jnp.zeros((len(rows), *x.shape), x.dtype), shapes)
    with jax.default_matmul_precision(config.matmul_precision):
        return lax.fori_loop(0, num_steps, body, (state, measured))


def add_chunk(
    task: Task,
    variables: Variables,
    totals: Totals,
    examples: Split,
    num_examples: Int[Array, ""],
    *,
    batch_size: int,
) -> Totals:
    """Return the totals with the examples of a chunk, as they are at inference.

    Args:
        task: what is evaluated.
        variables: of its model.
        totals: of the chunks before.
        examples: of whole batches, one after another; those after the first `num_examples` do not count.
        num_examples: at least 1.
        batch_size: number of examples of a batch.
    """
    rows = _rows(examples, batch_size)

    def body(number: Array, totals: Totals) -> Totals:
        inputs, targets = jax.tree.map(lambda x: x[rows[number]], examples)
        return add_examples(task, variables, totals, inputs, targets, rows[number] < num_examples)

    return lax.fori_loop(0, (num_examples + batch_size - 1) // batch_size, body, totals)


def _rows(examples: Any, batch_size: int) -> Int[Array, "batches batch"]:
    """Return which examples of a chunk are in each of its batches."""
    return jnp.arange(jax.tree.leaves(examples)[0].shape[0]).reshape(-1, batch_size)
