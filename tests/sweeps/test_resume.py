"""A sweep killed at any instant and resumed comes to the very summary of one that was left alone."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from tests.conftest import ROOT

GRID = ["seed=range(4)", "optimizer.learning_rate=0.05,0.1,0.2"]  # 12 jobs
TINY = ["model._target_=tests.linear.linear", "trainer.max_epochs=2", "data.train_size=200"]


def start(folder, *arguments, number=signal.SIGKILL, when="never", count=0):
    environment = {
        **os.environ,
        "XDG_CACHE_HOME": str(folder / "cache"),
        "PYTHONPATH": str(ROOT),
        "JAX_NUM_CPU_DEVICES": "2",
        "LENET_JAX_ALLOW": "tests",
    }
    command = [sys.executable, "-m", "tests.sweeps.program", number.name, when, str(count), *arguments]
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(process):
    output, _ = process.communicate(timeout=300)
    return process.returncode, output


def summaries(directory):
    return [(directory / name).read_bytes() for name in ("summary.json", "summary.csv")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder in which the sweep has been run once without interruption."""
    folder = tmp_path_factory.mktemp("sweeps")
    code, output = finish(start(folder, "train", "-m", *TINY, *GRID, "hydra.sweep.dir=whole"))
    assert code == 0, output
    assert "12 jobs: 12 done" in output
    return folder


def resume(folder, name):
    code, output = finish(start(folder, "resume", name))
    assert code == 0, output
    assert summaries(folder / name) == summaries(folder / "whole")
    return output


# Of the ledger: 12 entries, then two for each job, "running" and what came of it; of the metrics, two lines a job.
INSTANTS = [("ledger", 14)]
ALL_INSTANTS = [("ledger", count) for count in range(1, 37)] + [("metrics", count) for count in range(1, 25)]


def check_killed_and_resumed(folder, when, count):
    name = f"{when}-{count}"
    code, output = finish(start(folder, "train", "-m", *TINY, *GRID, f"hydra.sweep.dir={name}", when=when, count=count))
    assert code == -signal.SIGKILL, output
    assert not (folder / name / "summary.json").exists()
    resume(folder, name)


@pytest.mark.parametrize(("when", "count"), INSTANTS)
def test_killed_and_resumed(when, count, folder):
    check_killed_and_resumed(folder, when, count)


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, *(pytest.param(n, marks=pytest.mark.slow) for n in (signal.SIGUSR1, signal.SIGINT))]
)
def test_asked_to_end_it_says_how_to_resume(number, folder):
    name = number.name
    whole = start(
        folder, "train", "-m", *TINY, *GRID, f"hydra.sweep.dir={name}", number=number, when="metrics", count=7
    )
    code, output = finish(whole)
    assert code == 75
    assert f"lenet-jax: interrupted; resume with lenet-jax resume {name}\n" in output
    resume(folder, name)


@pytest.mark.slow
@pytest.mark.parametrize(("when", "count"), ALL_INSTANTS)
def test_killed_at_each_write_and_resumed(when, count, folder):
    check_killed_and_resumed(folder, when, count)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(20))
def test_killed_at_a_random_instant_and_resumed(number, folder):
    name = f"random-{number}"
    begin = time.monotonic()
    process = start(folder, "train", "-m", *TINY, *GRID, f"hydra.sweep.dir={name}")
    while not (folder / name / "sweep.json").exists():  # from then on there is something to resume
        assert process.poll() is None
        time.sleep(0.005)
    time.sleep(random.Random(number).uniform(0, time.monotonic() - begin))
    process.kill()
    finish(process)
    resume(folder, name)


@pytest.mark.parametrize("count", [pytest.param(count, marks=pytest.mark.slow) for count in (17, 20, 3)])
def test_successive_halving_is_killed_and_resumed(count, folder):
    halving = ["train", "-m", *TINY, *GRID, "hydra/sweeper=halving", "trainer.max_epochs=4"]
    code, output = finish(start(folder, *halving, f"hydra.sweep.dir=halving-{count}"))
    assert code == 0, output
    assert "12 jobs: 12 done, 8 of them pruned" in output  # of three configurations with four seeds, one continues
    code, output = finish(start(folder, *halving, f"hydra.sweep.dir=again-{count}", when="metrics", count=count))
    assert code == -signal.SIGKILL, output
    code, output = finish(start(folder, "resume", f"again-{count}"))
    assert code == 0, output
    assert summaries(folder / f"again-{count}") == summaries(folder / f"halving-{count}")


def test_a_sweep_that_is_done_runs_nothing_again(folder):
    before = {path: path.stat().st_mtime_ns for path in (folder / "whole").rglob("result.json")}
    assert len(before) == 12
    resume(folder, "whole")
    assert {path: path.stat().st_mtime_ns for path in before} == before
