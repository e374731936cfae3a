"""Optuna's samplers for batches of jobs: all trials of a batch are sampled before any of them runs.

A trial is a configuration; it is judged by the mean over its seeds and folds. The study is stored in the directory of
the sweep. The sampler is made again for each trial, so that an interrupted and an uninterrupted sweep sample the same
trials.
"""

import importlib.util
import inspect
import json
import math
import statistics
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, Trial, TrialState

from lenet_jax.config.checks import convert
from lenet_jax.errors import InputError, unknown_name
from lenet_jax.runs import Monitor
from lenet_jax.storage import write_atomically
from lenet_jax.sweeps.ledger import DONE, JOURNAL, Entry
from lenet_jax.sweeps.search_space import Axis, Interval, SearchSpace

_CREATE_TRIAL = 4  # the journal's code for it
PRUNERS = {"none": optuna.pruners.NopPruner, "median": optuna.pruners.MedianPruner}


# ---- samplers -------------------------------------------------------------------------------------------------------


_HAS_LISTS = int(optuna.__version__.partition(".")[0]) >= 5


class _ByNumber(optuna.samplers.QMCSampler):
    """Quasi-random points by the number of their trial, not by a count in the study, which an interruption upsets.

    Optuna 4 has no such points of lists: their values are random.
    """

    space: Mapping[str, BaseDistribution]
    number: int

    def infer_relative_search_space(self, study: Any, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the whole space, without lists in Optuna 4."""
        return {
            name: each
            for name, each in self.space.items()
            if _HAS_LISTS or not isinstance(each, CategoricalDistribution)
        }

    def _find_sample_id(self, *_: Any) -> int:
        return self.number


SAMPLERS: Mapping[str, type[BaseSampler]] = {
    "tpe": optuna.samplers.TPESampler,
    "random": optuna.samplers.RandomSampler,
    "qmc": _ByNumber,
    "gp": optuna.samplers.GPSampler,
    "cmaes": optuna.samplers.CmaEsSampler,
    "nsgaii": optuna.samplers.NSGAIISampler,
    "grid": optuna.samplers.GridSampler,
}
_NEEDS = {"gp": "torch", "cmaes": "cmaes"}
_DEFAULTS = {"tpe": {"constant_liar": True, "n_startup_trials": 8}, "qmc": {"scramble": True}}  # besides Optuna's own
_TYPES: Mapping[str, Any] = {"int": int, "float": float, "bool": bool, "str": str, "None": None}


class Sampler(NamedTuple):
    """One of Optuna's samplers and its options."""

    name: str
    options: Mapping[str, Any]

    def make(self, seed: int, number: int, space: Mapping[str, BaseDistribution]) -> BaseSampler:
        """Return the sampler of a trial.

        Args:
            seed: of the sweep; each trial has one of its own, or points of one sequence.
            number: of the trial.
            space: the distributions of a trial.
        """
        arguments = {**self.options, "seed": seed if self.name in ("qmc", "grid") else seed + number}
        if self.name == "qmc":
            random = optuna.samplers.RandomSampler(seed=seed + number)
            arguments |= {"independent_sampler": random, "warn_independent_sampling": False}
        if self.name == "grid":
            arguments["search_space"] = {
                name: each.choices for name, each in space.items() if isinstance(each, CategoricalDistribution)
            }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that some samplers, or their options, are experimental
            sampler = SAMPLERS[self.name](**arguments)
        if isinstance(sampler, _ByNumber):
            sampler.space, sampler.number = space, number
        return sampler


def option_types(sampler: str) -> dict[str, Any]:
    """Return the options of a sampler that a configuration can hold, and their types, by its signature.

    Args:
        sampler: one of `SAMPLERS`.
    """
    found = {}
    for name, parameter in inspect.signature(SAMPLERS[sampler].__init__).parameters.items():
        parts = [part.strip() for part in str(parameter.annotation).split("|")]
        if name not in ("self", "seed") and not name.startswith("warn_") and all(part in _TYPES for part in parts):
            found[name] = _union([_TYPES[part] for part in parts])
    return found


def _union(types: Sequence[Any]) -> Any:
    """Return the union of some types."""
    union = types[0]
    for each in types[1:]:
        union |= each
    return union


def check_options(
    *,
    num_trials: int,
    batch_size: int,
    sampler: str,
    pruner: str,
    sampler_options: Mapping[str, Any] | None = None,
    space: SearchSpace | None = None,
) -> Sampler:
    """Check the options of the sweeper, and return its sampler.

    Args:
        num_trials: number of trials in the study, 1 or above.
        batch_size: number of trials in a batch, 1 or above.
        sampler: one of `SAMPLERS`.
        pruner: one of `PRUNERS`.
        sampler_options: arguments of Optuna's class; None: none.
        space: the search space; None: it is not checked.

    Raises:
        InputError: if the sampler, the pruner or an option is unknown, a value is out of its range, a package is not
            installed, or the sampler cannot search the space.
    """
    if sampler not in SAMPLERS:
        raise unknown_name("hydra.sweeper.sampler", sampler, SAMPLERS)
    if pruner not in PRUNERS:
        raise unknown_name("hydra.sweeper.pruner", pruner, PRUNERS)
    for name, value in (("num_trials", num_trials), ("batch_size", batch_size)):
        if value < 1:
            raise InputError(f"`hydra.sweeper.{name}` must be an integer, 1 or above; got {value}.")
    package = _NEEDS.get(sampler)
    if package is not None and importlib.util.find_spec(package) is None:
        raise InputError(f"`hydra.sweeper.sampler` {sampler} needs the package {package}: pip install {package}.")
    types, options = option_types(sampler), dict(_DEFAULTS.get(sampler, {}))
    if sampler == "nsgaii":
        options["population_size"] = max(2, batch_size)
    for name, value in (sampler_options or {}).items():
        if name not in types:
            raise unknown_name("hydra.sweeper.sampler_options", name, types)
        options[name] = convert(f"hydra.sweeper.sampler_options.{name}", types[name], value)
    chosen = Sampler(sampler, options)
    try:
        chosen.make(0, 0, {} if space is None else distributions(space))
    except (ValueError, TypeError) as error:
        first = next(iter(str(error).splitlines()), "").rstrip(".")
        raise InputError(f"`hydra.sweeper.sampler_options` {options}: {first}.") from error
    if space is not None:
        _check_space(chosen, space, num_trials)
    return chosen


def _check_space(sampler: Sampler, space: SearchSpace, num_trials: int) -> None:
    if not space.searched:
        raise InputError("hydra/sweeper=optuna_batch must have a key to vary, as KEY=interval(a,b); got none.")
    size = math.prod(axis.domain.size for axis in space.searched)
    if sampler.name == "grid" and (size == math.inf or num_trials > size):
        numbers = "lists only" if size == math.inf else f"at most {size} trials, as many as there are combinations"
        raise InputError(f"`hydra.sweeper.sampler` grid must have {numbers}; got num_trials={num_trials}.")


# ---- trials ---------------------------------------------------------------------------------------------------------


def distributions(space: SearchSpace) -> dict[str, BaseDistribution]:
    """Return Optuna's distribution of each axis that is searched, by its keys."""
    return {_name(axis): _distribution(axis) for axis in space.searched}


def _name(axis: Axis) -> str:
    return " ".join(axis.keys)


def _distribution(axis: Axis) -> BaseDistribution:
    domain = axis.domain
    if not isinstance(domain, Interval):
        return CategoricalDistribution(list(dict.fromkeys(map(" ".join, domain.values))))
    if domain.is_integer:
        return IntDistribution(int(domain.low), int(domain.high), log=domain.log)
    return FloatDistribution(domain.low, domain.high, log=domain.log)


def _texts(axis: Axis, value: Any) -> tuple[str, ...]:
    """Return the texts of overrides that a value of a trial stands for, one a key."""
    if isinstance(axis.domain, Interval):
        return (repr(value) if isinstance(value, float) else str(value),)
    return next(texts for texts in axis.domain.values if " ".join(texts) == value)


class Batches:
    """The trials of a study, in batches; the jobs of a trial have consecutive numbers."""

    def __init__(
        self, directory: Path, space: SearchSpace, *, num_trials: int, sampler: Sampler, pruner: str, seed: int
    ) -> None:
        """Open the study in the directory of a sweep, or create it.

        Args:
            directory: the directory of the sweep.
            space: the search space.
            num_trials: number of trials in the study.
            sampler: the result of `check_options`.
            pruner: one of `PRUNERS`.
            seed: seed of the sampler.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        path = directory / JOURNAL
        _drop_partial_record(path)
        self._varied = distributions(space)
        self._study = _open(path, pruner)
        trials = self._study.get_trials(deepcopy=False)
        if trials and not trials[-1].state.is_finished() and trials[-1].params.keys() != self._varied.keys():
            _drop_last_trial(path)
            self._study = _open(path, pruner)
        self._space, self._num_trials, self._sampler, self._seed = space, num_trials, sampler, seed
        self._num_jobs = space.num_crossed
        self._batch: dict[int, Trial] = {}
        self._reported: dict[tuple[int, int], dict[int, float]] = {}
        self.pruned: set[int] = set()

    def ask(self, first: int, size: int) -> list[list[str]]:
        """Sample the next batch of trials.

        Args:
            first: number of the first job in the batch.
            size: maximum number of trials in the batch.

        Returns:
            The overrides of each job; an empty list if the study is complete.
        """
        known = {trial.number: trial for trial in self._study.get_trials(deepcopy=False)}
        self._batch = {}
        begin = first // self._num_jobs
        for number in range(begin, min(begin + size, self._num_trials)):
            self._study.sampler = self._sampler.make(self._seed, number, self._varied)
            if number not in known:
                self._batch[number] = self._study.ask(self._varied)
            else:  # sampled before an interruption
                self._batch[number] = Trial(self._study, known[number]._trial_id)
        return [job for trial in self._batch.values() for job in self._jobs(trial)]

    def _jobs(self, trial: Trial) -> list[list[str]]:
        return self._space.crossed([_texts(axis, trial.params[_name(axis)]) for axis in self._space.searched])

    def observe(self, number: int, epoch: float, error: float) -> None:
        """Report an evaluation of a job to the pruner, once all jobs of its trial have it.

        Args:
            number: number of the job.
            epoch: epochs done; Optuna's steps are hundredths of an epoch.
            error: what is to be small, as `lenet_jax.runs.Monitor.error`.
        """
        of_trial, step = number // self._num_jobs, round(100 * epoch)
        errors = self._reported.setdefault((of_trial, step), {})
        errors[number] = error
        if len(errors) < self._num_jobs:
            return
        trial = self._batch[of_trial]
        if not self._study.get_trials(deepcopy=False)[of_trial].state.is_finished():
            trial.report(statistics.fmean(errors.values()), step)
            if trial.should_prune():
                self.pruned |= {*errors}

    def finish(self, number: int, *, diverged: bool) -> None:
        """Do nothing: `tell` reports a whole batch, so that no trial depends on the order in which the jobs finish."""

    def tell(self, entries: Sequence[Entry]) -> None:
        """Report the results of a batch to the study; a diverged job has the largest error, 1 of an accuracy.

        Args:
            entries: the jobs of the batch in the ledger.
        """
        self._study.sampler = optuna.samplers.RandomSampler()  # a grid's own would stop a loop of Optuna's
        for number, trial in self._batch.items():
            own = [entry for entry in entries if entry.number // self._num_jobs == number]
            if any(entry.state == DONE and (entry.result or {}).get("stopped_by") == "pruned" for entry in own):
                self._study.tell(trial, state=TrialState.PRUNED, skip_if_finished=True)
            elif own and all(entry.result is not None for entry in own):
                self._study.tell(trial, statistics.fmean(map(_error, own)), skip_if_finished=True)
            elif own:
                self._study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)


def _error(entry: Entry) -> float:
    result = entry.result or {}
    monitor = Monitor.of(result)
    worst = 1.0 if monitor.mode == "max" else math.inf
    return monitor.error(result) if entry.state == DONE else worst


class _NoLock(JournalFileOpenLock):
    """No lock of the journal: that of the sweep's directory is held, and a killed process leaves none behind."""

    def acquire(self) -> bool:
        """Do nothing."""
        return True

    def release(self) -> None:
        """Do nothing."""


def _open(path: Path, pruner: str) -> optuna.Study:
    storage = JournalStorage(JournalFileBackend(str(path), lock_obj=_NoLock(str(path))))
    return optuna.create_study(storage=storage, study_name="sweep", load_if_exists=True, pruner=PRUNERS[pruner]())


def _drop_last_trial(path: Path) -> None:
    """Remove the trial that a killed process was sampling, and all that its sampler has noted since it began."""
    lines = path.read_bytes().splitlines(keepends=True)
    begin = max(number for number, line in enumerate(lines) if json.loads(line)["op_code"] == _CREATE_TRIAL)
    write_atomically(path, b"".join(lines[:begin]))


def _drop_partial_record(path: Path) -> None:
    """Remove what a killed process has written of a record; the journal has one a line."""
    content = path.read_bytes() if path.is_file() else b""
    if content and not content.endswith(b"\n"):
        write_atomically(path, content[: content.rfind(b"\n") + 1])
