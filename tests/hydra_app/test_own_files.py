"""Files of the user's own configuration that change what a command does."""

from pathlib import Path

import pytest

from lenet_jax.cli import main
from lenet_jax.hydra_app import composition
from lenet_jax.hydra_app.composition import is_multirun, open_hydra

pytestmark = pytest.mark.usefixtures("in_an_empty_folder")

SWEEP = "# @package _global_\nhydra:\n  mode: MULTIRUN\n  sweeper:\n    params:\n      seed: 0,1\n"


@pytest.fixture
def files(in_an_empty_folder):
    Path("conf/experiment").mkdir(parents=True)
    Path("conf/experiment/search.yaml").write_text(SWEEP)


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("folder", [["--config-dir", "conf"], ["hydra.searchpath=[file://conf]"]])
@pytest.mark.parametrize("overrides", [[], ["optimizer.learning_rate=0.1,0.2"]])
def test_an_experiment_may_be_a_sweep(folder, overrides, capsys):
    assert main(["train", *folder, "experiment=search", *overrides, "--dry-run"]) == 0
    assert f"{2 * 2 ** len(overrides)} jobs; 1 program is compiled" in capsys.readouterr().out


@pytest.mark.usefixtures("files")
def test_other_runs_with_that_folder_are_single(capsys):
    assert main(["train", "--config-dir", "conf", "--dry-run"]) == 0
    assert "1 program is compiled" in capsys.readouterr().out
    assert main(["train", "--config-dir", "conf", "seed=0,1"]) == 2
    assert "To sweep over it, add --multirun" in capsys.readouterr().err
    assert main(["train", "--config-dir", "conf", "experiment=serch"]) == 2
    assert "`experiment` has no 'serch'; choose one of: search, " in capsys.readouterr().err


def test_files_of_lenet_jax_are_not_composed_for_it(monkeypatch):
    with open_hydra() as hydra:
        monkeypatch.setattr(composition.Hydra, "compose_config", None)
        assert not is_multirun(hydra, ["seed=0,1"])
        assert is_multirun(hydra, ["hydra.mode=MULTIRUN"])


GLOBAL = "# @package _global_\n"
NO_PACKAGE = "must begin with the line # @package _global_, as it sets keys of all groups, and then set one."


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("content", "message"),
    [
        *((content, NO_PACKAGE) for content in ("seed: 3\n", "", "- seed\n", "seed=3\n", f"\ufeff{GLOBAL}seed: 3\n")),
        (f"{GLOBAL}trainer:\n  max_epoch: 3\n", "`trainer` has no 'max_epoch'; choose one of: max_epochs, "),
        (f"{GLOBAL}seed: abc\n", "`seed` must have the type of its default: Value 'abc' of type 'str' could not"),
        (
            f"{GLOBAL}defaults:\n  - override optimizer: adam\n",
            "`optimizer` must be the path of a group; write 'override /optimizer: NAME'.",
        ),
    ],
)
def test_a_mistake_in_a_file_is_one_line_that_names_it(content, message, capsys):
    Path("conf/experiment/mine.yaml").write_text(content, encoding="utf-8")
    assert main(["train", "--config-dir", "conf", "experiment=mine"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"lenet-jax: experiment/mine.yaml: {message}")
    assert error.count("\n") == 1
    assert [path.name for path in Path().iterdir()] == ["conf"]
