"""From `_target_` and options to an object: names, signatures, checks, defaults, and what is called with what."""

import dataclasses
import functools
import sys
import textwrap

import pytest

from lenet_jax import components
from lenet_jax.components import build, complete, complete_config, complete_group, locate, signature, with_defaults
from lenet_jax.config import Config
from lenet_jax.config.catalogue import GROUPS, REQUIRED, SURROUNDINGS, TARGET, built_in
from lenet_jax.errors import InputError

pytestmark = pytest.mark.usefixtures("without_type_checks")

PARTS = """
    from typing import Annotated, Literal
    from lenet_jax.config.checks import AtLeast

    class Box:
        def __init__(self, size: int = 3):
            self.size = size

        @classmethod
        def of(cls, size: Annotated[int, AtLeast(2)]):
            return cls(size)

    def tiny(*, input_shape, num_outputs: int, depth: Annotated[int, AtLeast(1)] = 2, kind: Literal["a", "b"] = "a"):
        return ("tiny", input_shape, num_outputs, depth, kind)

    def any_name(size: float = 1, **rest):
        return size, rest

    def required(size: int, other=None):
        return size, other

    def holder(part, parts=(), named=None):
        return part, parts, named

    def computed(box=Box(), scale: "Unknown" = 2.0):
        return box, scale

    def optional(size: int = None, rate: float = 1):
        return size, rate

    def fail():
        raise ValueError("fails")

    value = 3
"""


@pytest.fixture(autouse=True)
def parts(tmp_path, monkeypatch):
    """A package of the user's own."""
    folder = tmp_path / "mylab"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "parts.py").write_text(textwrap.dedent(PARTS))
    (folder / "broken.py").write_text("import nowhere_at_all\n")
    (folder / "leaving.py").write_text("import sys\nsys.exit(3)\n")
    (folder / "unfinished.py").write_text("def tiny(:\n")
    monkeypatch.syspath_prepend(tmp_path)
    forget()
    yield
    forget()


def forget():
    """Leave no package of that name behind, of these tests or of others."""
    signature.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "mylab"]:
        del sys.modules[name]


def node(name, **options):
    return {TARGET: f"mylab.parts.{name}", **options}


# ---- functions by their paths ---------------------------------------------------------------------------------------


def test_a_path_names_a_function_a_class_or_what_is_in_a_class():
    from mylab import parts  # pyright: ignore[reportMissingImports]

    assert locate("mylab.parts.tiny") is parts.tiny
    assert locate("mylab.parts.Box") is parts.Box
    assert locate("mylab.parts.Box.of") == parts.Box.of
    assert locate("lenet_jax.models.lenet.lenet").__name__ == "lenet"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("lenett", "`_target_` must be like package.module.function; got 'lenett'."),
        ("", "`_target_` must be like package.module.function; got ''."),
        ("mylab.", "`_target_` must be like package.module.function; got 'mylab.'."),
        ("mylab.parts.1", "`_target_` must be like package.module.function; got 'mylab.parts.1'."),
        ("mylab/parts.tiny", "`_target_` must be like package.module.function; got 'mylab/parts.tiny'."),
        (3, "`_target_` must be like package.module.function; got 3."),
        (
            "mylab.parts.tinny",
            "`_target_` mylab.parts.tinny: `mylab.parts` has no 'tinny'; "
            "choose one of: tiny, Box, any_name, computed, fail, holder, optional, required.",
        ),
        ("mylab.parts.value", "`_target_` must name a function or a class; got mylab.parts.value, which is none."),
        ("mylab.partz.tiny", "`_target_` mylab.partz.tiny: mylab has no 'partz', nor any other function."),
        (
            "nolab.parts.tiny",
            "`_target_` nolab.parts.tiny: there is no module 'nolab'; install it, or put it into the working directory "
            "or on PYTHONPATH.",
        ),
        (
            "mylab.broken.tiny",
            "`_target_` mylab.broken.tiny: cannot be imported: No module named 'nowhere_at_all'.",
        ),
        (
            "mylab.leaving.tiny",
            "`_target_` mylab.leaving.tiny: importing mylab.leaving: raised SystemExit: 3; "
            "HYDRA_FULL_ERROR=1 in the environment shows where.",
        ),
        (
            "mylab.unfinished.tiny",
            "`_target_` mylab.unfinished.tiny: importing mylab.unfinished: raised SyntaxError: invalid syntax "
            "(unfinished.py, line 1); HYDRA_FULL_ERROR=1 in the environment shows where.",
        ),
    ],
)
def test_a_path_that_names_none_is_refused(target, message):
    with pytest.raises(InputError) as refused:
        locate(target)
    assert str(refused.value) == message


# ---- signatures -----------------------------------------------------------------------------------------------------


def test_the_options_of_a_function_are_its_parameters():
    found = signature("mylab.parts.tiny")
    assert list(found.parameters) == ["input_shape", "num_outputs", "depth", "kind"]
    assert found.parameters["depth"].default == 2
    assert found.parameters["num_outputs"].default is REQUIRED
    assert not found.any_name
    assert signature("mylab.parts.any_name").any_name


def test_a_function_of_c_or_with_unknown_annotations_takes_its_options_unchecked():
    assert complete("a", {TARGET: "builtins.min", "anything": 1}) == {TARGET: "builtins.min", "anything": 1}
    assert complete("a", node("computed", scale="a text"))["scale"] == "a text"


# ---- checked options ------------------------------------------------------------------------------------------------


def test_defaults_are_filled_in_but_those_that_cannot_be_written():
    surroundings = SURROUNDINGS["model"]
    assert complete("model", node("tiny"), surroundings) == node("tiny", depth=2, kind="a")
    assert complete("model", node("tiny", depth=6), surroundings) == node("tiny", depth=6, kind="a")
    assert complete("a", node("computed")) == node("computed", scale=2.0)
    assert complete("a", node("any_name", colour="red")) == node("any_name", size=1, colour="red")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (node("tiny", deph=6), "`model` has no 'deph'; choose one of: depth, kind."),
        (node("tiny", depth=0), "`model.depth` must be an integer, 1 or above; got 0."),
        (node("tiny", depth=6.5), "`model.depth` must be an integer, 1 or above; got 6.5."),
        (node("tiny", kind="c"), "`model.kind` must be one of a, b; got 'c'."),
        (node("tiny", input_shape=[1, 2, 3]), "`model` has no 'input_shape'; choose one of: depth, kind."),
        (node("any_name", num_outputs=3), "`model` has no 'num_outputs'; choose one of: size."),
        (node("any_name", size="a"), "`model.size` must be a finite number; got 'a'."),
        (node("required"), "`model.size` must be given: mylab.parts.required has no default for it."),
        (node("holder", part=node("tiny")), "`model.part.input_shape` must be given: mylab.parts.tiny has no default"),
        (node("holder", part=node("Box", sise=1)), "`model.part` has no 'sise'; choose one of: size."),
        (node("holder", part=1, parts=[1, node("Box.of", size=1)]), "`model.parts[1].size` must be an integer, 2 or "),
        (node("holder", part=1, named={"a": {"b": node("Box", size="a")}}), "`model.named.a.b.size` must be an int"),
    ],
)  # fmt: skip
def test_an_option_that_is_unknown_missing_or_out_of_range_is_one_line(given, message):
    with pytest.raises(InputError) as refused:
        complete("model", given, SURROUNDINGS["model"])
    assert str(refused.value).startswith(message)
    assert len(str(refused.value).splitlines()) == 1


# Of built-in components: option, the words for what it must be, a value that is that and some that are not.
RULES = [
    ("model", "lenet", "num_kernels", "a list of two integers, each 1 or above", [2, 3], ([2], [2, 3, 4], [0, 1], 20)),
    ("model", "lenet", "kernel_size", "an integer, 1 or above, or a list of two integers, each 1 or above", [7, 3],
     (0, 1.5, True, [1], None)),
    ("model", "lenet", "hidden_units", "an integer, 1 or above", 1, (0, "1", None)),
    ("model", "lenet", "activation", "one of tanh, relu, sigmoid, gelu, silu, elu, leaky_relu, softplus, identity",
     "relu", ("softmax", None)),
    ("model", "window_classifier", "num_kernels", "an integer, 1 or above", 1, (0, [1, 2])),
    ("model", "window_classifier", "padding", "one of VALID, SAME", "SAME", ("FULL", "valid", 0)),
    ("model", "lenet5", "connections", "one of table, full, random", "full", ("none", 4)),
    ("model", "lenet5", "rbf_scale", "a finite number above 0", 1.0, (0, -1.0, True, None)),
    ("model", "lenet5", "output", "one of rbf, softmax", "softmax", ("linear",)),
    ("model", "resnet18", "depth", "one of 18, 34, 50, 101, 152", 34, (19, "18")),
    ("model", "alexnet", "dropout", "a number from 0 up to, not including, 1", 0.0, (1, -0.1)),
    ("optimizer", "sgd", "learning_rate", "a finite number above 0", 0.5, (0, -0.1, float("nan"), float("inf"), True)),
    ("optimizer", "sgd", "weight_decay", "a finite number, 0 or above", 0.0, (-1e-9, False, "0", None)),
    ("optimizer", "momentum", "momentum", "null or a number from 0 up to, not including, 1", None, (1, -0.1, False)),
    ("optimizer", "adam", "b1", "a number from 0 up to, not including, 1", 0.5, (1, -0.1)),
    ("optimizer", "adam", "eps", "a finite number above 0", 1e-12, (0, -1e-8)),
    ("optimizer", "rmsprop", "decay", "a number from 0 up to, not including, 1", 0.0, (1, -0.1)),
    ("optimizer", "scaled_conjugate_gradient", "initial_damping", "a finite number above 0", 1e-12, (0, None)),
    ("optimizer", "scaled_conjugate_gradient", "difference_step", "a finite number above 0", 1e-3, (0, None)),
    ("schedule", "cosine", "warmup_epochs", "a finite number, 0 or above", 0.5, (-1, None)),
    ("schedule", "cosine", "final_fraction", "a number from 0 to 1", 1.0, (1.01, -0.1)),
    ("schedule", "step", "epochs", "a list of integers, each 1 or above", [5, 9], ([], [0], 5, [1.5])),
    ("schedule", "step", "factor", "a number from 0 to 1", 0.0, (1.01, True)),
    ("schedule", "exponential", "epoch_factor", "a number from 0 to 1", 1.0, (1.01, None)),
    ("augment", "affine", "degrees", "a finite number, 0 or above", 20.0, (-1, None)),
    ("augment", "affine", "scale", "a number from 0 to 1", 0.2, (1.01, -0.1)),
    ("augment", "affine", "shear", "a number from 0 to 1", 0.2, (1.01, -0.1)),
    ("augment", "affine", "shift", "a finite number, 0 or above", 2.0, (-1, None)),
    ("objective", "classification", "label_smoothing", "a number from 0 up to, not including, 1", 0.1, (1, -0.1)),
    ("data", "embedded", "name", "one of mnist_5k, mnist", "mnist", ("cifar10", "", None)),
    ("data", "tfds", "name", "a text that is not empty", "cifar10", ("", 3, None)),
    ("data", "tfds", "directory", "null or a text that is not empty", None, ("", 3)),
    ("data", "tfds", "manual_dir", "null or a text that is not empty", "a", ("", 3)),
    ("data", "embedded", "num_classes", "null or an integer, 1 or above", None, (0, 1.0, True)),
    ("data", "embedded", "train_size", "null or an integer, 1 or above", 1, (0, 1.0, True)),
    ("data", "idx", "validation_size", "an integer, 1 or above", 1, (0, None)),
    ("data", "embedded", "pixel_divisor", "a finite number above 0", 255.0, (0, None)),
]  # fmt: skip


NUMBERS = ("an integer, 1 or above", "a finite number above 0")


@pytest.mark.parametrize(("group", "name", "option", "rule", "good", "bad"), RULES)
def test_the_options_of_a_built_in_have_ranges(group, name, option, rule, good, bad):
    completed = components.built_in_component(group, name, {option: good})[option]
    assert completed == (tuple(good) if isinstance(good, list) else good)
    for value in bad:
        got = tuple(value) if isinstance(value, list) else value
        with pytest.raises(InputError) as refused:
            components.built_in_component(group, name, {option: value})
        remedy = ""
        if rule in NUMBERS and isinstance(value, list):
            remedy = f"; to sweep over several values: -m {group}.{option}={','.join(map(str, value))}"
        shown = "null" if value is None else repr(got)
        assert str(refused.value) == f"`{group}.{option}` must be {rule}; got {shown}{remedy}."


@pytest.mark.parametrize(
    ("group", "name", "options", "message"),
    [
        (
            "model",
            "lenett",
            {},
            "`model` has no 'lenett'; choose one of: lenet, lenet5, alexnet, googlenet, "
            "mnist_cnn, patch_units, resnet101, resnet152, resnet18, resnet34, resnet50, window_classifier, zfnet.",
        ),
        (
            "model",
            "lenet",
            {"kernelsize": 3},
            "`model` has no 'kernelsize'; "
            "choose one of: kernel_size, num_kernels, activation, bias_range, hidden_units, pool_size, strides.",
        ),
        (
            "optimizer",
            "adam",
            {"momentum": 0.9},
            "`optimizer` has no 'momentum'; choose one of: b1, b2, eps, learning_rate, weight_decay.",
        ),
        ("objective", "regression", {"a": 1}, "`objective` has no 'a'; choose one of: monitor."),
    ],
)
def test_what_a_built_in_does_not_have_is_refused_with_the_nearest_name_first(group, name, options, message):
    with pytest.raises(InputError) as refused:
        components.built_in_component(group, name, options)
    assert str(refused.value) == message


@pytest.mark.parametrize(("group", "name"), [(group, name) for group in GROUPS for name in built_in(group)])
def test_what_is_complete_stays_as_it_is(group, name):
    content = built_in(group)[name]
    for path, each in components.named_parts(group, content).items():
        once = complete(path, each, SURROUNDINGS.get(group, ()))
        assert complete(path, once, SURROUNDINGS.get(group, ())) == once
        assert once.keys() >= each.keys()


def test_a_default_that_does_not_fit_its_annotation_may_be_given_and_recorded():
    assert complete("a", node("optional")) == node("optional", size=None, rate=1.0)
    assert complete("a", node("optional", size=None, rate=1)) == complete("a", node("optional"))
    assert type(complete("a", node("optional"))["rate"]) is float  # so it is a hyperparameter, given or not
    with pytest.raises(InputError, match=r"^`a\.size` must be an integer; got 'a'\.$"):
        complete("a", node("optional", size="a"))


# ---- groups of several components -----------------------------------------------------------------------------------

AFFINE, ELASTIC = built_in("augment")["affine"], built_in("augment")["elastic"]


@pytest.mark.parametrize(
    ("given", "paths"),
    [
        ({}, {}),
        (None, {}),
        ([], {}),
        (AFFINE, {"augment": AFFINE}),
        ({"first": AFFINE, "second": ELASTIC}, {"augment.first": AFFINE, "augment.second": ELASTIC}),
        ({"first": AFFINE, "second": None}, {"augment.first": AFFINE}),
        ([AFFINE, ELASTIC], {"augment[0]": AFFINE, "augment[1]": ELASTIC}),
    ],
)
def test_augmentations_are_one_several_by_name_a_list_or_none(given, paths):
    assert components.named_parts("augment", given) == paths
    completed = complete_config(Config(augment=given))
    assert components.named_parts("augment", completed.augment) == {
        path: complete(path, each) for path, each in paths.items()
    }
    assert complete_config(completed) == completed


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"first": 3}, "`augment.first` must name its function, as augment.first._target_=package.module.function; "),
        ([AFFINE, "elastic"], "`augment[1]` must name its function, as augment[1]._target_=package.module.function; "),
        ("affine", "`augment` must name its function, as augment._target_=package.module.function; got 'affine'."),
        ([{**AFFINE, "degrees": -1}], "`augment[0].degrees` must be a finite number, 0 or above; got -1."),
        ({"a": {**AFFINE, "degres": 1}}, "`augment.a` has no 'degres'; choose one of: degrees, "),
    ],
)
def test_an_augmentation_that_is_none_is_refused(given, message):
    with pytest.raises(InputError) as refused:
        complete_group("augment", given)
    assert str(refused.value).startswith(message)


def test_trackers_get_the_directory_and_may_not_be_given_one():
    csv = built_in("trackers")["csv"]["csv"]
    assert complete_group("trackers", {"csv": csv}) == {"csv": {**csv, "name": "metrics.csv"}}
    with pytest.raises(InputError, match=r"^`trackers\.csv` has no 'directory'; choose one of: name\.$"):
        complete_group("trackers", {"csv": {**csv, "directory": "/elsewhere"}})


# ---- defaults of a composition --------------------------------------------------------------------------------------


def test_defaults_are_filled_in_around_interpolations_and_nothing_is_checked():
    given = node("tiny", depth="${seed}", unknown=1)
    assert with_defaults("model", given) == {**node("tiny"), "depth": "${seed}", "kind": "a", "unknown": 1}
    assert with_defaults("model", {TARGET: "${oc.env:MODEL}"}) == {TARGET: "${oc.env:MODEL}"}
    assert with_defaults("augment", "${model}") == "${model}"
    assert with_defaults("model", built_in("model")["lenet"])["num_kernels"] == [20, 50]
    assert with_defaults("augment", [AFFINE]) == [complete("augment", AFFINE)]
    assert with_defaults("augment", {"a": AFFINE, "b": None}) == {"a": complete("augment", AFFINE), "b": None}


# ---- built ----------------------------------------------------------------------------------------------------------


def test_a_component_is_called_with_its_options_and_with_what_it_names_of_its_surroundings():
    given = complete("model", node("tiny", depth=6), SURROUNDINGS["model"])
    assert build(given, input_shape=(1, 2, 3), num_outputs=10, num_steps=5) == ("tiny", (1, 2, 3), 10, 6, "a")
    assert build(complete("a", node("any_name", colour="red")), num_outputs=10) == (1, {"colour": "red"})


def test_components_among_the_options_are_built_first_wherever_they_are():
    given = node("holder", part=node("Box", size=5), parts=[node("Box"), 2], named={"a": {"b": node("Box.of", size=2)}})
    part, parts, named = build(complete("a", given))
    assert (part.size, parts[0].size, parts[1], named["a"]["b"].size) == (5, 3, 2, 2)


def test_with_partial_it_stands_for_the_function():
    given = complete("a", node("holder", part=node("required", _partial_=True, other=4)))
    assert given["part"] == node("required", _partial_=True, other=4)
    function, *_ = build(given)
    assert isinstance(function, functools.partial)
    assert function(1) == (1, 4)
    assert build(node("required", _partial_=True, other=2), size=7)(size=3) == (3, 2)


def test_an_option_of_a_partial_is_checked_as_any_other():
    with pytest.raises(InputError, match=r"^`a\.part\.depth` must be an integer, 1 or above; got 0\.$"):
        complete("a", node("holder", part=node("tiny", _partial_=True, depth=0)))


def test_what_a_function_raises_is_not_hidden():
    with pytest.raises(ValueError, match="fails"):
        build(node("fail"))


# ---- trust ----------------------------------------------------------------------------------------------------------


def test_every_function_that_a_configuration_names_is_found_with_its_place():
    config = Config(
        model=node("holder", part=[{"a": node("Box")}]), augment=[AFFINE, node("Box")], trackers={"t": node("fail")}
    )
    found = dict(components.targets(config))
    assert {path: found[path] for path in ("model", "model.part[0].a", "augment[1]", "trackers.t")} == {
        "model": "mylab.parts.holder",
        "model.part[0].a": "mylab.parts.Box",
        "augment[1]": "mylab.parts.Box",
        "trackers.t": "mylab.parts.fail",
    }
    assert found["augment[0]"] == AFFINE[TARGET]


BUILT_IN = [
    (group, each[TARGET]) for group in GROUPS for content in built_in(group).values()
    for each in components.named_parts(group, content).values()
]  # fmt: skip


@pytest.mark.parametrize(("group", "target"), sorted(set(BUILT_IN)))
def test_a_built_in_component_is_allowed(group, target):
    components.check_allowed([(group, target)], (), "run")


@pytest.mark.parametrize("target", ["mylab.parts.tiny", "mylab.anything", "os.system", "a.b"])
def test_other_code_is_refused_unless_its_package_is_allowed(target):
    package = target.partition(".")[0]
    with pytest.raises(InputError) as refused:
        components.check_allowed([("model", target)], ["another"], "theirs")
    assert str(refused.value) == (
        f"`model` of theirs names code to run, '{target}'; if you know it, allow its package: --allow {package} on "
        f'this command, LENET_JAX_ALLOW={package}, or allow = ["{package}"] under [tool.lenet_jax] of your '
        "pyproject.toml."
    )
    components.check_allowed([("model", target)], [package], "theirs")
    components.check_allowed([("model", target)], "*", "theirs")
    assert "mylab" not in sys.modules


@pytest.mark.parametrize(
    "target",
    [
        *("lenet_jax.runs.run.run", "lenet_jax.storage.write_atomically", "lenet_jax.cli.main", "lenet_jax.os.system"),
        *("lenet_jax.models.lenet.layers.os.system", "lenet_jax.models._private", "lenet_jax.augment._check_range"),
        *("lenet_jax.components.locate", "lenet_jax.components.build", "lenet_jax.data.cache.clear", "lenet_jax"),
        *("", "os", "a/b.c", "../x.y", ".models.lenet", "lenet_jax.models.lenet.lenet.__globals__", "[1]", "None"),
    ],
)
def test_other_functions_of_this_package_are_no_components(target):
    allowed = ["lenet_jax", "another"]  # it allows others only
    with pytest.raises(InputError, match=r"^`model` of theirs (must name a component; got |names code to run, )"):
        components.check_allowed([("model", target)], allowed, "theirs")
    components.check_allowed([("model", target)], ["*"], "theirs")


def test_only_names_and_values_are_left_of_a_complete_configuration():
    config = complete_config(Config())
    assert all(TARGET in getattr(config, group) for group in GROUPS if getattr(config, group))
    assert complete_config(config) == config
    assert dataclasses.replace(config) == config
