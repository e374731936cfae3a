"""The tables of a run's page say what its files record."""

from html import unescape

import jax
import numpy as np
import pytest

import lenet_jax as lj
from lenet_jax.components import complete_config
from lenet_jax.config import from_dict
from lenet_jax.report.description import confusion_counts, facts, files, settings
from lenet_jax.report.html import to_html
from lenet_jax.report.page import _draw_learning_rate
from lenet_jax.report.text import utc
from lenet_jax.runs.evaluate import EvaluationReport
from lenet_jax.runs.run_directory import Record

RUN = {
    "data": {"name": "mnist_5k", "train": 500, "validation": 400, "test": 300},
    "devices": [{"kind": "cpu"}, {"kind": "cpu"}],
    "platform": {"processor": "Z80", "system": "CP/M", "cpu_count": 2},
    "host": "a_host",
    "versions": {"jax": "1.2", "chex": None},
    "code": {"revision": "abc", "dirty": False},
    "command": "lenet-jax train 'notes=a b'",
    "started": "2026-01-02T03:04:05+02:00",
}
RESULT = {
    "validation_accuracy": 0.9, "epochs": 3, "iterations": 30, "stopped_by": "max_epochs", "seconds": 2.5,
    "compile_seconds": 1.5, "images_per_second": 791.3,
}  # fmt: skip
LINES = [
    {"epoch": epoch, "iteration": 10 * epoch, "validation_accuracy": accuracy}
    for epoch, accuracy in ((1, 0.5), (2, 0.9), (3, 0.8))
]


def record(tmp_path, **config):
    return Record(tmp_path, complete_config(from_dict(config)), RUN, LINES, RESULT)


def evaluation_of(confusion, **summary):
    model = lj.Model(lambda key: None, lambda *arguments, **options: None)
    split = lj.Split(np.zeros((2, 3)), np.zeros((2, 1)))
    return EvaluationReport(model, None, split, 256.0, summary, None, confusion)


def test_the_results_have_their_interval_their_best_epoch_and_their_machine(tmp_path):
    evaluation = evaluation_of(np.array([[1]]), accuracy=0.9, examples=100)
    text = unescape(to_html(facts(record(tmp_path, notes="first try", tags=["a", "b_c"]), evaluation)))
    for name, value in {
        "notes": "first try",
        "tags": "a, b_c",
        "data": "mnist_5k, 500 images to train, 400 to validate, 300 to test",
        "test accuracy": "90.00% of 100, 95 % interval 82.56% to 94.48% (Wilson's)",  # Newcombe 1998, method 3
        "best epoch": "2 (iteration 20)",
        "time": "2.5 s, of which compilation 1.5 s, 791 examples a second",
        "started": "2026-01-02 01:04:05 UTC",
        "machine": "a_host, devices: 2 x cpu, Z80, CP/M, 2 CPUs",
        "versions": "jax 1.2",
        "code": "lenet_jax abc",
        "command": "<code>lenet-jax train 'notes=a b'</code>",
    }.items():
        assert f"<th>{name}</th><td>{value}</td>" in text


def test_all_settings_are_on_the_page():
    augment = {"mine": {"_target_": "lenet_jax.augment.random_crop", "margin": 3}}
    text = unescape(to_html(settings(complete_config(from_dict({"augment": augment})))))
    for part in (
        '>model</td><td data-name="function">lenet_jax.models.lenet.lenet</td>',
        "num_kernels=[20, 50]<br>",
        '>optimizer</td><td data-name="function">lenet_jax.optimizers.sgd</td>',
        ">schedule</td>",
        ">data</td>",
        '>augment.mine</td><td data-name="function">lenet_jax.augment.random_crop</td>',
        ">objective</td>",
        "label_smoothing=0.0",
        "batch_size=50<br>",
        "early_stopping.patience=10000",
    ):
        assert part in text


def test_the_confusion_is_also_in_counts():
    (counts,) = confusion_counts(evaluation_of(np.array([[3, 1], [0, 5]])))
    text = to_html(counts)
    assert "<tr><td>0</td><td>3</td><td>1</td><td>4</td></tr>" in text
    assert "<tr><td>1</td><td></td><td>5</td><td>5</td></tr>" in text
    assert confusion_counts(evaluation_of(None)) == []


def test_files_are_linked_where_they_are(tmp_path):
    for name in ("run.json", "train.log", "checkpoints/best.safetensors", ".hydra/config.yaml", ".lock", ".a.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    linked = ["run.json", "train.log", ".hydra/config.yaml", "checkpoints/best.safetensors"]
    text = to_html(files(tmp_path))
    assert text.count("<a ") == len(linked)
    assert all(f'<a href="{name}">{name}</a>' in text for name in linked)
    assert to_html(files(tmp_path / "missing")) == ""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("2026-11-29T17:14:54+00:00", "2026-11-29 17:14:54 UTC"),
        ("2026-11-29T00:14:54+02:00", "2026-11-28 22:14:54 UTC"),
        ("yesterday", "yesterday"),
    ],
)
def test_times_are_in_utc(text, shown):
    assert utc(text) == shown


def test_the_learning_rate_is_drawn_where_it_varies(tmp_path):
    cosine = record(tmp_path, schedule={"_target_": "lenet_jax.optimizers.schedules.cosine"}, trainer={"max_epochs": 3})
    with jax.numpy_dtype_promotion("standard"):
        (picture,) = _draw_learning_rate(cosine)
    line = picture.figure.axes[0].lines[0]
    rate = cosine.config.optimizer["learning_rate"]
    steps = np.arange(30)
    np.testing.assert_allclose(line.get_xdata(), steps / 10)
    np.testing.assert_allclose(line.get_ydata(), rate * (1 + np.cos(np.pi * steps / 30)) / 2, rtol=1e-5)
    assert list(_draw_learning_rate(record(tmp_path))) == []
