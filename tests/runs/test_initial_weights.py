"""A run begins with the weights of another run, or of a file: those that are chosen and fit, and it says which."""

import json

import jax
import jaxtyping
import numpy as np
import pytest
import safetensors.numpy

import lenet_jax as lj
from lenet_jax.cli import main
from lenet_jax.config import from_dict, to_dict
from lenet_jax.runs.prepared_run import prepare_run
from lenet_jax.runs.provenance import digest_parameters
from lenet_jax.runs.run_directory import BEST
from tests.runs.small import component, interrupted, make_config, run_whole

pytestmark = pytest.mark.usefixtures("without_type_checks")

NAMES = [f"{layer}/{part}" for layer in ("conv1", "conv2", "hidden", "softmax") for part in ("bias", "kernel")]


def configured(directory, *, include=("*",), exclude=(), seed=7, **groups):
    config = make_config(seed, groups=groups, max_epochs=1)
    return from_dict(
        {**to_dict(config), "init": str(directory), "init_include": list(include), "init_exclude": list(exclude)}
    )


def prepare(directory, **options):
    return prepare_run(configured(directory, **options))


def initial_state(prepared):
    tensors = None if prepared.initial is None else prepared.initial.tensors
    return prepared.parts.init(jax.random.key(prepared.config.seed), tensors)


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    path = tmp_path_factory.mktemp("parent")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jaxtyping.config, "jaxtyping_disable", True)
        run_whole(make_config(seed=3, max_epochs=1), path)
    return path


@pytest.fixture
def weights(parent):
    return safetensors.numpy.load_file(parent / BEST)


def test_all_weights_of_a_run_are_taken(parent, weights):
    prepared = prepare(parent)
    params = lj.weights.named_leaves(initial_state(prepared).variables)
    assert params.keys() == weights.keys()
    for name, tensor in weights.items():
        np.testing.assert_array_equal(params[name], tensor)
    description = prepared.describe()["init"]
    assert description["taken"] == NAMES
    assert (description["left"], description["unused"]) == ({}, [])
    assert description["sha256"] == digest_parameters(weights)


def test_the_optimizer_and_the_best_weights_begin_with_them(parent, weights):
    config = configured(parent)
    trainer = {**to_dict(config)["trainer"], "ema_decay": 0.9}
    state = initial_state(prepare_run(from_dict({**to_dict(config), "trainer": trainer})))
    averages = [
        leaf for name, leaf in lj.weights.named_leaves(state.opt_state).items() if name.endswith("conv1/kernel")
    ]
    for found in (state.best.params["conv1"]["kernel"], *averages):
        np.testing.assert_array_equal(found, weights["params/conv1/kernel"])
    assert averages


def test_a_part_is_chosen_by_paths(parent, weights):
    prepared = prepare(parent, include=["conv?/*", "hidden/bias"], exclude=["*2/bias"])
    fresh = initial_state(prepare_run(make_config(7, max_epochs=1)))
    found, seeded = (lj.weights.named_leaves(each.variables) for each in (initial_state(prepared), fresh))
    taken = ["conv1/bias", "conv1/kernel", "conv2/kernel", "hidden/bias"]
    assert prepared.initial.description["taken"] == taken
    assert prepared.initial.description["left"] == dict.fromkeys(
        ["conv2/bias", "hidden/kernel", "softmax/bias", "softmax/kernel"], "not chosen"
    )
    for name in found:
        expected = weights[name] if name.removeprefix("params/") in taken else seeded[name]
        np.testing.assert_array_equal(found[name], expected)


def test_the_head_is_new_where_the_number_of_classes_differs(parent, tmp_path):
    rng = np.random.default_rng(0)
    arrays = {f"x_{part}": rng.integers(0, 256, (60, 28, 28), np.uint8) for part in ("train", "test")}
    arrays |= {f"y_{part}": np.arange(60) % 3 for part in ("train", "test")}
    np.savez(tmp_path / "three.npz", **arrays)
    prepared = prepare(parent, data=component("data", "npz", directory=str(tmp_path / "three.npz")))
    assert prepared.initial.description["taken"] == NAMES[:6]
    assert prepared.initial.description["left"] == dict.fromkeys(NAMES[6:], "of 10 outputs there, of 3 here")


def test_a_file_of_another_origin_may_have_shorter_names(weights, tmp_path):
    path = tmp_path / "w.safetensors"
    content = {name.removeprefix("params/").replace("/", "."): tensor for name, tensor in weights.items()}
    content["conv1.kernel"] = content["conv1.kernel"].astype(np.float16)
    safetensors.numpy.save_file({**content, "decoder.kernel": np.zeros(2, np.float32)}, path)
    prepared = prepare(path)
    assert prepared.initial.description["taken"] == NAMES
    assert prepared.initial.description["unused"] == ["decoder/kernel"]
    assert prepared.initial.tensors["params/conv1/kernel"].dtype == np.float32


def test_what_does_not_fit_is_refused(parent, weights, tmp_path):
    def save(**content):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.safetensors"
        safetensors.numpy.save_file({**weights, **content}, path)
        return path

    (tmp_path / "text.safetensors").write_text("no weights")
    without = tmp_path / "without.safetensors"
    safetensors.numpy.save_file({name: each for name, each in weights.items() if "hidden" not in name}, without)
    wide = save(**{"params/conv1/kernel": np.zeros((5, 5, 1, 2), np.float32)})
    nan = save(**{"params/conv1/bias": np.full(2, np.nan, np.float32)})
    integers = save(**{"params/conv1/bias": np.zeros(2, np.int32)})
    for path, options, message in (
        (tmp_path / "none", {}, r"`init` must be the directory of a run, a safetensors file .*; .*none is none"),
        (tmp_path, {}, r"must be the directory of a run, with a run\.json in it"),
        (tmp_path / "text.safetensors", {}, "`init` must be an intact safetensors file"),
        (without, {}, r"must have the array 'hidden/bias' of the network; .*init_exclude=\[hidden/bias\]"),
        (wide, {}, r"'conv1/kernel' of .* must have shape \(3, 3, 1, 2\), .*; it has \(5, 5, 1, 2\); .*init_exclude="),
        (nan, {}, r"'conv1/bias' of .* must be finite"),
        (integers, {}, r"'conv1/bias' of .* must be of type float32; it is of int32"),
        (parent, {"include": ["conv9/*"]}, r"`init_include` must be patterns of paths .*; got 'conv9/\*'"),
        (parent, {"exclude": ["*"]}, r"an array of .* must be taken; none is: conv1/bias \(not chosen\)"),
    ):
        with pytest.raises(lj.InputError, match=message):
            prepare(path, **options)
    with pytest.raises(lj.InputError, match=r"`init` must name a run or a file where `init_include`"):
        prepare_run(from_dict({**to_dict(make_config()), "init_exclude": ["conv1/*"]}))


def test_damaged_weights_of_a_run_are_refused(parent, weights, tmp_path):
    for name in ("run.json", "result.json", "metrics.jsonl"):
        (tmp_path / name).write_bytes((parent / name).read_bytes())
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(lj.InputError, match=r"`init` must have the weights of its run; .*best\.safetensors is missing"):
        prepare(tmp_path)
    safetensors.numpy.save_file({**weights, "params/conv1/bias": np.ones(2, np.float32)}, tmp_path / BEST)
    with pytest.raises(lj.InputError, match=r"`init`: .*best\.safetensors: is damaged; it must have SHA-256"):
        prepare(tmp_path)


SMALL = [
    *("trainer.max_epochs=1", "data.train_size=200", "model.num_kernels=[2,3]", "model.kernel_size=3"),
    "model.hidden_units=10",
]


@pytest.mark.usefixtures("in_an_empty_folder")
def test_lanes_and_single_runs_begin_alike(parent, capsys):
    """A step of rate 0 keeps them, in a single run, in lanes on several devices, and in sequence."""
    frozen = [*SMALL, f"init={parent}", "optimizer.learning_rate=1e-30"]
    assert main(["train", *frozen, "hydra.run.dir=one"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"init: 8 of 8 arrays from {parent / BEST}: conv1/bias, conv1/kernel,")
    for strategy in ("map", "devices", "vmap"):
        options = [f"hydra.sweep.dir={strategy}", f"sweep.strategy={strategy}", "seed=0,1"]
        assert main(["train", "-m", *frozen, *options]) == 0
    original = safetensors.numpy.load_file(parent / BEST)
    for run in ("one", "map/0", "map/1", "devices/0", "devices/1", "vmap/0", "vmap/1"):
        found = safetensors.numpy.load_file(f"{run}/checkpoints/best.safetensors")
        for name, tensor in original.items():
            np.testing.assert_array_equal(found[name], tensor)
        with open(f"{run}/run.json") as file:
            content = json.load(file)
        assert content["config"]["init"] == str(parent)
        assert content["init"]["taken"] == NAMES


@pytest.mark.usefixtures("in_an_empty_folder")
def test_weights_that_have_changed_are_refused_when_a_run_or_a_sweep_resumes(weights, monkeypatch, capsys):
    safetensors.numpy.save_file(weights, "w.safetensors")
    options = [*SMALL, "init=w.safetensors", "trainer.max_epochs=3"]
    with interrupted(monkeypatch):
        assert main(["train", *options, "hydra.run.dir=run"]) == 75
    assert main(["train", "-m", *options, "seed=0,1", "hydra.sweep.dir=sweep"]) == 0
    changed = {**weights, "params/conv1/bias": weights["params/conv1/bias"] + 1}
    safetensors.numpy.save_file(changed, "w.safetensors")
    capsys.readouterr()
    for directory in ("run", "sweep"):
        assert main(["resume", directory]) == 2
        assert "`init" in (line := capsys.readouterr().err)
        assert "has changed since the" in line
    safetensors.numpy.save_file(weights, "w.safetensors")
    assert main(["resume", "run"]) == 0
    assert main(["resume", "sweep"]) == 0
    assert main(["verify", "run"]) == 0
