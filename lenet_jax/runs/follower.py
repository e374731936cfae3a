"""A run in a process that does not record it: the other one of several processes does."""

from collections.abc import Callable

from lenet_jax.runs import Evaluated, Finished, Started
from lenet_jax.runs.programs import Measured
from lenet_jax.runs.recorder import Recorder, RestoredRun, to_record, to_result
from lenet_jax.training import Evaluation, TrainState


class Follower(Recorder):
    """Takes the place of a `Recorder`, and writes nothing."""

    def start(self, started: Started, on_start: Callable[[], None]) -> Started:
        """Return the event."""
        return started

    def resume(self, restored: RestoredRun) -> None:
        """Leave the files of the run to the process that records it."""

    def evaluate(self, evaluation: Evaluation, seconds: float) -> Evaluated:
        """Return the event of an evaluation."""
        self._last = evaluation
        return Evaluated(to_record(evaluation, self._plan, self._objective))

    def save(self, state: TrainState) -> None:
        """Leave the checkpoint to the process that records the run."""

    def finish(self, state: TrainState, measured: Measured) -> Finished:
        """Return the event of the end."""
        is_last = self._config.trainer.weights == "last"
        result = to_result(state, measured, self._last, self._plan, self._objective, is_last=is_last)
        return Finished(result, self._directory.path)
