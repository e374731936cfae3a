"""Early stopping by patience, as in the Theano deep learning tutorials, as pure functions for `jit`, `scan` and `vmap`.

The patience of a run is the number of minibatch iterations that it trains in any case. Each validation error below the
best one so far is recorded; if it is better by a significant factor, the patience grows to a multiple of the current
iteration. The run stops after the first iteration that reaches the patience. Iterations are counted from 0.

Source: Theano deep learning tutorials, "Getting started", section "Early-stopping".
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from lenet_jax.config import EarlyStoppingConfig
from lenet_jax.types import StoppingRule

_NEVER = 2**31 - 1


class EarlyStoppingState(NamedTuple):
    """State of the stopping criterion."""

    patience: Int[Array, "..."]  # iterations before the run may stop
    best_error: Float[Array, "..."]
    best_iteration: Int[Array, "..."]  # the last iteration before that validation, counted from 0; -1: none yet
    own_rule: PyTree = ()  # state of the rule that replaces patience


def init(config: EarlyStoppingConfig, own_rule: StoppingRule | None = None) -> EarlyStoppingState:
    """Return the state before the first iteration.

    Args:
        config: the options of the stopping criterion.
        own_rule: the rule that replaces patience, if there is one.
    """
    patience = config.patience if config.enabled else _NEVER
    return EarlyStoppingState(
        patience=jnp.asarray(patience, jnp.int32),
        best_error=jnp.asarray(_no_error(), jnp.float32),
        best_iteration=jnp.asarray(-1, jnp.int32),
        own_rule=() if own_rule is None else jax.tree.map(jnp.asarray, own_rule.init()),
    )


def _no_error() -> float:
    """Return an error above all others: infinity, or the largest float where `jax_debug_infs` would report that."""
    debugs = jax.config.jax_debug_infs  # pyright: ignore[reportAttributeAccessIssue]
    return float(jnp.finfo(jnp.float32).max) if debugs else math.inf


def update(
    state: EarlyStoppingState, error: Float[Array, ""], iteration: Int[Array, ""], config: EarlyStoppingConfig
) -> EarlyStoppingState:
    """Return the state after a validation.

    Args:
        state: the state before the validation.
        error: the validation error, the lower the better; NaN is never an improvement.
        iteration: the last iteration before the validation, counted from 0.
        config: the options of the stopping criterion.
    """
    better = error < state.best_error
    best, threshold = state.best_error, jnp.float32(config.improvement_threshold)
    margin = jnp.where(best < 0, best * (2 - threshold), best * threshold)  # nearer to 0 is worse below 0
    significant = better & (error < margin) & (error < best - jnp.float32(config.min_delta))
    countable = iteration <= _NEVER // config.patience_increase
    multiple = jnp.where(countable, iteration * config.patience_increase, _NEVER)
    extended = jnp.maximum(state.patience, multiple)
    return state._replace(
        patience=jnp.where(significant, extended, state.patience),
        best_error=jnp.where(better, error, state.best_error),
        best_iteration=jnp.where(better, iteration, state.best_iteration),
    )


def should_stop(state: EarlyStoppingState, iteration: Int[Array, ""]) -> Bool[Array, ""]:
    """Return whether the run stops after an iteration.

    Args:
        state: the state after the last validation.
        iteration: the iteration, counted from 0.
    """
    return state.patience <= iteration


def validation_interval(num_batches: int, config: EarlyStoppingConfig) -> int:
    """Return the number of iterations between validations: an epoch, or half the patience if that is shorter.

    Args:
        num_batches: iterations per epoch.
        config: the options of the stopping criterion.
    """
    return min(num_batches, max(config.patience // 2, 1)) if config.enabled else num_batches
