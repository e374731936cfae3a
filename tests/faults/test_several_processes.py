"""One run of several processes on this host: the same run, killed and resumed, late, interrupted, refused."""

import contextlib
import json
import os
import signal
import socket
import time

import pytest

from tests.faults.several import Several, kill_and_resume, one_device_each, reference
from tests.faults.training import remains
from tests.faults.zygote import Zygote


@pytest.fixture(scope="module")
def zygote(tmp_path_factory):
    with one_device_each(tmp_path_factory.mktemp("zygote")) as zygote:
        yield zygote


@pytest.fixture(scope="module")
def whole(zygote, tmp_path_factory):
    return reference(zygote, tmp_path_factory.mktemp("whole"), 2)


def test_two_processes_give_the_bits_of_two_devices_of_one(whole, tmp_path):
    with Zygote(XDG_CACHE_HOME=str(tmp_path / "cache"), JAX_NUM_CPU_DEVICES="2") as zygote:
        alone = Several(zygote, tmp_path, 1)
        (ended,) = alone.whole()
    assert ended.code == 0, ended.output
    assert remains(alone.run) == whole[0]


ROUNDS = int(os.environ.get("LENET_JAX_KILLS", "10"))  # of the slow test


@pytest.mark.parametrize("number", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, ROUNDS))])
def test_one_of_two_is_killed_all_end_and_resume_to_the_same_bits(number, zygote, whole, tmp_path):
    kill_and_resume(zygote, tmp_path, 2, whole, number)


@pytest.mark.slow
def test_one_of_four_is_killed_all_end_and_resume_to_the_same_bits(zygote, tmp_path):
    expected = reference(zygote, tmp_path / "whole", 4)
    for number in range(ROUNDS):
        kill_and_resume(zygote, tmp_path / str(number), 4, expected, number)


@pytest.mark.parametrize("asked", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_all_stop_where_one_is_asked_to_and_say_how_to_resume(asked, zygote, tmp_path):
    run = Several(zygote, tmp_path, 2)
    run.start("trainer.max_epochs=100000", late=2.0)  # and the second one is late
    end = time.monotonic() + 120
    while not list(run.run.glob("checkpoints/0*")):
        assert time.monotonic() < end
        time.sleep(0.05)
    os.kill(run.children[asked], signal.SIGTERM)
    first, second = run.wait()
    assert (first.code, second.code) == (75, 75)
    assert f"resume with lenet-jax resume {run.run}" in first.output
    assert json.loads((run.run / "run.json").read_text())["mesh"]["processes"] == 2
    assert not (run.run / "result.json").exists()


def test_a_port_that_is_taken_is_one_line(zygote, tmp_path):
    with contextlib.closing(socket.socket()) as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        (tmp_path / "0").mkdir()
        own = [f"distributed.coordinator=127.0.0.1:{port}", "distributed.num_processes=2", "distributed.process_id=0"]
        ended = zygote.run(["train", "sharding=data", "hydra.run.dir=r", *own], tmp_path / "0")
    assert ended.code == 2
    (line,) = ended.output.splitlines()
    assert line.startswith(
        "lenet-jax: `distributed.coordinator` must be at a free port of the first process; 127.0.0.1:"
    )
    assert not (tmp_path / "0" / "r").exists()


def test_processes_that_nothing_tells_of_each_other_is_one_line(zygote, tmp_path):
    hidden = {name: "" for name in os.environ if name.startswith(("SLURM", "OMPI"))}
    ended = zygote.run(["train", "sharding=data", "distributed=auto", "hydra.run.dir=r"], tmp_path, **hidden)
    assert ended.code == 2
    (line,) = ended.output.splitlines()
    assert line.startswith("lenet-jax: `distributed=auto` must be used in a job of SLURM or MPI")
    assert not (tmp_path / "r").exists()
