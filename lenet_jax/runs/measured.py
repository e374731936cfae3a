"""What is measured when a run has finished."""

from collections.abc import Callable
from typing import NamedTuple

from lenet_jax.config import TrainerConfig
from lenet_jax.training import TrainState, evaluation_variables, result_variables
from lenet_jax.types import Metrics, Variables


class Measured(NamedTuple):
    """What a finished run leaves."""

    variables: Variables  # the result: the best or the last ones, as the configuration says
    train: Metrics
    test: Metrics
    last: Variables | None  # where the configuration keeps them
    other: tuple[Metrics, Metrics] | None  # on both sets, of the best or last ones that are kept but not the result


class Results(NamedTuple):
    """The weights that a finished run leaves."""

    variables: Variables  # the result
    last: Variables | None  # where the configuration keeps them
    kept: Variables | None  # the best or last ones that are kept but not the result

    def measured(self, measure: Callable[[Variables], tuple[Metrics, Metrics]]) -> Measured:
        """Return these weights with their metrics.

        Args:
            measure: variables -> metrics on the training and on the test set.
        """
        other = None if self.kept is None else measure(self.kept)
        return Measured(self.variables, *measure(self.variables), self.last, other)


def results_of(config: TrainerConfig, state: TrainState) -> Results:
    """Return the weights that a run leaves after its last step."""
    last = None if config.weights == "best" else evaluation_variables(state)
    return Results(
        result_variables(config, state), last, {"best": None, "last": state.best, "both": last}[config.weights]
    )
