"""Optimizers: Optax gradient transformations whose hyperparameters are values of the program, not constants in it."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from lenet_jax import components
from lenet_jax.config.checks import Decay, NonNegative, Positive
from lenet_jax.errors import InputError, unknown_name
from lenet_jax.optimizers.scaled_conjugate_gradient import scaled_conjugate_gradient
from lenet_jax.optimizers.standard_form import Optimizer, UnfittedOptimizer, average_parameters, standard_form

__all__ = [
    "adam",
    "adamw",
    "average_parameters",
    "chain_optimizer",
    "hyperparameters",
    "inject",
    "make_optimizer",
    "rmsprop",
    "scaled_conjugate_gradient",
    "set_hyperparameters",
    "sgd",
]

# ---- those that files in conf/ name ---------------------------------------------------------------------------------


def sgd(
    *,
    learning_rate: Positive = 0.1,
    momentum: Decay | None = None,
    nesterov: bool = False,
    weight_decay: NonNegative = 0.0,
) -> optax.GradientTransformation:
    """Return stochastic gradient descent, with momentum if it is given.

    Args:
        learning_rate: 0.01 to 0.5 without momentum, 0.001 to 0.1 with it.
        momentum: decay of the sum of the gradients (Polyak 1964); None: no momentum.
        nesterov: whether the momentum is Nesterov's (Sutskever et al. 2013, section 2).
        weight_decay: L2 penalty, added to the gradient; 1e-5 to 1e-3. Biases and scales do not decay.
    """
    return _with_l2(weight_decay, optax.sgd(learning_rate, momentum=momentum, nesterov=nesterov))


def adam(
    *,
    learning_rate: Positive = 0.001,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: Positive = 1e-8,
    weight_decay: NonNegative = 0.0,
) -> optax.GradientTransformation:
    """Return Adam (Kingma and Ba 2015, algorithm 1).

    Args:
        learning_rate: 1e-4 to 3e-3.
        b1: decay of the mean of the gradient.
        b2: decay of the mean of its square.
        eps: added to the root of that mean.
        weight_decay: L2 penalty, added to the gradient; for decoupled decay use `adamw`.
    """
    return _with_l2(weight_decay, optax.adam(learning_rate, b1=b1, b2=b2, eps=eps))


def adamw(
    *,
    learning_rate: Positive = 0.001,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: Positive = 1e-8,
    weight_decay: NonNegative = 0.01,
) -> optax.GradientTransformation:
    """Return Adam with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2).

    Args:
        learning_rate: 1e-4 to 3e-3.
        b1: decay of the mean of the gradient.
        b2: decay of the mean of its square.
        eps: added to the root of that mean.
        weight_decay: subtracted from the weights in each step, times the learning rate. Biases and scales do not decay.
    """
    return optax.adamw(learning_rate, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay, mask=_weight_decay_mask)


def rmsprop(
    *,
    learning_rate: Positive = 0.001,
    decay: Decay = 0.9,
    eps: Positive = 1e-8,
    momentum: Decay = 0.0,
    weight_decay: NonNegative = 0.0,
) -> optax.GradientTransformation:
    """Return RMSProp (Tieleman and Hinton 2012, lecture 6.5).

    Args:
        learning_rate: 1e-4 to 1e-2.
        decay: decay of the mean of the squared gradient.
        eps: added to the root of that mean.
        momentum: decay of the sum of the updates.
        weight_decay: L2 penalty, added to the gradient.
    """
    return _with_l2(weight_decay, optax.rmsprop(learning_rate, decay=decay, eps=eps, momentum=momentum))


def _weight_decay_mask(params: Any) -> Any:
    """Return which parameters decay: kernels, not biases and the scales of a normalization."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def _with_l2(weight_decay: Any, transformation: optax.GradientTransformation) -> optax.GradientTransformation:
    return optax.chain(optax.add_decayed_weights(weight_decay, _weight_decay_mask), transformation)


# ---- hyperparameters in the state -----------------------------------------------------------------------------------


def hyperparameters(options: Mapping[str, Any]) -> dict[str, float]:
    """Return those of an optimizer's options that `make_optimizer` keeps in its state, by name: all floats."""
    return {name: value for name, value in options.items() if isinstance(value, float)}


def inject(
    function: Callable[..., optax.GradientTransformation], options: Mapping[str, Any]
) -> optax.GradientTransformation:
    """Return function(**options), with its `hyperparameters` as values in the state.

    They can be replaced in the state without recompiling, which is what the `hyperparameters` of `make_train` do.
    """
    constants = set(options) - set(hyperparameters(options))
    return optax.inject_hyperparams(function, static_args=constants)(**options)


def make_optimizer(
    name: str = "sgd",
    *,
    schedule: str | optax.Schedule | None = None,
    num_steps: int | None = None,
    steps_per_epoch: int | None = None,
    clip_norm: float | None = None,
    ema_decay: float | None = None,
    **options: Any,
) -> optax.GradientTransformation:
    """Build an optimizer by name; its float options are values in its state, which `hyperparameters` reach.

    Args:
        name: a file of `conf/optimizer`: sgd, momentum, nesterov, adam, adamw, rmsprop, scaled_conjugate_gradient.
        schedule: a factor on the learning rate: a file of `conf/schedule` with its default options, or a function of
            the iteration; None: 1.
        num_steps: iterations of the run, for a schedule by name; None: `make_train` supplies the lengths of its run.
        steps_per_epoch: iterations an epoch; None: likewise.
        clip_norm: gradients with a larger Euclidean norm are scaled to it.
        ema_decay: decay of a moving average of the parameters, which evaluation then uses.
        **options: of the optimizer, as `lenet_jax.optimizers` has them.

    Raises:
        InputError: if a name or an option is unknown or out of its range, or one of two lengths is missing; by the
            optimizer itself, if its schedule lacks the lengths of the run.

    >>> optimizer = make_optimizer("momentum", learning_rate=0.05)
    """
    optimizer = inject(*components.function_and_options(components.built_in_component("optimizer", name, options)))
    around: Any = {"clip_norm": clip_norm, "ema_decay": ema_decay}
    if not isinstance(schedule, str):
        return chain_optimizer(optimizer, schedule=schedule, **around)
    node = components.built_in_component("schedule", schedule, {})

    def fit(num_steps: int, steps_per_epoch: int) -> optax.GradientTransformation:
        factor = components.build(node, num_steps=num_steps, steps_per_epoch=steps_per_epoch)
        return chain_optimizer(optimizer, schedule=factor, **around)

    def refuse(*_: Any, **__: Any) -> Any:
        raise InputError(
            f"make_optimizer: `num_steps` and `steps_per_epoch` must be given with schedule={schedule!r} outside of "
            f"make_train, or inside of another transformation; got {num_steps} and {steps_per_epoch}; "
            "lenet_jax.train_plan.plan_run has them."
        )

    if num_steps is not None and steps_per_epoch is not None:
        return fit(num_steps, steps_per_epoch)
    if num_steps is not None or steps_per_epoch is not None:
        refuse()
    return UnfittedOptimizer(refuse, fit)


def set_hyperparameters(opt_state: Any, values: Mapping[str, Any]) -> Any:
    """Return an optimizer's state with other values of the hyperparameters that `optax.inject_hyperparams` keeps there.

    Raises:
        InputError: if it keeps none of such a name, or one that a schedule sets in each step.
    """
    if not isinstance(values, Mapping):
        raise InputError(f"`hyperparameters` must be values by name, {{}} for the optimizer's own; got {values!r}.")
    states = list(_injected(opt_state))
    valid = sorted({name for state in states for name in state.hyperparams})
    scheduled = {name for state in states for name in getattr(state, "hyperparams_states", ())}
    for name in values:
        if not valid:
            raise InputError(
                f"`hyperparameters` must be empty for an optimizer that keeps none in its state; got {name!r}; "
                "build it with make_optimizer or optax.inject_hyperparams."
            )
        if name not in valid:
            raise unknown_name("hyperparameters", name, valid)
        if name in scheduled:
            raise InputError(
                f"`hyperparameters` must not hold {name!r}, which a schedule of this optimizer sets in each step; give "
                "the optimizer a number for it."
            )

    def replace(state: Any) -> Any:
        if not _is_injected(state):
            return state
        own = {name: jnp.asarray(values[name], jnp.float32) for name in state.hyperparams if name in values}
        inner = jax.tree.map(replace, state.inner_state, is_leaf=_is_injected)
        return state._replace(hyperparams={**state.hyperparams, **own}, inner_state=inner)

    return jax.tree.map(replace, opt_state, is_leaf=_is_injected)


def _is_injected(state: Any) -> bool:
    return isinstance(getattr(state, "hyperparams", None), dict) and hasattr(state, "inner_state")


def _injected(opt_state: Any) -> Iterator[Any]:
    for state in jax.tree.leaves(opt_state, is_leaf=_is_injected):
        if _is_injected(state):
            yield state
            yield from _injected(state.inner_state)


def chain_optimizer(
    optimizer: Optimizer,
    *,
    schedule: optax.Schedule | optax.GradientTransformation | None = None,
    clip_norm: float | None = None,
    ema_decay: float | None = None,
) -> optax.GradientTransformation:
    """Return an optimizer with what the trainer puts around it.

    Args:
        optimizer: of the gradients.
        schedule: iteration -> factor on its updates; or a transformation of them, as `plateau.reduce_on_plateau`; None:
            the factor is 1.
        clip_norm: gradients with a larger Euclidean norm, over all parameters, are scaled to it (Pascanu et al. 2013,
            algorithm 1).
        ema_decay: decay of a moving average of the parameters that is kept in the state; see `average_parameters`.
    """
    parts = [
        None if clip_norm is None else optax.clip_by_global_norm(clip_norm),
        standard_form(optimizer),
        optax.scale_by_schedule(schedule) if callable(schedule) else schedule,
        None if ema_decay is None else average_parameters(ema_decay),
    ]
    parts = [part for part in parts if part is not None]
    return parts[0] if len(parts) == 1 else optax.chain(*parts)
