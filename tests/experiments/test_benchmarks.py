"""The harness of experiments/benchmarks: what it refuses, stores and prints. No timing is asserted."""

import dataclasses
import functools
import importlib.util
import json
import subprocess
import sys

import jax
import numpy as np
import pytest

from experiments.benchmarks import harness, results, tables
from experiments.benchmarks.__main__ import main
from experiments.benchmarks.cases import CASES, SYSTEMS, Case, Goal, Point, select_cases
from experiments.benchmarks.harness import BenchmarkError, Failure, Measurement
from experiments.benchmarks.problem import LENET, MNIST_CNN, Training, initialize, multiply_adds

TASK = Training(LENET, 10, images=20)
CASE = Case(
    "toy",
    "A toy",
    measure="training",
    unit="ms a step",
    systems=("ours", "torch", "torch_compile", "keras_jax"),
    points=(Point("", TASK),),
    goals=(Goal(0.9), Goal(0.4, ("keras_jax",))),
)


def measurement(value, check=2.0, device="cpu", **also):
    return Measurement(device, check, value, also)


def fake_run(found):
    """Return a run that gives each system its results one after another, and the list of the systems it was asked."""
    left, asked = {system: list(values) for system, values in found.items()}, []

    def run(case, point, system):
        asked.append(system)
        return left[system].pop(0)

    return run, asked


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "FILE", tmp_path / "results.json")
    monkeypatch.setattr(tables, "README", tmp_path / "README.md")
    return tmp_path


# ---- rounds and checks ----------------------------------------------------------------------------------------------


def test_rounds_take_turns_in_rotating_order():
    case = dataclasses.replace(CASE, systems=("ours", "torch", "keras_jax"))
    run, asked = fake_run({system: [measurement(1.0), measurement(2.0)] for system in case.systems})
    (point,) = harness.run_case(case, 2, run, print)
    assert asked == ["ours", "torch", "keras_jax", "torch", "keras_jax", "ours"]
    assert [found.value for found in point.measured["torch"]] == [1.0, 2.0]


def test_a_peer_that_computes_something_else_is_refused_before_its_time_is_reported(capsys):
    case = dataclasses.replace(CASE, systems=("ours", "torch"))
    run, _ = fake_run({"ours": [measurement(1.0)], "torch": [measurement(0.5, check=2.001)]})
    with pytest.raises(BenchmarkError) as error:
        harness.run_case(case, 1, run, print)
    assert str(error.value) == (
        "toy: the systems do not compute the same; torch must agree with ours within 0.0001 (relative): "
        "ours 2, torch 2.001."
    )
    assert capsys.readouterr().out == ""


def test_a_check_that_is_not_finite_is_refused():
    case = dataclasses.replace(CASE, systems=("ours",))
    run, _ = fake_run({"ours": [measurement(1.0, check=float("inf"))]})
    with pytest.raises(BenchmarkError, match="do not compute the same"):
        harness.run_case(case, 1, run, print)


def test_a_failure_of_ours_is_an_error_with_the_end_of_its_stderr():
    run, _ = fake_run({"ours": [Failure("ValueError: no", "line 1\nline 2")]})
    with pytest.raises(BenchmarkError, match=r"toy: lenet_jax failed: ValueError: no\nline 1\nline 2"):
        harness.run_case(CASE, 1, run, print)


def test_a_peer_that_cannot_run_is_kept_with_its_reason_and_not_asked_again(capsys):
    run, asked = fake_run(
        {
            "ours": [measurement(1.0)] * 2,
            "torch": [measurement(1.0)] * 2,
            "torch_compile": [Failure("no C++ compiler", "the end of stderr")],
            "keras_jax": [measurement(1.0, check=0.0, device="a GPU")],
        }
    )
    (point,) = harness.run_case(CASE, 2, run, print)
    assert list(point.measured) == ["ours", "torch"]
    assert point.unavailable == {"torch_compile": "no C++ compiler", "keras_jax": "ran on a GPU, ours on cpu"}
    assert asked.count("torch_compile") == 1
    assert "PyTorch, torch.compile cannot run: no C++ compiler\nthe end of stderr" in capsys.readouterr().out


def test_a_warm_start_runs_every_system_once_before_the_rounds():
    case = dataclasses.replace(CASE, systems=("ours", "torch"), warm_start=True)
    run, _ = fake_run({system: [measurement(9.0), measurement(1.0)] for system in case.systems})
    (point,) = harness.run_case(case, 1, run, print)
    assert [found.value for found in point.measured["ours"]] == [1.0]


# ---- what is stored and shown ---------------------------------------------------------------------------------------


def make_toy_entry():
    run, _ = fake_run(
        {
            "ours": [measurement(value, memory=7.0) for value in (10.0, 12.0, 11.0)],
            "torch": [measurement(value, memory=8.0) for value in (20.0, 10.0, 10.0)],
            "torch_compile": [Failure("no C++ | compiler", "")],
            "keras_jax": [measurement(value, memory=1234.0) for value in (40.0, 30.0, 20.0)],
        }
    )
    return results.make_entry(CASE, harness.run_case(CASE, 3, run, lambda line: None))


def test_an_entry_holds_medians_and_ratios_round_by_round():
    device, entry = make_toy_entry()
    assert device == "cpu"
    assert entry["rounds"] == 3
    assert {"python", "numpy", "jax"} <= set(entry["versions"])
    point = entry["points"][""]
    assert point["best_peer"] == "torch"
    assert point["systems"]["ours"]["median"] == 11.0
    assert point["systems"]["torch"]["rounds"] == [20.0, 10.0, 10.0]
    assert point["systems"]["torch"]["ratio"] == {"median": 1.1, "min": 0.5, "max": 1.2}
    assert point["systems"]["torch_compile"] == {"unavailable": "no C++ | compiler"}
    assert json.loads(json.dumps(entry)) == entry


def test_the_table_of_a_case_with_one_point():
    _, entry = make_toy_entry()
    entry |= {"date": "2030-01-02", "machine": {"processor": "A CPU", "cores": 2}, "versions": {"python": "3.11.7"}}
    expected = """\
#### toy: A toy

| system | ms a step | lowest to highest round | memory | ours / it (lowest to highest) |
| --- | --- | --- | --- | --- |
| lenet_jax | 11.0 | 10.0 to 12.0 | 7.00 |  |
| PyTorch | 10.0 | 10.0 to 20.0 | 8.00 | 1.10 (0.500 to 1.20) |
| PyTorch, torch.compile | cannot run: no C++ / compiler |  |  |  |
| Keras on JAX | 30.0 | 20.0 to 40.0 | 1,234 | 0.400 (0.250 to 0.550) |

- Ours 1.10 of PyTorch; goal: at most 0.900: not met.
- Ours 0.400 of Keras on JAX; goal: at most 0.400: met.
- 2030-01-02, 3 rounds, A CPU, 2 cores, python 3.11.7.
"""
    assert tables.format_case(CASE, entry) == expected


def test_the_table_of_a_case_with_several_points():
    case = dataclasses.replace(
        CASE,
        systems=("ours", "torch"),
        points=(Point("small", TASK, work=1), Point("large", TASK, work=10)),
        goals=(Goal(1.5),),
    )
    disturbed = measurement(1.0)._replace(disturbance=0.254)
    run, _ = fake_run({"ours": [measurement(1.0), measurement(20.0)], "torch": [disturbed, Failure("no", "")]})
    _, entry = results.make_entry(case, harness.run_case(case, 1, run, lambda line: None))
    entry |= {"date": "2030-01-02", "machine": {"processor": "A CPU", "cores": 2}, "versions": {"python": "3.11.7"}}
    entry = json.loads(json.dumps(entry, sort_keys=True))  # as it is stored
    titles = "| lenet_jax, ms a step | PyTorch, ms a step | ours / best peer (lowest to highest) "
    expected = f"""\
#### toy: A toy

|  {titles}| growth of the time / growth of the work |
| --- | --- | --- | --- | --- |
| small | 1.00 | 1.00 | 1.00 (1.00 to 1.00) | 1.00 |
| large | 20.0 | - | - | 2.00 |

- Ours compared with the best peer; goal: at most 1.50: met in 1 of 1 rows.
- PyTorch cannot run: no
- Other programs took up to 25% of the cores meanwhile.
- 2030-01-02, 1 round, A CPU, 2 cores, python 3.11.7.
"""
    assert tables.format_case(case, entry) == expected


def test_storing_a_case_replaces_that_case_on_that_device_only(folder):
    cases = [dataclasses.replace(CASE, name=name) for name in ("one", "two")]
    for device in ("cpu", "a GPU"):
        for case in cases:
            results.store(device, case, {"date": "old"})
    results.store("cpu", cases[0], {"date": "new"})
    assert results.load() == {
        "cpu": {"one": {"date": "new"}, "two": {"date": "old"}},
        "a GPU": {"one": {"date": "old"}, "two": {"date": "old"}},
    }


def run_scan_case(arguments, monkeypatch):
    def run(case, point, system, **options):
        return measurement(1.0)

    monkeypatch.setattr(harness, "run_process", run)
    return main([*arguments, "lenet_scan"])


def test_a_run_is_stored_and_written_between_the_comments_of_the_readme(folder, monkeypatch, capsys):
    (folder / "README.md").write_text(f"before\n{tables.BEGIN}\nold\n{tables.END}\nafter\n")
    assert run_scan_case(["--rounds", "2"], monkeypatch) == 0
    assert results.load()["cpu"]["lenet_scan"]["rounds"] == 2
    readme = (folder / "README.md").read_text()
    assert readme.startswith(f"before\n{tables.BEGIN}\n\n### On a CPU\n\n#### lenet_scan")
    assert readme.endswith(f"\n{tables.END}\nafter\n")
    assert "old" not in readme
    (folder / "README.md").unlink()
    assert main(["--tables"]) == 0
    assert "#### lenet_scan" in (folder / "README.md").read_text()


def test_a_quick_run_stores_nothing(folder, monkeypatch, capsys):
    assert run_scan_case(["--quick"], monkeypatch) == 0
    assert "lenet_jax" in capsys.readouterr().out
    assert list(folder.iterdir()) == []


# ---- command line and table of cases --------------------------------------------------------------------------------


def test_list_shows_every_case(capsys):
    assert main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == list(CASES)


def test_a_beginning_names_several_cases():
    layers = [f"growth_layer_{name}" for name in ("batch", "channels", "image")]
    expected = ["growth_batch", "growth_images", "growth_maps", *layers]
    assert [case.name for case in select_cases(["growth"])] == expected


def test_an_unknown_case_is_refused_with_the_valid_names(capsys):
    with pytest.raises(SystemExit):
        main(["lenet_b5"])
    assert "no case is named 'lenet_b5'; choose from: lenet_b500, lenet_b32" in capsys.readouterr().err


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_case_is_led_by_ours_and_its_names_exist(case):
    assert case.systems[0] in ("ours", "ours_trainer", "ours_stream")
    assert set(case.systems) <= set(SYSTEMS)
    assert all(set(goal.peers) <= set(case.peers) for goal in case.goals)


def test_multiply_adds_of_the_networks():
    # 24x24 positions, 5x5x1x20; 8x8, 5x5x20x50; 800x500; 500x10
    assert multiply_adds(LENET) == 576 * 500 + 64 * 25_000 + 400_000 + 5_000
    # 28x28 positions, 3x3x1x32; 14x14, 3x3x32x16; 7x7x16 to 10
    assert multiply_adds(MNIST_CNN) == 784 * 288 + 196 * 4_608 + 7_840


def test_the_scripts_of_sweeps_begin_as_ours_does():
    from lenet_jax import create_model

    ours = create_model("lenet").init(jax.random.key(0)).params
    theirs = initialize(LENET, 0)
    for name, layer in ours.items():
        kernel = np.asarray(layer["kernel"])
        assert theirs[name]["kernel"].shape == kernel.shape
        np.testing.assert_allclose(np.abs(theirs[name]["kernel"]).max(), np.abs(kernel).max(), rtol=0.03)


# ---- processes ------------------------------------------------------------------------------------------------------


def test_ours_imports_no_other_framework_and_no_command_line():
    code = """
import sys
from experiments.benchmarks import cases, worker

case = cases.CASES["lenet_b500"]
found = worker.measure(worker.Job(case, case.points[0].task.tiny(), "ours", started=0.0))
assert found["value"] > 0
unwanted = {"torch", "tensorflow", "keras", "flax", "hydra", "omegaconf", "tensorflow_datasets"}
print(sorted(unwanted & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=harness.ROOT, capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.slow
def test_ours_plain_jax_and_torch_compute_the_same_training(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    peers = ["plain_jax", *(["torch_channels_last"] if importlib.util.find_spec("torch") else [])]
    case = dataclasses.replace(CASES["lenet_b500"], systems=("ours", *peers))
    run = functools.partial(harness.run_process, scratch=tmp_path, quick=True)
    (point,) = harness.run_case(case, 1, run, print)
    assert list(point.measured) == ["ours", *peers]
    losses = [found.check for (found,) in point.measured.values()]
    assert losses == pytest.approx([losses[0]] * len(losses), rel=1e-5)


def test_a_process_that_fails_says_why(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "no_such_platform")
    found = harness.run_process(CASES["compile"], 0, "ours", scratch=tmp_path, quick=True)
    assert isinstance(found, Failure)
    assert "no_such_platform" in found.reason
    assert "Traceback" not in found.reason
    assert found.reason.split(":")[0] in found.stderr


def test_a_process_that_takes_too_long_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(harness, "TIME_LIMIT", 0.1)
    found = harness.run_process(CASES["compile"], 0, "ours", scratch=tmp_path, quick=True)
    assert found == Failure("took longer than 0.1 s", "")
