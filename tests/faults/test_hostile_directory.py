"""A run or a sweep of somebody else's can be resumed and reported on: nothing outside it is run, read or written."""

import json
import os
import sys
from pathlib import Path

import pytest

from lenet_jax.cli import main
from lenet_jax.components import complete_config, signature
from lenet_jax.config import Config, TrainerConfig, to_dict
from lenet_jax.config.catalogue import TARGET, built_in
from lenet_jax.errors import InputError
from lenet_jax.hydra_app.checks import check_recorded_argument, check_recorded_plugin
from lenet_jax.storage import dump_with_digest, load_verified
from lenet_jax.sweeps.ledger import DONE, PENDING, Entry, Ledger
from tests.faults.hostile import CODE, SENTINEL

pytestmark = pytest.mark.usefixtures("in_an_empty_folder")

LANES = {TARGET: "hydra_plugins.lenet_jax.LanesLauncher"}
BASIC = {TARGET: "hydra._internal.core_plugins.basic_launcher.BasicLauncher"}
JOBLIB = {TARGET: "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher"}
SLURM = {TARGET: "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher"}
GRID = {TARGET: "hydra_plugins.lenet_jax.GridSweeper", "max_batch_size": None, "params": None}
OPTUNA = {
    **{TARGET: "hydra_plugins.lenet_jax.OptunaBatchSweeper", "num_trials": 2, "batch_size": 2},
    **{"sampler": "random", "pruner": "none", "seed": 0},
}
IDENTITY = {
    **{"arguments": ["seed=1,2"], "config_name": "config", "folders": {}, "sweep": {}},
    **{"base": {"seed": 0}, "code": {"revision": None}, "versions": {}, "data": []},
    "hydra": {"launcher": LANES, "sweeper": GRID, "sweep": {"dir": "theirs", "subdir": "${hydra:job.num}"}},
}
RESULT = {"test_accuracy": 0.9, "validation_accuracy": 0.9, "epochs": 1, "stopped_by": "max_epochs"}
TINY = {
    "model": {**built_in("model")["lenet"], "num_kernels": [2, 2], "hidden_units": 4},
    "data": {**built_in("data")["embedded"], "train_size": 100},
}


def config(**parts):
    """A complete configuration that takes a second to run, with other parts that are not checked."""
    return {**to_dict(complete_config(Config(trainer=TrainerConfig(max_epochs=1), **TINY))), **parts}


@pytest.fixture
def refuse(capsys, tmp_path):
    """Run a command that must be refused, which changes nothing and runs nothing; return what it says."""

    def run(*arguments):
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        variables = _variables()
        assert main(arguments) == 2
        err = capsys.readouterr().err
        assert len(err.splitlines()) == 1
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
        assert _variables() == variables
        assert not list(tmp_path.rglob(SENTINEL))
        return err.removeprefix("lenet-jax: ").rstrip("\n")

    return run


def _variables():
    """The environment, without what the command line sets for JAX."""
    own = ("TF_CPP_MIN_LOG_LEVEL", "XLA_FLAGS", "JAX_NUM_CPU_DEVICES", "XLA_PYTHON_CLIENT_PREALLOCATE")
    return {name: value for name, value in os.environ.items() if name not in own}


@pytest.fixture
def foreign(tmp_path):
    """Make the directory of a sweep with something else in its files."""

    def make(*entries, hydra=None, **identity):
        directory = tmp_path / "theirs"
        hydra = {**IDENTITY["hydra"], **(hydra or {})}
        ledger = Ledger.create(directory, {**IDENTITY, "hydra": hydra, **identity})
        if entries:
            ledger.write_plan(entry._replace(state=PENDING, result=None, error=None) for entry in entries)
        for entry in entries:
            ledger.write(entry)
        return directory

    return make


@pytest.fixture
def foreign_run(tmp_path):
    """Make the directory of a run with something else in its configuration."""

    def make(**parts):
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "run.json").write_bytes(dump_with_digest({"config": config(**parts)}))

    return make


@pytest.fixture
def evil(tmp_path, monkeypatch):
    """A module in the working directory that leaves a trace if it is imported."""
    (tmp_path / "evil.py").write_text(
        f"import pathlib\npathlib.Path({SENTINEL!r}).touch()\n\n\ndef run(**options):\n    pass\n"
    )
    monkeypatch.delitem(sys.modules, "evil", raising=False)
    monkeypatch.setattr(sys, "path", [*sys.path])
    signature.cache_clear()


# ---- code in the configuration of a run -----------------------------------------------------------------------------

NODES = [{TARGET: "os.system", "command": CODE}, {TARGET: "evil.run"}, {TARGET: "evil.run", "_partial_": True}]
PLACES = [
    *(({group: node}, group) for group in ("model", "data", "optimizer", "schedule", "objective") for node in NODES),
    *(({group: node}, group) for group in ("augment", "trackers") for node in NODES),
    *(({group: {"a": node}}, f"{group}.a") for group in ("augment", "trackers") for node in NODES),
    *(({group: [node]}, f"{group}[0]") for group in ("augment", "trackers") for node in NODES),
    ({"model": {**TINY["model"], "hidden_units": NODES[0]}}, "model.hidden_units"),
    ({"model": {**TINY["model"], "hidden_units": {"a": [[NODES[1]]]}}}, "model.hidden_units.a[0][0]"),
    ({"augment": {TARGET: "lenet_jax.augment.random_flip", "a": {"b": NODES[1]}}}, "augment.a.b"),
]  # fmt: skip


@pytest.mark.parametrize(("parts", "place"), PLACES)
def test_code_in_a_run_is_refused_with_its_place_and_the_remedy(parts, place, refuse, foreign_run, evil):
    foreign_run(**parts)
    package = "os" if "os.system" in str(parts) else "evil"
    for command in ("resume", "verify", "evaluate", "report"):
        message = refuse(command, "run")
        assert message.startswith(f"`{place}` of run names code to run, '{package}.")
        assert f"--allow {package} on this command, LENET_JAX_ALLOW={package}, or allow = " in message


@pytest.mark.parametrize(
    "target",
    [
        *("lenet_jax.storage.write_atomically", "lenet_jax.runs.run.run", "lenet_jax.cli.main", "lenet_jax.os.system"),
        *("lenet_jax.models.lenet.layers", "lenet_jax.augment._check_range", "", "a/b.c", "os system", "${model}"),
        *("../evil.run", "evil", ".evil.run", "lenet_jax.components.locate"),
    ],
)
def test_what_is_no_component_is_refused_as_well(target, refuse, foreign_run, evil):
    foreign_run(model={TARGET: target})
    assert refuse("resume", "run").startswith("`model` of run ")


@pytest.mark.parametrize("target", [["os", "system"], {"a": "os.system"}, 3, None])
def test_a_function_that_is_no_text_is_refused(target, refuse, foreign_run):
    foreign_run(model={TARGET: target})
    refuse("resume", "run")


@pytest.mark.parametrize(
    "way",
    [["--allow", "evil"], ["--allow=evil"], ["--trust"], "LENET_JAX_ALLOW", "pyproject.toml"],
)
def test_code_that_the_user_allows_is_imported(way, foreign_run, evil, tmp_path, monkeypatch, capsys):
    foreign_run(model={TARGET: "evil.run"})
    if way == "LENET_JAX_ALLOW":
        monkeypatch.setenv(way, "another, evil")
    elif way == "pyproject.toml":
        (tmp_path / way).write_text('[tool.lenet_jax]\nallow = ["evil"]\n')
    options = way if isinstance(way, list) else []
    monkeypatch.setattr("lenet_jax.runs.run.resume_run", lambda record, **options: iter(()))
    main(["resume", "run", *options])
    assert (tmp_path / SENTINEL).exists()


def test_a_package_that_is_allowed_allows_no_other(refuse, foreign_run, evil):
    foreign_run(model={TARGET: "evil.run"}, trackers={"a": {TARGET: "os.system"}})
    assert refuse("resume", "run", "--allow", "evil").startswith("`trackers.a` of run names code to run, 'os.system'")


@pytest.mark.parametrize("name", ["../precious.csv", "/etc/x.csv", "run.json", "checkpoints/a.csv"])
def test_a_tracker_writes_into_the_directory_of_its_run_only(name, refuse, foreign_run, tmp_path):
    (tmp_path / "precious.csv").write_text("precious")
    foreign_run(trackers={"csv": {**built_in("trackers")["csv"]["csv"], "name": name}})
    assert refuse("resume", "run").startswith("`trackers.csv.name` must be the name of a file that ends in .csv; got ")


def test_a_tracker_sends_a_run_to_where_the_user_says_only(refuse, foreign_run, foreign):
    theirs = {"mlflow": {**built_in("trackers")["mlflow"]["mlflow"], "tracking_uri": "http://127.0.0.1:9"}}
    foreign_run(trackers=theirs)
    assert refuse("resume", "run").startswith("`trackers.mlflow.tracking_uri` of run says where the run is sent to, ")
    foreign(Entry(0, ["seed=1"], "0", config(trackers=theirs)))
    assert refuse("resume", "theirs").startswith("`trackers.mlflow.tracking_uri` of theirs, job 0 says where ")


def test_a_sweep_that_goes_on_sends_its_jobs_to_where_the_user_says_only(refuse, foreign):
    arguments = ["optimizer.learning_rate=interval(0.1,1)", "trackers=wandb", "trackers.wandb.mode=online"]
    foreign(arguments=arguments, hydra={"sweeper": OPTUNA})
    assert refuse("resume", "theirs").startswith("`trackers.wandb.mode` of the sweep says where the run is sent to, ")


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "figures"])
def test_a_run_is_not_logged_through_a_link_that_leads_out(name, refuse, foreign_run, tmp_path):
    foreign_run()
    (tmp_path / "mine").mkdir()
    (tmp_path / "run" / name).symlink_to(tmp_path / "mine")
    assert "must not lead out of" in refuse("log", "run", "--to", "csv")
    assert "must not lead out of" in refuse("resume", "run")


@pytest.mark.parametrize(
    "target", ["builtins.eval", "subprocess.Popen", "runpy.run_path", "shutil.rmtree", "beside.run"]
)
def test_code_of_any_package_is_refused(target, refuse, foreign_run, foreign, tmp_path):
    (tmp_path / "theirs").mkdir()
    for folder in (tmp_path, tmp_path / "theirs"):
        (folder / "beside.py").write_text(f"import pathlib\npathlib.Path({SENTINEL!r}).touch()\n")
    foreign_run(trackers={"a": {TARGET: target}})
    foreign(Entry(0, ["seed=1"], "0", config(augment={TARGET: "lenet_jax.augment.random_flip", "p": {TARGET: target}})))
    package = target.partition(".")[0]
    assert f"LENET_JAX_ALLOW={package}, or allow = " in refuse("verify", "run")
    assert f"LENET_JAX_ALLOW={package}, or allow = " in refuse("resume", "theirs")


@pytest.fixture
def their_lab(tmp_path, monkeypatch):
    """A package that the user allows, which imports others for its own use."""
    (tmp_path / "hostlab").mkdir()
    imports = ["import os", "from os import environ, system", "from subprocess import Popen"]
    imports += ["from lenet_jax.storage import write_file"]
    (tmp_path / "hostlab" / "nets.py").write_text("\n".join([*imports, "def net():", "    pass", ""]))
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield
    for name in ("hostlab", "hostlab.nets"):
        sys.modules.pop(name, None)
    signature.cache_clear()


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("os.system", os.system.__module__),
        ("system", os.system.__module__),
        ("os.path.os.execv", os.execv.__module__),
        ("Popen", "subprocess"),
        ("environ.clear", "collections"),
        ("net.__globals__.clear", "builtins"),
        ("write_file", "lenet_jax"),
    ],
)
def test_what_an_allowed_module_has_merely_imported_is_refused(name, package, refuse, foreign_run, their_lab):
    target = f"hostlab.nets.{name}"
    foreign_run(model={TARGET: target, "command": CODE})
    assert refuse("resume", "run", "--allow", "hostlab") == (
        f"`model` of run names code to run, {target!r}, which is defined in {package}; if you know it, allow that as "
        f"well: --allow {package}."
    )


def test_a_module_that_lies_in_the_directory_is_refused_though_its_name_is_allowed(
    refuse, foreign_run, tmp_path, monkeypatch
):
    foreign_run(model={TARGET: "lying.run"})
    (tmp_path / "run" / "lying.py").write_text(f"import pathlib\npathlib.Path({SENTINEL!r}).touch()\n")
    monkeypatch.chdir(tmp_path / "run")
    monkeypatch.setattr(sys, "path", [*sys.path])
    for command in ("resume", "verify", "evaluate", "report"):
        message = refuse(command, ".", "--allow", "lying")
        assert message.startswith("`model` must not name code that lies in . itself; got ")
        assert message.endswith("lying.py; move it, or use --trust.")


# ---- code in the ledger of a sweep ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("parts", "place"), PLACES[::3])
@pytest.mark.parametrize("launcher", [LANES, BASIC, JOBLIB])
def test_code_in_a_job_is_refused(parts, place, launcher, refuse, foreign, evil):
    foreign(Entry(0, ["seed=1"], "0", config(**parts)), hydra={"launcher": launcher})
    message = refuse("resume", "theirs")
    assert message.startswith(f"`{place}` of theirs, job 0 names code to run, ")
    assert "LENET_JAX_ALLOW=" in message


@pytest.mark.parametrize(("parts", "place"), PLACES[::5])
def test_code_in_the_plan_of_a_sweep_is_refused(parts, place, refuse, foreign, evil):
    directory = foreign()
    Ledger(directory).write_plan([Entry(0, ["seed=1"], "0", config(**parts))])
    assert refuse("resume", "theirs").startswith(f"`{place}` of theirs, job 0 names code to run, ")


def test_a_configuration_of_a_job_is_not_read_for_interpolations(foreign, tmp_path, monkeypatch):
    """Its texts are texts: what OmegaConf would make of them is neither code nor a variable of the environment."""
    monkeypatch.setenv("SECRET", "secret")
    texts = ["${oc.create:{_target_:os.system}}", "${oc.env:SECRET}", "a \\${seed}", "\\\\${seed}"]
    model = {TARGET: "tests.faults.test_hostile_directory.linear_with", "texts": texts}
    for number, launcher in enumerate((LANES, BASIC)):
        (tmp_path / str(number)).mkdir()
        monkeypatch.chdir(tmp_path / str(number))
        content = {**config(model=model), "trackers": {}}
        ledger = Ledger.create(Path("theirs"), {**IDENTITY, "hydra": {**IDENTITY["hydra"], "launcher": launcher}})
        ledger.write_plan([Entry(0, ["seed=1"], "0", content)])
        received.clear()
        assert main(["resume", "theirs", "--allow-changed", "--allow", "tests"]) == 0
        assert received
        assert set(map(tuple, received)) == {tuple(texts)}
        assert "secret" not in "".join(path.read_text() for path in Path("theirs/0/.hydra").iterdir())


received = []


def linear_with(*, input_shape, num_outputs, texts):
    """A model that keeps its option."""
    from tests.linear import linear

    received.append(texts)
    return linear(input_shape=input_shape, num_outputs=num_outputs)


@pytest.mark.parametrize("launcher", [LANES, BASIC])
@pytest.mark.parametrize("subdirectory", ["../mine", "/tmp/lenet-jax-hostile", "${oc.env:HOME}", "mine"])
def test_jobs_are_where_the_ledger_has_them(launcher, subdirectory, foreign, tmp_path):
    foreign(
        Entry(0, ["seed=1"], "job 0", config()),
        hydra={"launcher": launcher, "sweep": {"dir": "/elsewhere", "subdir": subdirectory}},
    )
    assert main(["resume", "theirs", "--allow-changed"]) == 0
    assert (tmp_path / "theirs" / "job 0" / "result.json").is_file()
    assert {path.name for path in tmp_path.iterdir()} == {"theirs"}
    assert not (tmp_path / "theirs" / "mine").exists()


# ---- launchers and sweepers -----------------------------------------------------------------------------------------

PLUGINS = [
    *("os.system", "builtins.exec", "subprocess.Popen", "evil.run", "hydra_plugins.evil.Evil", "hydra_plugins"),
    *("hydra._internal.core_plugins.basic_launcher.os.system", "lenet_jax.cli.main", "${oc.env:HOME}", "a\x1b[31m.b"),
]


@pytest.mark.parametrize("name", ["launcher", "sweeper"])
@pytest.mark.parametrize("target", [*PLUGINS, None, 3, ["os.system"]])
def test_a_plugin_of_somebody_elses_is_refused(name, target, refuse, foreign, evil):
    foreign(Entry(0, ["seed=1"], "0", config()), hydra={name: {TARGET: target, "command": CODE}})
    message = refuse("resume", "theirs")
    assert message.startswith(f"`hydra.{name}` in the directory of the sweep names code to run, ")
    assert "; if you know it, allow it: --allow " in message


CALLBACKS = [
    ({"a": NODES[1]}, [], "`hydra.callbacks.a` of theirs names code to run, 'evil.run'; "),
    (
        {"a": {"b": [NODES[0]]}},
        ["--allow", "evil"],
        "`hydra.callbacks.a.b[0]` of theirs names code to run, 'os.system'; ",
    ),
    ({"a": {TARGET: "${oc.env:HOME}"}}, ["--allow", "evil"], "`hydra.callbacks.a` of theirs must name a component; "),
    (
        {"a": "${hydra.sweeper.params.b}"},
        ["--allow", "evil"],
        "`hydra.callbacks.a` of theirs names code to run, 'os.sys",
    ),
    ([NODES[1]], ["--allow", "evil"], "theirs/sweep.json: is damaged, hydra.callbacks is no table; restore it."),
]


@pytest.mark.parametrize(("callbacks", "options", "beginning"), CALLBACKS)
def test_callbacks_of_a_sweep_are_refused_unless_they_are_allowed(callbacks, options, beginning, refuse, foreign, evil):
    sweeper = {**GRID, "params": {"b": NODES[0]}}
    foreign(Entry(0, ["seed=1"], "0", config()), hydra={"callbacks": callbacks, "sweeper": sweeper})
    assert refuse("resume", "theirs", *options).startswith(beginning)


@pytest.mark.parametrize("launcher", [LANES, BASIC])
def test_hydras_part_of_a_sweep_sets_nothing(launcher, foreign, tmp_path, monkeypatch):
    job = {"env_set": {"EVIL": "1"}, "env_copy": ["HOME"], "chdir": True}
    searchpath = [f"file://{tmp_path}"]
    foreign(Entry(0, ["seed=1"], "0", config()), hydra={"launcher": launcher, "job": job, "searchpath": searchpath})
    resumed = []
    monkeypatch.setattr("lenet_jax.hydra_app.launcher.run_sweep", resumed.append)
    path = [*sys.path]
    main(["resume", "theirs", "--allow-changed", "--allow", "evil"])
    hydra = resumed[0].base.hydra
    assert (dict(hydra.job.env_set), hydra.job.chdir, hydra.searchpath, "EVIL" in os.environ) == ({}, None, [], False)
    assert [each for each in sys.path if each not in path] in ([], [str(tmp_path)])


@pytest.mark.parametrize("content", [None, [], "os.system", {}, 3])
@pytest.mark.parametrize("name", ["launcher", "sweeper"])
def test_a_plugin_that_is_none_is_refused(name, content, refuse, foreign):
    foreign(Entry(0, ["seed=1"], "0", config()), hydra={name: content})
    assert refuse("resume", "theirs").startswith(f"`hydra.{name}` in the directory of the sweep names code to run, ")


def test_a_launcher_is_no_sweeper(refuse, foreign):
    foreign(Entry(0, ["seed=1"], "0", config()), hydra={"sweeper": LANES})
    assert refuse("resume", "theirs").startswith("`hydra.sweeper` in the directory of the sweep names code to run, ")


COMMANDS = [
    (SLURM, "setup", ["touch sentinel"]),
    (SLURM, "python", "/tmp/evil"),
    (SLURM, "srun_args", ["--prolog=/tmp/evil"]),
    (SLURM, "additional_parameters", {"wrap": "touch sentinel"}),
    (SLURM, "partition", "a b;touch"),
    (SLURM, "partition", "a\nb"),
    (SLURM, "partition", "${oc.env:HOME}"),
    (SLURM, "partition", ["a"]),
    (SLURM, "comment", "a"),
    (JOBLIB, "temp_folder", "/tmp/evil"),
    (JOBLIB, "n_jobs", {"a": 1}),
    (JOBLIB, "pre_dispatch", '__import__("os").system("touch sentinel")'),
    (JOBLIB, "pre_dispatch", "n_jobs**9**9"),
    (JOBLIB, "nested", {TARGET: "os.system"}),
    (LANES, "nested", {TARGET: "os.system"}),
    (GRID, "nested", {TARGET: "os.system"}),
    (GRID, "max_batch_size", "${oc.env:HOME}"),
    (OPTUNA, "sampler", {TARGET: "os.system"}),
]


@pytest.mark.parametrize(("plugin", "option", "value"), COMMANDS)
def test_an_option_of_a_plugin_that_may_be_a_command_is_refused(plugin, option, value, refuse, foreign):
    name = "sweeper" if "Sweeper" in plugin[TARGET] else "launcher"
    foreign(Entry(0, ["seed=1"], "0", config()), hydra={name: {**plugin, option: value}})
    message = refuse("resume", "theirs")
    assert message.startswith(f"`hydra.{name}.{option}` must not be set by the directory of a sweep; got ")
    assert message.endswith("; if the sweep is yours, resume it with --trust.")
    check_recorded_plugin(f"hydra.{name}", {**plugin, option: value}, ["*"])


@pytest.mark.parametrize(
    ("plugin", "option", "value"),
    [
        (SLURM, "timeout_min", 60),
        (SLURM, "partition", "gpu-a100"),
        (SLURM, "gres", "gpu:1"),
        (SLURM, "mem_per_cpu", "4G"),
        (SLURM, "name", "${hydra.job.name}"),
        (SLURM, "setup", None),
        (SLURM, "submitit_folder", "${hydra.sweep.dir}/.submitit/%j"),
        (JOBLIB, "n_jobs", -1),
        (JOBLIB, "pre_dispatch", "2*n_jobs"),
        (OPTUNA, "num_trials", 4),
    ],
)
def test_a_sweep_keeps_the_options_that_are_numbers_and_names(plugin, option, value):
    name = "hydra.sweeper" if "Sweeper" in plugin[TARGET] else "hydra.launcher"
    check_recorded_plugin(name, {**plugin, option: value}, ())


def test_an_own_launcher_is_used_when_its_package_is_allowed():
    node = {TARGET: "hydra_plugins.mylab.Launcher", "command": "anything"}
    check_recorded_plugin("hydra.launcher", node, ["hydra_plugins"])
    check_recorded_plugin("hydra.launcher", node, ["*"])


# ---- sweepers that choose further jobs ------------------------------------------------------------------------------

ARGUMENTS = [
    "hydra={callbacks:{a:{_target_:os.system,command:'touch sentinel'}}}",
    "+hydra={callbacks:{a:{_target_:os.system,command:'touch sentinel'}}}",
    "~hydra",
    "model@hydra.callbacks.a=lenet",
    "+model@hydra.callbacks.a=lenet",
    "experiment=../../../theirs/evil",
    "model=${data.name}",
    "data.directory='${oc.env:HOME}'",
    "data.directory='${oc.${data.name}:HOME}'",
    "data.directory='${oc.create:{_target_:os.system}}'",
    "+data.x=[{a:'${oc.env:HOME}'}]",
    "+data.x='${run_id:}'",
]


@pytest.mark.parametrize("argument", ARGUMENTS)
def test_arguments_of_a_sweep_that_goes_on_set_values_only(argument, refuse, foreign):
    directory = foreign(arguments=["optimizer.learning_rate=interval(0.1,1)", argument], hydra={"sweeper": OPTUNA})
    (directory / "evil.yaml").write_text("# @package _global_\nhydra: {callbacks: {a: {_target_: os.system}}}\n")
    message = refuse("resume", "theirs", "--allow", "mylab")
    assert " must set a value or choose a file of conf/; the directory of the sweep has " in message
    assert message.endswith("; if the sweep is yours, resume it with --trust.")


@pytest.mark.parametrize("argument", ["+model@:hydra.launcher=lenet", "+../theirs=evil", "a\x1b[31m=1", "=", "seed=[1"])
def test_a_malformed_argument_of_a_sweep_that_goes_on_is_one_line(argument, refuse, foreign):
    foreign(arguments=["optimizer.learning_rate=interval(0.1,1)", argument], hydra={"sweeper": OPTUNA})
    refuse("resume", "theirs")


@pytest.mark.parametrize(
    "argument",
    [
        "model={_target_:os.system}",
        "model._target_=os.system",
        "model._target_=evil.run",
        "+augment.a={_target_:evil.run}",
        "model.hidden_units={_target_:evil.run}",
        "trackers={a:{_target_:evil.run}}",
    ],
)
def test_arguments_of_a_sweep_that_goes_on_name_no_code(argument, refuse, foreign, evil):
    foreign(arguments=["optimizer.learning_rate=interval(0.1,1)", argument], hydra={"sweeper": OPTUNA})
    assert " of the sweep names code to run, '" in refuse("resume", "theirs")


@pytest.mark.parametrize(
    "argument",
    [
        "hydra.launcher.setup=['touch sentinel']",
        "+hydra.callbacks.a._target_=os.system",
        "hydra.callbacks={}",
        "hydra/launcher=basic",
        "hydra.job.env_set={PATH:/tmp}",
        "+hydra.job.env_set.PATH=/tmp",
        "hydra.searchpath=[file:///tmp]",
        "hydra.run.dir=/tmp/evil",
        "hydra.mode=RUN",
        "hydra.sweep.dir=/tmp/evil",
        "hydra.sweep.subdir=../evil",
        "hydra.job_logging.handlers.file.filename=/tmp/evil",
    ],
)
def test_arguments_for_hydra_itself_are_left_out(argument, foreign, tmp_path, monkeypatch):
    arguments = ["optimizer.learning_rate=interval(0.1,1)", "trainer.max_epochs=1", "data.train_size=100", argument]
    foreign(arguments=arguments, hydra={"sweeper": OPTUNA})
    composed = []

    def keep(sweep):
        hydra = sweep.base.hydra
        composed.extend([hydra.sweep.dir, hydra.run.dir.startswith("outputs/"), dict(hydra.callbacks)])
        composed.extend([dict(hydra.job.env_set), list(hydra.searchpath), hydra.launcher[TARGET]])

    monkeypatch.setattr("lenet_jax.hydra_app.launcher.run_sweep", keep)
    variables = _variables()
    assert main(["resume", "theirs", "--allow-changed"]) == 0
    assert composed == ["theirs", True, {}, {}, [], LANES[TARGET]]
    assert _variables() == variables


@pytest.mark.parametrize(
    ("key", "package", "text"),
    [
        ("seed", None, "seed=1,2"),
        ("optimizer.learning_rate", None, "optimizer.learning_rate=tag(log,interval(0.01,1))"),
        ("model", None, "model=choice(lenet,mnist_cnn)"),
        ("experiment", None, "experiment=theano_lenet"),
        ("data.directory", None, "data.directory=/data/mnist"),
        ("trainer.max_epochs", None, "trainer.max_epochs=${seed}"),
        ("data.directory", None, "data.directory='a/${hydra:job.num}'"),
        ("model.depth", None, "+model.depth=6"),
    ],
)
def test_a_sweep_that_goes_on_keeps_what_it_needs(key, package, text):
    check_recorded_argument(key, package, text)


@pytest.mark.parametrize(
    "identity",
    [
        {"folders": {"config_path": None, "config_dir": "theirs/conf"}},
        {"folders": {"config_path": "theirs/conf"}},
        {"folders": {"config_dir": "theirs/conf"}, "config_name": "other"},
        {"config_name": "../theirs/conf/other"},
    ],
)
def test_the_folder_of_a_foreign_sweep_is_no_way_around(identity, refuse, foreign):
    directory = foreign(arguments=["optimizer.learning_rate=interval(0.1,1)"], hydra={"sweeper": OPTUNA}, **identity)
    (directory / "conf").mkdir()
    text = f"defaults:\n  - /config\n  - _self_\nhydra:\n  callbacks: {{a: {{_target_: os.system, command: {CODE}}}}}\n"
    (directory / "conf" / "other.yaml").write_text(text)
    assert refuse("resume", "theirs").endswith("; if the sweep is yours, resume it with --trust.")


@pytest.mark.parametrize("subdirectory", ["../mine", "/etc", "${oc.env:HOME}", "${seed}", "", 3, None, "jobs/0.json"])
def test_further_jobs_are_inside_the_sweep(subdirectory, refuse, foreign):
    hydra = {"sweeper": OPTUNA, "sweep": {"dir": "theirs", "subdir": subdirectory}}
    foreign(arguments=["optimizer.learning_rate=interval(0.1,1)"], hydra=hydra)
    message = refuse("resume", "theirs")
    assert message.startswith("`hydra.sweep.subdir` must ") or "is damaged, no hydra.sweep.subdir" in message


def test_a_sweep_without_records_of_its_jobs_is_of_the_first_edition(refuse, foreign):
    directory = foreign()
    identity = load_verified(directory / "sweep.json", (directory / "sweep.json").read_bytes())
    del identity["hydra"]
    (directory / "sweep.json").write_bytes(dump_with_digest(identity))
    assert refuse("resume", "theirs") == (
        "theirs: its jobs are not recorded in it, as of a sweep of the first edition; resume those that have begun: "
        "lenet-jax resume theirs/0."
    )


# ---- paths, links and other types -----------------------------------------------------------------------------------


@pytest.mark.parametrize("directory", ["../mine", "/etc", "..", "", ".", "a/../../mine", "a\0b", 3, None, ["0"], "/"])
def test_the_directory_of_a_job_is_inside_that_of_the_sweep(directory, refuse, foreign):
    foreign(Entry(0, ["seed=1"], "0", {}))
    path = "theirs/jobs/0.json"
    with open(path, "wb") as file:
        file.write(dump_with_digest({**Entry(0, ["seed=1"], directory, {})._asdict()}))
    assert refuse("report", "theirs").startswith("theirs/jobs/0.json: is damaged, directory ")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("arguments", "seed=1"), ("arguments", [1]), ("config_name", None), ("folders", {"config_path": 1}),
        ("folders", {"other": "a"}), ("base", []), ("data", {}), ("arguments", ["a\x1b[31m=1"]),
    ],
)  # fmt: skip
def test_an_identity_of_other_types_is_refused(name, value, refuse, foreign, tmp_path):
    directory = foreign()
    (directory / "sweep.json").write_bytes(dump_with_digest({**IDENTITY, name: value}))
    refuse("resume", "theirs")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("overrides", "seed=1"), ("overrides", [None]), ("config", 1), ("owner", "me"), ("result", []),
        ("result", {"test_accuracy": "1"}), ("result", {"stopped_by": 1}), ("error", 1), ("error", {}),
    ],
)  # fmt: skip
def test_an_entry_of_other_types_is_refused(name, value, refuse, foreign):
    directory = foreign(Entry(0, ["seed=1"], "0", {}))
    (directory / "jobs" / "0.json").write_bytes(
        dump_with_digest({**Entry(0, ["seed=1"], "0", {})._asdict(), name: value})
    )
    assert refuse("report", "theirs").startswith(f"theirs/jobs/0.json: is damaged, {name} ")


@pytest.mark.parametrize("command", ["resume", "report"])
@pytest.mark.parametrize("link", ["0", "0/checkpoints", "0/metrics.jsonl", "figures", "0/train.log", "jobs"])
def test_a_link_that_leads_out_is_refused_before_anything_is_written(link, command, refuse, foreign, tmp_path):
    directory = foreign()
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "file").write_text("precious")
    (directory / link).parent.mkdir(exist_ok=True)
    (directory / link).symlink_to(mine if "." not in link else mine / "file")
    message = refuse(command, "theirs")
    assert message.startswith(f"{directory / link}: must not lead out of theirs, to {mine}")
    assert [path.name for path in mine.iterdir()] == ["file"]
    assert (mine / "file").read_text() == "precious"


def test_links_inside_a_directory_and_to_it_are_used(foreign, monkeypatch):
    directory = foreign(Entry(0, ["seed=1"], "0", {}))
    (directory / "again").symlink_to("sweep.json")
    os.symlink("theirs", "link")
    assert main(["report", "link"]) == 0


@pytest.mark.parametrize("name", ["run.json", "metrics.jsonl", "checkpoints", "train.log", "result.json"])
def test_a_link_out_of_a_run_is_refused_as_well(name, refuse, tmp_path):
    (tmp_path / "mine").write_text("precious")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}") if name != "run.json" else None
    (tmp_path / "run" / name).symlink_to(tmp_path / "mine")
    assert "must not lead out of run, to " in refuse("resume", "run")
    assert (tmp_path / "mine").read_text() == "precious"


@pytest.mark.parametrize(
    "content", [{"_target_": "os.system"}, {"model": {"_target_": "os.system"}}, {"data": []}, [], 1, None, "a"]
)
def test_the_configuration_of_a_foreign_run_has_values_only(content, refuse, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_bytes(dump_with_digest({"config": content}))
    refuse("resume", "run")


def test_a_sweep_of_ones_own_is_resumed_whatever_its_names_are():
    small = ["model.num_kernels=[2,2]", "model.hidden_units=4", "data.train_size=100", "trainer.max_epochs=1"]
    assert (
        main(["train", "-m", *small, "seed=0,1", "data.name='${oc.decode:mnist_5k}'", "hydra.sweep.dir='a $ b'"]) == 0
    )
    assert main(["resume", "a $ b"]) == 0
    assert main(["resume", "a $ b", "--trust"]) == 0


def test_pickles_that_lie_in_a_foreign_sweep_are_not_where_a_launcher_looks(foreign, monkeypatch):
    local = SLURM[TARGET].replace("Slurm", "Local")
    launcher = {TARGET: local, "submitit_folder": "theirs/pickles"}
    foreign(Entry(0, ["seed=1"], "0", config(), PENDING), hydra={"launcher": launcher})
    resumed = []
    monkeypatch.setattr("lenet_jax.hydra_app.launcher.run_sweep", resumed.append)
    assert main(["resume", "theirs", "--allow-changed"]) == 1
    folder = Path(resumed[0].base.hydra.launcher.submitit_folder)
    assert folder.parts[:2] == ("theirs", ".submitit")
    assert len(folder.parts) == 4  # one that nobody can know before


def test_a_result_is_read_from_inside_the_sweep(foreign, tmp_path):
    directory = foreign(Entry(0, ["seed=1"], "0", {}, DONE, result=RESULT))
    (tmp_path / "mine").mkdir()
    (directory / "0").symlink_to(tmp_path / "mine")
    ledger = Ledger(directory)
    with pytest.raises(InputError, match=r"jobs/0\.json: is damaged, directory '0' leads out of the sweep"):
        ledger.run_directory(ledger.entries()[0])


def test_the_terminal_is_not_steered_by_the_texts_of_a_sweep(foreign, capsys):
    foreign(Entry(0, ["seed=\x1b]0;owned\x07"], "0", {}, "failed", error="\x1b[2J\x9b31mowned"))
    assert main(["report", "theirs"]) == 0
    out = capsys.readouterr().out
    assert "owned" in out
    assert not any(character in out for character in "\x1b\x07\x9b")
    assert json.loads(Path("theirs/summary.json").read_text())["failures"][0]["error"] == "\x1b[2J\x9b31mowned"
