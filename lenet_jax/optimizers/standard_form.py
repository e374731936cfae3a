"""Any Optax transformation in one form, and the parameters to measure with."""

import contextlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
import optax.contrib
from jaxtyping import Array, Float, Int

from lenet_jax.errors import InputError

Optimizer = optax.GradientTransformation | optax.MultiSteps
"""Any transformation of Optax, or of the user in its form."""


class UnfittedOptimizer(optax.GradientTransformation):
    """An optimizer whose schedule needs the lengths of the run, which `make_train` knows; it refuses to be used before.

    Args:
        refuse: raises the error of a use without them.
        fit: (num_steps, steps_per_epoch) -> the optimizer.
    """

    fit: Callable[[int, int], optax.GradientTransformation]

    def __new__(cls, refuse: Callable[..., Any], fit: Callable[..., Any]) -> "UnfittedOptimizer":
        """Make one of the two functions."""
        made = super().__new__(cls, refuse, refuse)
        made.fit = fit
        return made


def fit_to_run(optimizer: Optimizer, num_steps: int, steps_per_epoch: int) -> Optimizer:
    """Return an optimizer for a run of these lengths."""
    fit = getattr(optimizer, "fit", None) if isinstance(optimizer, UnfittedOptimizer) else None
    return optimizer if fit is None else fit(num_steps, steps_per_epoch)


def standard_form(optimizer: Optimizer) -> optax.GradientTransformationExtraArgs:
    """Return an optimizer that takes the model's parameters, and ignores extra arguments that it does not know.

    Args:
        optimizer: an Optax gradient transformation; also `optax.MultiSteps`, which is another class, and
            `optax.lookahead`, whose parameters are a pair: its slow ones are kept in the state.
    """
    if isinstance(optimizer, optax.MultiSteps):
        optimizer = optimizer.gradient_transformation()
    if optimizer.update.__module__ == optax.lookahead.__module__:
        optimizer = _with_slow_parameters(optimizer)
    return _ignoring_other_arguments(optimizer)


def _ignoring_other_arguments(optimizer: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    known = inspect.signature(optimizer.update).parameters
    takes_any = any(each.kind is each.VAR_KEYWORD for each in known.values())

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        given = extra if takes_any else {name: value for name, value in extra.items() if name in known}
        with _usual_promotion():
            return optimizer.update(updates, state, params, **given)

    def init(params: Any) -> Any:
        with _usual_promotion():
            return optimizer.init(params)

    return optax.GradientTransformationExtraArgs(init, update)


@contextlib.contextmanager
def _usual_promotion() -> Iterator[None]:
    """Promote dtypes and ranks as Optax is written for, whatever the user's own code is checked with."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


class SlowState(NamedTuple):
    """State of `optax.lookahead` with its slow parameters."""

    slow: optax.Params
    inner: Any


def _with_slow_parameters(lookahead: optax.GradientTransformation) -> optax.GradientTransformation:
    def init(params: optax.Params) -> SlowState:
        return SlowState(jax.tree.map(jnp.copy, params), lookahead.init(optax.LookaheadParams.init_synced(params)))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, SlowState]:
        pair = optax.LookaheadParams(fast=params, slow=state.slow)
        changes: Any
        changes, inner = lookahead.update(updates, state.inner, pair)
        return changes.fast, SlowState(optax.apply_updates(state.slow, changes.slow), inner)

    return optax.GradientTransformation(init, update)


def apply_optimizer(
    optimizer: Optimizer,
    opt_state: Any,
    params: Any,
    grads: Any,
    loss: Float[Array, ""],
    loss_fn: Callable[[Any], Float[Array, ""]],
) -> tuple[Any, Any]:
    """Return the updates of the parameters and the new state.

    The transformation gets what Optax's own take as extra arguments: `value`, `grad`, `value_fn`, `grad_fn`, `obj_fn`.

    Args:
        optimizer: any Optax gradient transformation.
        opt_state: its state.
        params: the parameters.
        grads: the gradient of the loss.
        loss: the loss at the parameters.
        loss_fn: parameters -> the same loss at others.
    """

    def value_fn(params: Any, *, obj_fn: Any = None, grad_fn: Any = None) -> Array:
        """Return the loss; a line search passes on the arguments that it does not know itself."""
        return loss_fn(params)

    extra = {
        "value": loss,
        "grad": grads,
        "value_fn": value_fn,
        "obj_fn": loss_fn,
        "grad_fn": lambda params, _=0: jax.grad(loss_fn)(params),
    }
    with jax.numpy_dtype_promotion("standard"):  # which Optax relies on: powers of floats by counts
        return standard_form(optimizer).update(grads, opt_state, params, **extra)


class AveragedState(NamedTuple):
    """State of `average_parameters`."""

    count: Int[Array, ""]  # updates done
    averaged: optax.Params


def average_parameters(decay: float) -> optax.GradientTransformationExtraArgs:
    """Keep an exponential moving average (EMA) of the parameters; pass the updates, to be the last, through unchanged.

    averaged = d * averaged + (1 - d) * parameters, with d = min(decay, (1 + t) / (10 + t)) after t updates, so that the
    initial parameters are soon forgotten. Source: Polyak and Juditsky 1992; the warm-up as in TensorFlow.

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


def check_averages(opt_state: Any) -> None:
    """Check that an optimizer's state has at most one moving average of each parameter.

    Raises:
        InputError: if it has several of one, of which evaluation could use one only.
    """
    is_average = lambda each: type(each) is AveragedState  # noqa: E731
    is_masked = lambda each: isinstance(each, optax.MaskedNode)  # noqa: E731
    averaged: set[Any] = set()
    for state in filter(is_average, jax.tree.leaves(opt_state, is_leaf=is_average)):
        leaves, _ = jax.tree.flatten_with_path(state.averaged, is_leaf=is_masked)
        paths = {path for path, leaf in leaves if not is_masked(leaf)}
        if paths & averaged:
            raise InputError(
                "optimizer: `ema_decay` must be given once; this optimizer keeps several moving averages of a "
                "parameter; leave it out of make_optimizer, or out of TrainerConfig."
            )
        averaged |= paths


# ---- parameters to measure with -------------------------------------------------------------------------------------


def evaluation_parameters(opt_state: Any, params: Any) -> Any:
    """Return the parameters to evaluate and to keep, which for some optimizers are not those that are trained.

    These are the moving average of `average_parameters`; x of `optax.contrib.schedule_free`; the slow ones of
    `optax.lookahead`; of `optax.contrib.sam` those without its perturbation.

    Args:
        opt_state: the optimizer's state.
        params: the parameters that are trained.
    """
    for state in jax.tree.leaves(opt_state, is_leaf=lambda each: type(each) in _MEASURED):
        if type(state) in _MEASURED:
            params = _replace(params, _MEASURED[type(state)](state, params))
    return params


def _replace(params: Any, measured: Any) -> Any:
    """Return parameters with those that a state has; a masked transformation has none of the others."""
    is_masked = lambda each: isinstance(each, optax.MaskedNode)  # noqa: E731
    return jax.tree.map(lambda new, old: old if is_masked(new) else new, measured, params, is_leaf=is_masked)


def _schedule_free(state: optax.contrib.ScheduleFreeState, params: Any) -> Any:
    b1 = state.b1

    def average(z: Any, y: Any) -> Any:
        return z if isinstance(z, optax.MaskedNode) else ((y - (1.0 - b1) * z) / b1).astype(y.dtype)

    return jax.tree.map(average, state.z, params, is_leaf=lambda each: isinstance(each, optax.MaskedNode))


def _unperturbed(state: optax.contrib.SAMState, params: Any) -> Any:
    if state.cache is None:
        return params
    return jax.tree.map(lambda kept, now: jnp.where(state.steps_since_sync == 0, now, kept), state.cache, params)


_MEASURED: dict[type, Callable[[Any, Any], Any]] = {
    AveragedState: lambda state, params: state.averaged,
    SlowState: lambda state, params: state.slow,
    optax.contrib.ScheduleFreeState: _schedule_free,
    optax.contrib.SAMState: _unperturbed,
}
