"""Two new sweeps with one directory that start at the same time: one runs, the other is refused and writes nothing."""

import os
import subprocess
import sys

from lenet_jax.sweeps.ledger import DONE, Ledger
from tests.conftest import ROOT

# Each process goes on when the other one has found the directory free, too, and then gives it time for its last check.
PROGRAM = """
import pathlib, sys, time
from lenet_jax.cli import main
from lenet_jax.hydra_app import sweep
from lenet_jax.sweeps import ledger

def meet(name, seconds):
    pathlib.Path(f"{name}-{sys.argv[1]}").touch()
    end = time.monotonic() + seconds
    while len(list(pathlib.Path().glob(f"{name}-*"))) < 2 and time.monotonic() < end:
        time.sleep(0.001)

def then_meet(function, name, seconds):
    def call(*arguments):
        found = function(*arguments)
        meet(name, seconds)
        return found
    return call

sweep._take_directory = then_meet(sweep._take_directory, "taken", 200)
ledger.refuse_taken = then_meet(ledger.refuse_taken, "checked", 5)
sys.exit(main(sys.argv[2:]))
"""


def start(folder, seeds):
    command = ["train", "-m", "model._target_=tests.linear.linear", "trainer.max_epochs=1", "data.train_size=100"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "LENET_JAX_ALLOW": "tests", "JAX_PLATFORMS": "cpu"}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, seeds, *command, f"seed={seeds}", "hydra.sweep.dir=sweep"],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_one_of_two_sweeps_gets_the_directory(tmp_path):
    processes = {seeds: start(tmp_path, seeds) for seeds in ("1,2", "3,4")}
    ended = {seeds: (*process.communicate(timeout=300), process.returncode) for seeds, process in processes.items()}
    (winner,) = (seeds for seeds, (_, _, code) in ended.items() if code == 0)
    (loser,) = (seeds for seeds, (_, _, code) in ended.items() if code == 2)
    out, error, _ = ended[loser]
    assert out == ""
    assert len(error.splitlines()) == 1
    assert "sweep: in use by another process" in error or "must not hold a sweep yet" in error
    ledger = Ledger(tmp_path / "sweep")
    assert f"seed={winner}" in ledger.identity["arguments"]
    entries = ledger.known_entries()
    assert [(entry.config["seed"], entry.state) for entry in entries] == [(int(s), DONE) for s in winner.split(",")]
    assert f"seed={loser}" not in "".join(path.read_text() for path in (tmp_path / "sweep").rglob("*.yaml"))
