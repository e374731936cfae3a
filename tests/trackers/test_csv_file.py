import csv

import pytest

from lenet_jax.cli import main
from lenet_jax.components import complete_config
from lenet_jax.config import Config
from lenet_jax.config.catalogue import built_in
from lenet_jax.errors import InputError
from lenet_jax.runs import Evaluated, Finished, Started
from lenet_jax.runs.run_directory import read_record
from lenet_jax.trackers.csv_file import csv_file

FIRST, SECOND = {"epoch": 1, "train_loss": 0.5}, {"epoch": 2, "train_loss": None}


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def started(*previous):
    return Started(Config(), 200, 10, 2, "cpu", previous_evaluations=previous)


def test_each_evaluation_is_a_row(tmp_path):
    track = csv_file(directory=str(tmp_path))
    for event in (started(), Evaluated(FIRST), Evaluated(SECOND), Finished({}, tmp_path)):
        track(event)
    assert read(tmp_path / "metrics.csv") == [
        {"epoch": "1", "train_loss": "0.5"},
        {"epoch": "2", "train_loss": ""},
    ]


def test_a_run_that_is_resumed_has_the_rows_from_before_once(tmp_path):
    track = csv_file(directory=str(tmp_path), name="table.csv")
    for event in (started(), Evaluated(FIRST), Evaluated({"epoch": 2, "train_loss": 9})):  # then it was killed
        track(event)
    track = csv_file(directory=str(tmp_path), name="table.csv")
    for event in (started(FIRST), Evaluated(SECOND)):
        track(event)
    assert [row["epoch"] for row in read(tmp_path / "table.csv")] == ["1", "2"]


@pytest.mark.parametrize("name", ["../metrics.csv", "/tmp/metrics.csv", "a/b.csv", "run.json", "", "a\n.csv"])
def test_a_name_that_leads_elsewhere_is_refused(name):
    node = {**built_in("trackers")["csv"]["csv"], "name": name}
    with pytest.raises(InputError, match=r"^`trackers\.csv\.name` must be the name of a file that ends in \.csv; got "):
        complete_config(Config(trackers={"csv": node}))


@pytest.mark.usefixtures("in_an_empty_folder")
def test_the_table_of_a_run_has_the_numbers_of_its_log(tmp_path, monkeypatch):
    monkeypatch.setenv("LENET_JAX_ALLOW", "tests")
    tiny = ["model._target_=tests.linear.linear", "data.train_size=200", "trainer.max_epochs=2", "trackers=csv"]
    assert main(["train", *tiny, "hydra.run.dir=run"]) == 0
    assert main(["train", "-m", *tiny, "seed=0,1", "hydra.sweep.dir=sweep"]) == 0
    for directory in (tmp_path / "run", tmp_path / "sweep" / "0", tmp_path / "sweep" / "1"):
        rows, lines = read(directory / "metrics.csv"), read_record(directory).metrics
        assert len(rows) == 2
        assert [{key: float(value) for key, value in row.items()} for row in rows] == lines
