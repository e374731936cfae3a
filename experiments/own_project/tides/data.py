"""Data sets."""

import lenet_jax as lj
import numpy as np
from lenet_jax.config.checks import Count, NonNegative, Seed


def tide_levels(*, num_days: Count = 40, lead: Count = 6, noise: NonNegative = 0.05, seed: Seed = 0) -> lj.Dataset:
    """Return hourly water levels in meters: 24 of them as inputs, a later one as the target.

    Args:
        num_days: length of the record; its first 60 % are for training, the next 20 % for validation.
        lead: how many hours the target lies after the last input.
        noise: standard deviation of the wind's part, in meters.
        seed: of the wind.
    """
    hours = np.arange(24 * num_days)
    level = np.cos(2 * np.pi * hours / 12.42) + 0.4 * np.cos(2 * np.pi * hours / 12)  # the moon's and the sun's part
    level += np.random.default_rng(seed).normal(0, noise, len(hours))
    windows = np.lib.stride_tricks.sliding_window_view(level.astype(np.float32), 24 + lead)
    inputs, targets = windows[:, :24, None], windows[:, -1:]  # (N, 24, 1), (N, 1)
    first, second = int(0.6 * len(windows)), int(0.8 * len(windows))
    parts = [slice(first), slice(first, second), slice(second, None)]
    splits = [lj.Split(inputs[part], targets[part]) for part in parts]
    return lj.Dataset(*splits, num_classes=1)  # of numbers to predict, num_classes is how many
