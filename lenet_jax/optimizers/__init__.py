"""Optimizers: Optax gradient transformations built from the configuration, and the table of their names."""

from collections.abc import Callable
from typing import Any

import jax
import optax

from lenet_jax.config import ConstantScheduleConfig
from lenet_jax.optimizers.averaging import average_parameters, averaged_parameters
from lenet_jax.optimizers.scaled_conjugate_gradient import scaled_conjugate_gradient
from lenet_jax.optimizers.schedules import make_schedule

__all__ = [
    "OPTIMIZERS",
    "TRACED",
    "average_parameters",
    "averaged_parameters",
    "hyperparameters",
    "make_optimizer",
    "scaled_conjugate_gradient",
]

Build = Callable[..., optax.GradientTransformation]


def _kernels(params: Any) -> Any:
    """Tell which parameters decay: those with inputs and outputs, not biases and the scales of a normalization."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def _with_l2(weight_decay: Any, transformation: optax.GradientTransformation) -> optax.GradientTransformation:
    return optax.chain(optax.add_decayed_weights(weight_decay, _kernels), transformation)


def _sgd(learning_rate: Any, weight_decay: Any) -> optax.GradientTransformation:
    return _with_l2(weight_decay, optax.sgd(learning_rate))


def _momentum(learning_rate: Any, momentum: Any, weight_decay: Any) -> optax.GradientTransformation:
    return _with_l2(weight_decay, optax.sgd(learning_rate, momentum=momentum))


def _nesterov(learning_rate: Any, momentum: Any, weight_decay: Any) -> optax.GradientTransformation:
    return _with_l2(weight_decay, optax.sgd(learning_rate, momentum=momentum, nesterov=True))


def _adam(learning_rate: Any, weight_decay: Any, b1: float, b2: float, eps: float) -> optax.GradientTransformation:
    return _with_l2(weight_decay, optax.adam(learning_rate, b1=b1, b2=b2, eps=eps))


def _adamw(learning_rate: Any, weight_decay: Any, b1: float, b2: float, eps: float) -> optax.GradientTransformation:
    return optax.adamw(learning_rate, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay, mask=_kernels)


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
    config: Any,
    schedule: Any = None,
    *,
    epoch_iterations: int = 1,
    num_epochs: int = 1,
    clip_norm: float | None = None,
    ema_decay: float | None = None,
) -> optax.GradientTransformation:
    """Build an optimizer whose learning rate, momentum and weight decay are values in its state.

    `init` sets them from `config`. They can be replaced in the state without compiling again, which is what the
    `hyperparameters` of `make_train` do: optax.tree_utils.tree_set(state, learning_rate=...).

    Args:
        config: one of the optimizer classes of `lenet_jax.config`.
        schedule: one of its schedule classes, a factor on the learning rate; None: constant.
        epoch_iterations: minibatch iterations an epoch, the unit of the schedule.
        num_epochs: epochs of the whole run.
        clip_norm: gradients with a larger Euclidean norm, over all parameters, are scaled to it (Pascanu et al. 2013,
            algorithm 1).
        ema_decay: of a moving average of the parameters that is kept in the state; see `average_parameters`.
    """
    values = {key: value for key, value in vars(config).items() if key != "name"}
    constants = set(values) - set(TRACED)
    optimizer = optax.inject_hyperparams(OPTIMIZERS[config.name], static_args=constants)(**values)
    factor = make_schedule(schedule or ConstantScheduleConfig(), epoch_iterations, num_epochs)
    parts = [
        None if clip_norm is None else optax.clip_by_global_norm(clip_norm),
        optimizer,
        None if factor is None else optax.scale_by_schedule(factor),
        None if ema_decay is None else average_parameters(ema_decay),
    ]
    parts = [part for part in parts if part is not None]
    return optimizer if len(parts) == 1 else optax.chain(*parts)
