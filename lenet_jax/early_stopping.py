"""Early stopping by patience, as in the Theano deep learning tutorials, on arrays: it jits, scans and vmaps.

The run looks at a number of minibatch iterations whatever happens: its patience. Each validation error below the best
so far is remembered; if it is better by a significant factor, patience grows to a multiple of the iteration. The run
stops after the first iteration that uses up the patience. Iterations are counted from 0.

Source: Theano deep learning tutorials, "Getting started", section "Early-stopping".
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from lenet_jax.config import EarlyStoppingConfig
from lenet_jax.types import EarlyStoppingState

_NEVER = 2**31 - 1


def init(config: EarlyStoppingConfig) -> EarlyStoppingState:
    """Return the state before the first iteration."""
    patience = config.patience if config.enabled else _NEVER
    return EarlyStoppingState(
        patience=jnp.asarray(patience, jnp.int32),
        best_error=jnp.asarray(jnp.inf, jnp.float32),
        best_iteration=jnp.asarray(-1, jnp.int32),
    )


def update(
    state: EarlyStoppingState, error: Float[Array, ""], iteration: Int[Array, ""], config: EarlyStoppingConfig
) -> EarlyStoppingState:
    """Take in the validation error measured after an iteration.

    Args:
        state: before.
        error: validation error, the less the better; NaN is never an improvement.
        iteration: the iteration just done, counted from 0.
        config: the rule's numbers.
    """
    better = error < state.best_error
    significant = error < state.best_error * jnp.float32(config.improvement_threshold)
    countable = iteration <= _NEVER // config.patience_increase
    multiple = jnp.where(countable, iteration * config.patience_increase, _NEVER)
    extended = jnp.maximum(state.patience, multiple)
    return EarlyStoppingState(
        patience=jnp.where(significant, extended, state.patience),
        best_error=jnp.where(better, error, state.best_error),
        best_iteration=jnp.where(better, iteration, state.best_iteration),
    )


def should_stop(state: EarlyStoppingState, iteration: Int[Array, ""]) -> Bool[Array, ""]:
    """Tell whether the run ends with this iteration, counted from 0."""
    return state.patience <= iteration


def validation_interval(num_batches: int, config: EarlyStoppingConfig) -> int:
    """Return the number of iterations from one validation to the next: an epoch, or less if patience is short."""
    return min(num_batches, max(config.patience // 2, 1)) if config.enabled else num_batches
