"""Optuna's search space, read from Hydra's sweep syntax."""

from collections.abc import Sequence

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from lenet_jax.errors import InputError
from lenet_jax.sweeps.optuna_batch import SearchSpace


def search_space(overrides: Sequence[str], loader: ConfigLoader) -> SearchSpace:
    """Read a search space from overrides in Hydra's sweep syntax.

    `KEY=interval(a,b)` is sampled uniformly, `KEY=tag(log,interval(a,b))` log-uniformly, and `KEY=int(interval(a,b))`
    from the integers. Lists, `choice(...)` and `range(...)` are sampled from their values.

    Args:
        overrides: overrides of the command line.
        loader: Hydra's loader, which lists the files of a group.

    Raises:
        InputError: if no key varies, an interval is empty, or a logarithmic interval does not start above 0; or Hydra's
            own errors.
    """
    parsed = OverridesParser.create(config_loader=loader).parse_overrides(list(overrides))
    varied = {each.get_key_element(): _distribution(each) for each in parsed if each.is_sweep_override()}
    if not varied:
        raise InputError("hydra/sweeper=optuna_batch must have a key to vary, as KEY=interval(a,b); got none.")
    return SearchSpace([str(each.input_line) for each in parsed if not each.is_sweep_override()], varied)


def _distribution(override: Override) -> BaseDistribution:
    values = override.value()
    if not isinstance(values, IntervalSweep):
        return CategoricalDistribution(list(override.sweep_string_iterator()))
    low, high, log = values.start, values.end, "log" in values.tags
    distribution = IntDistribution if isinstance(low, int) and isinstance(high, int) else FloatDistribution
    if low is None or high is None or not low < high or (log and low <= 0):
        rule = "begins above 0 and ends higher" if log else "begins below its end"
        raise InputError(f"`{override.get_key_element()}` must be an interval that {rule}; got ({low}, {high}).")
    return distribution(low, high, log=log)  # pyright: ignore[reportArgumentType]
