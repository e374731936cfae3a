"""A run or a sweep of somebody else's can be resumed and reported on: nothing outside it is run, read or written."""

import json
import os
from pathlib import Path

import pytest

from lenet_jax import cli
from lenet_jax.cli import main
from lenet_jax.errors import InputError
from lenet_jax.hydra_app.strangers import check_arguments
from lenet_jax.models import MODELS
from lenet_jax.storage import seal
from lenet_jax.sweeps.ledger import DONE, Entry, Ledger
from tests.faults.hostile import REFUSED, SENTINEL
from tests.linear import linear

pytestmark = pytest.mark.usefixtures("in_an_empty_folder")

IDENTITY = {
    **{"arguments": ["seed=1,2"], "config_name": "config", "folders": {}},
    **{"base": {"seed": 0}, "code": {"revision": None}, "versions": {}, "data": []},
}
RESULT = {"test_accuracy": 0.9, "validation_accuracy": 0.9, "epochs": 1, "stopped_by": "max_epochs"}
TINY = ["data.train_size=100", "trainer.max_epochs=1"]


@pytest.fixture
def refuse(capsys):
    """Run a command that must be refused; return what it says."""

    def run(*arguments):
        assert main(arguments) == 2
        err = capsys.readouterr().err
        assert len(err.splitlines()) == 1
        return err.removeprefix("lenet-jax: ").rstrip("\n")

    return run


@pytest.fixture
def foreign(tmp_path):
    """Make the directory of a sweep with something else in its files."""

    def make(*entries, **identity):
        directory = tmp_path / "theirs"
        ledger = Ledger.create(directory, {**IDENTITY, **identity})
        for entry in entries:
            ledger.write(entry)
        return directory

    return make


RUNNING_COMMANDS = [
    "hydra.launcher.setup=['touch sentinel']",
    "+hydra.launcher.python=/tmp/evil",
    "+hydra.launcher.srun_args=['--prolog=/tmp/evil']",
    "hydra.launcher.additional_parameters={wrap:'touch sentinel'}",
    "hydra.launcher.partition='a b;touch'",
    "hydra.launcher.partition='${oc.env:HOME}'",
    "hydra.launcher.submitit_folder=/tmp/evil",
    "+hydra.launcher.temp_folder=/tmp/evil",
    "+hydra.launcher.n_jobs={a:1}",
    "hydra.launcher={setup:[a]}",
    "hydra/launcher=../../evil",
    "hydra/launcher@hydra.callbacks=lanes",
    "model@hydra.launcher=lenet",
    "hydra.run.dir=/tmp/evil",
    "hydra.job.chdir=true",
    "hydra.job.env_set={PATH:/tmp}",
    "+hydra.job.env_set.PATH=/tmp",
    "hydra.job.env_copy=[PATH]",
    "hydra.searchpath=[file:///tmp]",
    "hydra/job_logging=default",
    "hydra.job_logging.handlers.file.filename='${hydra.runtime.output_dir}/a.log'",
    "hydra.callbacks={}",
    "hydra.output_subdir=a",
    "hydra.mode=RUN",
    "data.name='${oc.env:HOME}'",
    "+data.x=[{a:'${oc.env:HOME}'}]",
    "~hydra.launcher",
    "hydra={launcher:{setup:[a]}}",
]


@pytest.mark.parametrize("argument", RUNNING_COMMANDS)
def test_a_sweep_of_somebody_else_gives_no_commands(argument):
    with pytest.raises(InputError, match=r"; if the sweep is yours, resume it with --trust\.$"):
        check_arguments([argument])


@pytest.mark.parametrize(
    "argument",
    [
        "seed=1,2",
        "optimizer.learning_rate=choice(0.1,0.2)",
        "hydra/launcher=submitit_slurm",
        "hydra/sweeper=halving",
        "hydra.launcher.timeout_min=60",
        "hydra.launcher.partition=gpu-a100",
        "hydra.launcher.gres='gpu:1'",
        "hydra.launcher.mem_per_cpu=4G",
        "+hydra.launcher.n_jobs=-1",
        "hydra.sweeper.num_trials=4",
        "hydra.sweep.dir=a",
        "hydra.sweep.subdir='${hydra:job.num}'",
        "hydra.job.name=a",
        "hydra.verbose=true",
    ],
)
def test_a_sweep_keeps_what_it_needs(argument):
    check_arguments([argument])


@pytest.mark.parametrize("argument", [RUNNING_COMMANDS[0], RUNNING_COMMANDS[12], *REFUSED[::25]], ids=ascii)
def test_the_arguments_of_a_foreign_sweep_are_checked_before_anything_is_composed(argument, refuse, foreign, tmp_path):
    directory = foreign(arguments=["seed=1,2", argument])
    before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    refuse("resume", "theirs")
    assert {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()} == before
    assert not list(tmp_path.rglob(SENTINEL))


FOLDER = "defaults:\n  - /config\n  - _self_\nhydra:\n"


@pytest.mark.parametrize(
    "text",
    [
        "  launcher: {setup: [touch sentinel]}",
        "  callbacks: {a: {_target_: os.system}}",
        "  job: {env_set: {PATH: /tmp}}",
        "  searchpath: ['pkg://antigravity']",
        "  sweep: {subdir: '../${hydra:job.num}'}",
        "data: {name: '${oc.env:HOME}'}",
    ],
)
def test_the_folder_of_a_foreign_sweep_is_no_way_around(text, refuse, foreign, tmp_path):
    directory = foreign(config_name="other", folders={"config_path": None, "config_dir": "theirs/conf"})
    (directory / "conf").mkdir()
    head = FOLDER if text.startswith(" ") else FOLDER.removesuffix("hydra:\n")
    (directory / "conf" / "other.yaml").write_text(f"{head}{text}\n")
    refuse("resume", "theirs")
    assert {path.name for path in tmp_path.iterdir()} == {"theirs"}
    assert {path.name for path in directory.iterdir()} <= {"conf", "sweep.json"}


@pytest.mark.parametrize("directory", ["../mine", "/etc", "..", "", ".", "a/../../mine", "a\0b", 3, None, ["0"], "/"])
def test_the_directory_of_a_job_is_inside_that_of_the_sweep(directory, refuse, foreign):
    foreign(Entry(0, ["seed=1"], "0", {}))
    path = "theirs/jobs/0.json"
    with open(path, "wb") as file:
        file.write(seal({**Entry(0, ["seed=1"], directory, {})._asdict()}))
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
    (directory / "sweep.json").write_bytes(seal({**IDENTITY, name: value}))
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
    (directory / "jobs" / "0.json").write_bytes(seal({**Entry(0, ["seed=1"], "0", {})._asdict(), name: value}))
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
    "config", [{"_target_": "os.system"}, {"model": {"_target_": "os.system"}}, {"data": []}, [], 1]
)
def test_the_configuration_of_a_foreign_run_has_values_only(config, refuse, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_bytes(seal({"config": config}))
    refuse("resume", "run")


def test_a_sweep_of_ones_own_is_resumed_with_trust(monkeypatch):
    monkeypatch.setitem(MODELS, "lenet", linear)
    arguments = ["-m", *TINY, "seed=0,1", "data.name='${oc.decode:mnist_5k}'", "hydra.sweep.dir='a $ b'"]
    assert main(["train", *arguments]) == 0
    monkeypatch.setattr(cli, "_report_sweep", lambda ledger: None)
    assert main(["resume", "a $ b"]) == 0
    assert main(["resume", "a $ b", "--trust"]) == 0


def test_pickles_that_lie_in_a_foreign_sweep_are_not_where_a_launcher_looks(foreign, monkeypatch):
    foreign(arguments=["seed=1,2", "hydra/launcher=submitit_local"])
    commands = []
    monkeypatch.setattr(cli, "_sweep", lambda hydra, name, overrides, ledger: commands.append(overrides) or 0)
    assert main(["resume", "theirs", "--allow-changed"]) == 0
    assert "hydra.launcher.submitit_folder='${hydra.sweep.dir}/.submitit/${run_id:}/%j'" in commands[0]


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
