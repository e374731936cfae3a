"""The events of a record are those that the run has had."""

from pathlib import Path

import pytest

from lenet_jax.cli import main
from lenet_jax.environment import install_command
from lenet_jax.runs import Evaluated, Finished, Interrupted, Started
from lenet_jax.runs.run_directory import read_record
from lenet_jax.trackers.replay import replay
from tests.trackers import recorded

pytestmark = pytest.mark.usefixtures("in_an_empty_folder", "allowed")
told = []


def keep():
    """Return a tracker that keeps its events in `told`."""
    told.clear()
    return told.append


def test_the_events_of_a_finished_run_are_the_same_again():
    keep_all = f"trackers.keep._target_={__name__}.keep"
    assert main(["train", *recorded.TINY, keep_all, "hydra.run.dir=run"]) == 0
    assert [type(event) for event in told] == [Started, *4 * [Evaluated], Finished]
    again = list(replay(read_record(Path("run"))))
    assert again[:-1] == [told[0]._replace(compiles=False), *told[1:-1]]  # nothing is compiled again
    assert again[-1].result == told[-1].result


def test_an_unfinished_run_ends_as_an_interrupted_one(run):
    (run / "result.json").unlink()
    events = recorded.whole(run)
    assert [type(event) for event in events] == [Started, *4 * [Evaluated], Interrupted]
    assert events[0].monitor.key == "validation_accuracy"


def test_a_run_is_logged_to_a_tracker_of_ones_own(run):
    Path("conf/trackers").mkdir(parents=True)
    Path("conf/trackers/mine.yaml").write_text(f"mine: {{_target_: {__name__}.keep}}\n")
    recorded.log(run, "mine", "--config-dir", "conf")
    assert [type(event) for event in told] == [Started, *4 * [Evaluated], Finished]


def test_a_sweep_is_logged_job_by_job(sweep, capsys):
    recorded.log(sweep, "csv", "trackers.csv.name=table.csv")
    assert capsys.readouterr().out.splitlines() == [
        *(f"job {number}: 4 evaluations logged to csv" for number in "01"),
        "2 of 2 jobs logged",
    ]
    for number in "01":
        assert len((sweep / number / "table.csv").read_text().splitlines()) == 5
    (sweep / "1" / "run.json").unlink()
    recorded.log(sweep, "csv")
    assert "job 1: has not started, or its directory is gone" in capsys.readouterr().out


def test_a_tracker_that_cannot_write_is_exit_code_1(run, capsys):
    (run / "metrics.csv").mkdir()
    assert main(["log", str(run), "--to", "csv"]) == 1
    assert capsys.readouterr().err == f"lenet-jax: {run}: `trackers.csv` failed: {run}/metrics.csv: Is a directory\n"


def test_a_log_that_is_damaged_is_not_logged(run, capsys):
    log = run / "metrics.jsonl"
    log.write_text(log.read_text().replace('"epoch": 2', '"epoch": 3'))
    assert main(["log", str(run), "--to", "csv"]) == 2
    assert f"{log}: is damaged" in capsys.readouterr().err
    assert not (run / "metrics.csv").exists()


USAGE = "log: usage: lenet-jax log DIR --to NAME [trackers.NAME.KEY=VALUE ...]; got"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], f"{USAGE} no --to."),
        (["--to", "a,b"], f"{USAGE} --to a,b."),
        (["--to", "csv", "seed=1"], f"{USAGE} seed=1."),
        (["--to", "none"], "log: `--to` must be a tracker, as csv; got none."),
        (["--to", "cvs"], "`trackers` has no 'cvs'; choose one of: csv, mlflow, none, tensorboard, wandb."),
        (["--to", "csv", "trackers.csv.nam=a.csv"], "`trackers.csv` has no 'nam'; choose one of: name."),
        (["--to", "csv"], "`DIR` must be the directory of a run, with a run.json in it; got missing."),
    ],
)
def test_a_mistake_is_one_line(arguments, message, capsys):
    assert main(["log", "missing", *arguments]) == 2
    assert capsys.readouterr().err == f"lenet-jax: {message}\n"


def test_a_missing_package_is_named_before_anything_is_written(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    message = f"lenet-jax: `trackers.mlflow` needs the package mlflow: {install_command('mlflow')}.\n"
    commands = [
        ["train", *recorded.TINY, "trackers=mlflow", "hydra.run.dir=run"],
        ["train", "--dry-run", *recorded.TINY, "trackers=mlflow"],
        ["train", "-m", *recorded.TINY, "trackers=[csv,mlflow]", "seed=0,1", "hydra.sweep.dir=sweep"],
        ["log", "run", "--to", "mlflow"],
    ]
    for command in commands:
        assert main(command) == 2
        assert capsys.readouterr().err == message
    assert list(tmp_path.iterdir()) == []
