"""Learning rate schedules: a factor from 0 to 1 as a function of the minibatch iteration."""

from typing import Any

import optax


def make_schedule(config: Any, epoch_iterations: int, num_epochs: int) -> optax.Schedule | None:
    """Return the factor on the learning rate as a function of the iteration, counted from 0; None: always 1.

    Args:
        config: one of the schedule classes of `lenet_jax.config`; their times are in epochs.
        epoch_iterations: minibatch iterations an epoch.
        num_epochs: epochs of the whole run.
    """
    total = epoch_iterations * num_epochs
    match config.name:
        case "constant":
            return None
        case "cosine":
            warmup = min(_warmup(config, epoch_iterations), total - 1)
            decay = optax.cosine_decay_schedule(1.0, total - warmup, alpha=config.final_fraction)
            return _after_warmup(decay, warmup)
        case "step":
            warmup = _warmup(config, epoch_iterations)
            steps = {max(e * epoch_iterations - warmup, 0): config.factor for e in config.epochs}
            return _after_warmup(optax.piecewise_constant_schedule(1.0, steps), warmup)
        case "exponential":
            return optax.exponential_decay(1.0, epoch_iterations, config.epoch_factor)
    raise NotImplementedError(config.name)


def _warmup(config: Any, epoch_iterations: int) -> int:
    return round(config.warmup_epochs * epoch_iterations)


def _after_warmup(schedule: optax.Schedule, warmup: int) -> optax.Schedule:
    """Return a schedule that begins after so many iterations of linear growth from 0."""
    if warmup == 0:
        return schedule
    return optax.join_schedules([optax.linear_schedule(0.0, 1.0, warmup), schedule], [warmup])
