"""A dry run says what would run, and writes nothing."""

import pytest

from lenet_jax.cli import main

pytestmark = pytest.mark.usefixtures("in_an_empty_folder")

SMALL = ["data.train_size=100", "trainer.batch_size=20", "model.num_kernels=[2,2]", "model.hidden_units=4"]


def dry_run(capsys, *arguments):
    assert main(["train", "--dry-run", *SMALL, *arguments]) == 0
    return capsys.readouterr().out


def test_jobs_groups_lanes_and_memory_are_printed_and_nothing_is_written(capsys, tmp_path):
    grid = ["seed=0,1", "optimizer.learning_rate=0.1,0.2", "model.kernel_size=3,5", "trainer.shuffle=true"]
    out = dry_run(capsys, "-m", *grid, "sweep.strategy=vmap", "hydra.sweep.dir=s")
    lines = out.splitlines()
    assert lines[0].split() == ["job", "group", "overrides"]
    assert lines[2].split() == ["1", "1", "seed=0", "optimizer.learning_rate=0.1", "model.kernel_size=5"]
    header = lines.index(next(line for line in lines if line.startswith("group")))
    for number, line in enumerate(lines[header + 1 : header + 3]):
        assert line.split()[:3] == [str(number), "4", "vmap"]
    assert "8 jobs; 2 programs are compiled, as these keys differ: model.kernel_size" in lines
    assert "directory: s" in lines
    assert [path.name for path in tmp_path.iterdir()] == []


def test_the_state_is_that_of_the_optimizer_and_the_data_are_those_that_are_loaded(capsys):
    """784 inputs of 4 bytes; 2 x 2 kernels of 5x5, dense layers: parameters, best copy, two moments of Adam."""
    out = dry_run(capsys, "optimizer=adam", "hydra.run.dir=r")
    row = next(line for line in out.splitlines() if line.startswith("0 "))
    parameters = (25 * 2 + 2) + (25 * 2 * 2 + 2) + (16 * 2 * 4 + 4) + (4 * 10 + 10)
    state = float(row.split()[4])
    assert 4 * 4 * parameters / 1024 <= state <= 4 * 4 * parameters / 1024 + 0.5
    examples = 100 + 500 + 500
    assert float(row.split()[8]) == pytest.approx(examples * (784 + 4) / 1024, rel=0.01)


def test_jobs_that_a_sweeper_chooses_are_not_known(capsys):
    pytest.importorskip("optuna")
    out = dry_run(capsys, "-m", "hydra/sweeper=optuna_batch", "optimizer.learning_rate=interval(0.1,0.2)")
    assert out.startswith("The sweeper chooses the jobs as it goes; ")


@pytest.mark.parametrize("arguments", [["seed=a"], ["-m", "seed=0,0"], ["sweep.strategy=foo"], ["hydra.run.dir="]])
def test_bad_input_is_refused_as_ever(arguments, capsys, tmp_path):
    assert main(["train", "--dry-run", *SMALL, *arguments]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
