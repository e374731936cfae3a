"""A run records what it does, computes what `make_train` computes, and resumes to the end that it would have had."""

import errno
import fcntl
import json
import math
import os
import shutil
import signal

import jax
import jaxtyping
import numpy as np
import pytest

import lenet_jax as lj
from lenet_jax import components
from lenet_jax.config import EarlyStoppingConfig
from lenet_jax.errors import InputError
from lenet_jax.runs import Evaluated, Finished, Started, run_directory, source_code
from lenet_jax.runs.checkpoints import STATE, newest_first, read_checkpoint, save_checkpoint
from lenet_jax.runs.prepared_run import prepare_run
from lenet_jax.runs.provenance import digest_parameters
from lenet_jax.runs.run import resume_run, run
from lenet_jax.runs.run_directory import Record
from lenet_jax.runs.trust import read_allowed
from lenet_jax.storage import locked
from lenet_jax.train_plan import plan_run
from lenet_jax.types import Status
from tests.faults.training import remains
from tests.linear import put_in_place_of_lenet
from tests.runs.small import component, make_config, run_whole

pytestmark = pytest.mark.usefixtures("without_type_checks")


def read_run(path):
    """Return run.json, the lines of metrics.jsonl and result.json; NaN and Infinity, which are no JSON, are refused."""

    def read(text):
        return json.loads(text, parse_constant=lambda constant: pytest.fail(f"{constant} is not JSON"))

    metrics = [read(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return read((path / "run.json").read_text()), metrics, read((path / "result.json").read_text())


@pytest.fixture
def linear_model(monkeypatch):
    """A softmax layer in the place of LeNet."""
    put_in_place_of_lenet(monkeypatch)


@pytest.fixture
def standard_promotion():
    """Optax raises its decays and schedules to the power of an integer count, which strict promotion forbids."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def test_a_run_tells_and_records_what_it_does(tmp_path, linear_model):
    started, *evaluated, finished = run_whole(make_config(seed=3), tmp_path)
    assert isinstance(started, Started)
    assert (started.num_train, started.num_evaluations, started.num_parameters) == (200, 2, 7850)
    assert [type(event) for event in evaluated] == [Evaluated, Evaluated]
    assert isinstance(finished, Finished)
    assert finished.directory == tmp_path

    described, (head, *lines), result = read_run(tmp_path)
    assert head["schema"] == 1
    assert lines == [event.record for event in evaluated]
    assert [(line["epoch"], line["iteration"]) for line in lines] == [(1, 4), (2, 8)]
    assert lines[0].keys() == {
        "epoch", "iteration", "train_loss", "validation_loss", "validation_accuracy", "seconds",
    }  # fmt: skip
    assert {**result, "sha256": None} == {"schema": 1, **finished.result, "sha256": None}
    assert result.keys() >= {
        "test_accuracy", "validation_accuracy", "epochs", "iterations", "stopped_by", "seconds", "compile_seconds",
        "images_per_second", "parameters_sha256",
    }  # fmt: skip
    assert (result["epochs"], result["iterations"], result["stopped_by"]) == (2, 8, "max_epochs")
    assert result["validation_accuracy"] == max(line["validation_accuracy"] for line in lines)
    assert (described["seed"], described["config"]["seed"], described["data"]["train"]) == (3, 3, 200)
    assert described["timings"].keys() == {"first_step", "compile", "total"}


@pytest.mark.parametrize("compute_dtype", ["float32", "bfloat16"])
def test_the_dtype_that_a_run_computes_in_is_recorded(compute_dtype, tmp_path, linear_model):
    run_whole(make_config(max_epochs=1, compute_dtype=compute_dtype), tmp_path)
    described, *_ = read_run(tmp_path)
    assert described["precision"]["compute"] == compute_dtype


def test_the_same_seed_gives_the_same_parameters_and_another_seed_others(tmp_path, linear_model):
    digests = [
        run_whole(make_config(seed), tmp_path / str(number))[-1].result["parameters_sha256"]
        for number, seed in enumerate([1, 1, 2])
    ]
    assert digests[0] == digests[1] != digests[2]


def test_a_run_that_diverges_says_so_and_its_files_are_json(tmp_path, linear_model):
    with jax.debug_nans(False):
        *_, finished = run_whole(make_config(optimizer=component("optimizer", "sgd", learning_rate=1e38)), tmp_path)
    assert finished.result["stopped_by"] == "diverged"
    assert finished.result["diverged_at"] == finished.result["iterations"] + 1 <= 4
    assert (finished.result["best_iteration"], finished.result["validation_accuracy"]) == (0, 0.0)
    _, (_, line), result = read_run(tmp_path)
    assert line["train_loss"] is None
    assert result["stopped_by"] == "diverged"
    assert math.isfinite(result["test_loss"])  # of the parameters before the first step


def test_a_run_without_improvement_stops_by_patience(tmp_path, linear_model):
    stopping = EarlyStoppingConfig(patience=4, improvement_threshold=0.0)  # no improvement is significant
    *_, finished = run_whole(make_config(early_stopping=stopping, max_epochs=9), tmp_path)
    assert (finished.result["stopped_by"], finished.result["iterations"]) == ("patience", 4)
    _, (_, *lines), _ = read_run(tmp_path)
    assert [(line["epoch"], line["iteration"]) for line in lines] == [(0.5, 2), (1, 4)]


def assert_make_train_agrees(config, path):
    """Run a configuration as the command line does and as the one pure function, and compare every bit."""
    *evaluated, finished = run_whole(config, path)[1:]
    data = components.build(config.data)
    options = {name: value for name, value in config.model.items() if name != "_target_"}
    plan = plan_run(config.trainer, len(data.train.targets))
    name = {"sgd": "sgd", "adam": "adam"}[components.short_name(config.optimizer)]
    optimizer = lj.make_optimizer(
        name,
        schedule="constant",
        num_steps=plan.epoch * config.trainer.max_epochs,
        steps_per_epoch=plan.epoch,
        **{name: value for name, value in config.optimizer.items() if name != "_target_"},
    )
    train = jax.jit(lj.make_train(lj.create_model("lenet", **options), optimizer, config.trainer))
    with jax.default_matmul_precision(config.trainer.matmul_precision):
        result = train(jax.random.key(config.seed), {}, data)
    assert digest_parameters(result.variables.params) == finished.result["parameters_sha256"]
    assert int(result.iterations) == finished.result["iterations"]
    assert Status(int(result.status)).name.lower() == finished.result["stopped_by"]
    losses = [event.record["train_loss"] for event in evaluated]
    assert result.history.train_loss[: len(losses)].tolist() == losses


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
def test_a_run_computes_what_make_train_computes(optimizer, shuffle, tmp_path, linear_model, standard_promotion):
    assert_make_train_agrees(make_config(5, component("optimizer", optimizer), shuffle=shuffle), tmp_path)


@pytest.mark.parametrize("shuffle", [True, False])
def test_a_run_computes_what_make_train_computes_in_intervals_shorter_than_an_epoch(shuffle, tmp_path, linear_model):
    stopping = EarlyStoppingConfig(patience=6)  # a validation every 3 iterations, an epoch has 4
    assert_make_train_agrees(make_config(5, early_stopping=stopping, max_epochs=4, shuffle=shuffle), tmp_path)


def test_a_run_computes_what_make_train_computes_for_lenet(tmp_path):
    assert_make_train_agrees(make_config(5, component("optimizer", "momentum")), tmp_path)


def test_the_schedule_changes_the_steps_of_a_run(tmp_path, linear_model, standard_promotion):
    schedules = [component("schedule", "constant"), component("schedule", "step", epochs=[1], factor=0.0)]
    (first, second), (same, stopped) = (
        [
            event.record["train_loss"]
            for event in run_whole(make_config(groups={"schedule": schedule}), tmp_path / str(number))
            if isinstance(event, Evaluated)
        ]
        for number, schedule in enumerate(schedules)
    )
    assert same == first
    assert stopped > second


def test_a_directory_with_a_run_is_refused(tmp_path):
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(
        InputError,
        match=r"^`hydra.run.dir` must not .*; .* has result.json; use another, or resume that run: lenet-jax resume ",
    ):
        next(run(prepare_run(make_config()), tmp_path))


def test_a_directory_in_use_is_refused_by_a_second_run_and_by_a_resumed_one(tmp_path):
    with locked(tmp_path, "run"):
        with pytest.raises(InputError, match="in use by another process, which works on this run; wait until it exits"):
            next(run(prepare_run(make_config()), tmp_path))
        assert list(tmp_path.iterdir()) == []
        record = Record(tmp_path, make_config(), {}, [], None)
        with pytest.raises(InputError, match="in use by another process, which works on this run; wait until it exits"):
            next(resume_run(record))


# ---- interrupted and resumed ----------------------------------------------------------------------------------------


def make_long_config(**trainer):
    return make_config(3, component("optimizer", "momentum"), **{"max_epochs": 5, **trainer})


def interrupt(config, path, after):
    """Run up to an evaluation, and ask the run to stop there."""
    events = run(prepare_run(config), path)
    for _ in range(after + 1):
        next(events)
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        next(events)


def resume(path, **options):
    return list(resume_run(read_allowed(path), **options))


@pytest.fixture(scope="module")
def whole_once(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jaxtyping.config, "jaxtyping_disable", True)
        put_in_place_of_lenet(patch)
        run_whole(make_long_config(), path)
    return path


@pytest.fixture
def whole(whole_once, tmp_path, linear_model):
    """A run that was left alone."""
    return shutil.copytree(whole_once, tmp_path / "whole")


@pytest.mark.parametrize("after", [1, 3, 4])
def test_an_interrupted_run_ends_as_one_that_was_not(after, tmp_path, whole):
    path = tmp_path / "run"
    interrupt(make_long_config(), path, after)
    assert not (path / "result.json").exists()
    checkpoints = [int(each.name) for each in newest_first(path / "checkpoints")]
    assert checkpoints == [4 * after, 4 * (after - 1)][: min(after, 2)]

    started, *evaluated, finished = resume(path)
    assert isinstance(started, Started)
    assert [line["epoch"] for line in started.previous_evaluations] == list(range(1, after + 1))
    assert [event.record["epoch"] for event in evaluated] == list(range(after + 1, 6))
    assert isinstance(finished, Finished)
    assert remains(path) == remains(whole)
    described = json.loads((path / "run.json").read_text())
    (resumed,) = described["resumed"]
    assert (resumed["iteration"], resumed["changed"]) == (4 * after, [])


def test_interrupted_before_the_first_evaluation_it_restarts(tmp_path, whole):
    interrupt(make_long_config(), tmp_path / "run", 0)
    started, *_ = resume(tmp_path / "run")
    assert started.previous_evaluations == ()
    assert remains(tmp_path / "run") == remains(whole)


@pytest.mark.parametrize(("every", "kept"), [(1, [16, 12]), (2, [16, 8]), (3, [16, 12]), (None, [16])])
def test_checkpoints_are_as_many_epochs_apart_as_asked_and_the_last_is_where_it_was_interrupted(
    every, kept, tmp_path, linear_model
):
    interrupt(make_long_config(checkpoint_every=every), tmp_path, 4)
    assert [int(path.name) for path in newest_first(tmp_path / "checkpoints")] == kept


def test_seconds_continue(tmp_path, linear_model):
    interrupt(make_long_config(), tmp_path, 3)
    before = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])["seconds"]
    *_, finished = resume(tmp_path)
    seconds = [json.loads(line)["seconds"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()[1:]]
    assert sorted(seconds) == seconds
    assert seconds[2] == before
    assert finished.result["seconds"] >= seconds[-1]


def damage(path):
    (path / STATE).write_bytes((path / STATE).read_bytes()[:-1] + b"?")


def test_a_damaged_checkpoint_is_reported_and_the_one_before_it_used(tmp_path, whole, caplog):
    interrupt(make_long_config(), tmp_path / "run", 3)
    newest, _ = newest_first(tmp_path / "run" / "checkpoints")
    damage(newest)
    started, *_ = resume(tmp_path / "run")
    assert len(started.previous_evaluations) == 2
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warning.startswith(f"{newest / STATE}: is damaged; it must have SHA-256 ")
    assert warning.endswith("trying the checkpoint before it")
    assert remains(tmp_path / "run") == remains(whole)


def test_with_all_checkpoints_damaged_it_restarts(tmp_path, whole, caplog):
    interrupt(make_long_config(), tmp_path / "run", 3)
    for path in newest_first(tmp_path / "run" / "checkpoints"):
        damage(path)
    started, *_ = resume(tmp_path / "run")
    assert started.previous_evaluations == ()
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 3
    assert remains(tmp_path / "run") == remains(whole)


def test_an_intact_checkpoint_that_does_not_fit_is_refused_and_nothing_is_lost(tmp_path, whole):
    interrupt(make_long_config(), tmp_path / "run", 3)
    folder = tmp_path / "run" / "checkpoints"
    for path in newest_first(folder):
        checkpoint = read_checkpoint(path, 1 << 30)
        wider = {name: np.asarray(tensor, np.float64) for name, tensor in checkpoint.tensors.items()}  # as with x64
        save_checkpoint(folder, checkpoint.iteration, wider, checkpoint.metadata)
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    with pytest.raises(InputError, match="it is intact, but of other settings, as JAX_ENABLE_X64"):
        resume(tmp_path / "run")
    assert {path: path.read_bytes() for path in before} == before


def test_a_run_does_not_resume_after_a_metrics_log_that_was_changed(tmp_path, whole, caplog):
    interrupt(make_long_config(), tmp_path / "run", 3)
    log = tmp_path / "run" / "metrics.jsonl"
    log.write_text(log.read_text().replace('"epoch": 3', '"epoch": 2'))
    started, *_ = resume(tmp_path / "run")
    assert len(started.previous_evaluations) == 2
    assert "metrics.jsonl: is damaged; its first " in caplog.text
    assert remains(tmp_path / "run") == remains(whole)


def test_an_incomplete_last_line_is_left_out(tmp_path, whole):
    interrupt(make_long_config(), tmp_path / "run", 3)
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 4, "itera')
    resume(tmp_path / "run")
    assert remains(tmp_path / "run") == remains(whole)


def test_a_checkpoint_of_another_run_is_refused(tmp_path, whole, caplog):
    for name in ("run", "other"):
        interrupt(make_long_config(), tmp_path / name, 3)
    checkpoints = tmp_path / "run" / "checkpoints"
    shutil.rmtree(checkpoints)
    shutil.copytree(tmp_path / "other" / "checkpoints", checkpoints)
    started, *_ = resume(tmp_path / "run")
    assert started.previous_evaluations == ()
    assert "belongs to another run" in caplog.text
    assert remains(tmp_path / "run") == remains(whole)


def test_a_run_json_that_was_changed_is_refused(tmp_path, linear_model):
    interrupt(make_long_config(), tmp_path, 3)
    path = tmp_path / "run.json"
    path.write_text(path.read_text().replace('"learning_rate": 0.02', '"learning_rate": 0.03'))
    with pytest.raises(InputError, match=r"run\.json: is damaged, or was changed; its content must have SHA-256"):
        resume(tmp_path)


def test_what_has_changed_is_named_and_allowed_when_told(tmp_path, whole, monkeypatch):
    interrupt(make_long_config(), tmp_path / "run", 3)
    monkeypatch.setattr(source_code, "digest_package", lambda package: "another")
    with pytest.raises(
        InputError,
        match=r"^`code.sha256` has changed since the run began, from '\w+' to 'another'; use --allow-changed to resume",
    ):
        resume(tmp_path / "run")
    resume(tmp_path / "run", allow_changed=True)
    assert remains(tmp_path / "run") == remains(whole)
    described = json.loads((tmp_path / "run" / "run.json").read_text())
    (resumed,) = described["resumed"]
    assert (resumed["iteration"], resumed["changed"]) == (12, ["code.sha256"])
    assert resumed["started"] >= described["started"]


def test_a_finished_run_is_left_as_it_is(whole):
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*")}
    (finished,) = resume(whole)
    assert finished.result["iterations"] == 20
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_run_that_was_killed_just_after_its_result_leaves_no_checkpoint(tmp_path, whole, monkeypatch):
    def killed(path):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run_directory, "_remove_checkpoints", killed)
        with pytest.raises(KeyboardInterrupt):
            run_whole(make_long_config(), tmp_path / "run")
    assert newest_first(tmp_path / "run" / "checkpoints")
    (finished,) = resume(tmp_path / "run")
    assert finished.result["iterations"] == 20
    assert remains(tmp_path / "run") == remains(whole)


def test_a_run_that_another_process_works_on_is_refused(tmp_path, linear_model):
    events = run(prepare_run(make_long_config()), tmp_path)
    next(events)
    with pytest.raises(InputError, match="in use by another process, which works on this run; wait until it exits"):
        resume(tmp_path)
    events.close()


def test_a_run_is_locked_where_the_file_system_locks_no_folders(tmp_path, monkeypatch, linear_model):
    def flock_of_nfs(descriptor, operation, flock=fcntl.flock):
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock_of_nfs)
    test_a_run_that_another_process_works_on_is_refused(tmp_path, None)
