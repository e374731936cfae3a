"""Configurations that the first edition recorded, and its keys on a command line."""

import json

import pytest

from lenet_jax.components import complete_config
from lenet_jax.config import Config, from_dict, renamed_key, to_dict
from lenet_jax.config.catalogue import TARGET, built_in
from lenet_jax.config.first_edition import RENAMED
from lenet_jax.errors import InputError
from tests.conftest import ROOT

pytestmark = pytest.mark.usefixtures("without_type_checks")

RECORDS = sorted((ROOT / "experiments").glob("*/records/*/run.json"))
OF_FIRST_EDITION = [
    path for path in RECORDS if TARGET not in json.loads(path.read_text(encoding="utf-8"))["config"]["model"]
]


def test_there_are_records_of_the_first_edition():
    assert OF_FIRST_EDITION


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: str(path.parent.relative_to(ROOT)))
def test_every_record_is_read_and_complete(path):
    recorded = json.loads(path.read_text(encoding="utf-8"))["config"]
    config = complete_config(from_dict(recorded))
    assert complete_config(from_dict(json.loads(json.dumps(to_dict(config))))) == config


@pytest.mark.parametrize("path", OF_FIRST_EDITION, ids=lambda path: str(path.parent.relative_to(ROOT)))
def test_what_was_recorded_is_what_is_read(path):
    """Value by value: nothing is lost but what had no effect, and nothing differs but its name."""
    recorded = json.loads(path.read_text(encoding="utf-8"))["config"]
    values = to_dict(complete_config(from_dict(recorded)))
    assert values["seed"] == recorded["seed"]
    for group in ("model", "optimizer", "schedule"):
        options = dict(recorded[group])
        target = built_in(group)[options.pop("name")][TARGET]
        assert values[group][TARGET] == target
        for key, value in options.items():
            assert values[group]["variant" if key == "form" else key] == value
    data = dict(recorded["data"])
    assert values["data"][TARGET] == f"lenet_jax.data.load_{data.pop('source')}"
    since = {"image_size": None, "crop": False, "stream": False, "workers": 8, "processes": 0, "test_split": "test"}
    own = {key: value for key, value in since.items() if key in values["data"]}
    assert values["data"] == {TARGET: values["data"][TARGET], **own, **data}
    augment = dict(recorded["augment"])
    expected = built_in("augment")[augment.pop("name")]
    assert values["augment"] == ({**expected, **augment} if expected else {})
    trainer = dict(recorded["trainer"])
    smoothing = trainer.pop("label_smoothing", 0.0)
    added = {"class_weights": None, "ignore_label": None, "monitor": "accuracy"}  # options since then
    assert values["objective"] == {**built_in("objective")["classification"], "label_smoothing": smoothing, **added}
    trainer["grad_accumulation_steps"] = trainer.pop("num_portions", 1)
    if "early_stopping" in trainer:
        trainer["early_stopping"] = {**trainer["early_stopping"], "min_delta": 0.0}  # likewise
    assert {key: values["trainer"][key] for key in trainer} == trainer


def record(**parts):
    """A configuration as the first edition recorded it, with what is of interest in its place."""
    data = {"name": "mnist_5k", "source": "embedded"}
    return {"model": {"name": "lenet"}, "optimizer": {"name": "sgd"}, "data": data, **parts}


@pytest.mark.parametrize(
    ("parts", "group", "expected"),
    [
        (
            {"optimizer": {"name": "nesterov", "learning_rate": 0.02, "momentum": 0.8}},
            "optimizer",
            {TARGET: "lenet_jax.optimizers.sgd", "learning_rate": 0.02, "momentum": 0.8, "nesterov": True},
        ),
        (
            {"model": {"name": "resnet34", "width": 0.5}},
            "model",
            {TARGET: "lenet_jax.models.resnet.resnet", "depth": 34, "width": 0.5},
        ),
        (
            {"model": {"name": "googlenet", "form": "torchvision"}},
            "model",
            {TARGET: "lenet_jax.models.googlenet.googlenet", "variant": "torchvision"},
        ),
        (
            {"data": {"name": "mnist", "source": "idx", "directory": "a", "manual_dir": "b"}},
            "data",
            {TARGET: "lenet_jax.data.load_idx", "name": "mnist", "directory": "a"},
        ),
        (
            {"trainer": {"label_smoothing": 0.1, "num_portions": 4}},
            "objective",
            {TARGET: "lenet_jax.objectives.classification", "label_smoothing": 0.1},
        ),
        ({"augment": {"name": "none"}}, "augment", {}),
    ],
)
def test_a_word_of_the_first_edition_is_a_function_of_today(parts, group, expected):
    config = from_dict(record(**parts))
    assert getattr(config, group) == expected
    complete_config(config)


def test_the_keys_of_the_trainer_have_their_new_names():
    trainer = from_dict(record(trainer={"label_smoothing": 0.1, "num_portions": 4})).trainer
    assert trainer.grad_accumulation_steps == 4


def test_a_name_that_was_none_is_refused():
    with pytest.raises(InputError, match=r"`_target_` must be like package\.module\.function; got 'lenett'\."):
        complete_config(from_dict(record(model={"name": "lenett"})))


@pytest.mark.parametrize(("old", "new"), sorted(RENAMED.items()))
def test_a_key_of_the_first_edition_is_refused_with_its_new_name(old, new):
    assert str(renamed_key(old)) == f"`{old}` is called `{new}` now; use that."
    assert renamed_key(new) is None


@pytest.mark.parametrize("key", ["num_portions", "label_smoothing"])
def test_a_configuration_of_today_has_no_old_keys(key):
    new = RENAMED[f"trainer.{key}"]
    with pytest.raises(InputError) as refused:
        from_dict({**to_dict(Config()), "trainer": {key: 1}})
    assert str(refused.value) == f"`trainer.{key}` is called `{new}` now; use that."


def test_an_old_option_of_a_component_is_refused_with_its_new_name():
    node = {**built_in("model")["alexnet"], "form": "one_tower"}
    with pytest.raises(InputError) as refused:
        complete_config(Config(model=node))
    assert str(refused.value) == "`model.form` is called `model.variant` now; use that."
