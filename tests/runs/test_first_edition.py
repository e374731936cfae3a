"""What the first edition wrote is read: finished records, and an interrupted run that is resumed.

`first_edition/` is a run of the first edition, interrupted after 2 of 4 epochs; LOSSES are those that the first edition
came to without an interruption.
"""

import json
import shutil
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from lenet_jax.cli import main
from lenet_jax.components import complete_config
from lenet_jax.config import from_dict
from lenet_jax.report.terminal import verification_lines
from lenet_jax.runs import Evaluated, Finished
from lenet_jax.runs.prepared_run import prepare_run
from lenet_jax.runs.provenance import changed_conditions
from lenet_jax.runs.recorder import Recorder
from lenet_jax.runs.run import resume_run
from lenet_jax.runs.run_directory import RunDirectory, read_record
from lenet_jax.runs.trust import read_allowed
from lenet_jax.runs.verify import Verification, verify_run
from lenet_jax.weights import unwrap_keys
from tests.conftest import ROOT

pytestmark = pytest.mark.usefixtures("without_type_checks")

INTERRUPTED = Path(__file__).parent / "first_edition"
LOSSES = [2.30257511138916, 2.299093246459961, 2.294499635696411, 2.2891459465026855]
RECORDS = sorted(path.parent for path in (ROOT / "experiments").rglob("run.json"))
OF_FIRST_EDITION = [
    path for path in RECORDS if "name" in json.loads((path / "run.json").read_text())["config"]["model"]
]
CHANGED_SINCE = {"code", "versions", "environment", "devices", "platform"}


@pytest.fixture
def interrupted(tmp_path):
    return shutil.copytree(INTERRUPTED, tmp_path / "run")


# ---- a run that was interrupted -------------------------------------------------------------------------------------


def test_its_configuration_is_complete_in_the_words_of_today(interrupted):
    record = read_allowed(interrupted)
    assert complete_config(record.config) == record.config
    assert record.config.model == {
        "_target_": "lenet_jax.models.lenet.lenet",
        "num_kernels": (1, 1),
        "kernel_size": 3,
        "pool_size": 2,
        "strides": 1,
        "hidden_units": 2,
        "activation": "tanh",
        "bias_range": 0.0,
    }
    assert record.config.optimizer == {
        "_target_": "lenet_jax.optimizers.sgd",
        "learning_rate": 0.02,
        "momentum": 0.9,
        "nesterov": False,
        "weight_decay": 0.0,
    }
    assert record.config.data["_target_"] == "lenet_jax.data.load_embedded"
    assert record.config.data["train_size"] == 200
    assert record.config.augment == {}
    assert record.config.trainer.grad_accumulation_steps == 1
    assert record.config.objective == {
        "_target_": "lenet_jax.objectives.classification",
        "label_smoothing": 0.0,
        "class_weights": None,
        "ignore_label": None,
        "monitor": "accuracy",
    }


def test_its_checkpoint_is_found_and_its_count_of_correct_ones_is_a_sum(interrupted):
    config = read_allowed(interrupted).config
    prepared = prepare_run(config)
    directory = RunDirectory(interrupted, resume=True)
    objective, description = prepared.task.objective, prepared.describe()
    recorder = Recorder(0, config, directory, prepared.plan, objective, description, time.perf_counter())
    restored = recorder.find_checkpoint(jax.eval_shape(unwrap_keys, prepared.state))
    assert restored.checkpoint.iteration == 8
    assert [line["epoch"] for line in restored.previous_evaluations] == [1, 2]
    (count,) = restored.state.best_validation.sums.values()
    assert (list(restored.state.best_validation.sums), count.dtype, count) == (["accuracy"], np.float32, 50)
    assert restored.state.best_validation.num_examples == 500


def test_it_is_resumed_to_the_end_that_it_would_have_had(interrupted):
    *events, finished = resume_run(read_allowed(interrupted), allow_changed=True)
    assert isinstance(finished, Finished)
    assert [event.record["epoch"] for event in events if isinstance(event, Evaluated)] == [3, 4]
    record = read_record(interrupted)
    np.testing.assert_allclose([line["train_loss"] for line in record.metrics], LOSSES, rtol=1e-5)
    assert (record.result["iterations"], record.result["validation_accuracy"]) == (16, 0.1)
    ((resumed,),) = [record.run["resumed"]]
    assert resumed["iteration"] == 8
    assert {key.partition(".")[0] for key in resumed["changed"]} <= CHANGED_SINCE
    assert "code.sha256" in resumed["changed"]


def test_it_is_not_resumed_by_other_code_unless_told(interrupted, capsys):
    assert main(["resume", str(interrupted)]) == 2
    assert "use --allow-changed to resume anyway" in capsys.readouterr().err


def test_verified_it_says_what_has_changed(interrupted):
    list(resume_run(read_allowed(interrupted), allow_changed=True))
    *_, verification = verify_run(read_allowed(interrupted))
    assert isinstance(verification, Verification)
    assert verification.within(1e-5)
    assert verification.evaluations == 4
    conditions = [line for line in verification_lines(verification, 0.001) if line.startswith("changed since")]
    keys = {line.split()[2].rstrip(":") for line in conditions}
    assert "code.sha256" in keys
    assert {key.partition(".")[0] for key in keys} <= CHANGED_SINCE


# ---- finished records -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("directory", RECORDS, ids=lambda path: str(path.relative_to(ROOT / "experiments")))
def test_a_finished_record_is_opened_and_its_configuration_is_complete(directory):
    record = read_allowed(directory)
    assert complete_config(record.config) == record.config
    assert record.result["test_accuracy"] > 0.95
    assert record.metrics[-1]["iteration"] == record.result["iterations"]
    recorded = json.loads((directory / "run.json").read_text())["config"]
    for group, options in recorded.items():
        for name, value in options.items() if isinstance(options, dict) else ():
            new = {"form": "variant"}.get(name, name)
            if isinstance(part := getattr(record.config, group), dict) and new in part and name != "name":
                assert part[new] == (tuple(value) if isinstance(value, list) else value), (group, name)
    assert from_dict(recorded).seed == recorded["seed"]


@pytest.mark.parametrize("directory", RECORDS, ids=lambda path: str(path.relative_to(ROOT / "experiments")))
def test_a_record_without_weights_is_reported_on_by_one_line(directory, capsys):
    assert not (directory / "checkpoints").exists()
    weights = read_record(directory).config.trainer.weights
    for command in ("report", "evaluate"):
        assert main([command, str(directory)]) == 2
        error = capsys.readouterr().err
        assert error.startswith(
            f"lenet-jax: `DIR` must have the weights of its run, checkpoints/{weights}.safetensors;"
        )
        assert len(error.splitlines()) == 1


@pytest.mark.parametrize("directory", OF_FIRST_EDITION, ids=lambda path: str(path.relative_to(ROOT / "experiments")))
def test_conditions_of_a_record_are_compared_as_far_as_they_were_recorded(directory):
    record = read_record(directory)
    today = {**record.run, "data": {**record.run["data"], "source": "lenet_jax.data.load_tfds"}}
    today["versions"] = {**record.run["versions"], "flax": "0.12.0", "safetensors": "0.5"}
    # The first edition always said float32, and before it could be chosen nothing of determinism.
    today["precision"] = {"deterministic": False, **record.run["precision"], "compute": "bfloat16"}
    assert changed_conditions(record.run, today) == []
    today["data"]["sha256"] = "0" * 64
    assert [key for key, _, _ in changed_conditions(record.run, today)] == ["data.sha256"]


def test_all_records_are_there():
    assert len(OF_FIRST_EDITION) >= 25
