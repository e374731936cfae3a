"""Which layer the page of a run draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lenet_jax as lj
from lenet_jax.components import complete_config
from lenet_jax.config import Config, TrainerConfig
from lenet_jax.layers.model import make_model
from lenet_jax.report import figures
from lenet_jax.report.page import _draw_all_layers, _draw_first_layer, draw, write_report
from lenet_jax.runs.evaluate import EvaluationReport
from lenet_jax.runs.run_directory import Record


def nested():
    stage = lj.layers.serial(
        {"conv": lj.layers.convolution(2, 3, lj.fan_in_uniform()), "relu": lj.layers.activation("relu")}
    )
    classifier = {"flatten": lj.layers.flatten(), "dense": lj.layers.dense(10, lj.fan_in_uniform())}
    return make_model(lj.layers.serial({"stage": stage, **classifier}), (28, 28, 1))


MODELS = {
    "conv1": lambda: lj.create_model("lenet", num_kernels=(2, 3), hidden_units=4),
    "windows": lambda: lj.create_model("window_classifier", num_kernels=2, hidden_units=4),
    "stage.conv": nested,
}


@pytest.mark.parametrize("layer", MODELS)
def test_the_filters_are_those_of_the_first_convolution_whatever_the_order_of_the_names(layer):
    model = MODELS[layer]()
    variables = jax.tree.map(jnp.asarray, model.init(jax.random.key(0)))  # sorts the names, as weights that are read
    labels = np.zeros(2, np.int32)
    split = lj.Split(np.zeros((2, 28, 28, 1), np.uint8), labels)
    drawn = list(
        _draw_first_layer(EvaluationReport(model, variables, split, 256.0, labels, np.zeros((10, 10), np.int32), {}))
    )
    assert [(picture, f"`{layer}`" in caption) for picture, _, caption, _ in drawn] == [
        ("filters", True),
        ("feature_maps", True),
    ]


def test_the_curve_of_a_full_batch_begins_before_the_first_iteration_and_ends_after_the_last(tmp_path, monkeypatch):
    lines = [
        {"epoch": n, "train_loss": 1 / n, "validation_loss": 0.5, "validation_accuracy": 0.5} for n in range(1, 101)
    ]
    trainer = TrainerConfig(batch_size=None, weights="last")
    run = {"data": {"name": "digits", "train": 8}, "devices": [{"kind": "cpu"}], "versions": {}}
    record = Record(tmp_path, complete_config(Config(trainer=trainer)), run, lines, {"train_loss": 0.005})
    drawn = []
    monkeypatch.setattr(figures, "likelihood_curve", lambda loss: drawn.append(loss))
    labels = np.zeros(2, np.int32)
    split = lj.Split(np.zeros((2, 28, 28, 1), np.uint8), labels)
    model = lj.Model(lambda key: None, lambda *arguments, **options: None)
    evaluation = EvaluationReport(model, None, split, 256.0, {"examples": 2}, labels, np.eye(2, dtype=np.int32))
    list(draw(record, evaluation))
    assert [(len(loss), loss[0], loss[-1]) for loss in drawn] == [(101, 1.0, 0.005)]


def test_all_layers_are_drawn_for_an_image_and_large_ones_in_part(tmp_path):
    model = lj.create_model("lenet", num_kernels=(2, 80), hidden_units=4)
    variables = model.init(jax.random.key(0))
    split = lj.Split(np.full((3, 28, 28, 1), 9, np.uint8), np.array([1, 2, 7], np.int32))
    evaluation = EvaluationReport(model, variables, split, 256.0, {"examples": 3}, split.targets, np.eye(10), "test")
    drawn = {name: (caption, figure) for name, _, caption, figure in _draw_all_layers(evaluation, 2)}
    assert drawn["image"][0] == "The test image 2, a 7."
    kernel = np.asarray(variables.params["conv2"]["kernel"])
    assert drawn["05_conv2_kernels"][0] == (
        "Kernels of `conv2`: 2 of 2 inputs (columns), 20 of 80 kernels; weights from "
        f"{kernel.min():.3g} to {kernel.max():.3g}, root mean square {np.sqrt(np.mean(kernel**2)):.3g}."
    )
    assert drawn["05_conv2_maps"][0] == "Outputs of `conv2` for the test image 2, a 7: 64 of 80 maps."
    assert len(drawn["10_softmax_units"][1].axes[0].patches) == 10


def test_a_run_of_regression_has_no_figures_of_classes_and_no_images(tmp_path):
    line = {"epoch": 1, "train_loss": 0.5, "validation_loss": 0.5, "validation_error": 0.1}
    config = complete_config(Config(trainer=TrainerConfig(batch_size=None)))
    result = {"monitor": "error", "mode": "min", "validation_error": 0.1, "test_error": 0.2}
    run = {"data": {"name": "levels", "train": 8}, "devices": [{"kind": "cpu"}], "versions": {}}
    run["code"] = {"revision": None}
    record = Record(tmp_path, config, run, [line], result)
    split = lj.Split(np.zeros((2, 3)), np.zeros((2, 1)))
    model = lj.Model(lambda key: None, lambda *arguments, **options: None)
    evaluation = EvaluationReport(model, None, split, 256.0, {"examples": 2, "error": 0.2, "loss": 0.5}, None, None)
    assert [name for name, *_ in draw(record, evaluation)] == ["learning_curves"]
    page = write_report(record, evaluation).read_text()
    assert "8 examples to train" in page
    assert "images" not in page
