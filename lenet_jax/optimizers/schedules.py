"""Learning rate schedules: a factor from 0 to 1 as a function of the minibatch iteration, counted from 0.

A run supplies `num_steps`, its iterations at most, and `steps_per_epoch`.
"""

import optax

from lenet_jax.config.checks import Counts, Fraction, NonNegative


def constant() -> None:
    """Keep the learning rate as it is, in every step."""


def cosine(
    *,
    num_steps: int,
    steps_per_epoch: int,
    warmup_epochs: NonNegative = 0.0,
    final_fraction: Fraction = 0.0,
) -> optax.Schedule:
    """Return half a cosine over the whole run, after a linear warm-up (Loshchilov and Hutter 2017).

    Args:
        num_steps: iterations of the run.
        steps_per_epoch: iterations an epoch.
        warmup_epochs: epochs of linear growth from 0.
        final_fraction: of the learning rate, reached in the last step.
    """
    warmup = min(round(warmup_epochs * steps_per_epoch), num_steps - 1)
    decay = optax.cosine_decay_schedule(1.0, num_steps - warmup, alpha=final_fraction)
    return _after_warmup(decay, warmup)


def step(
    *, steps_per_epoch: int, epochs: Counts = (10, 15), factor: Fraction = 0.1, warmup_epochs: NonNegative = 0.0
) -> optax.Schedule:
    """Return a factor that is multiplied by `factor` once each of some epochs is done, after a linear warm-up.

    Args:
        steps_per_epoch: iterations an epoch.
        epochs: the factor applies once that many epochs are done; those that end in the warm-up, once that is over.
        factor: 0 to 1.
        warmup_epochs: epochs of linear growth from 0.
    """
    warmup = round(warmup_epochs * steps_per_epoch)
    boundaries: dict[int, float] = {}
    for boundary in (max(e * steps_per_epoch - warmup, 0) for e in epochs):  # several of them may be one
        boundaries[boundary] = boundaries.get(boundary, 1.0) * factor
    return _after_warmup(optax.piecewise_constant_schedule(1.0, boundaries), warmup)


def exponential(*, steps_per_epoch: int, epoch_factor: Fraction = 0.95) -> optax.Schedule:
    """Return a factor that is multiplied by `epoch_factor` an epoch, smoothly.

    Args:
        steps_per_epoch: iterations an epoch.
        epoch_factor: 0 to 1.
    """
    return optax.exponential_decay(1.0, steps_per_epoch, epoch_factor)


def _after_warmup(schedule: optax.Schedule, warmup: int) -> optax.Schedule:
    """Return a schedule that starts after so many iterations of linear growth from 0."""
    if warmup == 0:
        return schedule
    return optax.join_schedules([optax.linear_schedule(0.0, 1.0, warmup), schedule], [warmup])
