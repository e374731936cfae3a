"""Cross-validation is a sweep over data.fold: one program, and the folds are judged by their mean."""

import json
from pathlib import Path

import numpy as np
import pytest

from lenet_jax import load_dataset
from lenet_jax.cli import main
from lenet_jax.runs import group
from tests.faults.training import without_times

TINY = ["model._target_=tests.linear.linear", "trainer.max_epochs=2", "trainer.batch_size=20"]
FOLDS = ["data.train_size=100", "data.folds=3"]

pytestmark = pytest.mark.usefixtures("in_an_empty_folder")


@pytest.fixture(autouse=True)
def allowed(monkeypatch):
    monkeypatch.setenv("LENET_JAX_ALLOW", "tests")


def read(*path):
    return json.loads(Path(*path).read_text())


def test_folds_are_lanes_of_one_program_and_equal_to_runs_on_their_own_data(monkeypatch, capsys):
    compiled, compile_programs = [], group.compile_programs
    monkeypatch.setattr(group, "compile_programs", lambda *a, **o: compiled.append(o) or compile_programs(*a, **o))
    assert (
        main(
            [
                "train",
                "-m",
                *TINY,
                *FOLDS,
                "data.fold=range(3)",
                "optimizer.learning_rate=0.1,0.3",
                "hydra.sweep.dir=sweep",
            ]
        )
        == 0
    )
    assert len(compiled) == 1  # 600 examples, so all folds have 200
    out = capsys.readouterr().out
    assert "of the mean over the folds, Student's t on the logit, too narrow as folds share training examples" in out
    assert out.count("3 of 3") == 2
    groups = read("sweep", "summary.json")["groups"]
    assert [len(each["jobs"]) for each in groups] == [3, 3]
    jobs = [read("sweep", str(number), "result.json") for number in groups[1]["jobs"]]
    mean = sum(job["validation_accuracy"] for job in jobs) / 3
    assert groups[1]["measures"]["validation_accuracy"]["mean"] == pytest.approx(mean)

    data = load_dataset(train_size=100, folds=3, fold=1)
    arrays = {f"{part}_images": split.inputs for part, split in data.splits().items()}
    arrays |= {f"{part}_labels": split.targets for part, split in data.splits().items()}
    np.savez("fold.npz", **arrays)
    same = [
        "data=npz",
        "data.directory=fold.npz",
        "data.num_classes=10",
        "optimizer.learning_rate=0.3",
        "hydra.run.dir=run",
    ]
    assert main(["train", *TINY, *same]) == 0
    job = next(
        number for number in groups[1]["jobs"] if read("sweep", str(number), "run.json")["config"]["data"]["fold"] == 1
    )
    assert (
        without_times(read("sweep", str(job), "result.json"))["parameters_sha256"]
        == read("run", "result.json")["parameters_sha256"]
    )
    assert (
        read("sweep", str(job), "result.json")["validation_accuracy"]
        == read("run", "result.json")["validation_accuracy"]
    )


def test_a_run_of_a_fold_is_verified_and_evaluated(capsys):
    assert main(["train", *TINY, *FOLDS, "data.fold=2", "hydra.run.dir=run"]) == 0
    assert main(["verify", "run"]) == 0
    capsys.readouterr()
    assert main(["evaluate", "run", "data.split=validation"]) == 0
    assert f"{100 * read('run', 'result.json')['validation_accuracy']:.2f}" in capsys.readouterr().out


def test_sweeps_are_compared_fold_by_fold(capsys):
    for name, rate in (("a", 0.1), ("b", 0.01)):
        command = [*TINY, *FOLDS, "data.fold=range(3)", f"optimizer.learning_rate={rate}", f"hydra.sweep.dir={name}"]
        assert main(["train", "-m", *command]) == 0
    capsys.readouterr()
    assert main(["compare", "a", "b"]) == 0
    assert "paired over 3 folds, Student's t" in capsys.readouterr().out


def test_folds_without_a_fold_are_refused_before_anything_is_written(capsys):
    assert main(["train", "-m", *TINY, "data.folds=3", "seed=0,1", "hydra.sweep.dir=sweep"]) == 2
    assert "data.fold=range(3)" in capsys.readouterr().err
    assert not Path("sweep").exists()


@pytest.mark.parametrize(
    ("sweeper", "message"),
    [
        ("asha", "`data.folds` must divide the number of examples"),
        ("halving", "`hydra/sweeper=halving` must have jobs"),
    ],
)
def test_folds_of_two_sizes_are_not_judged_together(sweeper, message, capsys):
    folds = ["data.train_size=101", "data.folds=3", "data.fold=range(3)", "optimizer.learning_rate=0.1,0.2"]
    assert main(["train", "-m", *TINY, *folds, f"hydra/sweeper={sweeper}", "hydra.sweep.dir=sweep"]) == 2
    assert message in capsys.readouterr().err
    assert not Path("sweep").exists()
