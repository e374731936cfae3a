"""The jobs of lanes log as `hydra.job_logging` says."""

import logging
from pathlib import Path

import pytest

from lenet_jax.cli import main

pytestmark = pytest.mark.usefixtures("in_an_empty_folder", "without_type_checks")

SWEEP = [
    *("train", "-m", "seed=0,1", "trainer.max_epochs=1", "data.train_size=100", "model.num_kernels=[2,2]"),
    *("model.hidden_units=4", "hydra.sweep.dir=sweep"),
]


@pytest.fixture(autouse=True)
def logging_is_restored():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_job_writes_the_files_that_are_named():
    name = "hydra.job_logging.handlers.file.filename='${hydra.runtime.output_dir}/own-${hydra.job.num}.log'"
    assert main([*SWEEP, name, "hydra.job_logging.formatters.simple.format='> %(message)s'"]) == 0
    for number in ("0", "1"):
        lines = Path("sweep", number, f"own-{number}.log").read_text().splitlines()
        assert lines[0].startswith("> lenet, ")
        assert not Path("sweep", number, "train.log").exists()


@pytest.mark.parametrize("option", ["hydra/job_logging=none", "hydra.job_logging.root.level=WARNING"])
def test_a_job_that_is_to_log_nothing_has_no_file(option):
    assert main([*SWEEP, option]) == 0
    assert not Path("sweep/0/train.log").exists()


def test_what_python_cannot_log_by_is_refused(capsys):
    assert main([*SWEEP, "hydra.job_logging.handlers.terminal.class=nowhere.Handler"]) == 2
    assert "`hydra.job_logging` must be a configuration of Python's logging; " in capsys.readouterr().err
