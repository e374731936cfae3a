"""Runs that Weights & Biases has recorded offline, read by the description of its files: LevelDB's log format."""

import json
import struct
import time

import pytest

from lenet_jax.cli import main
from lenet_jax.trackers.delivery import Delivery
from tests.trackers import recorded

wandb = pytest.importorskip("wandb")
pytestmark = [
    pytest.mark.usefixtures("in_an_empty_folder", "allowed", "patient", "own_folders"),
    pytest.mark.filterwarnings("default"),  # of wandb and what it imports
]

_BLOCK, _HEADER = 32768, 7


@pytest.fixture
def own_folders(monkeypatch, tmp_path):
    for name in ("CACHE", "CONFIG", "DATA"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / "wandb-own"))
    for name in ("WANDB_MODE", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)


def read(path):
    """Return the records of a .wandb file."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, place, records, part = path.read_bytes(), _HEADER, [], b""
    assert content[:4] == b":W&B"
    while place < len(content):
        left = _BLOCK - place % _BLOCK
        if left < _HEADER:
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", content, place)
        part += content[place + _HEADER : place + _HEADER + length]
        place += _HEADER + length
        if kind in (1, 4):  # the whole record, or its last part
            records.append(Record.FromString(part))
            part = b""
    return records


def offline_run(directory):
    """Return the one run in a directory: its folder, its header, history, summary and exit code."""
    (folder,) = (directory / "wandb").glob("offline-run-*")
    (path,) = folder.glob("*.wandb")
    for _ in range(600):  # the process that writes the file may end after `finish`
        records = read(path)
        if any(record.HasField("exit") for record in records):
            break
        time.sleep(0.1)
    (run,) = [record.run for record in records if record.HasField("run")][:1]
    history = [
        {(item.key or item.nested_key[0]): json.loads(item.value_json) for item in record.history.item}
        for record in records
        if record.HasField("history")
    ]
    summary = {
        (item.key or item.nested_key[0]): json.loads(item.value_json)
        for record in records
        if record.HasField("summary")
        for item in record.summary.update
    }
    ends = [record.exit.exit_code for record in records if record.HasField("exit")]
    return folder, run, history, summary, ends


def assert_recorded(directory):
    folder, run, history, summary, ends = offline_run(directory)
    lines, result = recorded.lines(directory), recorded.result(directory)
    assert [line["_step"] for line in history] == [line["iteration"] for line in lines]
    for name in ("epoch", "iteration", "train_loss", "validation_loss", "validation_accuracy"):
        assert [line[name] for line in history] == [line[name] for line in lines]
    seconds = [line["_timestamp"] - history[0]["_timestamp"] for line in history]
    assert seconds == pytest.approx([line["seconds"] - lines[0]["seconds"] for line in lines], abs=0.01)
    assert summary["test_accuracy"] == result["test_accuracy"]
    assert summary["result_validation_accuracy"] == result["validation_accuracy"]
    assert summary["parameters_sha256"] == result["parameters_sha256"]
    assert run.run_id == json.loads((directory / "run.json").read_text())["id"]
    assert ends == [0]
    return folder, run


def test_a_run_has_history_summary_configuration_and_files(run):
    recorded.track("wandb", run, recorded.whole(run))
    folder, header = assert_recorded(run)
    assert (header.project, header.display_name, header.run_group) == ("lenet_jax", "a", "")
    assert (header.notes, list(header.tags)) == ("why", ["x", "y"])
    config = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in header.config.update}
    assert config["optimizer"]["learning_rate"] == 0.1
    assert "trackers" not in config
    for name in ("checkpoints/best.safetensors", "figures/learning_curves.png", "run.json", "result.json"):
        copy = folder / "files" / name
        assert copy.read_bytes() == (run / name).read_bytes()
        assert not copy.is_symlink()
    assert not [path for path in (run / "wandb").rglob("*") if path.is_symlink()]


def test_jobs_of_a_sweep_are_a_group(sweep):
    recorded.log(sweep, "wandb")
    for number in "01":
        _, header = assert_recorded(sweep / number)
        assert (header.display_name, header.run_group) == (f"{number} seed={number}", "sweeps/s")


def test_a_run_that_is_killed_and_resumed_is_one_run_with_each_step_once(run):
    recorded.track("wandb", run, recorded.killed(run))
    _, _, history, _, ends = offline_run(run)
    assert ([line["_step"] for line in history], ends) == ([4, 8, 12], [1])
    recorded.track("wandb", run, recorded.resumed(run))
    assert_recorded(run)


def test_tracked_again_it_replaces_what_is_there(run):
    for _ in range(2):
        recorded.log(run, "wandb", "trackers.wandb.weights=false")
        folder, _ = assert_recorded(run)
        assert not (folder / "files" / "checkpoints").exists()


def test_commands_record_the_same():
    assert_recorded(recorded.train_killed_and_resume("run", "trackers=wandb"))
    sweep = recorded.train_sweep("sweep", "trackers=[wandb,csv]")
    for number in "01":
        assert_recorded(sweep / number)


def test_a_server_that_is_not_reached_costs_a_warning(monkeypatch, capfd):
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setattr(Delivery.__init__, "__kwdefaults__", {"queue_size": 10, "end_seconds": 2.0})
    online = "trackers.wandb.mode=online"
    assert main(["train", *recorded.TINY, "trackers=wandb", online, "hydra.run.dir=run"]) == 0
    assert "`trackers.wandb` " in capfd.readouterr().err
