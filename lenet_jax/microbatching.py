"""A minibatch in microbatches, one after another, whose losses and gradients are added up, to save memory.

No random number depends on their size.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PyTree

from lenet_jax.errors import InputError
from lenet_jax.sharding import num_shards
from lenet_jax.types import Variables

LossFn = Callable[[Variables, PyTree], tuple[Array, PyTree]]
"""(variables, microbatch) -> (loss of each example, new state); the arrays of a microbatch have one first axis."""

_LARGEST = 512  # examples, on a CPU; more need more memory and are no faster, see experiments/benchmarks/README.md


def choose_size(batch_size: int, grad_accumulation_steps: int, *, is_separable: bool) -> int:
    """Return the number of examples of a microbatch.

    Args:
        batch_size: number of examples of the minibatch.
        grad_accumulation_steps: number of microbatches that the user asks for; it divides the batch.
        is_separable: whether the loss of an example does not depend on its microbatch; if so, one of more than 512
            examples a device is divided further on a CPU.

    Raises:
        InputError: if `grad_accumulation_steps` does not divide the batch.
    """
    if grad_accumulation_steps < 1 or batch_size % grad_accumulation_steps:
        raise InputError(
            f"train_step: `grad_accumulation_steps` must be 1 or above and divide the minibatch of {batch_size} "
            f"examples; got {grad_accumulation_steps!r}."
        )
    asked, shards = batch_size // grad_accumulation_steps, num_shards()
    share = asked // shards
    if not is_separable or share <= _LARGEST or jax.default_backend() != "cpu":
        return asked
    return next((n * shards for n in range(_LARGEST, _LARGEST // 8, -1) if share % n == 0), asked)


def accumulate_gradients(
    loss_fn: LossFn, variables: Variables, batch: PyTree, size: int
) -> tuple[PyTree, Float[Array, ""], PyTree]:
    """Return the gradient with respect to the parameters of the summed loss, that sum, and the new state.

    Args:
        loss_fn: see `LossFn`.
        variables: parameters and state; each microbatch starts from the state that the one before it has left.
        batch: arrays with one first axis.
        size: number of examples of a microbatch; it divides the batch.
    """

    def step(params: PyTree, state: PyTree, microbatch: PyTree) -> tuple[tuple[PyTree, Array], PyTree]:
        def total(params: PyTree) -> tuple[Array, PyTree]:
            losses, new_state = loss_fn(Variables(params, state), microbatch)
            return jnp.sum(losses), new_state

        (loss, new_state), grads = jax.value_and_grad(total, has_aux=True)(params)
        return (grads, loss), new_state

    (grads, loss), state = _accumulate(step, variables.params, variables.state, batch, size)
    return grads, loss, state


def accumulate_loss(loss_fn: LossFn, variables: Variables, batch: PyTree, size: int) -> Float[Array, ""]:
    """Return the summed loss; its backward pass keeps the activations of one microbatch at a time."""

    @jax.checkpoint
    def step(params: PyTree, state: PyTree, microbatch: PyTree) -> tuple[Array, PyTree]:
        return jnp.sum(loss_fn(Variables(params, variables.state), microbatch)[0]), state

    return _accumulate(step, variables.params, (), batch, size)[0]


def _accumulate(
    step: Callable[[PyTree, PyTree, PyTree], tuple[PyTree, PyTree]],
    params: PyTree,
    state: PyTree,
    batch: PyTree,
    size: int,
) -> tuple[PyTree, PyTree]:
    """Return the sum of step(params, state, microbatch)[0] over the microbatches, and the last state."""
    microbatches = jax.tree.map(lambda x: x.reshape(-1, size, *x.shape[1:]), batch)

    def add(carry: tuple[PyTree, PyTree], microbatch: PyTree) -> tuple[tuple[PyTree, PyTree], None]:
        total, state = carry
        more, state = step(params, state, microbatch)
        return (jax.tree.map(jnp.add, total, more), state), None

    first = jax.tree.map(lambda x: x[0], microbatches)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(step, params, state, first)[0])
    return lax.scan(add, (zeros, state), microbatches)[0]
