import importlib.util

import optuna
import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from lenet_jax.errors import InputError
from lenet_jax.hydra_app.composition import open_hydra, register_schemas
from lenet_jax.hydra_app.search_space import search_space
from lenet_jax.sweeps.ledger import DIVERGED, DONE, FAILED, JOURNAL, Entry
from lenet_jax.sweeps.optuna_batch import Batches, check_options, distributions
from lenet_jax.sweeps.search_space import Axis, Choice, Interval, SearchSpace

X = Axis(("x",), (1,), Interval(-10.0, 10.0))
KIND = Axis(("kind",), (2,), Choice((("a",), ("b",))))
SPACE = SearchSpace(("trainer.max_epochs=3", "x", "kind"), (X, KIND))


@pytest.fixture
def loader(without_type_checks):
    register_schemas()
    with open_hydra() as hydra:
        assert GlobalHydra.instance().is_initialized()
        yield hydra.config_loader


def read_space(overrides, loader):
    return search_space(OverridesParser.create(config_loader=loader).parse_overrides(overrides))


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("optimizer.learning_rate=interval(0.1,0.3)", FloatDistribution(0.1, 0.3)),
        ("optimizer.learning_rate=tag(log,interval(0.001,1))", FloatDistribution(0.001, 1.0, log=True)),
        ("model.hidden_units=int(interval(10,100))", IntDistribution(10, 100)),
        ("model.hidden_units=tag(log,int(interval(10,100)))", IntDistribution(10, 100, log=True)),
        ("optimizer=sgd,adam", CategoricalDistribution(["sgd", "adam"])),
        ("model.hidden_units=range(10,40,10)", CategoricalDistribution(["10", "20", "30"])),
    ],
)
def test_a_search_space_is_written_in_hydras_words(override, expected, loader):
    space = read_space(["seed=3", override], loader)
    assert space.overrides == ("seed=3", override.partition("=")[0])
    assert list(distributions(space).values()) == [expected]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["optimizer.learning_rate=interval(1,1)"],
            r"must be an interval of finite numbers that begins below its end",
        ),
        (
            ["optimizer.learning_rate=interval(0.1,inf)"],
            r"must be an interval of finite numbers that begins below its end; got \(0\.1, inf\)",
        ),
        (
            ["optimizer.learning_rate=tag(log,interval(0,1))"],
            r"begins above 0 and ends higher; got \(0\.0, 1\.0\)",
        ),
    ],
)
def test_a_search_space_without_room_is_refused(overrides, message, loader):
    with pytest.raises(InputError, match=message):
        read_space(overrides, loader)


def test_a_search_without_a_key_to_vary_is_refused(loader):
    space = read_space(["seed=3"], loader)
    with pytest.raises(InputError, match="hydra/sweeper=optuna_batch must have a key to vary"):
        check_options(num_trials=3, batch_size=2, sampler="tpe", pruner="none", space=space)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"sampler": "tpee"},
            r"`hydra\.sweeper\.sampler` has no 'tpee'; choose one of: tpe, cmaes, gp, grid, nsgaii, qmc, random",
        ),
        ({"pruner": "mean"}, r"`hydra\.sweeper\.pruner` has no 'mean'; choose one of: median, none"),
        ({"num_trials": 0}, r"`hydra\.sweeper\.num_trials` must be an integer, 1 or above; got 0"),
        ({"batch_size": 0}, r"`hydra\.sweeper\.batch_size` must be an integer, 1 or above; got 0"),
    ],
)
def test_bad_options_are_refused(changed, message):
    with pytest.raises(InputError, match=message):
        check_options(**{"num_trials": 3, "batch_size": 2, "sampler": "tpe", "pruner": "none", **changed})


def open_study(directory, sampler="tpe", pruner="none", num_trials=40, space=SPACE, **options):
    chosen = check_options(
        num_trials=num_trials, batch_size=8, sampler=sampler, pruner=pruner, sampler_options=options, space=space
    )
    return Batches(directory, space, num_trials=num_trials, sampler=chosen, pruner=pruner, seed=1)


def judge(number, overrides):
    """Return the entry of a job whose error is lowest at x = 2 with kind b."""
    values = dict(override.split("=") for override in overrides)
    error = min(1.0, (float(values["x"]) - 2) ** 2 / 150 + (values["kind"] == "a") / 10)
    return Entry(number, overrides, "", {}, DONE, result={"validation_accuracy": 1 - error, "stopped_by": "max_epochs"})


def play(directory, *, interrupt_at=None, **options):
    """Run a study in batches of 8; after an interruption it is opened anew, and the batch asked for again."""
    batches, first, asked = open_study(directory, **options), 0, []
    while batch := batches.ask(first, 8):
        entries = [judge(first + index, overrides) for index, overrides in enumerate(batch)]
        if first == interrupt_at:
            batches.tell(entries[:3])
            interrupt_at, batches = None, open_study(directory, **options)
            continue
        batches.tell(entries)
        asked += batch
        first += len(batch)
    return asked, min(entry.result["validation_accuracy"] * -1 for entry in (judge(0, each) for each in asked))


def test_batches_come_to_the_number_of_trials_and_find_the_best(tmp_path):
    asked, best = play(tmp_path)
    assert len(asked) == 40
    assert all(overrides[0] == "trainer.max_epochs=3" for overrides in asked)
    assert best < -0.99


LISTS = SearchSpace(
    ("trainer.max_epochs=3", "x", "kind"),
    (Axis(("x",), (1,), Choice(tuple((str(x),) for x in range(12)))), KIND),
)
SEARCHES = {
    "tpe": {},
    "random": {},
    "qmc": {},
    "gp": {"n_startup_trials": 4},
    "cmaes": {},
    "nsgaii": {"mutation_prob": 0.5},
    "grid": {"space": LISTS},
}


def options_of(sampler):
    package = {"gp": "torch", "cmaes": "cmaes"}.get(sampler, "optuna")
    pytest.importorskip(package)
    return {"sampler": sampler, **SEARCHES[sampler]}


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize(
    "sampler", [pytest.param(name, marks=[pytest.mark.slow] * (name == "gp")) for name in SEARCHES]
)
def test_an_interrupted_study_asks_for_the_same_trials(sampler, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    options = options_of(sampler)
    whole, _ = play(tmp_path / "a", **options, num_trials=20)
    resumed, _ = play(tmp_path / "b", **options, num_trials=20, interrupt_at=8)
    assert resumed == whole


def test_what_has_diverged_is_the_worst_and_what_has_failed_is_not_counted(tmp_path):
    batches = open_study(tmp_path)
    batch = batches.ask(0, 3)
    result = {"validation_accuracy": 0.9, "stopped_by": "diverged"}
    pruned = {"validation_accuracy": 0.4, "stopped_by": "pruned"}
    batches.tell(
        [
            Entry(0, batch[0], "", {}, DIVERGED, result=result),
            Entry(1, batch[1], "", {}, FAILED, error="none"),
            Entry(2, batch[2], "", {}, DONE, result=pruned),
        ]
    )
    trials = batches._study.trials
    assert trials[0].value == 1.0
    assert trials[1].state == optuna.trial.TrialState.FAIL
    assert trials[2].state == optuna.trial.TrialState.PRUNED


def test_a_job_worse_than_the_median_of_those_before_is_pruned(tmp_path):
    batches = open_study(tmp_path, pruner="median")
    for first in (0, 8):
        batch = batches.ask(first, 8)
        for number in range(first, first + 8):
            batches.observe(number, 1, 0.5 if number < 15 else 0.9)
        assert batches.pruned == ({15} if first else set())
        batches.tell([judge(first + index, overrides) for index, overrides in enumerate(batch)])


@pytest.mark.parametrize(
    "sampler", [pytest.param(name, marks=[pytest.mark.slow] * (name == "gp")) for name in SEARCHES]
)
def test_a_journal_that_ends_anywhere_is_continued_as_if_it_had_not(sampler, tmp_path):
    options = options_of(sampler)
    (tmp_path / "whole").mkdir()
    whole = open_study(tmp_path / "whole", **options, num_trials=20).ask(0, 4)
    content = (tmp_path / "whole" / JOURNAL).read_bytes()
    begin = content.index(b"\n") + 1  # the study is there
    for end in range(begin, len(content), 97):
        directory = tmp_path / str(end)
        directory.mkdir()
        (directory / JOURNAL).write_bytes(content[:end])
        (directory / f"{JOURNAL}.lock").symlink_to("of a process that was killed")
        assert open_study(directory, **options, num_trials=20).ask(0, 4) == whole


def test_a_shuffled_choice_has_its_values_in_one_order(loader):
    spaces = [distributions(read_space(["model.hidden_units=shuffle(range(1,21))"], loader)) for _ in range(2)]
    expected = {"model.hidden_units": CategoricalDistribution([str(number) for number in range(1, 21)])}
    assert spaces[0] == spaces[1] == expected


@pytest.mark.parametrize(
    "sampler", [pytest.param(name, marks=[pytest.mark.slow] * (name == "gp")) for name in SEARCHES]
)
def test_a_later_batch_is_continued_too(sampler, tmp_path):
    options = options_of(sampler)
    (tmp_path / "whole").mkdir()
    batches = open_study(tmp_path / "whole", **options, num_trials=20)
    batches.tell([judge(number, job) for number, job in enumerate(batches.ask(0, 8))])
    begin = len((tmp_path / "whole" / JOURNAL).read_bytes())
    whole = batches.ask(8, 3)
    content = (tmp_path / "whole" / JOURNAL).read_bytes()
    for end in range(begin, len(content), 1 + (len(content) - begin) // 11):
        directory = tmp_path / str(end)
        directory.mkdir()
        (directory / JOURNAL).write_bytes(content[:end])
        assert open_study(directory, **options, num_trials=20).ask(8, 3) == whole


def test_quasi_random_trials_are_points_of_one_sequence(tmp_path):
    batches = open_study(tmp_path, sampler="qmc", num_trials=16)
    xs = [float(job[1].partition("=")[2]) for first in (0, 8) for job in batches.ask(first, 8)]
    assert sorted(int((x + 10) / 20 * 16) for x in xs) == list(range(16))


def test_a_grid_tries_each_combination_once(tmp_path):
    jobs, _ = play(tmp_path, sampler="grid", space=LISTS, num_trials=24)
    assert len({tuple(job) for job in jobs}) == 24


FOLDED = SearchSpace(
    ("x", "kind", "seed", "data.fold"),
    (
        X._replace(places=(0,)),
        KIND._replace(places=(1,)),
        Axis(("seed",), (2,), Choice((("3",), ("4",)))),
        Axis(("data.fold",), (3,), Choice((("0",), ("1",), ("2",)))),
    ),
)


def test_a_trial_runs_with_all_seeds_and_folds_and_is_judged_by_their_mean(tmp_path):
    batches = open_study(tmp_path, space=FOLDED)
    jobs = batches.ask(0, 2)
    assert len(jobs) == 12
    assert [job[2:] for job in jobs[:6]] == [[f"seed={s}", f"data.fold={f}"] for s in "34" for f in "012"]
    assert len({tuple(job[:2]) for job in jobs[:6]}) == 1
    results = [{"validation_accuracy": n / 12, "stopped_by": "max_epochs"} for n in range(12)]
    entries = [Entry(n, jobs[n], "", {}, DONE, result=result) for n, result in enumerate(results)]
    entries[11] = Entry(11, jobs[11], "", {}, FAILED, error="none")
    batches.tell(entries)
    first, second = batches._study.trials
    assert first.value == pytest.approx(1 - 2.5 / 12)
    assert second.state == optuna.trial.TrialState.FAIL
    assert len(batches.ask(12, 2)) == 12


def test_all_jobs_of_a_trial_are_pruned_together(tmp_path):
    batches = open_study(tmp_path, space=FOLDED, pruner="median", num_trials=16)
    for first in (0, 48):
        jobs = batches.ask(first, 8)
        for number in range(first, first + 48):
            batches.observe(number, 1, 0.5 if number < 90 or number == 95 else 0.9)
            assert number < 95 or not batches.pruned or number == 95
        assert batches.pruned == ({*range(90, 96)} if first else set())
        batches.tell([judge(first + n, [f"x={n}", "kind=b"]) for n in range(len(jobs))])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"sampler_options": {"n_startup_trial": 3}},
            r"sampler_options` has no 'n_startup_trial'; choose one of: n_startup_trials",
        ),
        (
            {"sampler_options": {"n_startup_trials": "a"}},
            r"sampler_options\.n_startup_trials` must be an integer; got 'a'",
        ),
        ({"sampler_options": {"seed": 3}}, r"sampler_options` has no 'seed'"),
        ({"sampler_options": {"gamma": 3}}, r"sampler_options` has no 'gamma'"),
        (
            {"sampler": "qmc", "sampler_options": {"qmc_type": "latin"}},
            r"sampler_options` .* Choose either `halton` or `sobol`",
        ),
        ({"sampler": "nsgaii", "sampler_options": {"population_size": 1}}, "sampler_options` .*population_size"),
        ({"sampler": "grid"}, "sampler` grid must have lists only; got num_trials=3"),
        ({"sampler": "grid", "space": LISTS, "num_trials": 25}, "grid must have at most 24 trials, as many as"),
    ],
)
def test_options_of_a_sampler_are_those_of_its_signature(changed, message):
    with pytest.raises(InputError, match=message):
        check_options(
            **{"num_trials": 3, "batch_size": 2, "sampler": "tpe", "pruner": "none", "space": SPACE, **changed}
        )


@pytest.mark.parametrize(("sampler", "package"), [("gp", "torch"), ("cmaes", "cmaes")])
def test_a_package_that_is_not_there_is_named_with_the_command_that_installs_it(sampler, package, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=f"{sampler} needs the package {package}: pip install {package}"):
        check_options(num_trials=3, batch_size=2, sampler=sampler, pruner="none")
