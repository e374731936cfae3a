"""Optuna's samplers for batches of jobs: all trials of a batch are sampled before any of them runs.

The study is stored in the directory of the sweep. The sampler is seeded again for each trial, so that an interrupted
and an uninterrupted sweep sample the same trials.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import Trial, TrialState

from lenet_jax.errors import InputError, unknown_name
from lenet_jax.runs import Monitor
from lenet_jax.storage import write_atomically
from lenet_jax.sweeps.ledger import DONE, Entry

JOURNAL = "optuna.journal"

SAMPLERS = {
    "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed, constant_liar=True, n_startup_trials=8),
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
}
PRUNERS = {"none": optuna.pruners.NopPruner, "median": optuna.pruners.MedianPruner}


class SearchSpace(NamedTuple):
    """The overrides of a trial, and the distributions of the keys that vary."""

    overrides: list[str]  # in their order; a key of `varied` stands for its override
    varied: dict[str, BaseDistribution]  # key -> distribution of its values


def check_options(*, num_trials: int, batch_size: int, sampler: str, pruner: str) -> None:
    """Check the options of the sweeper.

    Args:
        num_trials: number of trials in the study, 1 or above.
        batch_size: number of trials in a batch, 1 or above.
        sampler: one of `SAMPLERS`.
        pruner: one of `PRUNERS`.

    Raises:
        InputError: if the sampler or the pruner is unknown, or a number is below 1.
    """
    if sampler not in SAMPLERS:
        raise unknown_name("hydra.sweeper.sampler", sampler, SAMPLERS)
    if pruner not in PRUNERS:
        raise unknown_name("hydra.sweeper.pruner", pruner, PRUNERS)
    for name, value in (("num_trials", num_trials), ("batch_size", batch_size)):
        if value < 1:
            raise InputError(f"`hydra.sweeper.{name}` must be an integer, 1 or above; got {value}.")


class Batches:
    """The trials of a study, in batches; a trial has the number of its job."""

    def __init__(
        self, directory: Path, space: SearchSpace, *, num_trials: int, sampler: str, pruner: str, seed: int
    ) -> None:
        """Open the study in the directory of a sweep, or create it.

        Args:
            directory: the directory of the sweep.
            space: the search space.
            num_trials: number of trials in the study.
            sampler: one of `SAMPLERS`.
            pruner: one of `PRUNERS`.
            seed: seed of the sampler.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        path = directory / JOURNAL
        _drop_partial_record(path)
        storage = JournalStorage(JournalFileBackend(str(path), lock_obj=_NoLock(str(path))))
        self._study = optuna.create_study(
            storage=storage, study_name="sweep", load_if_exists=True, pruner=PRUNERS[pruner]()
        )
        self._space, self._num_trials, self._sampler, self._seed = space, num_trials, sampler, seed
        self._batch: dict[int, Trial] = {}
        self.pruned: set[int] = set()

    def ask(self, first: int, size: int) -> list[list[str]]:
        """Sample the next batch of trials.

        Args:
            first: number of the first job in the batch.
            size: maximum number of jobs in the batch.

        Returns:
            The overrides of each job; an empty list if the study is complete.
        """
        known = {trial.number: trial for trial in self._study.get_trials(deepcopy=False)}
        self._batch = {}
        for number in range(first, min(first + size, self._num_trials)):
            self._study.sampler = SAMPLERS[self._sampler](self._seed + number)
            if number not in known:
                self._batch[number] = self._study.ask(self._space.varied)
            else:  # sampled before an interruption
                self._batch[number] = Trial(self._study, known[number]._trial_id)
                self._complete(self._batch[number])
        return [
            [
                f"{each}={_to_text(trial.params[each])}" if each in trial.params else each
                for each in self._space.overrides
            ]
            for trial in self._batch.values()
        ]

    def _complete(self, trial: Trial) -> None:
        """Sample the parameters of a trial that an interruption has left out, as they would have been without it."""
        recorded = dict(trial.params)
        if recorded.keys() == self._space.varied.keys():
            return
        for name, distribution in self._space.varied.items():
            if name in recorded and not distribution.single():  # to advance the sampler's random numbers
                self._study.sampler.sample_independent(self._study, trial._get_latest_trial(), name, distribution)
            trial._suggest(name, distribution)

    def observe(self, number: int, epoch: float, error: float) -> None:
        """Report an evaluation of a job to the pruner.

        Args:
            number: number of the job.
            epoch: epochs done; Optuna's steps are hundredths of an epoch.
            error: what is to be small, as `lenet_jax.runs.Monitor.error`.
        """
        trial = self._batch[number]
        if not self._study.get_trials(deepcopy=False)[number].state.is_finished():
            trial.report(error, round(100 * epoch))
            if trial.should_prune():
                self.pruned.add(number)

    def finish(self, number: int, *, diverged: bool) -> None:
        """Do nothing: `tell` reports a whole batch, so that no trial depends on the order in which the jobs finish."""

    def tell(self, entries: Sequence[Entry]) -> None:
        """Report the results of a batch to the study; a diverged job has the largest error, 1 of an accuracy.

        Args:
            entries: the jobs of the batch in the ledger.
        """
        for entry in entries:
            trial = self._batch[entry.number]
            result = entry.result or {}
            if entry.state == DONE and result.get("stopped_by") == "pruned":
                self._study.tell(trial, state=TrialState.PRUNED, skip_if_finished=True)
            elif entry.result is not None:
                monitor = Monitor.of(result)
                worst = 1.0 if monitor.mode == "max" else math.inf
                error = monitor.error(result) if entry.state == DONE else worst
                self._study.tell(trial, error, skip_if_finished=True)
            else:
                self._study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)


class _NoLock(JournalFileOpenLock):
    """No lock of the journal: that of the sweep's directory is held, and a killed process leaves none behind."""

    def acquire(self) -> bool:
        """Do nothing."""
        return True

    def release(self) -> None:
        """Do nothing."""


def _drop_partial_record(path: Path) -> None:
    """Remove what a killed process has written of a record; the journal has one a line."""
    content = path.read_bytes() if path.is_file() else b""
    if content and not content.endswith(b"\n"):
        write_atomically(path, content[: content.rfind(b"\n") + 1])


def _to_text(value: Any) -> str:
    return repr(value) if isinstance(value, float) else str(value)
