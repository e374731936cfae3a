"""The evaluation of a finished run gives what the run recorded, and refuses what is not the run's."""

import dataclasses
import shutil

import jaxtyping
import numpy as np
import pytest

import lenet_jax as lj
from lenet_jax.config import EarlyStoppingConfig
from lenet_jax.report.text import evaluation_notes, trained_on_warning
from lenet_jax.runs.evaluate import evaluate_run
from lenet_jax.runs.trust import read_allowed
from lenet_jax.runs.verify import verify_run
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


def test_an_unfinished_run_is_to_be_finished(directory, tmp_path):
    with pytest.raises(lj.InputError, match=r"^`DIR` must hold a finished run; finish it with lenet-jax resume "):
        evaluate_run(read_allowed(directory)._replace(directory=tmp_path, result=None))


def test_weights_of_another_run_are_refused(directory):
    record = read_allowed(directory)
    other = {**record.result, "parameters_sha256": "0" * 64}
    with pytest.raises(lj.InputError, match=r"best\.safetensors: is damaged or of another run; .*SHA-256 0{64}; got"):
        evaluate_run(record._replace(result=other))


def run_that_gets_worse(path, weights):
    """Run what ends with worse weights than its best ones; return its directory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jaxtyping.config, "jaxtyping_disable", True)
        options = {"weights": weights, "running_metrics": True, "early_stopping": EarlyStoppingConfig(enabled=False)}
        run_whole(make_config(3, component("optimizer", "sgd", learning_rate=1.5), max_epochs=8, **options), path)
    return path


@pytest.fixture(scope="module")
def last(tmp_path_factory):
    """The directory of a run whose result are its last weights."""
    return run_that_gets_worse(tmp_path_factory.mktemp("last"), "last")


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The directory of the same run, but its result are its best weights, and the last ones are kept."""
    return run_that_gets_worse(tmp_path_factory.mktemp("both"), "both")


def test_a_run_has_its_last_and_its_best_weights_and_the_metrics_of_both(last):
    record = read_allowed(last)
    result = record.result
    assert result["best_validation_accuracy"] == max(line["validation_accuracy"] for line in record.metrics)
    assert result["validation_accuracy"] == record.metrics[-1]["validation_accuracy"]
    assert result["running_train_accuracy"] == record.metrics[-1]["running_train_accuracy"]
    assert result["best_validation_accuracy"] > result["validation_accuracy"]  # else the test says nothing
    for part in ("train", "validation", "test"):
        of_last, of_best = (evaluate_run(record, part=part, weights=each).summary for each in ("last", "best"))
        assert of_last["accuracy"] == pytest.approx(result[f"{part}_accuracy"])
        assert of_best["accuracy"] == pytest.approx(result[f"best_{part}_accuracy"])
    assert evaluate_run(record, part="train").summary["loss"] == pytest.approx(result["train_loss"], rel=1e-4)
    assert evaluate_run(record).summary["accuracy"] == pytest.approx(result["test_accuracy"])


def test_the_best_weights_may_be_the_result_and_the_last_ones_be_measured_beside_them(last, both):
    of_last, of_best = read_allowed(last).result, read_allowed(both).result
    names = [f"{part}_accuracy" for part in ("train", "validation", "test")]
    assert [of_best[name] for name in names] == [of_last[f"best_{name}"] for name in names]
    assert [of_best[f"last_{name}"] for name in names] == [of_last[name] for name in names]
    assert not any(name.startswith("best_") and name != "best_iteration" for name in of_best)
    for weights, prefix in (("best", ""), ("last", "last_"), (None, "")):
        found = evaluate_run(read_allowed(both), weights=weights).summary["accuracy"]
        assert found == pytest.approx(of_best[f"{prefix}test_accuracy"])


@pytest.mark.parametrize("name", ["last", "both"])
def test_a_run_that_keeps_its_last_weights_is_verified(name, request):
    *_, verification = verify_run(read_allowed(request.getfixturevalue(name)))
    assert verification.identical


@pytest.mark.parametrize(("name", "weights"), [("last", "best"), ("both", "last"), ("both", None)])
def test_weights_that_the_run_has_not_written_are_refused_whichever_they_are(name, weights, tmp_path, request):
    path = shutil.copytree(request.getfixturevalue(name), tmp_path / "run")
    file = path / "checkpoints" / f"{weights or 'best'}.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(lj.InputError, match=rf"{file}: is damaged; it must have SHA-256 .*; got .*; restore it\."):
        evaluate_run(read_allowed(path), weights=weights)


def test_of_weights_without_a_recorded_digest_it_is_said_that_they_were_not_checked(both):
    record = read_allowed(both)
    older = record._replace(result={name: each for name, each in record.result.items() if name != "files_sha256"})
    assert evaluate_run(record, weights="last").is_checked
    assert evaluate_run(older).is_checked  # by the digest of its parameters
    evaluation = evaluate_run(older, weights="last")
    assert not evaluation.is_checked
    assert evaluation_notes(evaluation) == [
        "note: the run is older and has recorded no digest of these weights: they were not checked."
    ]
    assert evaluation_notes(evaluate_run(older)) == []


def test_data_that_have_changed_since_the_run_are_noted(directory):
    record = read_allowed(directory)
    other = record._replace(run={**record.run, "data": {**record.run["data"], "sha256": "0" * 64}})
    assert not evaluate_run(record).has_changed
    assert not evaluate_run(other, record.config.data).has_changed  # the user has named them
    assert evaluation_notes(evaluate_run(other)) == [
        "warning: the data of the run have changed since it ran; its own results were of others."
    ]


def test_a_run_of_the_best_weights_has_no_last_ones(directory):
    with pytest.raises(lj.InputError, match=r"must have the weights of its run, checkpoints/last.safetensors; .* none"):
        evaluate_run(read_allowed(directory), weights="last")


def test_a_part_has_the_confusion_matrix_of_its_examples(directory):
    sizes = {part: evaluate_run(read_allowed(directory), part=part).confusion.sum() for part in ("train", "validation")}
    assert sizes == {"train": 200, "validation": 500}


def test_examples_that_a_run_was_trained_on_are_counted(directory, tmp_path):
    record = read_allowed(directory)
    assert evaluate_run(record).trained_on == 0
    digits = lj.load_dataset()
    mixed = np.concatenate([digits.train.inputs[:7], digits.test.inputs[:30], digits.train.inputs[3000:3005]])
    labels = np.concatenate([digits.train.targets[:7], digits.test.targets[:30], digits.train.targets[3000:3005]])
    np.savez(tmp_path / "mixed.npz", x_train=mixed, y_train=labels, x_test=mixed, y_test=labels)
    other = component("data", "npz", directory=str(tmp_path / "mixed.npz"), num_classes=10)
    evaluation = evaluate_run(record, other)
    assert evaluation.trained_on == 7  # the run was trained on the first 200 only
    assert trained_on_warning(evaluation).startswith("warning: the run was trained on 7 of these 42 test examples;")
    assert evaluate_run(record, other, part="train").trained_on == 7  # they are the training set of other data
    assert evaluate_run(record, part="train").trained_on == 0  # of its own, which the user asks for: no warning


def test_what_a_run_was_trained_on_is_not_downloaded_to_look_at_it(directory, tmp_path):
    record = read_allowed(directory)
    data = component("data", "mnist", directory=str(tmp_path), manual_dir=None)
    evaluation = evaluate_run(record._replace(config=dataclasses.replace(record.config, data=data)), record.config.data)
    assert evaluation.trained_on is None
    assert "is not known" in trained_on_warning(evaluation)
    assert list(tmp_path.iterdir()) == []


def test_the_embedded_digits_are_training_images_of_mnist(mnist_directory):
    mnist, embedded = (
        lj.load_dataset("idx", directory=str(mnist_directory), train_on_validation=True),
        lj.load_dataset(),
    )
    train, test = ({image.tobytes() for image in each.inputs} for each in (mnist.train, mnist.test))
    digits = [image.tobytes() for split in embedded.splits().values() for image in split.inputs]
    assert len(digits) == 5000
    assert train.issuperset(digits)
    assert test.isdisjoint(digits)
