"""What a user types does what it says, inside its folder, or is refused in one line and changes nothing."""

import os
import subprocess
import sys
import unicodedata
from functools import partial
from pathlib import Path

import pytest

from lenet_jax.cli import main
from lenet_jax.errors import InputError
from lenet_jax.hydra_app.checks import check_name, check_subdirectory
from tests.conftest import ROOT
from tests.faults.hostile import ENDLESS, HARMLESS, NAMES, REFUSED, REFUSED_COMMANDS, SENTINEL

OUTSIDE = ("..", "../x", "a/../../x", "/tmp/lenet-jax-hostile", "./../x", "a/b/../../../x", "~/../x", "//x")


@pytest.fixture(autouse=True)
def nothing_is_trained(in_an_empty_folder, monkeypatch, tmp_path):
    """Have runs and sweeps end where training would begin; whatever else is written or set is found."""
    folder = tmp_path / "folder"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr("lenet_jax.hydra_app.single_run.prepare_run", lambda config: None)
    monkeypatch.setattr("lenet_jax.hydra_app.single_run.run_locked", lambda prepared, directory: iter(()))
    monkeypatch.setattr("lenet_jax.cli.run._init_lines", lambda prepared: [])
    monkeypatch.setattr("lenet_jax.cli.run.show_run", lambda events, directory: 0)
    for module in ("sweep", "launcher"):
        monkeypatch.setattr(f"lenet_jax.hydra_app.{module}.prepare_runs", lambda configs: {len(list(configs)): None})
    monkeypatch.setattr("lenet_jax.sweeps.groups.prepare_run", lambda config: None)
    monkeypatch.setattr("lenet_jax.sweeps.groups.run_jobs", lambda *arguments, **options: iter(()))
    monkeypatch.setattr("lenet_jax.cli.inspect.report_sweep", lambda ledger: None)
    monkeypatch.setattr("lenet_jax.hydra_app.sweep._check_streamed", lambda *_: None)
    monkeypatch.setattr("lenet_jax.hydra_app.sweep._describe", lambda *_: {"code": {}, "versions": {}, "data": []})
    variables = dict(os.environ)
    yield
    assert not list(tmp_path.rglob(SENTINEL))
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    changed = {name for name in {*os.environ, *variables} if os.environ.get(name) != variables.get(name)}
    assert changed <= {
        *("TF_CPP_MIN_LOG_LEVEL", "XLA_FLAGS", "JAX_NUM_CPU_DEVICES", "PYTEST_CURRENT_TEST"),
        "XLA_PYTHON_CLIENT_PREALLOCATE",
    }


def run(capsys, *arguments):
    """Return the exit code of a command; what it says is one line if it is refused."""
    code = main(arguments)
    err = capsys.readouterr().err
    if code == 2:
        assert err.startswith("lenet-jax: ")
        assert len(err.splitlines()) == err.count("\n") == 1
    return code


@pytest.mark.parametrize("override", REFUSED, ids=ascii)
def test_what_makes_no_sense_is_refused_in_one_line_and_leaves_nothing_behind(override, capsys, tmp_path):
    assert run(capsys, "train", override) == 2
    assert [path.name for path in (tmp_path / "folder").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("override", ENDLESS, ids=lambda text: ascii(text)[:40])
def test_what_would_never_end_or_crash_is_refused_in_one_line(override, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(tmp_path / "folder" / "cache")}
    command = [sys.executable, "-m", "lenet_jax", "train", override]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("lenet-jax: ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("arguments", REFUSED_COMMANDS, ids=ascii)
def test_options_and_sweeps_are_refused_as_well(arguments, capsys, tmp_path):
    assert run(capsys, "train", *arguments) == 2
    assert list((tmp_path / "folder").iterdir()) == []


@pytest.mark.parametrize("override", HARMLESS, ids=ascii)
def test_what_is_no_more_than_a_text_does_nothing(override, capsys):
    data = ["data=idx"] if override.startswith("data.directory") else []
    assert run(capsys, "train", *data, override) == 0


def in_quotes(name):
    return "'{}'".format(name.replace("'", "\\'"))


# A fifth of the names with one of the keys by the command line, all of them with all keys by the checks alone.
KEYS = ("hydra.run.dir", "hydra.job.name", "hydra.sweep.subdir")
PAIRS = [(KEYS[number % 3], name) for number, name in enumerate(NAMES[2::5])]
PAIRS = [(key, name) for key, name in PAIRS if key != "hydra.run.dir" or name not in OUTSIDE]  # the user may choose any


@pytest.mark.parametrize(("key", "name"), PAIRS, ids=lambda text: ascii(text)[:40])
def test_a_hostile_name_is_refused_or_stays_inside(key, name, capsys, tmp_path):
    sweep = ["-m", "seed=1", "hydra.sweep.dir=sweep"] if key == "hydra.sweep.subdir" else []
    assert run(capsys, "train", *sweep, f"{key}={in_quotes(name)}") in ((1, 2) if sweep else (0, 2))


def refusal(rule, name):
    try:
        rule(name)
    except InputError as error:
        return str(error)
    return None


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name)[:40])
def test_any_name_is_refused_in_one_line_or_is_that_of_a_file_inside(name, tmp_path):
    inside = tmp_path / "folder"
    for key, rule, path in (
        ("hydra.job.name", partial(check_name, "hydra.job.name"), f"{name}.log"),
        ("hydra.output_subdir", partial(check_name, "hydra.output_subdir"), name),
        ("hydra.sweep.subdir", check_subdirectory, name),
    ):
        message = refusal(rule, name)
        if message is None:
            assert inside in Path(os.path.normpath(inside / path)).parents
            assert name not in OUTSIDE
        else:
            assert len(message.splitlines()) == 1
            assert message.startswith(f"`{key}` must ")


@pytest.mark.parametrize(
    "name",
    [*OUTSIDE, *(name for name in NAMES if unicodedata.category(min(name, default="a")) in ("Cc", "Cs"))],
    ids=ascii,
)
def test_a_name_that_leads_out_of_the_folder_or_cannot_be_shown_is_refused(name, capsys):
    for key in ("hydra.job.name", "hydra.output_subdir"):
        assert run(capsys, "train", f"{key}={in_quotes(name)}") == 2
    with pytest.raises(InputError, match=r"^`hydra\.sweep\.subdir` must "):
        check_subdirectory(name)


FILES = [
    ("hydra: {job: {name: ../../x}}", "`hydra.job.name` must be a file's name "),
    ('hydra: {job: {name: "a\\nb"}}', "`hydra.job.name` must not hold control characters "),
    ("hydra: {output_subdir: ../x}", "`hydra.output_subdir` must be a file's name "),
    ("a: !!python/object/apply:os.system [touch sentinel]", ""),
    ("a: !!python/name:os.system", ""),
    ("a: !!python/module:antigravity", ""),
    ("hydra: 1", ""),
    ("hydra: {launcher: 1}", ""),
    ("hydra: {sweeper: null}", "`hydra.sweeper._target_` must name a sweeper of Hydra, "),
    ("hydra: {sweeper: {_target_: os.system}}", "`hydra.sweeper._target_` must name a sweeper of Hydra, "),
    ("model: {depth: 3}", "`model` has no 'depth'; "),
    ("model: 3", ""),
    ("augment: [{_target_: lenet_jax.augment.random_flop}]", ""),
    ("augment: [3]", ""),
    ("trackers: {a: {_target_: lenet_jax.trackers.csv_file.csv_file, name: ../a}}", "`trackers.a.name` must be "),
    ("a: 1", "other.yaml: `configuration` has no 'a'; choose one of: "),
    ("a: [1", ""),
]


@pytest.mark.parametrize(("text", "beginning"), FILES)
def test_a_file_of_the_user_with_something_else_in_it_is_one_line(text, beginning, capsys, tmp_path):
    (tmp_path / "folder" / "conf").mkdir()
    (tmp_path / "folder" / "conf" / "other.yaml").write_text(f"defaults:\n  - /config\n  - _self_\n{text}\n")
    sweep = ["-m", "seed=1,2"] if "er: " in text else []  # launcher, sweeper
    assert main(["train", "--config-dir", "conf", "--config-name", "other", *sweep]) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"lenet-jax: {beginning}")
    assert len(message.splitlines()) == 1
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["conf"]
