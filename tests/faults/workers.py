"""Processes that run groups of a sweep, killed with -9: the sweep ends by itself, with every byte of one left alone.

python -m tests.faults.workers LAUNCHER COUNT [FIRST]: for COUNT sweeps, kills workers at instants of their own.
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.conftest import ROOT
from tests.faults.training import remains

SWEEP = [
    *("train", "-m", "model._target_=tests.linear.linear", "data.train_size=200", "trainer.max_epochs=60"),
    *("trainer.early_stopping.enabled=false", "trainer.batch_size=20,25", "seed=0,1", "sweep.max_parallel=2"),
]
LAUNCHERS = {
    "lanes": [],
    "joblib": ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"],
    "submitit_local": ["hydra/launcher=submitit_local"],
    "ray": ["hydra/launcher=ray"],
}


def start(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache"), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-m", "lenet_jax", *arguments],
        cwd=folder,
        env=environment | {"LENET_JAX_ALLOW": "tests", "JAX_NUM_CPU_DEVICES": "2"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: "subprocess.Popen[str]") -> str:
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    return output


def reference(folder: Path) -> dict[str, object]:
    """Run the sweep in lanes; what it leaves."""
    finish(start(folder, *SWEEP, "hydra.sweep.dir=whole"))
    return remains(folder / "whole")


def running(directory: Path) -> list[int]:
    """Return the processes that train jobs of a sweep, by its ledger."""
    entries = [json.loads(path.read_bytes()) for path in directory.glob("jobs/[0-9]*.json")]
    return sorted({entry["owner"]["pid"] for entry in entries if entry["owner"] is not None})


def wait_for_workers(process: "subprocess.Popen[str]", directory: Path) -> list[int]:
    """Return the processes that train jobs, once there are any that have evaluated; none if the sweep has ended."""
    while process.poll() is None:
        if list(directory.glob("*/metrics.jsonl")) and (found := running(directory)):
            return found
        time.sleep(0.02)
    return []


def kill_workers(folder: Path, name: str, launcher: list[str], number: int, kills: int = 2) -> str:
    """Run a sweep of which workers are killed, each time one of those that run; return its output."""
    chance = random.Random(number)
    process = start(folder, *SWEEP, *launcher, f"hydra.sweep.dir={name}")
    for _ in range(kills):
        workers = wait_for_workers(process, folder / name)
        time.sleep(chance.uniform(0, 1))
        if workers and process.poll() is None:
            try:
                os.kill(chance.choice(workers), signal.SIGKILL)
            except ProcessLookupError:
                continue
    return finish(process)


def main(launcher: str, count: int, first: int = 0) -> None:
    lost = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        expected = reference(folder)
        for number in range(first, first + count):
            output = kill_workers(folder, f"{launcher}-{number}", LAUNCHERS[launcher], number)
            assert remains(folder / f"{launcher}-{number}") == expected, number
            lost += output.count("they go on in another one")
    print(f"{launcher}: {count} sweeps, {lost} lost groups went on, all as those left alone")


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
