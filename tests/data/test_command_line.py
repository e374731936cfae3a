"""Data of the user are trained on and evaluated from the command line."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lenet_jax.cli import main
from tests.linear import put_in_place_of_lenet

pytestmark = pytest.mark.usefixtures("in_an_empty_folder")

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 6, 5), np.uint8)
LABELS = np.arange(40) % 4


@pytest.fixture
def sources():
    """The same images as arrays and as files in folders; and floats with numbers to regress on."""
    np.savez("images.npz", x_train=IMAGES[:30], y_train=LABELS[:30], x_test=IMAGES[30:], y_test=LABELS[30:])
    floats = IMAGES[..., None] / 255
    np.savez("floats.npz", x_train=floats, y_train=floats[:, 0, :2, 0], x_test=floats, y_test=floats[:, 0, :2, 0])
    for part, where in (("train", range(30)), ("test", range(30, 40))):
        for number in where:
            path = Path("images", part, f"class {LABELS[number]}", f"{number:02}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(IMAGES[number]).save(path)


def train(monkeypatch, *overrides):
    put_in_place_of_lenet(monkeypatch)
    common = ["trainer.max_epochs=1", "trainer.batch_size=4", "hydra.run.dir=run"]
    assert main(["train", *common, *overrides]) == 0
    return json.loads(Path("run/run.json").read_text())["data"]


def test_arrays_are_trained_on_and_the_run_is_evaluated_on_images_in_folders(sources, monkeypatch, capsys):
    data = train(monkeypatch, "data=npz", "data.directory=images.npz", "data.validation_size=0.2")
    assert (data["train"], data["validation"], data["test"]) == (24, 6, 10)
    assert (data["image_shape"], data["num_classes"], data["name"]) == ([6, 5, 1], 4, "npz")
    tested = json.loads(Path("run/result.json").read_text())["test_accuracy"]
    capsys.readouterr()
    assert main(["evaluate", "run", "data=folder", "data.directory=images"]) == 0
    assert f"{tested:.1%}".rstrip("%") in capsys.readouterr().out.replace(" %", "%")


def test_numbers_are_regressed_on_but_are_no_classes(sources, monkeypatch, capsys):
    data = train(monkeypatch, "data=npz", "data.directory=floats.npz", "objective=regression")
    assert data["num_classes"] == 2
    assert main(["train", "data=npz", "data.directory=floats.npz", "trainer.batch_size=4", "hydra.run.dir=other"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "lenet-jax: data: `targets` of train must be integers (N,) for an objective of classes; got float32(36, 2); "
        "for others choose it: objective=regression, lj.objectives.regression()."
    ]
    assert not Path("other").exists()
