"""A run and a sweep that are trained once, for tests to copy and to record with a tracker."""

import shutil
from pathlib import Path

import pytest

from lenet_jax.sweeps.groups import SweepJob, to_entry
from lenet_jax.sweeps.ledger import DONE, Ledger
from lenet_jax.trackers.delivery import Delivery
from tests.runs.small import make_config, run_whole

MODEL = {"_target_": "tests.linear.linear"}


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a sweep of two jobs, of four evaluations each."""
    directory = tmp_path_factory.mktemp("sweeps") / "s"
    identity = {"arguments": ["seed=0,1", "notes=why"], "config_name": "config", "folders": {}, "base": {}}
    ledger = Ledger.create(directory, {**identity, "code": {}, "versions": {}, "data": []})
    for number in (0, 1):
        groups = {"model": MODEL, "notes": "why", "tags": ["x", "y"]}
        config = make_config(seed=number, max_epochs=4, groups=groups)
        finished = run_whole(config, directory / str(number))[-1]
        job = SweepJob(number, (f"seed={number}", "notes=why"), config, directory / str(number))
        ledger.write(to_entry(job, ledger)._replace(state=DONE, result=finished.result))
    return directory


@pytest.fixture
def sweep(trained: Path, tmp_path: Path) -> Path:
    """A copy of that directory."""
    shutil.copytree(trained, tmp_path / "sweeps" / "s")
    return tmp_path / "sweeps" / "s"


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of the directory of its first job, as that of a run of no sweep."""
    shutil.copytree(trained / "0", tmp_path / "runs" / "a")
    return tmp_path / "runs" / "a"


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for trackers as long as they need, on a machine that does other work as well."""
    monkeypatch.setattr(Delivery.__init__, "__kwdefaults__", {"queue_size": 1000, "end_seconds": 600.0})


@pytest.fixture
def allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let directories name the components of the tests."""
    monkeypatch.setenv("LENET_JAX_ALLOW", "tests")
