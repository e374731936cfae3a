"""A sweep of the user's own model on their own data, killed with -9 at a random instant: resumed, it comes to the same.

Only the command itself is killed, not the workers that it has started: those end by themselves.
"""

import os
import random
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from lenet_jax.sweeps.ledger import DONE, Ledger
from tests.conftest import ROOT

NETS = """
    from typing import Annotated

    from jax.nn.initializers import he_normal, zeros
    from lenet_jax import layers
    from lenet_jax.config.checks import AtLeast


    def tiny(*, input_shape, num_outputs, width: Annotated[int, AtLeast(1)] = 4, hidden_units: int = 8):
        \"\"\"Two layers, the first of which sees all pixels.

        Args:
            input_shape: of the images.
            num_outputs: number of classes.
            width: number of channels.
            hidden_units: number of tanh units.
        \"\"\"
        stages = {
            "conv": layers.convolution(width, 3, he_normal(), strides=2),
            "relu": layers.activation("relu"),
            "flatten": layers.flatten(),
            "hidden": layers.dense(hidden_units, he_normal()),
            "tanh": layers.activation("tanh"),
            "out": layers.dense(num_outputs, zeros),
        }
        return layers.make_model(layers.serial(stages), input_shape)
"""
DATA = """
    import lenet_jax as lj
    import numpy as np


    def blobs(num_examples: int = 300):
        \"\"\"Noisy 8x8 images, brighter in one of four quarters.\"\"\"
        rng = np.random.default_rng(0)
        labels = rng.integers(0, 4, num_examples)
        images = rng.normal(0, 0.3, (num_examples, 2, 4, 2, 4)).astype(np.float32)
        images[np.arange(num_examples), labels // 2, :, labels % 2] += 0.5
        images = images.reshape(num_examples, 8, 8, 1)
        parts = [lj.Split(images[a:b], labels[a:b].astype(np.int32)) for a, b in ((0, 200), (200, 250), (250, 300))]
        return lj.Dataset(*parts, num_classes=4)
"""
OWN = ["model._target_=mylab.nets.tiny", "data._target_=mylab.data.blobs"]
GRID = ["seed=range(4)", "optimizer.learning_rate=0.05,0.1,0.2"]  # 12 jobs
SHORT = ["trainer.batch_size=20", "trainer.max_epochs=6"]
LAUNCHERS = {"lanes": [], "joblib": ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]}


def start(folder, *arguments):
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache"), "PYTHONPATH": str(ROOT)}
    environment.pop("LENET_JAX_ALLOW", None)
    return subprocess.Popen(
        [sys.executable, "-m", "lenet_jax", *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process):
    output, _ = process.communicate(timeout=600)
    return process.returncode, output


def sweep(name, launcher):
    return ["train", "-m", *OWN, *GRID, *SHORT, *LAUNCHERS[launcher], f"hydra.sweep.dir={name}"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with two files of the user's, and the sweep that ran there without interruption."""
    folder = tmp_path_factory.mktemp("empty")
    (folder / "mylab").mkdir()
    (folder / "mylab" / "nets.py").write_text(textwrap.dedent(NETS).lstrip())
    (folder / "mylab" / "data.py").write_text(textwrap.dedent(DATA).lstrip())
    begin = time.monotonic()
    code, output = finish(start(folder, *sweep("whole", "lanes")))
    assert code == 0, output
    assert "12 jobs: 12 done" in output
    folder.joinpath("seconds").write_text(str(time.monotonic() - begin))
    return folder


def check_killed_and_resumed(folder, launcher, number):
    name, chance = f"{launcher}-{number}", random.Random(number)
    seconds = float((folder / "seconds").read_text())
    process = start(folder, *sweep(name, launcher))
    while not list((folder / name).glob("*/metrics.jsonl")):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)
    time.sleep(chance.uniform(0, seconds / 2))
    os.kill(process.pid, signal.SIGKILL)
    process.wait()  # but not for its workers
    resumed = start(folder, "resume", name, "--allow", "mylab")
    code, output = finish(resumed)
    assert code == 0, output
    assert {entry.state for entry in Ledger(folder / name).entries()} == {DONE}
    assert (folder / name / "summary.csv").read_bytes() == (folder / "whole" / "summary.csv").read_bytes()
    process.stdout.close()


def test_in_lanes(folder):
    check_killed_and_resumed(folder, "lanes", 0)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
@pytest.mark.parametrize("number", range(1, 4))
def test_at_other_instants(launcher, number, folder):
    check_killed_and_resumed(folder, launcher, number)
