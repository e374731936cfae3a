"""Optuna's search space, read from Hydra's sweep syntax."""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

from hydra.core.override_parser.types import IntervalSweep, Override
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from lenet_jax.errors import InputError
from lenet_jax.sweeps.optuna_batch import SearchSpace


def search_space(overrides: Iterable[Override]) -> SearchSpace:
    """Read a search space from overrides in Hydra's sweep syntax.

    `KEY=interval(a,b)` is sampled uniformly, `KEY=tag(log,interval(a,b))` log-uniformly, and `KEY=int(interval(a,b))`
    from the integers. Lists, `choice(...)` and `range(...)` are sampled from their values.

    Args:
        overrides: those of the sweep, as `sweep_overrides` returns them.

    Raises:
        InputError: if no key varies, an interval is empty or not finite, or a logarithmic interval does not start above
            0; or Hydra's own errors.
    """
    texts, varied = [], {}
    for override in overrides:
        key = override.get_key_element()
        if override.is_sweep_override():
            varied[key] = _distribution(override)
        texts.append(key if override.is_sweep_override() else str(override.input_line))
    if not varied:
        raise InputError("hydra/sweeper=optuna_batch must have a key to vary, as KEY=interval(a,b); got none.")
    return SearchSpace(texts, varied)


def _distribution(override: Override) -> BaseDistribution:
    values: Any = override.value()
    if not isinstance(values, IntervalSweep):
        if getattr(values, "shuffle", False):  # their order has no meaning here, and must be the same on resume
            override = dataclasses.replace(override, _value=dataclasses.replace(values, shuffle=False))
        return CategoricalDistribution(list(dict.fromkeys(override.sweep_string_iterator())))
    low, high, log = values.start, values.end, "log" in values.tags
    distribution = IntDistribution if isinstance(low, int) and isinstance(high, int) else FloatDistribution
    if low is None or high is None or not -math.inf < low < high < math.inf or (log and low <= 0):
        rule = "begins above 0 and ends higher" if log else "begins below its end"
        raise InputError(
            f"`{override.get_key_element()}` must be an interval of finite numbers that {rule}; got ({low}, {high})."
        )
    return distribution(low, high, log=log)  # pyright: ignore[reportArgumentType]
