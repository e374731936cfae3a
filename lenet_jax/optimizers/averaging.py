"""A moving average of the parameters beside those that are trained."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int


class AveragedState(NamedTuple):
    """State of `average_parameters`."""

    count: Int[Array, ""]  # updates done
    averaged: optax.Params


def average_parameters(decay: float) -> optax.GradientTransformationExtraArgs:
    """Keep an exponential moving average of the parameters; the updates, to be the last ones, pass through unchanged.

    averaged = d * averaged + (1 - d) * parameters, with d = min(decay, (1 + t) / (10 + t)) after t updates, so that it
    soon forgets where it began. Source: Polyak and Juditsky 1992; the warm-up as in TensorFlow.

    Args:
        decay: 0 to below 1; 0.999 averages over about 1,000 updates.
    """

    def init(params: optax.Params) -> AveragedState:
        return AveragedState(jnp.zeros((), jnp.int32), jax.tree.map(jnp.copy, params))

    def update(updates: Any, state: Any, params: Any = None, **_: Any) -> tuple[Any, AveragedState]:
        t = state.count.astype(jnp.float32)
        d = jnp.minimum(decay, (1 + t) / (10 + t))
        new = optax.apply_updates(params, updates)
        averaged = jax.tree.map(lambda old, p: (d * old + (1 - d) * p).astype(p.dtype), state.averaged, new)
        return updates, AveragedState(state.count + 1, averaged)

    return optax.GradientTransformationExtraArgs(init, update)


def averaged_parameters(opt_state: optax.OptState) -> optax.Params | None:
    """Return the average of the parameters in an optimizer's state; None if it keeps none."""
    return optax.tree_utils.tree_get(opt_state, "averaged")
