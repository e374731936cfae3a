"""Optuna's samplers for whole batches of jobs: as many trials are asked for at once as there are lanes.

The study is kept in the sweep's directory. A sampler begins anew from its seed at each trial, so that a sweep which was
interrupted asks for the same trials as one that was not.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import Trial, TrialState

from lenet_jax.errors import InputError, unknown_name
from lenet_jax.sweeps.ledger import DONE, Entry

JOURNAL = "optuna.journal"

SAMPLERS = {
    "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed, constant_liar=True, n_startup_trials=8),
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
}
PRUNERS = {"none": optuna.pruners.NopPruner, "median": optuna.pruners.MedianPruner}


class SearchSpace(NamedTuple):
    """What trials have in common, and what they vary."""

    fixed: list[str]  # overrides
    varied: dict[str, BaseDistribution]  # key -> its values


def check_options(*, num_trials: int, batch_size: int, sampler: str, pruner: str) -> None:
    """Check the options of the sweeper.

    Raises:
        InputError: if the sampler or the pruner is unknown, or there is to be no trial.
    """
    if sampler not in SAMPLERS:
        raise unknown_name("hydra.sweeper.sampler", sampler, SAMPLERS)
    if pruner not in PRUNERS:
        raise unknown_name("hydra.sweeper.pruner", pruner, PRUNERS)
    for name, value in (("num_trials", num_trials), ("batch_size", batch_size)):
        if value < 1:
            raise InputError(f"`hydra.sweeper.{name}` must be an integer, 1 or above; got {value}.")


class Batches:
    """The trials of a study, a batch at a time; the number of a trial is that of its job."""

    def __init__(
        self, directory: Path, space: SearchSpace, *, num_trials: int, sampler: str, pruner: str, seed: int
    ) -> None:
        """Open the study in the directory of a sweep, or begin one; the other arguments as `check_options` has them."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        storage = JournalStorage(JournalFileBackend(str(directory / JOURNAL)))
        self._study = optuna.create_study(
            storage=storage, study_name="sweep", load_if_exists=True, pruner=PRUNERS[pruner]()
        )
        self._space, self._num_trials, self._sampler, self._seed = space, num_trials, sampler, seed
        self._batch: dict[int, Trial] = {}
        self.pruned: set[int] = set()

    def ask(self, first: int, size: int) -> list[list[str]]:
        """Return the overrides of up to `size` jobs, `first` the number of the first one; none: the study is over."""
        known = {trial.number: trial for trial in self._study.get_trials(deepcopy=False)}
        self._batch = {}
        for number in range(first, min(first + size, self._num_trials)):
            if number in known:  # asked for before an interruption
                self._batch[number] = Trial(self._study, known[number]._trial_id)
                continue
            self._study.sampler = SAMPLERS[self._sampler](self._seed + number)
            self._batch[number] = self._study.ask(self._space.varied)
        return [
            [*self._space.fixed, *(f"{key}={_to_text(trial.params[key])}" for key in self._space.varied)]
            for trial in self._batch.values()
        ]

    def observe(self, number: int, epoch: float, accuracy: float) -> None:
        """Report an evaluation to the pruner; steps are hundredths of an epoch."""
        trial = self._batch[number]
        if not self._study.get_trials(deepcopy=False)[number].state.is_finished():
            trial.report(1 - accuracy, round(100 * epoch))
            if trial.should_prune():
                self.pruned.add(number)

    def end(self, number: int, *, diverged: bool) -> None:
        """Do nothing: the study is told when the whole batch has ended, so that no trial depends on its neighbours."""

    def tell(self, entries: Sequence[Entry]) -> None:
        """Tell the study what came of a batch; a job that has diverged is wrong about everything."""
        for entry in entries:
            trial = self._batch[entry.number]
            result = entry.result or {}
            if entry.state == DONE and result.get("stopped_by") == "pruned":
                self._study.tell(trial, state=TrialState.PRUNED, skip_if_finished=True)
            elif entry.result is not None:
                error = 1 - result["validation_accuracy"] if entry.state == DONE else 1.0
                self._study.tell(trial, error, skip_if_finished=True)
            else:
                self._study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)


def _to_text(value: Any) -> str:
    return repr(value) if isinstance(value, float) else str(value)
