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
            warmup = min(round(config.warmup_epochs * epoch_iterations), total - 1)
            decay = optax.cosine_decay_schedule(1.0, total - warmup, alpha=config.final_fraction)
            if warmup == 0:
                return decay
            return optax.join_schedules([optax.linear_schedule(0.0, 1.0, warmup), decay], [warmup])
        case "step":
            return optax.piecewise_constant_schedule(1.0, {e * epoch_iterations: config.factor for e in config.epochs})
        case "exponential":
            return optax.exponential_decay(1.0, epoch_iterations, config.epoch_factor)
    raise NotImplementedError(config.name)
