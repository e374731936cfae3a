import re

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from lenet_jax import components
from lenet_jax.cli import main
from lenet_jax.config import Config, TrainerConfig
from lenet_jax.config.catalogue import GROUPS, SURROUNDINGS, TARGET, built_in, built_in_targets, read_signature
from lenet_jax.hydra_app import composition
from lenet_jax.interop.models import build_model
from lenet_jax.types import Objective
from tests.conftest import ROOT

pytestmark = pytest.mark.usefixtures("without_type_checks")

CONF = ROOT / "conf"
FILES = sorted(path.relative_to(CONF) for path in CONF.rglob("*.yaml"))
OPTIONS = {
    folder.name: {path.stem for path in folder.glob("*.yaml")}
    for folder in CONF.iterdir()
    if folder.is_dir() and folder.name != "hydra"
}
COMPONENTS = [file for file in FILES if file.parent.as_posix() in GROUPS]
ARCHITECTURES = {"alexnet": 227, "zfnet": 224, "googlenet": 224, "lenet5": 28}  # pixels


def chosen(file):
    group = file.parent.as_posix()
    return [] if group == "." else [f"{group}={file.stem}"]


def compose_config(*overrides):
    return composition.compose_config(list(overrides))


@pytest.mark.parametrize("file", FILES, ids=str)
def test_every_file_composes_to_a_valid_configuration(file):
    assert isinstance(compose_config(*chosen(file)), Config)


@pytest.mark.parametrize("file", FILES, ids=str)
def test_hydra_composes_every_file_in_its_own_way_too(file):
    """As a notebook does, without the loader of this package: the same, once it is complete."""
    composition.register_schemas()
    quoted = [re.sub("=(.*)", r"='\1'", each) for each in chosen(file)]  # `nan` is a number to Hydra
    with initialize_config_dir(str(CONF), version_base="1.3"):
        assert composition.to_config(compose("config", quoted)) == compose_config(*chosen(file))


def test_without_overrides_the_command_line_has_the_defaults_of_the_schema():
    assert compose_config() == components.complete_config(Config())


@pytest.mark.parametrize("group", GROUPS)
def test_an_option_of_a_group_is_what_its_file_names_with_all_defaults(group):
    for option, content in built_in(group).items():
        expected = components.complete_group(group, content)
        assert getattr(compose_config(f"{group}={option}"), group) == expected


@pytest.mark.parametrize("file", COMPONENTS, ids=str)
def test_a_component_names_a_function_of_this_package_and_sets_its_options_only(file):
    content = yaml.safe_load((CONF / file).read_text(encoding="utf-8"))
    for node in components.named_parts(file.parent.as_posix(), content).values():
        known = read_signature(node[TARGET])
        assert known is not None
        assert set(node) - {TARGET} <= set(known.parameters) - set(SURROUNDINGS.get(file.parent.as_posix(), ()))


@pytest.mark.parametrize("file", COMPONENTS, ids=str)
def test_a_component_is_built_from_its_file(file, tmp_path):
    group, name = file.parent.as_posix(), file.stem
    config = compose_config(*chosen(file))
    if group == "data" and name != "embedded":
        return  # is not there; see tests/data
    if group == "model":
        size = ARCHITECTURES.get(name, 32)
        model = build_model(config.model, (size, size, 1), 10)
        assert model.input_shape == (size, size, 1)
        return
    surroundings = {"num_steps": 100, "steps_per_epoch": 10, "directory": str(tmp_path)}
    for node in components.named_parts(group, getattr(config, group)).values():
        built = components.build(node, **surroundings)
        match group:
            case "data":
                assert built.num_classes == 10
            case "optimizer":
                assert callable(built.init)
            case "objective":
                assert isinstance(built, Objective)
            case "augment":
                assert built
            case "schedule":
                assert (callable(built) or hasattr(built, "update")) == (name != "constant")
            case "trackers":
                assert callable(built)


@pytest.mark.parametrize("file", COMPONENTS, ids=str)
def test_cfg_job_shows_the_defaults_of_a_component(file, capsys, in_an_empty_folder):
    group = file.parent.as_posix()
    assert main(["train", "--cfg", "job", *chosen(file)]) == 0
    shown = OmegaConf.to_container(OmegaConf.create(capsys.readouterr().out))
    config = getattr(compose_config(*chosen(file)), group)
    assert components.complete_group(group, shown[group]) == config  # pyright: ignore[reportArgumentType]
    parts, complete = (components.named_parts(group, node) for node in (shown[group], config))  # pyright: ignore
    assert {path: set(part) for path, part in parts.items()} == {path: set(part) for path, part in complete.items()}


@pytest.mark.parametrize("option", sorted(OPTIONS["trainer"]))
def test_the_options_of_the_trainer_have_one_schema(option):
    assert isinstance(compose_config(f"trainer={option}").trainer, TrainerConfig)


@pytest.mark.parametrize("file", [file for file in FILES if file.parent.name == "experiment"], ids=str)
def test_an_experiment_opens_with_its_package_and_a_comment(file):
    first, second, *_ = (CONF / file).read_text().splitlines()
    assert first == "# @package _global_"
    assert re.match(r"# \w", second)


@pytest.mark.parametrize("file", FILES, ids=str)
def test_a_file_opens_with_a_comment_or_is_hydras(file):
    text = (CONF / file).read_text()
    assert text.startswith("# ") or file.as_posix() == "hydra/help/lenet_jax.yaml"


def test_every_function_that_a_file_names_is_of_this_package():
    files = [file for file in FILES if not str(file).startswith("hydra/")]  # Hydra makes those itself
    named = {
        found for file in files for found in re.findall(rf"(?m)^[^#\n]*{TARGET}: ([\w.]+)", (CONF / file).read_text())
    }
    assert named == built_in_targets()


def test_the_help_lists_the_options_of_every_group(capsys, in_an_empty_folder):
    assert main(["train", "--help"]) == 0
    text = capsys.readouterr().out
    for group, options in OPTIONS.items():
        listed = re.search(rf"^ +{group} +(.+(?:(?<=,)\n +.+)*)$", text, re.MULTILINE)
        assert listed, f"the help has no line about {group}"
        assert set(re.split(r",\s+", listed[1])) == options


def test_the_help_lists_the_options_of_the_users_own_folder(capsys, in_an_empty_folder, tmp_path):
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine" / "model" / "tiny.yaml").write_text("_target_: lenet_jax.models.lenet.lenet\nhidden_units: 3\n")
    assert main(["train", "--config-dir", "mine", "--help", "model=tiny"]) == 0
    text = capsys.readouterr().out
    assert re.search(r"^  model +alexnet,[^=]*\btiny$", text, re.MULTILINE)
    assert "hidden_units: 3" in text
    assert "activation: tanh" in text
