"""The tutorial notebook, executed in a folder of its own."""

import os
import shutil

import pytest

from tests.conftest import ROOT

NOTEBOOK = ROOT / "docs" / "tutorial.ipynb"


def test_the_tutorial_runs(tmp_path):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    notebook = nbformat.read(shutil.copy(NOTEBOOK, tmp_path), as_version=4)
    resources = {"metadata": {"path": str(tmp_path)}}
    as_users = {
        name: value for name, value in os.environ.items() if name not in ("JAX_DISABLE_MOST_OPTIMIZATIONS", "XLA_FLAGS")
    }
    nbclient.NotebookClient(notebook, timeout=600, resources=resources).execute(env=as_users)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not [each["text"] for each in outputs if each.get("name") == "stderr"]
    printed = "".join(each["text"] for each in outputs if each.get("name") == "stdout")
    for part in ("identical", "best run: job", "report: outputs/longer/index.html", "paired over 2 seeds"):
        assert part in printed
    shown = [each["data"] for each in outputs if "data" in each]
    assert any("<svg" in each.get("text/html", "") for each in shown)
    assert all(len(each.get("text/plain", "")) < 500 for each in shown)
    assert (tmp_path / "outputs" / "longer" / "index.html").is_file()
