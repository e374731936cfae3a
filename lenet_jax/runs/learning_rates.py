"""The loss after a short training at each of many learning rates, all in one program.

Source: Smith 2017, "Cyclical Learning Rates for Training Neural Networks", section 3.3, the range test. There one run
raises its rate from step to step; here each rate has a run of its own, so that what a rate does to the loss does not
depend on the rates before it.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from lenet_jax import components
from lenet_jax.config.catalogue import TARGET
from lenet_jax.errors import InputError
from lenet_jax.evaluation import count_examples
from lenet_jax.lanes import over_lanes
from lenet_jax.runs.parts import CONSTANT
from lenet_jax.runs.prepared_run import PreparedRun
from lenet_jax.traced_numbers import scalar
from lenet_jax.train_plan import minibatches
from lenet_jax.training import TrainState
from lenet_jax.types import Dataset

NUM_STEPS = 100
RATES = np.logspace(-5, 1, 25)
_LAST = 20  # steps whose mean loss is that of a rate
_RATE = "optimizer.learning_rate"


class RangeTest(NamedTuple):
    """Learning rates, in ascending order, and the mean training loss of the last steps at each; NaN if it diverged."""

    rates: np.ndarray
    losses: np.ndarray

    @property
    def best(self) -> int | None:
        """Return the place of the lowest loss; None if all have diverged."""
        return None if np.isnan(self.losses).all() else int(np.nanargmin(self.losses))

    @property
    def suggested(self) -> float | None:
        """Return a third of the rate of the lowest loss, which is close to where training breaks; None as `best`."""
        return None if self.best is None else float(self.rates[self.best]) / 3


def check_has_rate(prepared: PreparedRun) -> None:
    """Check that the optimizer has a learning rate that can be a value of the program.

    Raises:
        InputError: if it has none.
    """
    if _RATE not in prepared.options:
        name = components.short_name(prepared.config.optimizer)
        raise InputError(
            f"`optimizer` must have an option learning_rate for debug=lr_find, a number that the program can vary; "
            f"got {name}; choose another, as optimizer=sgd."
        )


def find_learning_rates(prepared: PreparedRun) -> RangeTest:
    """Train `NUM_STEPS` steps at each of `RATES`, with the same initial weights and minibatches; the rate is constant.

    Args:
        prepared: the run; it passes `check_has_rate`.
    """
    config, plan = prepared.config, prepared.plan
    prepared = prepared._replace(config=dataclasses.replace(config, schedule={TARGET: CONSTANT}))
    num_train = count_examples(prepared.data.train)

    def losses_at(rate: Array, data: Dataset) -> Array:
        parts = prepared.at({_RATE: rate})
        state = parts.init(jax.random.key(config.seed), prepared.initial_tensors)
        key = jax.random.split(state.key)[0]
        starts = jnp.arange(0, NUM_STEPS, plan.interval)
        drawn = lax.map(lambda start: minibatches(plan, num_train, key, start, shuffle=parts.trainer.shuffle), starts)

        def step(state: TrainState, indices: Array) -> Any:
            return parts.step(state, data, indices)

        _, losses = lax.scan(step, state, drawn.reshape(-1, plan.batch_size)[:NUM_STEPS])
        return jnp.mean(losses[-_LAST:])

    with jax.default_matmul_precision(config.trainer.matmul_precision):
        losses = jax.jit(over_lanes(losses_at))(jnp.asarray(RATES, scalar().dtype), prepared.data)
    return RangeTest(RATES, np.asarray(losses))
