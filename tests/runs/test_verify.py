"""A finished run is run again, and what differs is named."""

import hashlib
import json
import shlex
import shutil

import jax
import jaxtyping
import pytest

from lenet_jax.errors import InputError
from lenet_jax.report.terminal import verification_lines
from lenet_jax.runs import Evaluated, provenance
from lenet_jax.runs.run_directory import check_log
from lenet_jax.runs.trust import read_allowed
from lenet_jax.runs.verify import Damage, Verification, verify_run, write_verification
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


def verify(path, damage=()):
    *events, verification = verify_run(read_allowed(path))
    assert isinstance(verification, Verification)
    assert [line for event in events if isinstance(event, Damage) for line in event.lines] == list(damage)
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
    before = lines[1]["train_loss"]
    lines[1]["train_loss"] *= 1 + 1e-4
    lines[3]["validation_accuracy"] += 0.25
    log.write_text("".join(json.dumps(line) + "\n" for line in [head, *lines]))
    digest = hashlib.sha256(log.read_bytes()).hexdigest()
    rewrite(whole / "result.json", lambda content: content.update(metrics_sha256=digest))
    verification = verify(whole)
    found = verification.difference
    assert (found.epoch, found.iteration, found.name) == (2, 8, "train_loss")
    assert (found.recorded, found.repeated) == (lines[1]["train_loss"], before)
    assert found.largest == pytest.approx(0.25)
    assert not verification.identical
    assert verification.within(0.3)
    assert not verification.within(0.2)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("train_accuracy", 0.125),
        ("best_validation_accuracy", 0.125),
        ("last_test_accuracy", 0.125),
        ("best_iteration", 1),
        ("stopped_by", "patience"),
    ],
)
def test_every_value_of_the_result_is_compared_but_for_the_times(name, value, whole):
    times = {"seconds": 1e9, "compile_seconds": 7.0, "images_per_second": 1.0}
    rewrite(whole / "result.json", lambda content: content.update({name: value, **times}))
    verification = verify(whole)
    assert verification.difference[:4] == (5, 20, name, value)
    assert verification.within(0.001) == (name == "best_iteration")  # which decides nothing that the metrics do not say


@pytest.mark.parametrize(("name", "of"), [("state_sha256", "state"), ("files_sha256", "checkpoints/best.safetensors")])
def test_digests_of_the_state_and_the_files_are_compared_if_the_code_is_the_same(name, of, whole):
    (whole / "checkpoints" / "best.safetensors").unlink()  # a digest that was changed is no damage then
    digest = "0" * 64 if name == "state_sha256" else {of: "0" * 64}
    rewrite(whole / "result.json", lambda content: content.update({name: digest}))
    verification = verify(whole)
    assert (verification.difference, verification.same_parameters, verification.digests) == (None, True, [of])
    assert not verification.identical
    assert verification_lines(verification, 0.001)[-1] == f"same values       5 evaluations; other SHA-256 of {of}"
    rewrite(whole / "run.json", lambda content: content["versions"].update(jax="0.9"))
    assert verify(whole).identical


@pytest.mark.parametrize("name", ["checkpoints/best.safetensors", "metrics.jsonl"])
def test_a_file_that_the_run_has_not_written_is_damage_and_is_said_first(name, whole):
    path = whole / name
    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    content = path.read_bytes()
    content = content[:-1] + bytes([content[-1] ^ 1]) if name.startswith("checkpoints") else content + b"{}\n"
    path.write_bytes(content)
    found = hashlib.sha256(content).hexdigest()
    line = f"{path}: is damaged; it must have SHA-256 {expected}; got {found}"
    verification = verify(whole, damage=[line])
    assert verification.damaged == [line]
    assert not verification.identical
    assert not verification.within(0.9)


def test_parameters_of_an_older_record_without_digests_of_files_are_checked(whole):
    rewrite(whole / "result.json", lambda content: content.pop("files_sha256"))
    path = whole / "checkpoints" / "best.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    *_, verification = verify_run(read_allowed(whole))
    assert len(verification.damaged) == 1
    assert not verification.identical


def test_weights_that_were_removed_are_no_damage_but_are_said(whole):
    (whole / "checkpoints" / "best.safetensors").unlink()
    verification = verify(whole)
    assert verification.identical
    line = "missing           checkpoints/best.safetensors; it is not checked"
    assert line in verification_lines(verification, 0.001)
    assert verification.to_dict(0.001)["missing"] == ["checkpoints/best.safetensors"]


def test_a_log_that_was_removed_is_damage_and_the_results_are_compared(whole):
    path = whole / "metrics.jsonl"
    line = f"{path}: is missing; its SHA-256 was {hashlib.sha256(path.read_bytes()).hexdigest()}"
    path.unlink()
    verification = verify(whole, damage=[line])
    assert (verification.damaged, verification.difference, verification.same_parameters) == ([line], None, True)
    assert not verification.identical
    with pytest.raises(InputError, match=r"metrics\.jsonl: is missing; its SHA-256 was [0-9a-f]{64}; restore it\."):
        check_log(read_allowed(whole))


def test_what_is_found_is_written_beside_the_run(whole):
    record = read_allowed(whole)
    rewrite(whole / "run.json", lambda content: content["versions"].update(jax="0.9"))
    verification = verify(whole)
    write_verification(record, verification, 0.001)
    content = json.loads((whole / "verification.json").read_text())
    assert (content["identical"], content["within_tolerance"], content["damaged"]) == (True, True, [])
    assert content["changed"] == [{"key": "versions.jax", "recorded": "0.9", "current": jax.__version__}]
    words = shlex.split(content["install"])
    assert words[1:4] == ["-m", "pip", "install"]
    assert "jax==0.9" in words
    assert not any(word.endswith("None") for word in words)  # packages that were not installed


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
    with pytest.raises(InputError, match=r"`DIR` must hold a finished run; finish it with lenet-jax resume "):
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
