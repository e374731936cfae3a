"""Runs on streamed data, compared with those on the same data in memory."""

import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

pytest.importorskip("grain")

import lenet_jax as lj
from lenet_jax.cli import main
from lenet_jax.config import EarlyStoppingConfig
from lenet_jax.data import load_dataset
from lenet_jax.data.streams import Reading, make_stream
from lenet_jax.errors import InputError
from lenet_jax.runs import streamed_programs
from lenet_jax.runs.evaluate import evaluate_run
from lenet_jax.runs.prepared_run import prepare_run
from lenet_jax.runs.programs import choose_lanes
from lenet_jax.runs.run import run
from lenet_jax.runs.run_directory import read_record
from lenet_jax.runs.verify import Verification, verify_run
from lenet_jax.types import Split
from tests.faults.training import without_times
from tests.runs.small import component, make_config, run_whole

SIZE = 333  # training examples: no whole number of batches, nor of chunks


class Arrays:
    """Random access to the examples of a split in memory."""

    def __init__(self, split):
        self.split = split

    def __len__(self):
        return len(self.split.targets)

    def __getitem__(self, index):
        return self.split.inputs[index], self.split.targets[index]


def whole(weighted: bool = False):
    data = load_dataset(train_size=SIZE)
    if not weighted:
        return data
    splits = {
        part: Split(each.inputs, {"targets": each.targets, "weights": (each.targets + 1).astype(np.float32)})
        for part, each in data.splits().items()
    }
    return lj.Dataset(**splits)


class WeightedArrays(Arrays):
    def __len__(self):
        return len(self.split.inputs)

    def __getitem__(self, index):
        targets, weights = self.split.targets["targets"], self.split.targets["weights"]
        return self.split.inputs[index], {"targets": targets[index], "weights": weights[index]}


def streamed(weighted: bool = False, workers: int = 3):
    kind = WeightedArrays if weighted else Arrays
    sources = {part: kind(split) for part, split in whole(weighted).splits().items()}
    return make_stream(sources, num_classes=10, reading=Reading(workers))


@pytest.fixture(autouse=True)
def loaders(monkeypatch):
    """A module of the user's, with both loaders; and chunks of a few minibatches."""
    module = types.ModuleType("streamed_lab")
    module.whole, module.streamed = whole, streamed
    for function in (whole, streamed):
        monkeypatch.setattr(function, "__module__", "streamed_lab")
    monkeypatch.setitem(sys.modules, "streamed_lab", module)
    monkeypatch.setattr(streamed_programs, "_CHUNK_BYTES", 100_000)


def config_of(loader, *, groups=None, data=None, **options):
    return make_config(
        groups={"data": {"_target_": f"streamed_lab.{loader}", **(data or {})}, **(groups or {})}, **options
    )


def outcome(config, path):
    """Return the result of a run, without times, and the lines of its log."""
    result = without_times(run_whole(config, path)[-1].result)
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return result, [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


PATIENT = EarlyStoppingConfig(enabled=True, patience=7)  # validates more than once an epoch


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"batch_size": 32}, id="plain", marks=pytest.mark.slow),
        pytest.param({"batch_size": 32, "shuffle": False, "weights": "last"}, id="in order", marks=pytest.mark.slow),
        pytest.param(
            {"batch_size": 40, "weights": "both", "grad_accumulation_steps": 4, "early_stopping": PATIENT},
            id="accumulated and patient",
        ),
        pytest.param({"batch_size": 32, "groups": {"augment": component("augment", "affine")}}, id="augmented"),
        pytest.param(
            {
                "batch_size": None,
                "groups": {"objective": component("objective", "classification", label_smoothing=0.1)},
            },
            id="whole batches",
            marks=pytest.mark.slow,
        ),
        pytest.param({"batch_size": 32, "data": {"weighted": True}, "running_metrics": True}, id="weighted"),
    ],
)
def test_a_streamed_run_gives_the_bits_of_the_run_in_memory(options, tmp_path):
    (result, lines), (expected, expected_lines) = (
        outcome(config_of(loader, **options), tmp_path / loader) for loader in ("streamed", "whole")
    )
    for name in ("parameters_sha256", "state_sha256"):
        assert result[name] == expected[name]
    assert result["files_sha256"] == expected["files_sha256"]
    for one, other in zip([*lines, result], [*expected_lines, expected], strict=True):
        assert one.keys() == other.keys()
        for key in one:
            if "running" in key or key == "train_loss":  # means of what another program has measured
                assert one[key] == pytest.approx(other[key], rel=1e-6)
            else:
                assert one[key] == other[key], key


@pytest.mark.slow
def test_averaged_weights_are_those_in_memory_within_rounding(tmp_path):
    """XLA may add the products of the average otherwise in another program."""
    found = []
    for loader in ("streamed", "whole"):
        run_whole(config_of(loader, batch_size=32, ema_decay=0.9), tmp_path / loader)
        found.append(load_file(tmp_path / loader / "checkpoints" / "best.safetensors"))
    for name, expected in found[1].items():
        np.testing.assert_allclose(found[0][name], expected, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_the_number_of_workers_changes_nothing(tmp_path):
    found = [outcome(config_of("streamed", data={"workers": n}), tmp_path / str(n)) for n in (1, 5)]
    assert found[0] == found[1]


def test_an_interrupted_run_resumes_to_the_same_bits(tmp_path, monkeypatch):
    config = config_of("streamed", batch_size=32, max_epochs=4)
    expected = outcome(config, tmp_path / "whole")
    advance, done = streamed_programs._StreamedRun.advance, []

    def advance_twice(self, *args):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(advance(self, *args))
        return done[-1]

    with monkeypatch.context() as patch:
        patch.setattr(streamed_programs._StreamedRun, "advance", advance_twice)
        with pytest.raises(KeyboardInterrupt):
            run_whole(config, tmp_path / "run")
    result = without_times(list(run(prepare_run(config), tmp_path / "run", resume=True))[-1].result)
    assert result == expected[0]


def test_a_streamed_run_verifies(tmp_path):
    config = config_of("streamed", batch_size=32)
    run_whole(config, tmp_path)
    record = read_record(tmp_path)._replace(config=config)
    *_, verification = verify_run(record)
    assert isinstance(verification, Verification)
    assert verification.identical
    assert not verification.changed


@pytest.mark.parametrize("part", ["train", pytest.param("test", marks=pytest.mark.slow)])
def test_a_streamed_run_is_evaluated_on_a_part_of_its_data(part, tmp_path):
    config = config_of("streamed", batch_size=32)
    result = run_whole(config, tmp_path)[-1].result
    report = evaluate_run(read_record(tmp_path)._replace(config=config), part=part)
    assert report.summary["accuracy"] == pytest.approx(result[f"{part}_accuracy"], rel=1e-6)
    assert not report.has_changed


def test_labels_out_of_range_are_refused_when_they_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(Arrays, "__getitem__", lambda self, index: (self.split.inputs[index], np.int32(index % 11)))
    with pytest.raises(InputError, match=r"^data: labels of train must be 0 to 9; got 0 to 10\.$"):
        run_whole(config_of("streamed"), tmp_path)


def test_several_lanes_are_refused():
    assert choose_lanes("auto", 8, streamed=True) == ("map", 1)
    with pytest.raises(InputError) as error:
        choose_lanes("vmap", 8, streamed=True)
    assert str(error.value) == (
        "`sweep.strategy` must be auto or map for streamed data, of which each run reads the examples in an order of "
        "its own; got vmap; use data.stream=false for runs in parallel lanes."
    )


SMALL = [
    "model.num_kernels=[2,3]",
    "model.hidden_units=10",
    "data=synthetic",
    "data.stream=true",
    "data.train_size=300",
]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["data.folds=3", "data.fold=0"], "`data.folds`: cross-validation needs the data in memory; got streamed ones"),
        (["debug=overfit"], "debug=overfit needs the data in memory; got streamed ones; use data.stream=false"),
        (["debug=profile"], "debug=profile needs the data in memory"),
        (["-m", "seed=0,1", "sweep.strategy=devices"], "`sweep.strategy` must be auto or map for streamed data"),
        (["-m", "seed=0,1", "hydra/sweeper=halving"], "hydra/sweeper=halving or asha, which compares runs in parallel"),
        (["data.workers=0"], "`data.workers` must be"),
    ],
)
def test_what_streams_cannot_do_is_refused_with_one_line(arguments, line, capsys, in_an_empty_folder):
    assert main(["train", *SMALL, *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"lenet-jax: {line}")
    assert err.count("\n") == 1
    assert list(Path.cwd().iterdir()) == []


def test_a_sweep_of_streamed_runs_is_that_of_single_runs(in_an_empty_folder, capsys):
    arguments = ["train", *SMALL, "data.channels=1", "trainer.max_epochs=1"]
    assert main([*arguments, "-m", "seed=0,1", "hydra.sweep.dir=sweep"]) == 0
    assert main([*arguments, "seed=1", "hydra.run.dir=alone"]) == 0
    results = [json.loads(Path(name, "result.json").read_text()) for name in ("sweep/1", "alone")]
    assert without_times(results[0]) == without_times(results[1])
