"""A configuration is checked and prepared before a file is written, and once for all that runs it."""

import json
import sys
import textwrap
from importlib import metadata
from pathlib import Path

import jax
import numpy as np
import pytest

from lenet_jax.cli import main
from lenet_jax.components import complete_config, signature
from lenet_jax.config import from_dict
from lenet_jax.config.catalogue import TARGET
from lenet_jax.errors import InputError
from lenet_jax.runs import prepared_run
from lenet_jax.runs.prepared_run import (
    KEY_SHAPE,
    prepare_run,
    prepare_runs,
    prepare_shared,
    program_signature,
)
from lenet_jax.runs.run import run
from lenet_jax.weights import unwrap_keys, wrap_keys
from tests.linear import put_in_place_of_lenet
from tests.runs.small import component, make_config
from tests.runs.test_run import interrupt

pytestmark = pytest.mark.usefixtures("without_type_checks")


def sgd(**options):
    return component("optimizer", "sgd", **options)


def test_runs_share_a_program_if_only_traced_values_differ():
    base = program_signature(make_config(0, sgd(learning_rate=0.1)))
    assert program_signature(make_config(7, sgd(learning_rate=0.3, weight_decay=0.1))) == base
    assert program_signature(make_config(0, component("optimizer", "momentum", learning_rate=0.1))) != base
    assert program_signature(make_config(0, sgd(learning_rate=0.1), batch_size=20)) != base


def test_runs_of_one_program_are_prepared_once_from_any_of_them(monkeypatch):
    put_in_place_of_lenet(monkeypatch)
    configs = [make_config(seed, sgd(learning_rate=rate)) for seed in (0, 1) for rate in (0.1, 0.2)]
    configs.append(make_config(0, component("optimizer", "momentum")))
    prepared = prepare_runs(configs)
    assert list(prepared) == [program_signature(configs[0]), program_signature(configs[-1])]
    shapes = jax.eval_shape(prepared[program_signature(configs[3])].parts.init, KEY_SHAPE)
    assert jax.tree.structure(shapes) == jax.tree.structure(prepared[program_signature(configs[0])].state)


def test_a_process_keeps_one_prepared_run(monkeypatch):
    put_in_place_of_lenet(monkeypatch)
    monkeypatch.setattr(prepared_run, "_shared", {})
    first = prepare_shared(make_config(0))
    assert prepare_shared(make_config(1, sgd(learning_rate=0.3))) is first
    assert prepare_shared(make_config(0, batch_size=20)) is not first
    assert len(prepared_run._shared) == 1


def test_keys_become_integers_and_keys_again():
    state = {"key": jax.random.key(3), "lanes": jax.random.split(jax.random.key(4), 2), "x": np.float32([1, 2])}
    plain = jax.device_get(unwrap_keys(state))
    assert {name: leaf.dtype for name, leaf in plain.items()} == {
        "key": np.uint32, "lanes": np.uint32, "x": np.float32,
    }  # fmt: skip
    again = wrap_keys(plain, state)
    assert jax.random.uniform(again["key"]) == jax.random.uniform(state["key"])
    assert again["lanes"].shape == (2,)


WRONG = [
    (
        {"trainer": {"batch_size": 201}},
        "`trainer.batch_size` must be at most the size of the training set, 200; got 201.",
    ),
    (
        {"data": component("data", "embedded", train_size=4001)},
        "`data.train_size` must be at most the number of training examples, 4000; got 4001.",
    ),
    (
        {"optimizer": component("optimizer", "scaled_conjugate_gradient")},
        "`trainer.batch_size` must be null, the whole training set, for scaled_conjugate_gradient; got 50.",
    ),
    (
        {
            "optimizer": component("optimizer", "scaled_conjugate_gradient"),
            "schedule": component("schedule", "cosine"),
            "trainer": {"batch_size": None},
        },
        "`schedule` must be constant for scaled_conjugate_gradient, which has no learning rate; got cosine.",
    ),
    (
        {"data": {"_target_": "tests.runs.test_prepared_run.no_dataset"}},
        "`data` must return a Dataset; tests.runs.test_prepared_run.no_dataset returns a list.",
    ),
]


def no_dataset():
    return []


@pytest.mark.parametrize(("parts", "message"), WRONG)
def test_what_does_not_fit_is_found_before_a_file_is_written(parts, message, tmp_path):
    groups = {name: part for name, part in parts.items() if name != "trainer"}
    config = make_config(groups=groups, **parts.get("trainer", {}))
    with pytest.raises(InputError) as refused:
        list(run(prepare_run(config), tmp_path / "run"))
    assert str(refused.value) == message
    assert list(tmp_path.iterdir()) == []


def test_what_is_recorded_has_the_true_dtype_and_the_versions_of_all_that_computes():
    described = prepare_run(make_config(compute_dtype="bfloat16")).describe()
    assert described["precision"]["compute"] == "bfloat16"
    for package in ("jax", "jaxlib", "flax", "optax", "optuna", "safetensors", "numpy"):
        assert described["versions"][package] == metadata.version(package)
    recorded = json.loads(json.dumps(described["config"]))
    assert complete_config(from_dict(recorded)) == make_config(compute_dtype="bfloat16")


# ---- prepared once --------------------------------------------------------------------------------------------------


@pytest.fixture
def prepared_signatures(monkeypatch):
    """The program signatures of all configurations that are prepared, as often as they are."""
    found = []

    def prepare_and_count(config):
        found.append(program_signature(config))
        return prepare_run(config)

    for module in [each for name, each in sys.modules.items() if name.startswith("lenet_jax.")]:
        if getattr(module, "prepare_run", None) is prepare_run:
            monkeypatch.setattr(module, "prepare_run", prepare_and_count)
    return found


SHORT = ["data.train_size=100", "trainer.max_epochs=1"]


@pytest.fixture
def every_command_is_imported():
    """What the commands import when they run, so that no import of `prepare_run` is missed."""
    from lenet_jax.cli import inspect, run  # noqa: F401
    from lenet_jax.hydra_app import launcher, sweep, sweep_jobs  # noqa: F401
    from lenet_jax.runs import run as single  # noqa: F401
    from lenet_jax.runs import verify  # noqa: F401
    from lenet_jax.sweeps import groups  # noqa: F401


@pytest.mark.usefixtures("in_an_empty_folder")
def test_each_program_is_prepared_once(monkeypatch, every_command_is_imported, prepared_signatures):
    put_in_place_of_lenet(monkeypatch)

    def count(*arguments):
        prepared_signatures.clear()
        assert main(list(arguments)) == 0
        return [prepared_signatures.count(each) for each in dict.fromkeys(prepared_signatures)]

    assert count("train", *SHORT, "hydra.run.dir=run") == [1]
    assert count("verify", "run") == [1]
    assert count("resume", "run") == []  # it has finished
    interrupt(make_config(), Path("interrupted"), 1)
    assert count("resume", "interrupted") == [1]
    grid = ["seed=0,1", "optimizer.learning_rate=0.1,0.2", "trainer.batch_size=20,50", "hydra.sweep.dir=sweep"]
    assert count("train", "-m", *SHORT, *grid) == [1, 1]
    assert count("resume", "sweep") == [1, 1]  # the data are compared


# ---- components of the user's that do not fit -----------------------------------------------------------------------

OWN = """
    import jax.numpy as jnp
    import numpy as np
    from lenet_jax import layers
    from lenet_jax.losses import cross_entropy
    from lenet_jax.ops.initializers import fan_in_uniform
    from lenet_jax.types import Dataset, Objective, Split

    def linear(*, input_shape, num_outputs, more=0):
        stages = {"flatten": layers.flatten(), "out": layers.dense(num_outputs + more, fan_in_uniform())}
        return layers.make_model(layers.serial(stages), input_shape)

    def failing_model(*, input_shape, num_outputs):
        raise ValueError("too deep.")

    def failing_apply(*, input_shape, num_outputs):
        def apply(*arguments, **options):
            raise ValueError("first line\\nsecond line")
        return linear(input_shape=input_shape, num_outputs=num_outputs)._replace(apply=apply)

    def data(*, targets=20, low=0, high=9, test=20):
        images = np.zeros((20, 4, 4, 1), np.uint8)
        labels = np.linspace(low, high, targets).round().astype(np.int32)
        good = Split(images, np.zeros(20, np.int32))
        return Dataset(Split(images, labels), good, Split(images[:test], good.targets[:test]), num_classes=10)

    def floats():
        split = Split(np.zeros((20, 4, 4, 1), np.float32), np.zeros(20, np.float32))
        return Dataset(split, split, split)

    def lists():
        split = Split([[0.0]], [0])
        return Dataset(split, split, split)

    def mean_loss():
        return Objective(lambda outputs, targets: cross_entropy(outputs, targets).mean(), {}, "loss", "min")

    def wide_metric():
        return Objective(cross_entropy, {"wide": lambda outputs, targets: outputs}, "wide")

    def other_metric():
        return Objective(cross_entropy, {"right": lambda outputs, targets: targets == 0})

    def other_mode():
        return Objective(cross_entropy, {}, "loss", "minimize")

    def hidden_metric():
        return Objective(cross_entropy, {"loss": cross_entropy}, "loss", "min")

    def branching(learning_rate: float = 0.1):
        return None if learning_rate > 1 else None
"""
TRACE = "HYDRA_FULL_ERROR=1 in the environment shows where."


@pytest.fixture
def own_code(tmp_path, monkeypatch):
    (tmp_path / "own_parts.py").write_text(textwrap.dedent(OWN))
    monkeypatch.syspath_prepend(tmp_path)
    signature.cache_clear()
    yield
    signature.cache_clear()
    sys.modules.pop("own_parts", None)


@pytest.mark.usefixtures("own_code")
@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"model": ("failing_model", {})}, f"own_parts.failing_model: raised ValueError: too deep; {TRACE}"),
        (
            {"model": ("failing_apply", {})},
            f"`model`, `augment`, `objective` and `data` together: raised ValueError: first line; {TRACE}",
        ),
        (
            {"model": ("linear", {"more": 3})},
            "`model` must return 10 logits an example, `num_outputs`; got outputs of shape (N, 13).",
        ),
        (
            {"data": ("data", {"targets": 19})},
            "data: train must have one target an input, and at least one example; got 20 and 19.",
        ),
        (
            {"data": ("data", {"test": 0})},
            "data: test must have one target an input, and at least one example; got 0 and 0.",
        ),
        ({"data": ("data", {"low": -1})}, "data: labels of train must be 0 to 9; got -1 to 9."),
        ({"data": ("data", {"high": 10})}, "data: labels of train must be 0 to 9; got 0 to 10."),
        (
            {"data": ("floats", {})},
            "data: `targets` of train must be integers (N,) for an objective of classes; got float32(20,); for others "
            "choose it: objective=regression, lj.objectives.regression().",
        ),
        ({"data": ("lists", {})}, "data: `inputs` of train must be arrays (N, ...); got a float."),
        ({"data": ("branching", {})}, "`data` must return a Dataset; own_parts.branching returns a NoneType."),
        (
            {"objective": ("mean_loss", {})},
            "objective: `loss` must return one value an example, of shape (2,) here; got shape (); the means over the "
            "examples are taken by lenet_jax.",
        ),
        (
            {"objective": ("wide_metric", {})},
            "objective: `wide` must return one value an example, of shape (2,) here; got shape (2, 10); the means over "
            "the examples are taken by lenet_jax.",
        ),
        ({"objective": ("other_metric", {})}, "`objective: monitor` has no 'accuracy'; choose one of: loss, right."),
        ({"objective": ("other_mode", {})}, "objective: `mode` must be 'min' or 'max'; got 'minimize'."),
        (
            {"objective": ("hidden_metric", {})},
            "objective: `metrics` must have no 'loss', which is reported besides; give it another name.",
        ),
        (
            {"optimizer": ("branching", {})},
            "`optimizer` must return an Optax gradient transformation; own_parts.branching returns a NoneType.",
        ),
        (
            {"schedule": ("branching", {})},
            "`schedule` must return a function of the step, or an Optax transformation; own_parts.branching returns a "
            "NoneType.",
        ),
    ],
)
def test_components_that_do_not_fit_are_refused_in_one_line(groups, message):
    given = {name: {TARGET: f"own_parts.{function}", **options} for name, (function, options) in groups.items()}
    given = {"data": {TARGET: "own_parts.data"}, "model": {TARGET: "own_parts.linear"}, **given}
    optimizer = given.pop("optimizer", None)
    with pytest.raises(InputError) as refused:
        prepare_run(make_config(0, optimizer, batch_size=5, groups=given))
    assert str(refused.value) == message


def test_weights_for_other_classes_are_refused_before_the_run():
    objective = {TARGET: "lenet_jax.objectives.classification", "class_weights": [1.0, 2.0]}
    with pytest.raises(InputError, match="a weight for each of the 10 classes; got 2"):
        prepare_run(make_config(0, groups={"objective": objective}))


@pytest.mark.usefixtures("own_code")
def test_regression_needs_outputs_and_targets_of_the_same_shape():
    groups = {"objective": {TARGET: "lenet_jax.objectives.regression"}, "model": {TARGET: "own_parts.linear"}}
    with pytest.raises(
        InputError, match=r"regression: outputs and targets must have the same shape; got \(2, 10\) and"
    ):
        prepare_run(make_config(0, groups=groups))
