"""Nonlinear conjugate gradient."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from lenet_jax.config.checks import Count


class ConjugateState(NamedTuple):
    """State of `scale_by_polak_ribiere`."""

    direction: Any  # of the step before; zeros at first
    gradient: Any  # there
    squared_norm: Float[Array, ""]  # of that gradient; 0 at first


def conjugate_gradient(*, max_linesearch_steps: Count = 20) -> optax.GradientTransformationExtraArgs:
    """Return nonlinear conjugate gradient with a line search, for the whole training set as one batch.

    The direction is Polak and Ribiere's, restarted along the gradient where its factor would be negative or it would
    lead uphill; the step along it satisfies the strong Wolfe conditions (Nocedal and Wright 2006, algorithms 5.4, 3.5
    and 3.6, "PR+").

    Args:
        max_linesearch_steps: evaluations of loss and gradient in a step, at most.
    """
    search = optax.scale_by_zoom_linesearch(
        max_linesearch_steps=max_linesearch_steps, curv_rtol=0.1, initial_guess_strategy="keep"
    )
    return optax.chain(scale_by_polak_ribiere(), optax.scale(-1.0), search)


def scale_by_polak_ribiere() -> optax.GradientTransformation:
    """Return the transformation of a gradient into the direction of conjugate gradient, uphill as the gradient is."""

    def init(params: Any) -> ConjugateState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return ConjugateState(zeros, zeros, _dot(zeros, zeros))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        squared_norm = _dot(updates, updates)
        change = squared_norm - _dot(updates, state.gradient)
        is_first = state.squared_norm == 0
        factor = jnp.where(is_first, 0.0, jnp.maximum(change / jnp.where(is_first, 1.0, state.squared_norm), 0.0))
        direction = jax.tree.map(lambda g, d: g + factor.astype(g.dtype) * d, updates, state.direction)
        is_downhill = _dot(direction, updates) > 0  # of the negative direction
        direction = jax.tree.map(lambda d, g: jnp.where(is_downhill, d, g), direction, updates)
        return direction, ConjugateState(direction, updates, squared_norm)

    return optax.GradientTransformation(init, update)


def _dot(one: Any, other: Any) -> Float[Array, ""]:
    return sum(jax.tree.leaves(jax.tree.map(jnp.vdot, one, other)), start=jnp.zeros((), jnp.float32))
