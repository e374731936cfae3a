"""The storage of a run: killed before each system call, failing at each, it holds the old state or the new."""

import json
import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT

SCENARIOS = ["save", "rotate", "replace", "append", "result"]


def run(*arguments):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.faults.storage", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=1000,
        check=False,
    )
    if "the child cannot be traced" in done.stderr:
        pytest.skip("this system lets no process trace its child")
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    "scenario", [pytest.param(name, marks=[pytest.mark.slow] * (name == "rotate")) for name in SCENARIOS]
)
def test_killed_before_each_system_call(scenario):
    found = run("kill", scenario)
    assert found["calls"] == found["old"] + found["new"] > 10
    assert found["old"] > 0
    assert found["new"] > 0 or scenario == "append"  # the append may be its last call but closing


@pytest.mark.parametrize(
    "scenario", [pytest.param(name, marks=[pytest.mark.slow] * (name == "rotate")) for name in SCENARIOS]
)
def test_the_file_system_fails_at_each_call(scenario):
    found = run("fail", scenario)
    assert found["raised"] > 0
    assert found["old"] > 0
    assert found["new"] > 0


@pytest.mark.slow
def test_killed_at_1000_random_instants():
    assert run("random", "1000")["kills"] == 1000
