"""The experiments for data and machines that are not at hand, in small: on random images, narrow and shallow."""

import json
from pathlib import Path

import pytest

from lenet_jax.cli import main
from lenet_jax.config.catalogue import built_in
from lenet_jax.hydra_app.composition import compose_config

pytestmark = pytest.mark.usefixtures("in_an_empty_folder")

SMALL = ["model.width=0.02", "data=synthetic", "data.train_size=8", "data.validation_size=4", "data.test_size=4"]
RUN = ["trainer.batch_size=4", "trainer.max_epochs=1", "hydra.run.dir=run"]
TWO_STEPS = {
    "resnet18_cifar10": [*SMALL, *RUN],
    "resnet50_imagenet": [
        *SMALL, *RUN, "model.depth=18", "data.image_size=20", "model.crop_size=16", "augment.crop_size=16",
        "data.stream=true", "data.num_classes=5",
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    "experiment", [pytest.param(name, marks=[pytest.mark.slow] * (name == "resnet50_imagenet")) for name in TWO_STEPS]
)
def test_an_experiment_takes_two_steps_on_random_images(experiment):
    if "data.stream=true" in TWO_STEPS[experiment]:
        pytest.importorskip("grain")
    assert main(["train", f"experiment={experiment}", *TWO_STEPS[experiment]]) == 0
    result = json.loads(Path("run/result.json").read_text())
    steps = 3 if experiment == "resnet18_cifar10" else 2  # it trains on the validation images as well
    assert (result["iterations"], result["stopped_by"]) == (steps, "max_epochs")


def test_the_recipe_for_cifar10_is_that_of_its_page():
    config = compose_config(["experiment=resnet18_cifar10"])
    optimizer = {"learning_rate": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4}
    assert {key: config.optimizer[key] for key in optimizer} == optimizer
    assert (config.trainer.batch_size, config.trainer.max_epochs, config.trainer.weights) == (128, 200, "last")
    assert config.data["train_on_validation"]


def test_the_recipe_for_imagenet_is_that_of_its_page():
    config = compose_config(["experiment=resnet50_imagenet"])
    optimizer = {"learning_rate": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-4}
    assert {key: config.optimizer[key] for key in optimizer} == optimizer
    assert (config.trainer.batch_size, config.trainer.max_epochs) == (256, 90)
    assert (config.schedule["warmup_epochs"], config.objective["label_smoothing"]) == (5.0, 0.1)
    assert config.model["crop_size"] == config.augment["crop_size"] == 224
    assert {key: config.data[key] for key in built_in("data")["imagenet"]} == built_in("data")["imagenet"]


@pytest.mark.parametrize(
    ("command", "parameters"),
    [
        ("experiment=resnet18_cifar10 input_shape=32,32,3", "11,173,962"),
        ("experiment=resnet50_imagenet input_shape=256,256,3 num_classes=1000", "25,557,032"),
    ],
)
def test_the_summary_tells_the_cost(command, parameters, capsys):
    assert main(["summary", *command.split()]) == 0
    assert parameters in capsys.readouterr().out
