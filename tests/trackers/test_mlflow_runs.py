"""Runs in MLflow, read back by its own client, from its SQLite file and from its server."""

import contextlib
import dataclasses
import json
import math
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lenet_jax.cli import main
from lenet_jax.runs import Evaluated, Failed
from tests.trackers import recorded

mlflow = pytest.importorskip("mlflow")
pytest.importorskip("alembic")
pytestmark = [
    pytest.mark.usefixtures("in_an_empty_folder", "allowed", "patient", "no_store_of_the_environment"),
    pytest.mark.filterwarnings("default"),  # of MLflow and what it imports
]


@pytest.fixture
def no_store_of_the_environment(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def found_runs(uri):
    """Return the client, and all runs in a store by their experiments and names."""
    client = mlflow.MlflowClient(uri)
    experiments = {each.experiment_id: each.name for each in client.search_experiments()}
    runs = client.search_runs(list(experiments))
    return client, {(experiments[run.info.experiment_id], run.info.run_name): run for run in runs}


def in_file(folder):
    return found_runs(f"sqlite:///{Path(folder).resolve() / 'mlflow.db'}")


def history(client, run, name):
    return sorted(client.get_metric_history(run.info.run_id, name), key=lambda point: point.step)


def assert_recorded(client, run, directory):
    """Check a finished run in MLflow against its record."""
    lines, result = recorded.lines(directory), recorded.result(directory)
    started = json.loads((directory / "run.json").read_text())["started"]
    for name in ("epoch", "train_loss", "validation_loss", "validation_accuracy"):
        points = history(client, run, name)
        assert [(point.step, point.value) for point in points] == [(line["iteration"], line[name]) for line in lines]
    assert run.info.status == "FINISHED"
    assert started.startswith(time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(run.info.start_time / 1000)))
    assert run.data.metrics["test_accuracy"] == result["test_accuracy"]
    assert run.data.metrics["result_validation_accuracy"] == result["validation_accuracy"]
    assert len(history(client, run, "test_accuracy")) == 1
    assert run.data.params["model._target_"] == "tests.linear.linear"
    assert run.data.tags["parameters_sha256"] == result["parameters_sha256"]


def artifacts(client, run, folder=None):
    paths = []
    for each in client.list_artifacts(run.info.run_id, folder):
        paths += artifacts(client, run, each.path) if each.is_dir else [each.path]
    return sorted(paths)


FILES = ["checkpoints/best.safetensors", "figures/learning_curves.png", "metrics.jsonl", "result.json", "run.json"]


def test_a_run_is_in_a_file_beside_it_with_all_that_belongs_to_it(run, tmp_path):
    recorded.track("mlflow", run, recorded.whole(run))
    client, runs = in_file(run.parent)
    assert list(runs) == [("runs", "a")]
    found = runs["runs", "a"]
    assert_recorded(client, found, run)
    for point, line in zip(history(client, found, "epoch"), recorded.lines(run), strict=True):
        assert (point.timestamp - found.info.start_time) / 1000 == pytest.approx(line["seconds"], abs=0.002)
    assert found.data.params["optimizer.learning_rate"] == "0.1"
    assert found.data.params["trainer.clip_norm"] == "None"
    assert not any(name.startswith("trackers") for name in found.data.params)
    assert (found.data.tags["mlflow.note.content"], found.data.tags["tags"]) == ("why", "x, y")
    assert artifacts(client, found) == FILES
    weights = client.download_artifacts(found.info.run_id, FILES[0], str(tmp_path))
    assert Path(weights).read_bytes() == (run / FILES[0]).read_bytes()


def test_weights_may_be_left_out_and_the_experiment_be_named(run):
    recorded.track("mlflow", run, recorded.whole(run), weights=False, experiment="mine")
    client, runs = in_file(run.parent)
    assert artifacts(client, runs["mine", "a"]) == FILES[1:]


def test_the_environment_may_name_the_store(run, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    recorded.track("mlflow", run, recorded.killed(run))
    assert list(in_file(tmp_path)[1]) == [("runs", "a")]


def test_jobs_of_a_sweep_are_runs_of_an_experiment(sweep):
    recorded.log(sweep, "mlflow")
    client, runs = in_file(sweep.parent)
    assert sorted(runs) == [("sweeps/s", "0 seed=0"), ("sweeps/s", "1 seed=1")]
    for (_, name), found in runs.items():
        assert_recorded(client, found, sweep / name[0])
        assert found.data.tags["sweep"] == "sweeps/s"


def test_a_run_that_is_killed_and_resumed_continues_with_each_step_once(run):
    recorded.track("mlflow", run, recorded.killed(run))
    client, runs = in_file(run.parent)
    (found,) = runs.values()
    assert found.info.status == "KILLED"
    assert [point.step for point in history(client, found, "epoch")] == [4, 8, 12]
    recorded.track("mlflow", run, recorded.resumed(run))
    client, runs = in_file(run.parent)
    (again,) = runs.values()
    assert again.info.run_id == found.info.run_id
    assert_recorded(client, again, run)


def test_tracked_again_it_gets_what_it_lacks_and_nothing_twice(run):
    whole = recorded.whole(run)
    recorded.track("mlflow", run, [*whole[:2], *whole[3:]])  # without the second evaluation
    for _ in range(2):
        recorded.track("mlflow", run, whole)
        client, runs = in_file(run.parent)
        (found,) = runs.values()
        assert_recorded(client, found, run)


def test_a_store_whose_creation_was_interrupted_is_created_again(run, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr("mlflow.store.db.utils._upgrade_db", lambda engine: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            recorded.track("mlflow", run, recorded.whole(run))
    assert not (run.parent / "mlflow.db").exists()
    recorded.track("mlflow", run, recorded.whole(run))
    client, runs = in_file(run.parent)
    assert_recorded(client, runs["runs", "a"], run)


def test_a_run_that_fails_is_marked_as_failed(run):
    recorded.track("mlflow", run, [*recorded.killed(run)[:-1], Failed(OSError(28, "No space left", "a"))])
    _, runs = in_file(run.parent)
    (found,) = runs.values()
    assert (found.info.status, found.data.tags["error"]) == ("FAILED", "a: No space left")


def test_names_and_texts_that_mlflow_does_not_take_are_changed(run):
    started, *_ = recorded.whole(run)
    rules = {"conv?/*": {"_target_": "optax.set_to_zero"}, "out/../x": {"a": "b" * 9000}}
    config = dataclasses.replace(started.config, optimizer={**started.config.optimizer, "rules": rules})
    line = {"epoch": 1, "iteration": 4, "seconds": 1.0, "train_loss": None, "validation_top 5/%": math.inf}
    recorded.track("mlflow", run, [started._replace(config=config), Evaluated(line)])
    _, runs = in_file(run.parent)
    (found,) = runs.values()
    assert found.data.params["optimizer.rules.conv___._target_"] == "optax.set_to_zero"
    assert found.data.params["optimizer.rules.out_.._x.a"].startswith("bbb")
    assert math.isnan(found.data.metrics["validation_top_5__"])
    assert math.isnan(found.data.metrics["train_loss"])


def test_commands_record_the_same():
    run = recorded.train_killed_and_resume("runs/a", "trackers=mlflow")
    client, runs = in_file("runs")
    assert_recorded(client, runs["runs", "a"], run)
    recorded.log(run, "mlflow")
    client, runs = in_file("runs")
    assert_recorded(client, runs["runs", "a"], run)
    sweep = recorded.train_sweep("sweeps/s", "trackers=[mlflow,csv]")
    client, runs = in_file("sweeps")
    for number in "01":
        assert_recorded(client, runs["sweeps/s", f"{number} seed={number}"], sweep / number)


def test_a_server_that_is_down_costs_a_warning(monkeypatch, capfd, run):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    down = "trackers.mlflow.tracking_uri=http://127.0.0.1:9"
    assert main(["train", *recorded.TINY, "trackers=[mlflow,csv]", down, "hydra.run.dir=run"]) == 0
    assert "`trackers.mlflow` failed and gets no more events: " in capfd.readouterr().err
    assert len(Path("run/metrics.csv").read_text().splitlines()) == 5
    assert main(["log", str(run), "--to", "mlflow", down]) == 1
    assert f"lenet-jax: {run}: `trackers.mlflow` failed: " in capfd.readouterr().err


@pytest.fixture
def server(tmp_path_factory):
    """Return the address of MLflow's server on this machine."""
    pytest.importorskip("flask", reason="the server comes with mlflow, not with mlflow-skinny")
    folder = tmp_path_factory.mktemp("server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/m.db", "--artifacts-destination", str(folder / "files")]
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env=environment, start_new_session=True)
    try:
        for _ in range(600):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert process.poll() is None, (folder / "log").read_text()
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, 15)
        process.wait()


@pytest.mark.slow
def test_a_server_gets_the_same(server, run, sweep):
    uri = f"trackers.mlflow.tracking_uri={server}"
    resumed = recorded.train_killed_and_resume("resumed", "trackers=mlflow", uri, allow=("mlflow",))
    for directory in (run, sweep, run, sweep):  # twice
        recorded.log(directory, "mlflow", uri)
    client, runs = found_runs(server)
    assert_recorded(client, runs[Path.cwd().name, "resumed"], resumed)
    assert_recorded(client, runs["runs", "a"], run)
    assert artifacts(client, runs["runs", "a"]) == FILES
    for number in "01":
        assert_recorded(client, runs["sweeps/s", f"{number} seed={number}"], sweep / number)
    assert len(runs) == 4
    assert not list(Path.cwd().rglob("mlflow.db"))
