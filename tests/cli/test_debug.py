import json
from pathlib import Path

import pytest

from lenet_jax.cli import main

SMALL = ["model.num_kernels=[2,3]", "model.hidden_units=10"]

pytestmark = pytest.mark.usefixtures("in_an_empty_folder")


def refuse(capsys, *arguments):
    """Run a command that must be refused with one line, before anything is written; return the line."""
    assert main(["train", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert list(Path.cwd().iterdir()) == []
    return err.removeprefix("lenet-jax: ").rstrip("\n")


@pytest.mark.parametrize(("batch_size", "steps", "examples"), [("30", 2, 60), ("null", 1, 100)])
def test_a_fast_run_does_everything_once(batch_size, steps, examples):
    assert main(["train", "debug=fast", *SMALL, f"trainer.batch_size={batch_size}"]) == 0
    (directory,) = Path("outputs/debug").iterdir()
    result = json.loads((directory / "result.json").read_text())
    run = json.loads((directory / "run.json").read_text())
    assert (result["epochs"], result["iterations"]) == (1, steps)
    assert run["config"]["data"]["train_size"] == examples
    assert [path.name for path in (directory / "checkpoints").iterdir()] == ["best.safetensors"]


def test_a_fast_run_takes_overrides_and_wins_against_an_experiment(capsys):
    assert main(["train", "--cfg", "job", "experiment=lenet5_1998", "debug=fast"]) == 0
    assert "max_epochs: 1\n" in capsys.readouterr().out
    assert main(["train", "--cfg", "job", "debug=fast", "trainer.max_epochs=2"]) == 0
    assert "max_epochs: 2\n" in capsys.readouterr().out


def test_fast_jobs_of_a_sweep_are_below_the_same_folder():
    assert main(["train", "-m", "debug=fast", "seed=0,1", *SMALL]) == 0
    (directory,) = Path("outputs/debug").iterdir()
    assert (directory / "sweep.json").is_file()


def test_an_unknown_name_is_refused_with_the_others(capsys):
    assert refuse(capsys, "debug=fats").startswith("`debug` has no 'fats'; choose one of: fast, ")
