import json
import math
from typing import Any

import jax
import pytest

import lenet_jax as lj
from lenet_jax.config import (
    AdamConfig,
    Config,
    DataConfig,
    EarlyStoppingConfig,
    LeNetConfig,
    MomentumConfig,
    SgdConfig,
    StepScheduleConfig,
    TrainerConfig,
)
from lenet_jax.data import load
from lenet_jax.errors import InputError
from lenet_jax.models import MODELS
from lenet_jax.optimizers import make_optimizer
from lenet_jax.runs.driver import check_inputs, run_experiment
from lenet_jax.runs.events import Evaluated, Finished, Started
from lenet_jax.runs.provenance import digest_parameters
from lenet_jax.training import plan_run
from lenet_jax.types import Status
from tests.linear import linear

TINY = LeNetConfig(num_kernels=(2, 3), kernel_size=3, hidden_units=10)
DATA = DataConfig(train_size=200)


def make_config(seed=0, optimizer=None, early_stopping=None, **trainer):
    trainer = TrainerConfig(**{"max_epochs": 2, "early_stopping": early_stopping or EarlyStoppingConfig(), **trainer})
    return Config(seed=seed, model=TINY, optimizer=optimizer or SgdConfig(), data=DATA, trainer=trainer)


def run(config, path) -> list[Any]:
    return list(run_experiment(config, path))


def read_run(path):
    """Return run.json, the lines of metrics.jsonl and result.json; NaN and Infinity, which are no JSON, are refused."""

    def read(text):
        return json.loads(text, parse_constant=lambda constant: pytest.fail(f"{constant} is not JSON"))

    metrics = [read(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return read((path / "run.json").read_text()), metrics, read((path / "result.json").read_text())


@pytest.fixture
def linear_model(monkeypatch):
    """A softmax layer in the place of LeNet."""
    monkeypatch.setitem(MODELS, "lenet", linear)


@pytest.fixture
def standard_promotion():
    """Optax raises its decays and schedules to the power of an integer count, which strict promotion forbids."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def test_a_run_tells_and_records_what_it_does(tmp_path, linear_model):
    started, *evaluated, finished = run(make_config(seed=3), tmp_path)
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


def test_the_same_seed_gives_the_same_parameters_and_another_seed_others(tmp_path, linear_model):
    digests = [
        run(make_config(seed), tmp_path / str(number))[-1].result["parameters_sha256"]
        for number, seed in enumerate([1, 1, 2])
    ]
    assert digests[0] == digests[1] != digests[2]


def test_a_run_that_diverges_says_so_and_its_files_are_json(tmp_path, linear_model):
    with jax.debug_nans(False):
        *_, finished = run(make_config(optimizer=SgdConfig(learning_rate=1e38)), tmp_path)
    assert finished.result["stopped_by"] == "diverged"
    assert (finished.result["best_iteration"], finished.result["validation_accuracy"]) == (0, 0.0)
    _, (_, line), result = read_run(tmp_path)
    assert line["train_loss"] is None
    assert result["stopped_by"] == "diverged"
    assert math.isfinite(result["test_loss"])  # of the parameters before the first step


def test_a_run_without_improvement_stops_by_patience(tmp_path, linear_model):
    stopping = EarlyStoppingConfig(patience=4, improvement_threshold=0.0)  # no improvement is significant
    *_, finished = run(make_config(early_stopping=stopping, max_epochs=9), tmp_path)
    assert (finished.result["stopped_by"], finished.result["iterations"]) == ("patience", 4)
    _, (_, *lines), _ = read_run(tmp_path)
    assert [(line["epoch"], line["iteration"]) for line in lines] == [(0.5, 2), (1, 4)]


def assert_make_train_agrees(config, path):
    """Run a configuration by the driver and as the one pure function, and compare every bit."""
    *evaluated, finished = run(config, path)[1:]
    data = load(config.data)
    options = {key: value for key, value in vars(config.model).items() if key != "name"}
    plan = plan_run(config.trainer, len(data.train.labels))
    optimizer = make_optimizer(
        config.optimizer, config.schedule, epoch_iterations=plan.epoch, num_epochs=config.trainer.max_epochs
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
@pytest.mark.parametrize("optimizer", [SgdConfig(), MomentumConfig(), AdamConfig()], ids=lambda config: config.name)
def test_the_driver_computes_what_make_train_computes(optimizer, shuffle, tmp_path, linear_model, standard_promotion):
    assert_make_train_agrees(make_config(5, optimizer, shuffle=shuffle), tmp_path)


@pytest.mark.parametrize("shuffle", [True, False])
def test_the_driver_computes_what_make_train_computes_in_intervals_shorter_than_an_epoch(
    shuffle, tmp_path, linear_model
):
    stopping = EarlyStoppingConfig(patience=6)  # a validation every 3 iterations, an epoch has 4
    assert_make_train_agrees(make_config(5, early_stopping=stopping, max_epochs=4, shuffle=shuffle), tmp_path)


def test_the_driver_computes_what_make_train_computes_for_lenet(tmp_path):
    assert_make_train_agrees(make_config(5, MomentumConfig()), tmp_path)


def test_the_schedule_changes_the_steps_of_a_run(tmp_path, linear_model, standard_promotion):
    constant = make_config()
    step = Config(model=TINY, data=DATA, trainer=constant.trainer, schedule=StepScheduleConfig(epochs=(1,), factor=0.0))
    (first, second), (same, stopped) = (
        [event.record["train_loss"] for event in run(config, tmp_path / config.schedule.name)
         if isinstance(event, Evaluated)]
        for config in (constant, step)
    )  # fmt: skip
    assert same == first
    assert stopped > second


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            make_config(batch_size=201),
            "`trainer.batch_size` must be at most the size of the training set, 200; got 201.",
        ),
        (
            Config(data=DataConfig(train_size=4001)),
            "`data.train_size` must be at most the number of training examples, 4000; got 4001.",
        ),
    ],
)
@pytest.mark.parametrize("find", [lambda config, path: check_inputs(config), lambda *of: list(run_experiment(*of))])
def test_what_does_not_fit_is_found_before_a_file_is_written(find, config, message, tmp_path):
    with pytest.raises(InputError) as refused:
        find(config, tmp_path / "run")
    assert str(refused.value) == message
    assert list(tmp_path.iterdir()) == []


def test_a_directory_with_a_run_is_refused(tmp_path):
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(
        InputError,
        match=r"^`hydra.run.dir` must not .*; .* has result.json; use another, or go on: lenet-jax resume .*$",
    ):
        next(run_experiment(make_config(), tmp_path))
