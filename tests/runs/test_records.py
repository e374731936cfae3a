"""Reading back run directories, good and damaged."""

import json

import pytest

import lenet_jax as lj
from lenet_jax.config import Config, LeNetConfig
from lenet_jax.runs.driver import run_experiment
from lenet_jax.runs.evaluate import assess
from lenet_jax.runs.records import read_record
from tests.runs.test_driver import DATA, make_config

pytestmark = pytest.mark.usefixtures("without_type_checks")  # lists of JSON become tuples


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    path = tmp_path_factory.mktemp("run")
    list(run_experiment(make_config(seed=3, max_epochs=1), path))
    return path


def test_a_record_has_what_the_run_wrote(directory):
    record = read_record(directory)
    assert isinstance(record.config, Config)
    assert record.config.seed == 3
    assert record.config.model == LeNetConfig(num_kernels=(2, 3), kernel_size=3, hidden_units=10)
    assert [line["epoch"] for line in record.metrics] == [1]
    assert record.result["stopped_by"] == "max_epochs"


def test_an_assessment_repeats_the_result(directory):
    record = read_record(directory)
    assessment = assess(record)
    assert assessment.summary["accuracy"] == record.result["test_accuracy"]
    assert assessment.summary["loss"] == pytest.approx(record.result["test_loss"], rel=1e-5)
    matrix = assessment.summary["confusion_matrix"]
    assert sum(map(sum, matrix)) == 500
    assert sum(matrix[n][n] for n in range(10)) == assessment.summary["correct"]


def test_other_data_must_have_the_same_shape(directory):
    record = read_record(directory)
    run = {**record.run, "data": {**record.run["data"], "image_shape": [32, 32, 3]}}
    with pytest.raises(lj.InputError, match=r"`data` must have images of shape \(32, 32, 3\) and 10 classes"):
        assess(record._replace(run=run), DATA)


def test_a_run_without_weights_is_refused(directory, tmp_path):
    with pytest.raises(lj.InputError, match="`path` must be a safetensors file"):
        assess(read_record(directory)._replace(directory=tmp_path))


def test_weights_of_another_run_are_refused(directory):
    record = read_record(directory)
    other = {**record.result, "parameters_sha256": "0" * 64}
    with pytest.raises(lj.InputError, match=r"best\.safetensors: is damaged or of another run; .*SHA-256 0{64}; got"):
        assess(record._replace(result=other))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "run.json: must be JSON as lenet-jax writes it"),
        ("[]", "run.json: must be an object of schema 1"),
        (json.dumps({"schema": 2}), "use the version of lenet-jax that wrote it"),
        (json.dumps({"schema": 1, "config": {"sead": 1}}), "`configuration` has no 'sead'"),
    ],
)
def test_a_damaged_record_is_refused(content, message, tmp_path):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(lj.InputError, match=message):
        read_record(tmp_path)
