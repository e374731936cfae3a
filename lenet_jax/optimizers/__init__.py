"""Optimizers: Optax gradient transformations built from the configuration, and the table of their names."""

from collections.abc import Callable
from typing import Any

import optax

from lenet_jax.config import ConstantScheduleConfig
from lenet_jax.optimizers.scaled_conjugate_gradient import scaled_conjugate_gradient
from lenet_jax.optimizers.schedules import make_schedule

Build = Callable[..., optax.GradientTransformation]


def _with_l2(weight_decay: Any, transformation: optax.GradientTransformation) -> optax.GradientTransformation:
    return optax.chain(optax.add_decayed_weights(weight_decay), transformation)


def _sgd(learning_rate: Any, weight_decay: Any) -> optax.GradientTransformation:
    return _with_l2(weight_decay, optax.sgd(learning_rate))


def _momentum(learning_rate: Any, momentum: Any, weight_decay: Any) -> optax.GradientTransformation:
    return _with_l2(weight_decay, optax.sgd(learning_rate, momentum=momentum))


def _nesterov(learning_rate: Any, momentum: Any, weight_decay: Any) -> optax.GradientTransformation:
    return _with_l2(weight_decay, optax.sgd(learning_rate, momentum=momentum, nesterov=True))


def _adam(learning_rate: Any, weight_decay: Any, b1: float, b2: float, eps: float) -> optax.GradientTransformation:
    return _with_l2(weight_decay, optax.adam(learning_rate, b1=b1, b2=b2, eps=eps))


def _adamw(learning_rate: Any, weight_decay: Any, b1: float, b2: float, eps: float) -> optax.GradientTransformation:
    return optax.adamw(learning_rate, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay)


def _rmsprop(
    learning_rate: Any, momentum: Any, weight_decay: Any, decay: float, eps: float
) -> optax.GradientTransformation:
    return _with_l2(weight_decay, optax.rmsprop(learning_rate, decay=decay, eps=eps, momentum=momentum))


OPTIMIZERS: dict[str, Build] = {
    "sgd": _sgd,
    "momentum": _momentum,
    "nesterov": _nesterov,
    "adam": _adam,
    "adamw": _adamw,
    "rmsprop": _rmsprop,
    "scaled_conjugate_gradient": scaled_conjugate_gradient,
}
"""Name -> function of the optimizer's configuration keys."""


TRACED = ("learning_rate", "momentum", "weight_decay")
"""Configuration keys that an optimizer keeps in its state: another value does not compile again."""


def hyperparameters(config: Any) -> dict[str, float]:
    """Return the values of an optimizer's configuration that it keeps in its state, by name."""
    return {name: getattr(config, name) for name in TRACED if hasattr(config, name)}


def make_optimizer(
    config: Any, schedule: Any = None, *, epoch_iterations: int = 1, num_epochs: int = 1
) -> optax.GradientTransformation:
    """Build an optimizer whose learning rate, momentum and weight decay are values in its state.

    `init` sets them from `config`. They can be replaced in the state without compiling again, which is what the
    `hyperparameters` of `make_train` do: optax.tree_utils.tree_set(state, learning_rate=...).

    Args:
        config: one of the optimizer classes of `lenet_jax.config`.
        schedule: one of its schedule classes, a factor on the learning rate; None: constant.
        epoch_iterations: minibatch iterations an epoch, the unit of the schedule.
        num_epochs: epochs of the whole run.
    """
    values = {key: value for key, value in vars(config).items() if key != "name"}
    constants = set(values) - set(TRACED)
    optimizer = optax.inject_hyperparams(OPTIMIZERS[config.name], static_args=constants)(**values)
    factor = make_schedule(schedule or ConstantScheduleConfig(), epoch_iterations, num_epochs)
    return optimizer if factor is None else optax.chain(optimizer, optax.scale_by_schedule(factor))
