"""Options of launchers and sweepers are checked before the directory of a sweep is taken."""

import importlib.util
import re
from pathlib import Path

import pytest

from lenet_jax.cli import main
from lenet_jax.errors import InputError
from lenet_jax.hydra_app.checks import check_recorded_plugin
from lenet_jax.hydra_app.composition import compose, open_hydra
from lenet_jax.hydra_app.plugin_options import check_plugin_options
from lenet_jax.hydra_app.sweep_jobs import known_jobs

pytestmark = pytest.mark.usefixtures("in_an_empty_folder", "without_type_checks")

OPTUNA = ["hydra/sweeper=optuna_batch", "optimizer.learning_rate=interval(0.1,0.2)"]
GRID = ["seed=0,1"]
HALVING = ["hydra/sweeper=halving", *GRID]
RANDOM = ["hydra/sweeper=random", "optimizer.learning_rate=interval(0.1,0.2)"]
JOBLIB = ["hydra/launcher=joblib", *GRID]
COUNT = "must be an integer, 1 or above"


@pytest.fixture(scope="module")
def hydra():
    with open_hydra() as opened:
        yield opened


@pytest.mark.parametrize(
    ("arguments", "option", "rule"),
    [
        *((OPTUNA, f"sweeper.num_trials={value}", COUNT) for value in ("abc", "1e1", "null", "0")),
        (OPTUNA, "sweeper.batch_size=2.5", COUNT),
        *(
            (OPTUNA, f"sweeper.seed={value}", "must be an integer from 0 to 4294967295")
            for value in ("abc", "null", "-1")
        ),
        (OPTUNA, "sweeper.sampler=[tpe]", "must be a text"),
        *((HALVING, f"sweeper.min_epochs={value}", COUNT) for value in ("abc", "null", "true")),
        *((HALVING, f"sweeper.reduction={value}", "must be an integer, 2 or above") for value in ("abc", "2.5", "1")),
        *(
            (GRID, f"sweeper.max_batch_size={value}", "must be null or an integer, 1 or above")
            for value in ("0", "-1", "1.5")
        ),
        (JOBLIB, "launcher.n_jobs=0", "must be an integer other than 0"),
        (JOBLIB, "launcher.require=sharedmem", "must be null"),
        (JOBLIB, "launcher.pre_dispatch=some", "must be an integer, 1 or above, or a text, all or a number of jobs"),
        *((JOBLIB, f"launcher.batch_size={value}", "must be an integer, 1") for value in ("0", "many")),
        (
            JOBLIB,
            "launcher.max_nbytes=1T",
            "must be null, or an integer, 1 or above, or a text, a number with K, M or G",
        ),
        (RANDOM, "sweeper.num_trials=0", COUNT),
        (RANDOM, "sweeper.method=latin", "must be one of random, sobol, halton"),
        (RANDOM, "sweeper.seed=-1", "must be an integer from 0 to 4294967295"),
        (HALVING, "sweeper.brackets=0", "must be null or an integer, 1 or above"),
        (HALVING, "sweeper.asynchronous=1", "must be true or false"),
        (GRID, "sweeper.zip=a", "must be null or a list"),
        (OPTUNA, "sweeper.sampler_options=[1]", "must be null or a mapping"),
        (JOBLIB, "launcher.backend=nope", "must be null or 'loky'"),
        (GRID, "sweeper.params=[1]", "must be null or"),
    ],
)
def test_what_an_option_cannot_be_is_refused(arguments, option, rule, hydra):
    if arguments is JOBLIB and importlib.util.find_spec("hydra_plugins.hydra_joblib_launcher") is None:
        pytest.skip("needs hydra-joblib-launcher")
    base = compose(hydra, [*arguments, f"hydra.{option}"], multirun=True)
    with pytest.raises(InputError, match=re.escape(f"`hydra.{option.partition('=')[0]}` {rule}")):
        check_plugin_options(base.hydra)


VALID = ("n_jobs=-3", "n_jobs=-1", "pre_dispatch=all", "pre_dispatch='3*n_jobs'", "pre_dispatch=4", "batch_size=2")
VALID += ("batch_size=auto", "max_nbytes=1M", "max_nbytes=null", "mmap_mode=c", "prefer=threads")


@pytest.mark.parametrize("option", VALID)
def test_what_joblib_takes_is_taken(option, hydra):
    joblib = pytest.importorskip("joblib")
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    base = compose(hydra, [*JOBLIB, f"hydra.launcher.{option}"], multirun=True)
    check_plugin_options(base.hydra)
    name, value = option.partition("=")[0], base.hydra.launcher[option.partition("=")[0]]
    value = (
        int(value) if name in ("pre_dispatch", "batch_size") and str(value).isdecimal() else value
    )  # as the launcher
    assert joblib.Parallel(**{"n_jobs": 1, "backend": "loky", name: value})(joblib.delayed(abs)(-1) for _ in "ab") == [
        1,
        1,
    ]


def test_a_launcher_in_a_file_of_the_user_may_prefer_nothing(tmp_path):
    file = tmp_path / "conf" / "hydra" / "launcher" / "mine.yaml"
    file.parent.mkdir(parents=True)
    target = "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher"
    file.write_text(f"_target_: {target}\nn_jobs: -3\nprefer: null\n")
    with open_hydra(config_dir="conf") as own:
        check_plugin_options(compose(own, ["hydra/launcher=mine"], multirun=True).hydra)


def test_options_are_checked_before_the_directory_is_taken(capsys):
    assert main(["train", "-m", *HALVING, "hydra.sweeper.min_epochs=abc", "hydra.sweep.dir=sweep"]) == 2
    assert f"`hydra.sweeper.min_epochs` {COUNT}; got 'abc'." in capsys.readouterr().err
    assert not Path("sweep").exists()


def test_an_option_that_a_sweeper_does_not_have_is_refused(capsys):
    assert main(["train", "-m", *GRID, "+hydra.sweeper.storage=a", "hydra.sweep.dir=sweep"]) == 2
    assert "`hydra.sweeper` has no 'storage'; choose one of:" in capsys.readouterr().err


def test_parameters_of_a_sweeper_are_keys_of_runs(capsys):
    assert main(["train", "-m", *GRID, "+hydra.sweeper.params={hydra.sweep.dir: a}", "hydra.sweep.dir=sweep"]) == 2
    assert "`hydra.sweeper.params` must name keys of runs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("params", "jobs"),
    [
        ("{seed: '0,1'}", [["seed=0"], ["seed=1"]]),
        ("{seed: '${hydra:job.num}'}", [["seed=${hydra:job.num}"]]),
        (
            "{trainer.checkpoint_every: null, model.num_kernels: [2, 3]}",
            [["trainer.checkpoint_every=null", "model.num_kernels=[2,3]"]],
        ),
        ("null", [[]]),
    ],
)
def test_parameters_of_a_sweeper_are_overrides_of_its_jobs(params, jobs, hydra):
    base = compose(hydra, [f"hydra.sweeper.params={params}"], multirun=True)
    check_plugin_options(base.hydra)
    assert known_jobs(base, hydra.config_loader) == jobs
    last = compose(hydra, [f"hydra.sweeper.params={params}", "seed=5"], multirun=True)
    assert {job[-1] for job in known_jobs(last, hydra.config_loader) or ()} == {"seed=5"}


OPTUNA_RECORD = {"_target_": "hydra_plugins.lenet_jax.OptunaBatchSweeper", "num_trials": 3}


def test_a_directory_may_set_options_of_a_sampler_that_are_plain():
    options = {"sampler": "tpe", "sampler_options": {"multivariate": True, "n_startup_trials": 4}}
    check_recorded_plugin("hydra.sweeper", {**OPTUNA_RECORD, **options}, ())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"sampler": "cmaes"},
            "`hydra.sweeper.sampler` cmaes runs code of the directory; if the sweep is yours, use --trust.",
        ),
        ({"sampler_options": {"a": "$(rm)"}}, "`hydra.sweeper.sampler_options` must not be set by the directory"),
    ],
)
def test_a_directory_may_not_have_code_run_by_a_sampler(options, message):
    with pytest.raises(InputError, match=re.escape(message)):
        check_recorded_plugin("hydra.sweeper", {**OPTUNA_RECORD, **options}, ())
    check_recorded_plugin("hydra.sweeper", {**OPTUNA_RECORD, **options}, ("*",))
