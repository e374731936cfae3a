import re

import pytest
import yaml
from hydra import compose, initialize_config_dir

from lenet_jax.config import SCHEMAS, Config, DataConfig, TrainerConfig
from lenet_jax.hydra_app import composition

pytestmark = pytest.mark.usefixtures("without_type_checks")

CONF = composition.config_directory()
FILES = sorted(path.relative_to(CONF) for path in CONF.rglob("*.yaml"))
OPTIONS = {
    folder.name: {path.stem for path in folder.glob("*.yaml")}
    for folder in CONF.iterdir()
    if folder.is_dir() and folder.name != "hydra"
}


def compose_config(*overrides):
    composition.register_schemas()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return composition.to_config(compose("config", list(overrides)))


@pytest.mark.parametrize("file", FILES, ids=str)
def test_every_file_composes_to_a_valid_configuration(file):
    group = file.parent.as_posix()
    assert isinstance(compose_config(*([] if group == "." else [f"{group}={file.stem}"])), Config)


def test_without_overrides_the_command_line_has_the_defaults_of_the_schema():
    assert compose_config() == Config()


@pytest.mark.parametrize("group", ["model", "optimizer", "schedule"])
def test_the_options_of_a_group_are_its_schemas(group):
    assert OPTIONS[group] == set(SCHEMAS[group])
    for option, schema in SCHEMAS[group].items():
        assert getattr(compose_config(f"{group}={option}"), group) == schema(name=option)


@pytest.mark.parametrize(("group", "schema"), [("data", DataConfig), ("trainer", TrainerConfig)])
def test_the_options_of_data_and_trainer_have_one_schema(group, schema):
    assert all(isinstance(getattr(compose_config(f"{group}={option}"), group), schema) for option in OPTIONS[group])


@pytest.mark.parametrize("file", [file for file in FILES if file.parent.name == "experiment"], ids=str)
def test_an_experiment_opens_with_its_package_and_a_comment(file):
    first, second, *_ = (CONF / file).read_text().splitlines()
    assert first == "# @package _global_"
    assert re.match(r"# \w", second)


@pytest.mark.parametrize("file", FILES, ids=str)
def test_no_file_names_code_to_run(file):
    assert "_target_" not in (CONF / file).read_text()


@pytest.mark.parametrize("group", sorted(OPTIONS))
def test_the_help_lists_the_options_of_a_group(group):
    template = yaml.safe_load((CONF / "hydra/help/lenet_jax.yaml").read_text())["template"]
    listed = re.search(rf"^ +{group} +(.+(?:(?<=,)\n +.+)*)$", template, re.MULTILINE)
    assert listed, f"the help has no line about {group}"
    assert sorted(re.split(r",\s+", listed[1])) == sorted(OPTIONS[group])


@pytest.mark.parametrize("group", sorted(OPTIONS.keys() - {"experiment"}))
def test_the_table_of_contents_lists_the_options_of_a_group(group):
    listed = re.search(rf"^  - {group}: \w+ # (.+)$", (CONF / "config.yaml").read_text(), re.MULTILINE)
    assert listed, f"config.yaml has no line about {group}"
    assert sorted(listed[1].split(", ")) == sorted(OPTIONS[group])
