"""Scaled conjugate gradient: second-order steps without a line search, for full-batch losses."""

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Bool, Float, Int
from optax import tree_utils

from lenet_jax.config.checks import Positive
from lenet_jax.errors import InputError, unknown_name

Curvature = Callable[..., Array]  # (value_fn, params, gradient, direction) -> second derivative along the direction


class ScaledConjugateGradientState(NamedTuple):
    """State of the optimizer; the comments give the symbols of Møller's paper."""

    count: Int[Array, ""]  # k, steps so far
    direction: Any  # p
    gradient: Any  # -r, at the parameters where the direction was chosen
    slope: Float[Array, ""]  # mu = p.r
    curvature: Float[Array, ""]  # delta = p.Hp, including the damping
    damping: Float[Array, ""]  # lambda
    last_damping: Float[Array, ""]  # lambda bar, the damping that `curvature` already includes
    success: Bool[Array, ""]  # whether the last step was accepted


def scaled_conjugate_gradient(
    *,
    initial_damping: Positive = 1e-6,
    curvature: Literal["exact", "difference"] = "exact",
    difference_step: Positive = 1e-4,
) -> optax.GradientTransformationExtraArgs:
    """Return Møller's scaled conjugate gradient as an Optax transformation.

    Each update moves along a conjugate direction to the minimum of a quadratic model, which has the slope and the
    curvature of the loss along that direction. Damping makes the curvature positive; it increases after a step that
    lowers the loss less than the model predicts. A step that would increase the loss is rejected: the update is zero,
    and the next step is shorter. There is no learning rate.

    The loss must be the same function in every update, so the optimizer needs full batches. Like Optax's line searches,
    `update` has two additional arguments: `optimizer.update(grads, state, params, value=loss, value_fn=loss_fn)`. Here
    `loss_fn` maps parameters to the loss, and `value` and `grads` are its value and gradient at `params`. An update
    calls `loss_fn` for the curvature, and once more for the loss after the step.

    Source: M. F. Møller 1993, "A scaled conjugate gradient algorithm for fast supervised learning", Neural Networks
    6(4), the nine steps of section 4.

    Args:
        initial_damping: lambda of the first step, above 0; at most 1e-6 in the paper.
        curvature: "exact": the second derivative along the direction, by forward-mode differentiation. "difference":
            Møller's one-sided difference of two gradients, which suffers from cancellation in float32.
        difference_step: sigma, the step of that difference, above 0; at most 1e-4 in the paper.

    Raises:
        InputError: if an argument is out of its range; from `update`, if `params`, `value` or `value_fn` is missing.

    >>> optimizer = scaled_conjugate_gradient()
    """
    for name, value in (("initial_damping", initial_damping), ("difference_step", difference_step)):
        if isinstance(value, int | float) and not value > 0:  # a traced one was checked before
            raise InputError(f"scaled_conjugate_gradient: `{name}` must be above 0; got {value!r}.")
    methods: dict[str, Curvature] = {
        "exact": _second_derivative,
        "difference": functools.partial(_difference_of_gradients, step=difference_step),
    }
    if curvature not in methods:
        raise unknown_name("scaled_conjugate_gradient curvature", curvature, methods)

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
            lambda: _new_direction(methods[curvature], value_fn, params, updates, state),
            lambda: (state.direction, state.slope, state.curvature),
        )
        return _step(value, value_fn, params, updates, state._replace(direction=direction, slope=slope), delta)

    return optax.GradientTransformationExtraArgs(init, update)


def _new_direction(
    curvature: Curvature, value_fn: Callable, params: Any, gradient: Any, state: ScaledConjugateGradientState
) -> tuple[Any, Array, Array]:
    """Return direction, slope and curvature after an accepted step (steps 7 and 2 of the paper)."""
    num_params = sum(leaf.size for leaf in jax.tree.leaves(params))
    change = tree_utils.tree_sub(gradient, state.gradient)
    beta = _divide(tree_utils.tree_vdot(gradient, change), state.slope)
    beta = jnp.where(state.count % num_params == 0, jnp.zeros_like(beta), beta)
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
    """Return the step along the direction, zero if it increases the loss, and the new damping (steps 3 to 8)."""
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
    success = comparison >= 0  # false if the new loss is NaN

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
    """Return p.Hp; two nested forward-mode derivatives avoid the memory of a backward pass."""

    def slope(params: Any) -> Array:
        return jax.jvp(value_fn, (params,), (direction,))[1]

    return jax.jvp(slope, (params,), (direction,))[1]


def _difference_of_gradients(value_fn: Callable, params: Any, gradient: Any, direction: Any, *, step: float) -> Array:
    norm = jnp.sqrt(tree_utils.tree_vdot(direction, direction))
    sigma = _divide(jnp.full_like(norm, step), norm)
    ahead = jax.grad(value_fn)(jax.tree.map(lambda w, p: w + sigma * p, params, direction))
    return _divide(tree_utils.tree_vdot(direction, tree_utils.tree_sub(ahead, gradient)), sigma)


def _divide(a: Any, b: Any) -> Array:
    """Return a / b, and 0 where b is 0, so that the step at a stationary point is zero."""
    return jnp.where(b == 0, jnp.zeros_like(b), a / jnp.where(b == 0, jnp.ones_like(b), b))


def _dtype(params: Any) -> Any:
    return jnp.result_type(*jax.tree.leaves(params), jnp.float32)
