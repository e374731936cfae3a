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
    package = logging.getLogger("lenet_jax")
    package.handlers[:], package.propagate = [], True


def test_a_job_writes_the_files_that_are_named():
    name = "hydra.job_logging.handlers.file.filename='${hydra.runtime.output_dir}/own-${hydra.job.num}.log'"
    assert main([*SWEEP, name, "hydra.job_logging.formatters.simple.format='> %(message)s'"]) == 0
    for number in ("0", "1"):
        lines = Path("sweep", number, f"own-{number}.log").read_text().splitlines()
        assert lines[0].startswith("> lenet, ")
        assert not Path("sweep", number, "train.log").exists()


OWN = """
version: 1
filters:
  ours:
    name: lenet_jax
formatters:
  plain:
    format: "[seed ${seed}, job ${hydra.job.name}] %(message)s"
handlers:
  console:
    class: logging.StreamHandler
    formatter: plain
    filters: [ours]
    level: ERROR
  events:
    class: logging.FileHandler
    formatter: plain
    filters: [ours]
    filename: ${hydra.runtime.output_dir}/${model.hidden_units}.log
  problems:
    class: logging.FileHandler
    filename: ${hydra.runtime.output_dir}/problems.log
loggers:
  lenet_jax:
    level: INFO
    handlers: [events, console]
    propagate: false
  absl:
    handlers: [problems]
root:
  level: WARNING
  handlers: [console, problems]
disable_existing_loggers: false
"""


@pytest.mark.parametrize("launcher", ["lanes", "basic"])
def test_loggers_filters_and_values_of_the_run_are_those_of_a_file_of_the_user(launcher):
    Path("conf/hydra/job_logging").mkdir(parents=True)
    Path("conf/hydra/job_logging/mine.yaml").write_text(OWN)
    own = ["--config-dir", "conf", "hydra/job_logging=mine", f"hydra/launcher={launcher}"]
    assert main([*SWEEP, *own, "hydra.job.name=${optimizer._target_}"]) == 0
    for number in ("0", "1"):
        lines = Path("sweep", number, "4.log").read_text().splitlines()
        head = f"[seed {number}, job lenet_jax.optimizers.sgd] "
        assert [line for line in lines if not line.startswith(head)] == []
        assert lines[0].startswith(f"{head}lenet, ")
        assert not [line for line in Path("sweep", number).glob("problems.log") if line.read_text()]


def test_an_override_may_refer_to_a_value_of_the_run():
    assert main([*SWEEP, "seed=${trainer.max_epochs}", "model.hidden_units=4,5"]) == 0
    texts = [Path("sweep", number, ".hydra", "overrides.yaml").read_text() for number in ("0", "1")]
    assert all("- seed=${trainer.max_epochs}\n" in text for text in texts)
    assert [Path("sweep", number, "train.log").read_text().count(" lenet, ") for number in ("0", "1")] == [1, 1]


@pytest.mark.parametrize("option", ["hydra/job_logging=none", "hydra.job_logging.root.level=WARNING"])
def test_a_job_that_is_to_log_nothing_has_no_file(option):
    assert main([*SWEEP, option]) == 0
    assert not Path("sweep/0/train.log").exists()


def test_what_python_cannot_log_by_is_refused(capsys):
    assert main([*SWEEP, "hydra.job_logging.handlers.terminal.class=nowhere.Handler"]) == 2
    assert "`hydra.job_logging` must be a configuration of Python's logging; " in capsys.readouterr().err
