"""What is read from the source is what importing it says."""

import inspect
import subprocess
import sys
import typing

import pytest

from lenet_jax import components
from lenet_jax.config.catalogue import (
    GROUPS,
    REQUIRED,
    SURROUNDINGS,
    built_in,
    built_in_targets,
    config_directory,
    read_signature,
)
from lenet_jax.config.checks import convert, describe
from tests.conftest import ROOT

TARGETS = sorted(built_in_targets())


def imported(target):
    function = inspect.unwrap(components.locate(target))
    return inspect.signature(function), typing.get_type_hints(function, include_extras=True)


@pytest.mark.parametrize("target", TARGETS)
def test_the_signature_read_from_the_source_is_that_of_the_function(target):
    read, (signature, hints) = read_signature(target), imported(target)
    assert read is not None
    named = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
    assert list(read.parameters) == [each.name for each in named]
    assert read.any_name == (len(named) < len(signature.parameters))
    for each in named:
        parameter = read.parameters[each.name]
        assert parameter.default == (REQUIRED if each.default is each.empty else each.default)
        assert type(parameter.default) is type(REQUIRED if each.default is each.empty else each.default)
        assert parameter.annotation == hints[each.name]
    assert read.doc == inspect.getdoc(components.locate(target))


def built_in_options(target):
    nodes = [node for group in GROUPS for node in built_in(group).values() if node.get("_target_") == target]
    return {name for node in nodes for name in node}


@pytest.mark.parametrize("target", TARGETS)
def test_every_option_has_a_range_and_a_default_inside_it(target):
    surroundings = set().union(*SURROUNDINGS.values())
    for name, parameter in read_signature(target).parameters.items():
        if name in surroundings and parameter.default is REQUIRED:
            continue
        if target == "lenet_jax.data.streams.load_sources" and name in ("train", "validation", "test"):
            continue  # objects of the user's own
        assert "a value" not in describe(parameter.annotation), f"{name} has no annotation"
        if parameter.default is REQUIRED:
            assert name in built_in_options(target), f"{name} has neither a default nor a value in conf/"
            continue
        assert convert(name, parameter.annotation, parameter.default) == parameter.default
        assert describe(parameter.annotation) not in ("an integer", "a finite number"), f"{name} has no range"


@pytest.mark.parametrize("target", TARGETS)
def test_every_option_is_described(target):
    doc = read_signature(target).doc
    for name in read_signature(target).parameters:
        assert f"\n    {name}: " in doc, f"{target} does not say what `{name}` is"


def test_defaults_are_literals():
    """As `test_the_signature_read...`, for a default that would be computed: it is None in what is read."""
    computed = {
        (target, name)
        for target in TARGETS
        for name, each in read_signature(target).parameters.items()
        if each.default is None and imported(target)[0].parameters[name].default is not None
    }
    assert computed == set()


@pytest.mark.parametrize(
    "target",
    [
        *("os.system", "lenet_jax", "lenet_jax.models", "lenet_jax.models.lenet", "lenet_jax.models.lenet.lenett"),
        *("lenet_jax.nowhere.at_all", "lenet_jax..models.lenet", "lenet_jax.models.lenet.", "", ".", "lenet_jax."),
        *("lenet_jax.../conftest.lenet", "lenet_jax.models/lenet.lenet", "lenet_jax.runs.run.Path", "tests.linear.f"),
    ],
)
def test_what_is_no_function_of_this_package_has_no_signature_to_read(target):
    assert read_signature(target) is None


def test_the_options_of_a_group_are_its_files():
    for group in GROUPS:
        files = {path.stem for path in (ROOT / "conf" / group).glob("*.yaml")}
        assert set(built_in(group)) == files


def test_the_files_of_a_checkout_are_found():
    assert (config_directory() / "config.yaml").is_file()


def test_signatures_are_read_without_importing_what_they_are_of():
    code = "import sys; from lenet_jax.config import catalogue as c; "
    code += "[c.read_signature(target).parameters for target in c.built_in_targets()]; "
    code += "print(sorted({'jax', 'numpy', 'optax', 'hydra', 'lenet_jax.models.lenet'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
