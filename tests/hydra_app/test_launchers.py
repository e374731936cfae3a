"""Launchers that have jobs run in other processes, and the device that such a process takes."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest

from lenet_jax.hydra_app.worker import lock_gpu
from lenet_jax.sweeps.ledger import RUNNING, Ledger
from tests.conftest import ROOT
from tests.sweeps.test_resume import finish

TINY = [
    *("model.num_kernels=[2,2]", "model.hidden_units=4", "data.train_size=200"),
    *("trainer.max_epochs=2", "trainer.batch_size=20"),
]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
GRID = ["seed=0,1", "optimizer.learning_rate=0.1,1e38"]


def lenet_jax(folder, *arguments):
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache"), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-m", "lenet_jax", *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder in which the sweep has been run by the launcher `lanes`."""
    folder = tmp_path_factory.mktemp("launchers")
    code, output = finish(lenet_jax(folder, "train", "-m", *TINY, *GRID, "hydra.sweep.dir=lanes"))
    assert code == 1, output
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_jobs_in_other_processes_come_to_the_same_summary(launcher, folder):
    arguments = ["train", "-m", *TINY, *GRID, f"hydra/launcher={launcher}", f"hydra.sweep.dir={launcher}"]
    code, output = finish(lenet_jax(folder, *arguments))
    assert code == 1, output
    assert "4 jobs: 2 done, 2 diverged" in output
    for name in ("summary.json", "summary.csv"):
        assert (folder / launcher / name).read_bytes() == (folder / "lanes" / name).read_bytes()
    owners = {entry.number: entry.owner for entry in Ledger(folder / launcher).entries()}
    assert set(owners.values()) == {None}


@pytest.mark.slow
def test_a_job_that_slurm_takes_its_machine_from_is_queued_again(folder):
    launcher = ["hydra/launcher=submitit_local", "hydra.sweep.dir=preempted"]
    process = lenet_jax(folder, "train", "-m", *TINY, "seed=0", "trainer.max_epochs=200", *launcher)
    while not (metrics := folder / "preempted" / "0" / "metrics.jsonl").exists() or len(metrics.read_text()) < 500:
        assert process.poll() is None
        time.sleep(0.02)
    (entry,) = Ledger(folder / "preempted").entries()
    assert entry.state == RUNNING
    os.kill(entry.owner["pid"], signal.SIGUSR2)  # submitit's, on the way to a requeue
    code, output = finish(process)
    assert code == 0, output
    assert "1 jobs: 1 done" in output
    logs = "".join(path.read_text() for path in (folder / "preempted" / ".submitit").rglob("*.out"))
    assert "preempted" in logs


def lock_and_wait(folder, visible, results, done):
    environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    lock = lock_gpu(environment, folder / "dev", folder / "locks")
    results.put(
        (environment.get("CUDA_VISIBLE_DEVICES"), environment.get("XLA_PYTHON_CLIENT_PREALLOCATE"), lock is not None)
    )
    done.wait()


@pytest.mark.parametrize(
    ("visible", "num_processes", "expected"),
    [
        (None, 2, [("0", "false", True), ("1", "false", True)]),
        ("GPU-5a, 7", 2, [("7", "false", True), ("GPU-5a", "false", True)]),
        ("1", 2, [("1", "false", False), ("1", "false", True)]),
        ("", 1, [("", None, False)]),
    ],
)
def test_each_process_takes_a_gpu_that_is_free(visible, num_processes, expected, tmp_path):
    (tmp_path / "dev").mkdir()
    for name in ("nvidia0", "nvidia1", "nvidiactl", "null"):
        (tmp_path / "dev" / name).touch()
    spawn = multiprocessing.get_context("spawn")
    results, done = spawn.Queue(), spawn.Event()
    processes = [
        spawn.Process(target=lock_and_wait, args=(tmp_path, visible, results, done)) for _ in range(num_processes)
    ]
    for process in processes:
        process.start()
    found = sorted(results.get(timeout=60) for _ in processes)
    done.set()
    for process in processes:
        process.join()
    assert found == expected


def test_a_machine_without_a_gpu_is_left_as_it_is(tmp_path):
    environment = {}
    assert lock_gpu(environment, tmp_path) is None
    assert environment == {}


def test_locks_that_others_can_write_to_are_not_used(tmp_path, caplog):
    locks, environment = tmp_path / "locks", {"CUDA_VISIBLE_DEVICES": "5"}
    locks.mkdir()
    locks.chmod(0o777)
    assert lock_gpu(environment, tmp_path, locks) is None
    assert environment["CUDA_VISIBLE_DEVICES"] == "5"
    assert list(locks.iterdir()) == []
    assert caplog.messages == [f"{locks}: not used because other users may write to the GPU locks in it; remove it"]


ORPHAN = """
import os
from lenet_jax.hydra_app import worker
parent = os.getppid()
print("up", flush=True)
worker._end_with_parent(parent)
"""


def test_a_worker_ends_when_the_process_that_has_started_it_is_killed():
    starter = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {ORPHAN!r}])"
    process = subprocess.Popen([sys.executable, "-c", starter], env=ENVIRONMENT, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"up\n"
    process.kill()
    begin = time.monotonic()
    assert process.stdout.read() == b""  # which it is when the last one that could write has ended
    assert time.monotonic() - begin < 10
    process.stdout.close()
    process.wait()
