"""Whole commands that are killed, interrupted, crowded, and run in odd surroundings."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from lenet_jax.runs.checkpoints import newest_first
from tests.conftest import ROOT
from tests.faults.training import TINY, WAYS, environment, kill_and_resume, reference, remains
from tests.faults.zygote import Zygote


@pytest.fixture(scope="module")
def zygote(tmp_path_factory):
    with Zygote(XDG_CACHE_HOME=str(tmp_path_factory.mktemp("cache"))) as zygote:
        yield zygote


def check_kills(way, numbers, tmp_path):
    with Zygote(XDG_CACHE_HOME=str(tmp_path / "cache"), **environment(way)) as zygote:
        whole = reference(zygote, way, tmp_path)
        for number in numbers:
            kill_and_resume(zygote, way, tmp_path / str(number), whole, number)


QUICK = ("lanes",)


@pytest.mark.parametrize("way", [pytest.param(way, marks=[pytest.mark.slow] * (way not in QUICK)) for way in WAYS])
def test_killed_at_20_random_instants_and_resumed_every_byte_is_the_same(way, tmp_path):
    if way == "streamed":
        pytest.importorskip("grain")
    check_kills(way, range(list(WAYS).index(way), 20, len(WAYS)), tmp_path)


def wait_until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def newest(folder):
    found = newest_first(folder / "r" / "checkpoints")
    return int(found[0].name) if found else 0


LONG = ["data.train_size=100", "trainer.max_epochs=150", "hydra.run.dir=r"]


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, 6))])
def test_killed_at_every_attempt_it_makes_progress(seed, zygote, tmp_path):
    for name in ("run", "whole"):
        (tmp_path / name).mkdir()
    arguments = ["train", *LONG, f"seed={seed}"]
    assert zygote.run(arguments, tmp_path / "whole").code == 0
    folder, reached = tmp_path / "run", [0]
    for attempt in range(10):
        child = zygote.start(["resume", "r"] if attempt else arguments, folder)
        wait_until(lambda: newest(folder) > reached[-1])
        os.kill(child, signal.SIGKILL)
        assert zygote.wait(child, folder).code == -signal.SIGKILL
        reached.append(newest(folder))
    assert sorted(set(reached)) == reached
    ended = zygote.run(["resume", "r"], folder)
    assert ended.code == 0, ended.output
    assert remains(folder / "r") == remains(tmp_path / "whole" / "r")


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, *(pytest.param(n, marks=pytest.mark.slow) for n in (signal.SIGINT, signal.SIGUSR1))]
)
def test_a_run_that_is_asked_to_stop_says_how_to_resume(number, zygote, tmp_path):
    child = zygote.start(["train", *LONG], tmp_path)
    wait_until(lambda: newest(tmp_path) > 0)
    os.kill(child, number)
    ended = zygote.wait(child, tmp_path)
    assert ended.code == 75, ended.output
    assert "lenet-jax: interrupted; resume with lenet-jax resume r\n" in ended.output
    ended = zygote.run(["resume", "r"], tmp_path)
    assert ended.code == 0, ended.output
    assert "resumes after epoch" in ended.output
    verified = zygote.run(["verify", "r"], tmp_path)
    assert verified.code == 0, verified.output
    assert "identical         150 evaluations, test accuracy, parameters: SHA-256" in verified.output


def check_digests(count, processes, folder):
    surroundings = [
        {"LC_ALL": "C", "TZ": "UTC", "PYTHONHASHSEED": "1"},
        {"LC_ALL": "tr_TR.UTF-8", "TZ": "Asia/Kathmandu", "PYTHONHASHSEED": "2"},
        {"LC_ALL": "de_DE.UTF-8", "TZ": "America/St_Johns", "PYTHONHASHSEED": "3", "COLUMNS": "20"},
        {"LANG": "", "TZ": "Pacific/Apia", "PYTHONHASHSEED": "random", "PYTHONOPTIMIZE": "2"},
        {"PYTHONUTF8": "1", "PYTHONHASHSEED": "4294967295", "HOME": str(folder)},
    ]
    found = set()
    for number in range(processes):
        own = folder / f"a folder {number} \N{GREEK SMALL LETTER ALPHA}"
        own.mkdir()
        options = {
            **os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(own / "cache"), "JAX_NUM_CPU_DEVICES": "2",
            **surroundings[number % 5],
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-m", "tests.faults.digests", str(own), str(count)],
            env=options, cwd=own, capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        found.add(done.stdout)
    assert len(found) == 1
    assert len(json.loads(found.pop())) == count


@pytest.mark.slow
def test_four_configurations_in_five_processes_give_the_same_digests(tmp_path):
    check_digests(4, 5, tmp_path)


@pytest.mark.slow
def test_twelve_configurations_in_twenty_processes_give_the_same_digests(tmp_path):
    check_digests(12, 20, tmp_path)


def write_idx(folder):
    """Write a small data set in the IDX format, which is decoded into the cache."""
    rng = np.random.default_rng(0)
    for prefix, count in (("train", 300), ("t10k", 50)):
        images = rng.integers(0, 256, (count, 28, 28), np.uint8)
        head = np.array([0x803, count, 28, 28], ">u4").tobytes()
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(head + images.tobytes())
        labels = rng.integers(0, 10, count, np.uint8)
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(
            np.array([0x801, count], ">u4").tobytes() + labels.tobytes()
        )


def crowd(zygote, folder, number):
    """Let eight processes begin at once on one empty cache, and kill one of them at a random instant."""
    chance, cache = random.Random(number), folder / f"cache-{number}"
    options = ["data=idx", f"data.directory={folder}", "data.validation_size=100", "trainer.max_epochs=2"]
    children = {}
    for name in range(8):
        own = folder / f"{number}-{name}"
        own.mkdir()
        child = zygote.start(["train", *options, "hydra.run.dir=r"], own, XDG_CACHE_HOME=str(cache))
        children[child] = own
    time.sleep(chance.uniform(0, 4))
    victim = chance.choice(list(children))
    os.kill(victim, signal.SIGKILL)
    whole = []
    for child, own in children.items():
        ended = zygote.wait(child, own)
        if child != victim or ended.code == 0:
            assert ended.code == 0, ended.output
            whole.append(remains(own / "r"))
    assert len(whole) >= 7
    assert all(each == whole[0] for each in whole)


@pytest.mark.parametrize("rounds", [1, *(pytest.param(n, marks=pytest.mark.slow) for n in (10, 100))])
def test_eight_processes_share_an_empty_cache_and_one_is_killed(rounds, zygote, tmp_path):
    write_idx(tmp_path)
    for number in range(rounds):
        crowd(zygote, tmp_path, number)


SURROUNDINGS = {
    "no home": {"HOME": "", "XDG_CACHE_HOME": ""},
    "a home that is not there": {"HOME": "/nonexistent/home", "XDG_CACHE_HOME": ""},
    "a cache that cannot be written": {"XDG_CACHE_HOME": "/proc/cache"},
    "a cache in a path with spaces": {"XDG_CACHE_HOME": "a cache/\N{GREEK SMALL LETTER ALPHA} \N{SNOWMAN}"},
    "no folder for temporary files": {"TMPDIR": "/nonexistent/tmp"},
    "no network": {"https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"},
    "the locale C": {"LC_ALL": "C", "PYTHONUTF8": "0"},
    "a locale with another i": {"LC_ALL": "tr_TR.UTF-8"},
    "a time zone that is not there": {"TZ": "Nowhere/Never"},
    "a clock set back": {"YEARS_BACK": "30"},
}


@pytest.mark.parametrize("surroundings", SURROUNDINGS)
def test_a_run_in_odd_surroundings(surroundings, zygote, tmp_path):
    ended = zygote.run(["train", *TINY, "hydra.run.dir=r"], tmp_path, **SURROUNDINGS[surroundings])
    assert ended.code == 0, ended.output
    result = json.loads((tmp_path / "r" / "result.json").read_text())
    assert result["iterations"] == 120


def test_a_run_in_a_folder_with_spaces_and_other_letters(zygote, tmp_path):
    folder = tmp_path / "a folder \N{GREEK SMALL LETTER ALPHA}\N{SNOWMAN}"
    folder.mkdir()
    ended = zygote.run(["train", *TINY, "hydra.run.dir='run \N{GREEK SMALL LETTER BETA} 1'"], folder)
    assert ended.code == 0, ended.output
    (directory,) = [path for path in folder.iterdir() if path.is_dir()]
    assert zygote.run(["verify", directory.name], folder).code == 0


def test_a_folder_that_cannot_be_written_is_one_line(zygote, tmp_path):
    ended = zygote.run(["train", *TINY, "hydra.run.dir=/proc/run"], tmp_path)
    assert ended.code == 2, ended.output
    (line,) = ended.output.strip().splitlines()
    assert line.startswith("lenet-jax: /proc/run")


def check_endurance(epochs):
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.endurance", str(epochs)],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=3000, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found["growth"] < 0.01
    assert found["descriptors"][0] == found["descriptors"][1]
    assert found["epochs"]


@pytest.mark.slow
def test_500_epochs_need_no_more_memory_than_100():
    check_endurance(500)


@pytest.mark.slow
def test_10_000_epochs_need_no_more_memory_than_2_000():
    check_endurance(10_000)
