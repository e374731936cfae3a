"""The mean of probabilities of runs and of views is evaluated as one network."""

from pathlib import Path

import jax
import jaxtyping
import numpy as np
import pytest

import lenet_jax as lj
from lenet_jax import components
from lenet_jax.cli import main
from lenet_jax.runs.average import evaluate_average
from lenet_jax.runs.evaluate import evaluate_run
from lenet_jax.runs.trust import read_allowed
from tests.runs.small import component, make_config, run_whole

pytestmark = pytest.mark.usefixtures("without_type_checks")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jaxtyping.config, "jaxtyping_disable", True)
        for seed in range(3):
            groups = {"augment": component("augment", "affine")}
            run_whole(
                make_config(seed, component("optimizer", "momentum"), groups=groups, max_epochs=3), path / str(seed)
            )
        run_whole(make_config(9, max_epochs=1), path / "plain")
    return path


def records_of(folder):
    return [read_allowed(folder / str(seed)) for seed in range(3)]


def probabilities(record):
    evaluation = evaluate_run(record)
    logits = lj.predict_logits(evaluation.model, evaluation.variables, evaluation.split.inputs)
    return np.asarray(jax.nn.softmax(logits), np.float64), evaluation.split


def test_the_mean_over_runs_is_that_of_their_probabilities(folder):
    records = records_of(folder)
    average = evaluate_average(records)
    found = [probabilities(record) for record in records]
    mean, labels = np.mean([each for each, _ in found], axis=0), np.asarray(found[0][1].targets)
    summary = average.report.summary
    assert summary["accuracy"] == pytest.approx(np.mean(mean.argmax(axis=1) == labels), abs=1e-9)
    assert summary["loss"] == pytest.approx(-np.mean(np.log(mean[np.arange(500), labels])), rel=1e-5)
    np.testing.assert_array_equal(average.report.predictions, mean.argmax(axis=1))
    assert average.accuracies == [record.result["test_accuracy"] for record in records]
    assert summary["loss"] < np.mean([record.result["test_loss"] for record in records])  # the loss is convex


def test_one_run_without_views_is_that_run(folder):
    record = records_of(folder)[0]
    average, alone = evaluate_average([record]).report, evaluate_run(record)
    assert average.summary["accuracy"] == alone.summary["accuracy"]
    assert average.summary["loss"] == pytest.approx(alone.summary["loss"], rel=1e-5)
    np.testing.assert_array_equal(average.confusion, alone.confusion)


def test_views_are_those_of_the_runs_own_augmentation(folder):
    """One image, by hand: its own probabilities and those of two views, each with the key of its place."""
    record = records_of(folder)[1]
    average = evaluate_average([record], num_views=2, seed=4)
    augment = components.build(record.config.augment)
    model, variables, split = average.report.model, average.report.variables, average.report.split
    image = np.asarray(split.inputs[7], np.float32) / np.float32(256)
    views = [image]
    for number in range(2):
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(4), number), 7)
        views.append(augment(jax.random.split(key, 1)[0], image))
    logits = [model.apply(variables, view[None])[0] for view in views]
    mean = np.mean([np.asarray(jax.nn.softmax(each))[0] for each in logits], axis=0)
    assert average.report.predictions[7] == mean.argmax()
    again = evaluate_average([record], num_views=2, seed=4).report.summary
    assert again == average.report.summary
    assert evaluate_average([record], num_views=2, seed=5).report.summary["loss"] != again["loss"]


def test_what_cannot_be_averaged_is_refused(folder):
    records = [read_allowed(folder / name) for name in ("0", "plain")]
    with pytest.raises(
        lj.InputError, match=r"`--tta` must be used with runs that were trained with an augmentation; .*"
    ):
        evaluate_average(records, num_views=1)
    other = make_config(groups={"data": component("data", "embedded", train_size=100)})
    with pytest.raises(lj.InputError, match=r"must have the same data for a mean of probabilities; .*: data=NAME"):
        evaluate_average([records[0], records[1]._replace(config=other)])
    config = make_config(groups={"objective": component("objective", "regression")})
    with pytest.raises(lj.InputError, match="runs must classify for a mean of probabilities"):
        evaluate_average([records[0]._replace(config=config)])
    run = {**records[1].run, "data": {**records[1].run["data"], "num_classes": 3}}
    with pytest.raises(lj.InputError, match="runs must have the same num_classes for a mean of probabilities; got 10"):
        evaluate_average([records[0], records[1]._replace(run=run)])


@pytest.mark.usefixtures("in_an_empty_folder")
def test_the_command_evaluates_a_sweep_as_one(capsys):
    tiny = ["trainer.max_epochs=1", "data.train_size=200", "model.num_kernels=[2,3]", "model.hidden_units=10"]
    assert main(["train", "-m", *tiny, "seed=0,1", "augment=affine", "hydra.sweep.dir=sweep"]) == 0
    capsys.readouterr()
    assert main(["evaluate", "--ensemble", "sweep", "--tta=2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "mean of              2 runs, on each example and 2 augmented views of it (seed 0)"
    assert lines[1].startswith("single runs, mean    ")
    assert main(["evaluate", "sweep/0", "--tta", "3", "--seed=1"]) == 0
    assert capsys.readouterr().out.startswith("mean of              1 run, on each example and 3 augmented views")
    Path("empty").mkdir()
    for arguments, message in (
        (["sweep"], "sweep is that of a sweep; name a job of it, sweep/0, or add --ensemble"),
        (["--ensemble", "sweep/0"], "`--ensemble` must be used with the directory of a sweep; sweep/0 is none"),
        (["sweep/0", "--tta=many"], "`--tta` must be an integer, 0 or above; got 'many'"),
    ):
        assert main(["evaluate", *arguments]) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert message in err
