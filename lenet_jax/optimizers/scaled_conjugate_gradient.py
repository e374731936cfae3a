"""Scaled conjugate gradient: second-order steps without a line search, for losses of the whole training set."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Bool, Float, Int
from optax import tree_utils

from lenet_jax.errors import InputError, unknown_name

Curvature = Callable[..., Array]  # (value_fn, params, gradient, direction) -> second derivative along the direction


class ScaledConjugateGradientState(NamedTuple):
    """The names are those of Møller's paper, with their symbols."""

    count: Int[Array, ""]  # k, steps so far
    direction: Any  # p
    gradient: Any  # -r, where the direction was chosen
    slope: Float[Array, ""]  # mu = p.r
    curvature: Float[Array, ""]  # delta = p.Hp, with the damping in it
    damping: Float[Array, ""]  # lambda
    last_damping: Float[Array, ""]  # lambda bar, what is in `curvature` already
    success: Bool[Array, ""]  # whether the last step was taken


def scaled_conjugate_gradient(
    *, initial_damping: float = 1e-6, curvature: str = "exact", difference_step: float = 1e-4
) -> optax.GradientTransformationExtraArgs:
    """Return Møller's scaled conjugate gradient as an Optax transformation.

    Each update goes along a conjugate direction to the minimum of the quadratic that has the loss's slope and curvature
    there. The curvature is damped until it is positive, and more after a step whose loss is worse than the quadratic
    foretold. A step that would raise the loss is not taken: the update is zero and the next one is shorter. There is
    no learning rate.

    The loss must be the same function in every update, so it is for full batches. `update` needs two arguments more
    than most, as Optax's line searches do: `optimizer.update(grads, state, params, value=loss, value_fn=loss_fn)`, with
    `loss_fn(params)` the loss whose value and gradient at `params` are `value` and `grads`. An update calls it for the
    curvature and once more for the loss after the step.

    Source: M. F. Møller 1993, "A scaled conjugate gradient algorithm for fast supervised learning", Neural Networks
    6(4), the nine steps of section 4.

    Args:
        initial_damping: lambda of the first step, above 0; the paper: at most 1e-6.
        curvature: "exact", the second derivative along the direction by forward differentiation; or "difference",
            Møller's one-sided difference of two gradients, which has the error of a difference of float32 numbers.
        difference_step: sigma, the length of that difference, above 0; the paper: at most 1e-4.

    Raises:
        InputError: if an argument breaks its rule; by `update`, if `params`, `value` or `value_fn` is missing.

    >>> optimizer = scaled_conjugate_gradient()
    """
    for name, value in (("initial_damping", initial_damping), ("difference_step", difference_step)):
        if not value > 0:
            raise InputError(f"scaled_conjugate_gradient: `{name}` must be above 0; got {value!r}.")
    kinds: dict[str, Curvature] = {
        "exact": _second_derivative,
        "difference": functools.partial(_difference_of_gradients, step=difference_step),
    }
    if curvature not in kinds:
        raise unknown_name("scaled_conjugate_gradient curvature", curvature, kinds)

    def init(params: Any) -> ScaledConjugateGradientState:
        zero = jnp.zeros((), _dtype(params))
        zeros = tree_utils.tree_zeros_like(params)
        return ScaledConjugateGradientState(
            count=jnp.zeros((), jnp.int32),
            direction=zeros,
            gradient=zeros,
            slope=zero,
            curvature=zero,
            damping=zero + initial_damping,
            last_damping=zero,
            success=jnp.asarray(True),
        )

    def update(
        updates: Any,
        state: Any,
        params: Any = None,
        *,
        value: Any = None,
        value_fn: Callable[[Any], Array] | None = None,
        **_: Any,
    ) -> tuple[Any, ScaledConjugateGradientState]:
        if params is None or value is None or value_fn is None:
            raise InputError(
                "scaled_conjugate_gradient: `update` must get params, value and value_fn; call "
                "optimizer.update(grads, state, params, value=loss, value_fn=loss_fn)."
            )
        direction, slope, delta = lax.cond(
            state.success,
            lambda: _new_direction(kinds[curvature], value_fn, params, updates, state),
            lambda: (state.direction, state.slope, state.curvature),
        )
        return _step(value, value_fn, params, updates, state._replace(direction=direction, slope=slope), delta)

    return optax.GradientTransformationExtraArgs(init, update)


def _new_direction(
    curvature: Curvature, value_fn: Callable, params: Any, gradient: Any, state: ScaledConjugateGradientState
) -> tuple[Any, Array, Array]:
    """Return direction, slope and curvature after a step that was taken (steps 7 and 2 of the paper)."""
    num_unknowns = sum(leaf.size for leaf in jax.tree.leaves(params))
    change = tree_utils.tree_sub(gradient, state.gradient)
    beta = _divide(tree_utils.tree_vdot(gradient, change), state.slope)
    beta = jnp.where(state.count % num_unknowns == 0, jnp.zeros_like(beta), beta)
    direction = jax.tree.map(lambda g, p: beta * p - g, gradient, state.direction)
    slope = -jnp.asarray(tree_utils.tree_vdot(direction, gradient))
    return direction, slope, curvature(value_fn, params, gradient, direction)


def _step(
    value: Any,
    value_fn: Callable,
    params: Any,
    gradient: Any,
    state: ScaledConjugateGradientState,
    delta: Array,
) -> tuple[Any, ScaledConjugateGradientState]:
    """Go along the direction, if that lowers the loss, and adapt the damping (steps 3 to 8 of the paper)."""
    length = tree_utils.tree_vdot(state.direction, state.direction)
    damping = state.damping
    delta = delta + (damping - state.last_damping) * length  # step 3
    negative = delta <= 0  # step 4
    last_damping = jnp.where(negative, 2 * (damping - _divide(delta, length)), state.last_damping)
    delta = jnp.where(negative, -delta + damping * length, delta)
    damping = jnp.where(negative, last_damping, damping)

    alpha = _divide(state.slope, delta)  # step 5
    step = jax.tree.map(lambda p: alpha * p, state.direction)
    gain = value - value_fn(optax.apply_updates(params, step))
    comparison = _divide(2 * gain, alpha * state.slope)  # step 6
    success = comparison >= 0  # not if the new loss is NaN

    new_damping = jnp.where(comparison >= 0.75, damping / 4, damping)  # steps 7 and 8
    shortfall = jnp.where(jnp.isfinite(comparison), 1 - comparison, 2)
    new_damping = jnp.where(comparison >= 0.25, new_damping, damping + _divide(delta * shortfall, length))
    updates = jax.tree.map(lambda s: jnp.where(success, s, jnp.zeros_like(s)), step)
    return updates, state._replace(
        count=state.count + 1,
        gradient=gradient,
        curvature=delta,
        damping=new_damping,
        last_damping=jnp.where(success, jnp.zeros_like(damping), damping),
        success=success,
    )


def _second_derivative(value_fn: Callable, params: Any, gradient: Any, direction: Any) -> Array:
    """Return p.Hp; the second derivative along a line needs no backward pass, and so none of its memory."""

    def slope(params: Any) -> Array:
        return jax.jvp(value_fn, (params,), (direction,))[1]

    return jax.jvp(slope, (params,), (direction,))[1]


def _difference_of_gradients(value_fn: Callable, params: Any, gradient: Any, direction: Any, *, step: float) -> Array:
    norm = jnp.sqrt(tree_utils.tree_vdot(direction, direction))
    sigma = _divide(jnp.full_like(norm, step), norm)
    ahead = jax.grad(value_fn)(jax.tree.map(lambda w, p: w + sigma * p, params, direction))
    return _divide(tree_utils.tree_vdot(direction, tree_utils.tree_sub(ahead, gradient)), sigma)


def _divide(a: Any, b: Any) -> Array:
    """Return a / b, 0 where b is 0: at a minimum there is nowhere to go."""
    return jnp.where(b == 0, jnp.zeros_like(b), a / jnp.where(b == 0, jnp.ones_like(b), b))


def _dtype(params: Any) -> Any:
    return jnp.result_type(*jax.tree.leaves(params), jnp.float32)
