"""The events of jobs, written to a journal and read from it."""

from pathlib import Path

from lenet_jax.config import Config
from lenet_jax.errors import InputError
from lenet_jax.runs import Evaluated, Failed, Finished, Monitor, Started
from lenet_jax.sweeps.journal import JournalReader, JournalWriter

CONFIG = Config()
EVENTS = [
    Started(CONFIG, 200, 7850, 20, "cpu", Monitor("loss", "min"), ({"epoch": 1, "validation_loss": 0.5},), True),
    Evaluated({"epoch": 2, "iteration": 20, "validation_loss": 0.25}),
    Finished({"stopped_by": "max_epochs", "validation_loss": 0.25}, Path("run")),
]


def test_what_is_written_is_read_as_the_same_events(tmp_path):
    reader = JournalReader(tmp_path / "journal")
    assert list(reader.read()) == []
    assert not reader.has_begun
    with JournalWriter(tmp_path / "journal") as writer:
        for event in EVENTS:
            writer.write(5, event)
        lines = list(reader.read())
        assert [line.number for line in lines] == [5, 5, 5]
        assert [line.iteration for line in lines] == [None, 20, None]
        assert [line.to_event(CONFIG, Path("run")) for line in lines] == EVENTS
        writer.write(6, Failed(OSError(28, "No space left", "run.json")))
    (line,) = reader.read()
    failed = line.to_event(CONFIG, Path("run"))
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, InputError)
    assert str(failed.error) == "run.json: No space left"
    reader.close()


def test_a_line_is_read_once_it_is_complete(tmp_path):
    reader, path = JournalReader(tmp_path / "journal"), tmp_path / "journal"
    whole = b'{"job": 1, "event": "evaluated", "record": {"iteration": 10}}\n'
    path.write_bytes(whole + whole[:20])
    assert [line.iteration for line in reader.read()] == [10]
    with path.open("ab") as file:
        file.write(whole[20:])
    assert [line.iteration for line in reader.read()] == [10]
    assert list(reader.read()) == []
    reader.close()


def test_another_process_appends_to_what_a_lost_one_has_written(tmp_path):
    for iteration in (10, 20):
        with JournalWriter(tmp_path / "journal") as writer:
            writer.write(1, Evaluated({"iteration": iteration}))
    reader = JournalReader(tmp_path / "journal")
    assert [line.iteration for line in reader.read()] == [10, 20]
    reader.close()
