"""Each reproduced system in short: its experiment file on a few embedded digits; its notebook, whole."""

import jax
import pytest

from lenet_jax.cli import main
from tests.conftest import ROOT

SHORT = ["data=embedded", "data.train_size=100", "trainer.max_epochs=1", "hydra.run.dir=run"]
EXPERIMENTS = sorted(path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml"))
OTHERS = ("default", "resnet50_imagenet")  # of 224x224 pixels, in test_large.py
NOTEBOOKS = sorted((ROOT / "experiments").glob("*/*.ipynb"))


SLOW = (
    "theano_lenet",
    "theano_lenet_modern",
    "lenet5_1998",
    "csu_scg",
    "alexnet_mnist",
    "googlenet_mnist",
    "resnet18_mnist",
    "resnet18_cifar10",
)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in EXPERIMENTS if name not in OTHERS],
)
def test_an_experiment_runs_in_short(name, tmp_path, in_an_empty_folder, capsys):
    batch = [] if name == "csu_scg" else ["trainer.batch_size=50"]
    with jax.numpy_dtype_promotion("standard"):  # Optax itself mixes integer counts and floats
        assert main(["train", f"experiment={name}", *SHORT, *batch]) == 0
    assert (tmp_path / "run" / "result.json").is_file()


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=pytest.mark.slow) for path in NOTEBOOKS],
    ids=lambda path: path.stem,
)
def test_a_notebook_runs_and_prints_what_it_printed(path, tmp_path):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("sklearn")
    stored = nbformat.read(path, as_version=4)
    assert path.stat().st_size < 1_000_000
    fresh = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(fresh, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()

    def printed(notebook):  # what a cell prints may come in several parts
        return ["".join(map(text_of, cell.get("outputs", []))) for cell in notebook.cells]

    def text_of(output):
        return output["text"] if output["output_type"] == "stream" and output["name"] == "stdout" else ""

    assert printed(fresh) == printed(stored)
