"""A finished run is run again, and what differs is named."""

import json
import shutil

import jax
import jaxtyping
import pytest

from lenet_jax.errors import InputError
from lenet_jax.runs import Evaluated, provenance
from lenet_jax.runs.trust import read_allowed
from lenet_jax.runs.verify import Verification, verify_run
from tests.linear import put_in_place_of_lenet
from tests.runs.small import component, make_config, run_whole
from tests.runs.test_run import interrupt

pytestmark = pytest.mark.usefixtures("without_type_checks")


@pytest.fixture(autouse=True)
def linear_model(monkeypatch):
    put_in_place_of_lenet(monkeypatch)


def config():
    return make_config(3, component("optimizer", "momentum"), max_epochs=5)


@pytest.fixture(scope="module")
def whole_once(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jaxtyping.config, "jaxtyping_disable", True)
        put_in_place_of_lenet(patch)
        run_whole(config(), path)
    return path


@pytest.fixture
def whole(whole_once, tmp_path):
    """A finished run."""
    return shutil.copytree(whole_once, tmp_path / "whole")


def verify(path):
    *events, verification = verify_run(read_allowed(path))
    assert isinstance(verification, Verification)
    assert any(isinstance(event, Evaluated) for event in events)
    return verification


def test_a_run_is_identical_when_it_is_repeated(whole):
    before = {path: path.read_bytes() for path in whole.rglob("*") if path.is_file()}
    verification = verify(whole)
    assert verification.identical
    assert (verification.changed, verification.evaluations) == ([], 5)
    assert {path: path.read_bytes() for path in before} == before


def rewrite(path, change):
    content = json.loads(path.read_text())
    content.pop("sha256", None)
    change(content)
    path.write_text(json.dumps(content))


def test_the_first_difference_and_the_largest_are_found(whole):
    log = whole / "metrics.jsonl"
    head, *lines = [json.loads(line) for line in log.read_text().splitlines()]
    lines[1]["train_loss"] *= 1 + 1e-4
    lines[3]["validation_accuracy"] += 0.25
    log.write_text("".join(json.dumps(line) + "\n" for line in [head, *lines]))
    verification = verify(whole)
    found = verification.difference
    assert (found.iteration, found.name) == (8, "train_loss")
    assert found.largest == pytest.approx(0.25)
    assert not verification.identical
    assert verification.within(0.3)
    assert not verification.within(0.2)


def test_a_condition_that_has_changed_is_named(whole):
    rewrite(whole / "run.json", lambda content: content["versions"].update(jax="0.9"))
    verification = verify(whole)
    assert verification.changed == [("versions.jax", "0.9", jax.__version__)]
    assert verification.identical


def test_another_configuration_gives_other_numbers(whole):
    rewrite(whole / "run.json", lambda content: content["config"].update(seed=4))
    verification = verify(whole)
    assert not verification.same_parameters
    assert verification.difference.iteration == 4


def test_a_run_that_has_not_finished_is_not_verified(tmp_path):
    interrupt(config(), tmp_path, 3)
    with pytest.raises(InputError, match=r"`RUN_DIR` must hold a finished run; finish it with lenet-jax resume "):
        list(verify_run(read_allowed(tmp_path)))


def test_what_is_recorded_says_how_exactly_a_run_can_be_repeated(whole):
    run = json.loads((whole / "run.json").read_text())
    assert run["reproducibility"]["level"] == "bitwise"
    described = {"devices": [{"platform": "gpu"}], "environment": {}}
    assert provenance.reproducibility(described, "map")["level"] == "tolerance"
    flags = "--xla_gpu_deterministic_ops=true --xla_gpu_autotune_level=0"
    asked = {**described, "environment": {"XLA_FLAGS": flags}}
    assert provenance.reproducibility(asked, "map")["level"] == "bitwise"
    assert provenance.reproducibility(asked, "vmap")["level"] == "tolerance"
