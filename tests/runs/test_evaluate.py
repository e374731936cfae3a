"""The evaluation of a finished run gives what the run recorded, and refuses what is not the run's."""

import jaxtyping
import pytest

import lenet_jax as lj
from lenet_jax.runs.evaluate import evaluate_run
from lenet_jax.runs.trust import read_allowed
from tests.runs.small import component, make_config, run_whole

pytestmark = pytest.mark.usefixtures("without_type_checks")


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    path = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jaxtyping.config, "jaxtyping_disable", True)
        run_whole(make_config(seed=3, max_epochs=1), path)
    return path


def test_an_evaluation_repeats_the_result(directory):
    record = read_allowed(directory)
    evaluation = evaluate_run(record)
    assert evaluation.summary["accuracy"] == record.result["test_accuracy"]
    assert evaluation.summary["loss"] == pytest.approx(record.result["test_loss"], rel=1e-5)
    matrix = evaluation.summary["confusion_matrix"]
    assert sum(map(sum, matrix)) == 500
    assert sum(matrix[n][n] for n in range(10)) == evaluation.summary["correct"]


def test_other_data_may_be_given_by_their_component(directory):
    record = read_allowed(directory)
    evaluation = evaluate_run(record, component("data", "embedded", pixel_divisor=255.0))
    assert evaluation.pixel_divisor == 255
    assert evaluation.summary["loss"] != evaluate_run(record).summary["loss"]


def test_other_data_must_have_the_same_shape(directory):
    record = read_allowed(directory)
    run = {**record.run, "data": {**record.run["data"], "image_shape": [32, 32, 3]}}
    with pytest.raises(lj.InputError, match=r"`data` must have images of shape \(32, 32, 3\) and 10 classes"):
        evaluate_run(record._replace(run=run), component("data", "embedded", train_size=200))


def test_a_run_without_weights_is_refused(directory, tmp_path):
    with pytest.raises(
        lj.InputError, match=r"must have the weights of its run, checkpoints/best.safetensors; .* has no"
    ):
        evaluate_run(read_allowed(directory)._replace(directory=tmp_path))


def test_weights_of_another_run_are_refused(directory):
    record = read_allowed(directory)
    other = {**record.result, "parameters_sha256": "0" * 64}
    with pytest.raises(lj.InputError, match=r"best\.safetensors: is damaged or of another run; .*SHA-256 0{64}; got"):
        evaluate_run(record._replace(result=other))
