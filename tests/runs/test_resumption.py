"""A run goes on from where it was interrupted to the very end that it would have had, and is proved again."""

import errno
import fcntl
import json
import os
import shutil
import signal

import jax
import pytest

from lenet_jax.config import Config, DataConfig, MomentumConfig, SgdConfig, TrainerConfig
from lenet_jax.errors import InputError
from lenet_jax.models import MODELS
from lenet_jax.runs import provenance
from lenet_jax.runs.checkpoints import STATE, newest_first
from lenet_jax.runs.driver import run_experiment
from lenet_jax.runs.events import Evaluated, Finished, Started
from lenet_jax.runs.resumption import Verification, resume_run, verify_run
from tests.faults.training import remains
from tests.linear import linear

pytestmark = pytest.mark.usefixtures("without_type_checks")


@pytest.fixture(autouse=True)
def linear_model(monkeypatch):
    monkeypatch.setitem(MODELS, "lenet", linear)


def make_config(**trainer):
    options = {"max_epochs": 5, **trainer}
    return Config(seed=3, optimizer=MomentumConfig(), data=DataConfig(train_size=200), trainer=TrainerConfig(**options))


def interrupt(config, path, after):
    """Run up to an evaluation, and ask the run to end there."""
    events = run_experiment(config, path)
    for _ in range(after + 1):
        next(events)
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        next(events)


@pytest.fixture(scope="module")
def whole_once(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODELS, "lenet", linear)
        list(run_experiment(make_config(), path))
    return path


@pytest.fixture
def whole(whole_once, tmp_path):
    """A run that was left alone."""
    return shutil.copytree(whole_once, tmp_path / "whole")


@pytest.mark.parametrize("after", [1, 3, 4])
def test_an_interrupted_run_ends_as_one_that_was_not(after, tmp_path, whole):
    path = tmp_path / "run"
    interrupt(make_config(), path, after)
    assert not (path / "result.json").exists()
    checkpoints = [int(each.name) for each in newest_first(path / "checkpoints")]
    assert checkpoints == [4 * after, 4 * (after - 1)][: min(after, 2)]

    started, *evaluated, finished = resume_run(path)
    assert isinstance(started, Started)
    assert [line["epoch"] for line in started.earlier] == list(range(1, after + 1))
    assert [event.record["epoch"] for event in evaluated] == list(range(after + 1, 6))
    assert isinstance(finished, Finished)
    assert remains(path) == remains(whole)
    run = json.loads((path / "run.json").read_text())
    assert run["resumed"] == [{"iteration": 4 * after, "changed": []}]


def test_interrupted_before_the_first_evaluation_it_begins_again(tmp_path, whole):
    interrupt(make_config(), tmp_path / "run", 0)
    started, *_ = resume_run(tmp_path / "run")
    assert started.earlier == ()
    assert remains(tmp_path / "run") == remains(whole)


@pytest.mark.parametrize(("every", "kept"), [(1, [16, 12]), (2, [16, 8]), (3, [16, 12]), (None, [16])])
def test_checkpoints_are_as_many_epochs_apart_as_asked_and_the_last_is_where_it_was_interrupted(every, kept, tmp_path):
    interrupt(make_config(checkpoint_every=every), tmp_path, 4)
    assert [int(path.name) for path in newest_first(tmp_path / "checkpoints")] == kept


def test_seconds_go_on(tmp_path):
    interrupt(make_config(), tmp_path, 3)
    before = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])["seconds"]
    *_, finished = resume_run(tmp_path)
    seconds = [json.loads(line)["seconds"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()[1:]]
    assert sorted(seconds) == seconds
    assert seconds[2] == before
    assert finished.result["seconds"] >= seconds[-1]


def damage(path):
    (path / STATE).write_bytes((path / STATE).read_bytes()[:-1] + b"?")


def test_a_damaged_checkpoint_is_reported_and_the_one_before_it_used(tmp_path, whole, caplog):
    interrupt(make_config(), tmp_path / "run", 3)
    newest, _ = newest_first(tmp_path / "run" / "checkpoints")
    damage(newest)
    started, *_ = resume_run(tmp_path / "run")
    assert len(started.earlier) == 2
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warning.startswith(f"{newest / STATE}: is damaged, it must have SHA-256 ")
    assert warning.endswith("trying the checkpoint before it")
    assert remains(tmp_path / "run") == remains(whole)


def test_with_all_checkpoints_damaged_it_begins_again(tmp_path, whole, caplog):
    interrupt(make_config(), tmp_path / "run", 3)
    for path in newest_first(tmp_path / "run" / "checkpoints"):
        damage(path)
    started, *_ = resume_run(tmp_path / "run")
    assert started.earlier == ()
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 3
    assert remains(tmp_path / "run") == remains(whole)


def test_a_metrics_log_that_was_changed_is_not_gone_on_with(tmp_path, whole, caplog):
    interrupt(make_config(), tmp_path / "run", 3)
    log = tmp_path / "run" / "metrics.jsonl"
    log.write_text(log.read_text().replace('"epoch": 3', '"epoch": 2'))
    started, *_ = resume_run(tmp_path / "run")
    assert len(started.earlier) == 2
    assert "metrics.jsonl: is damaged, its first " in caplog.text
    assert remains(tmp_path / "run") == remains(whole)


def test_a_torn_last_line_is_left_out(tmp_path, whole):
    interrupt(make_config(), tmp_path / "run", 3)
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 4, "itera')
    list(resume_run(tmp_path / "run"))
    assert remains(tmp_path / "run") == remains(whole)


def test_a_checkpoint_of_another_run_is_refused(tmp_path, whole, caplog):
    for name in ("run", "other"):
        interrupt(make_config(), tmp_path / name, 3)
    checkpoints = tmp_path / "run" / "checkpoints"
    shutil.rmtree(checkpoints)
    shutil.copytree(tmp_path / "other" / "checkpoints", checkpoints)
    started, *_ = resume_run(tmp_path / "run")
    assert started.earlier == ()
    assert "belongs to another run" in caplog.text
    assert remains(tmp_path / "run") == remains(whole)


def test_a_run_json_that_was_changed_is_refused(tmp_path):
    interrupt(make_config(), tmp_path, 3)
    path = tmp_path / "run.json"
    path.write_text(path.read_text().replace('"learning_rate": 0.02', '"learning_rate": 0.03'))
    with pytest.raises(InputError, match=r"run\.json: is damaged, or was changed; its content must have SHA-256"):
        list(resume_run(tmp_path))


def test_what_has_changed_is_named_and_allowed_when_told(tmp_path, whole, monkeypatch):
    interrupt(make_config(), tmp_path / "run", 3)
    monkeypatch.setattr(provenance, "_digest_code", lambda package: "another")
    with pytest.raises(
        InputError, match=r"^`code.sha256` must be what it was when the run began; it was '.*--allow-ch"
    ):
        list(resume_run(tmp_path / "run"))
    list(resume_run(tmp_path / "run", allow_changed=True))
    assert remains(tmp_path / "run") == remains(whole)
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run["resumed"] == [{"iteration": 12, "changed": ["code.sha256"]}]


def test_a_run_that_has_ended_is_left_as_it_is(whole):
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*")}
    (finished,) = resume_run(whole)
    assert finished.result["iterations"] == 20
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_run_that_another_process_works_on_is_refused(tmp_path):
    events = run_experiment(make_config(), tmp_path)
    next(events)
    with pytest.raises(InputError, match="another process works on this run; wait for its end"):
        list(resume_run(tmp_path))
    events.close()


def test_a_run_is_locked_where_the_file_system_locks_no_folders(tmp_path, monkeypatch):
    def flock_of_nfs(descriptor, operation, flock=fcntl.flock):
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock_of_nfs)
    test_a_run_that_another_process_works_on_is_refused(tmp_path)


def verify(path):
    *events, verification = verify_run(path)
    assert isinstance(verification, Verification)
    assert any(isinstance(event, Evaluated) for event in events)
    return verification


def test_a_run_is_proved_again(whole):
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


def test_a_run_that_has_not_ended_is_not_proved(tmp_path):
    interrupt(make_config(), tmp_path, 3)
    with pytest.raises(InputError, match=r"`RUN_DIR` must be of a run that has ended; go on with it"):
        list(verify_run(tmp_path))


def test_what_is_recorded_says_how_exactly_a_run_can_be_repeated(whole):
    run = json.loads((whole / "run.json").read_text())
    assert run["reproducibility"]["level"] == "bitwise"
    described = {"devices": [{"platform": "gpu"}], "environment": {}}
    assert provenance.reproducibility(described, "map")["level"] == "tolerance"
    flags = "--xla_gpu_deterministic_ops=true --xla_gpu_autotune_level=0"
    asked = {**described, "environment": {"XLA_FLAGS": flags}}
    assert provenance.reproducibility(asked, "map")["level"] == "bitwise"
    assert provenance.reproducibility(asked, "vmap")["level"] == "tolerance"


def test_a_diverged_run_says_at_which_iteration(tmp_path):
    config = Config(
        optimizer=SgdConfig(learning_rate=1e38),
        data=DataConfig(train_size=200),
        trainer=TrainerConfig(max_epochs=3),
    )
    with jax.debug_nans(False):
        *_, finished = run_experiment(config, tmp_path)
    assert finished.result["stopped_by"] == "diverged"
    assert finished.result["diverged_at"] == finished.result["iterations"] + 1 <= 4
