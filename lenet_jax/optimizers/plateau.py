"""Updates that become smaller when the validation has stopped improving."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
import optax.contrib
from jaxtyping import Array, Float

from lenet_jax.config.checks import Count, Fraction, NonNegative, NonNegativeInt


class PlateauState(NamedTuple):
    """State of `reduce_on_plateau`."""

    scale: Any  # of `optax.contrib.reduce_on_plateau`
    error: Float[Array, ""]  # of the last validation
    is_new: Array  # whether it was measured since the step before


def reduce_on_plateau(
    *,
    factor: Fraction = 0.1,
    patience: Count = 5,
    min_improvement: NonNegative = 1e-4,
    cooldown: NonNegativeInt = 0,
    min_scale: Fraction = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """Return a factor on the learning rate that is multiplied when the validation error has stopped improving.

    The error is that of what the objective monitors. See `optax.contrib.reduce_on_plateau`.

    Args:
        factor: above 0 and below 1.
        patience: validations without an improvement before the rate is reduced.
        min_improvement: an error is an improvement if it is below the best one by more than this fraction of it.
        cooldown: validations after a reduction that are not counted.
        min_scale: the factor is not reduced below this.
    """
    observe = optax.contrib.reduce_on_plateau(
        factor=factor, patience=patience, rtol=min_improvement, cooldown=cooldown, min_scale=min_scale
    ).update

    def init(params: optax.Params) -> PlateauState:
        state = optax.contrib.reduce_on_plateau().init(params)
        return PlateauState(state, jnp.asarray(jnp.inf, jnp.float32), jnp.asarray(False))

    def update(updates: Any, state: Any, params: Any = None, **_: Any) -> tuple[Any, Any]:
        observed: Any = observe(updates, state.scale, params, value=state.error)[1]
        scale: Any = jax.tree.map(lambda new, old: jnp.where(state.is_new, new, old), observed, state.scale)
        scaled = jax.tree.map(lambda each: (scale.scale * each).astype(each.dtype), updates)
        return scaled, PlateauState(scale, state.error, jnp.asarray(False))

    return optax.GradientTransformationExtraArgs(init, update)


def observe_validation(opt_state: Any, error: Float[Array, ""]) -> Any:
    """Return an optimizer's state that knows the error of a validation, the lower the better."""

    def observe(each: Any) -> Any:
        return each._replace(error=error, is_new=jnp.asarray(True)) if isinstance(each, PlateauState) else each

    return jax.tree.map(observe, opt_state, is_leaf=lambda each: isinstance(each, PlateauState))
