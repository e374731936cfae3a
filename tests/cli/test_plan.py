"""`lenet-jax plan`: what a run or a sweep would cost, against numbers by hand; nothing is written."""

import json

import jax
import pytest

from lenet_jax.cli import main
from lenet_jax.report.plan import count, duration
from lenet_jax.runs import cost
from lenet_jax.runs.prepared_run import prepare_run
from lenet_jax.runs.programs import compile_executables, make_layout
from tests.linear import put_in_place_of_lenet
from tests.runs.small import make_config

pytestmark = pytest.mark.usefixtures("in_an_empty_folder", "without_type_checks")

SMALL = ["data.train_size=100", "trainer.batch_size=20", "trainer.max_epochs=3"]  # 5 steps an epoch


@pytest.fixture(autouse=True)
def small_model(monkeypatch):
    put_in_place_of_lenet(monkeypatch)


@pytest.fixture
def half_a_second(monkeypatch):
    """Every step takes half a second, and none is waited for."""
    monkeypatch.setattr(cost, "_seconds", lambda step, states, *args: 0.5)


def plan(capsys, *arguments):
    assert main(["plan", *SMALL, *arguments]) == 0
    return capsys.readouterr().out


def test_a_run_is_measured_and_nothing_is_written(capsys, tmp_path):
    found = json.loads(plan(capsys, "--json", "hydra.run.dir=r"))
    (program,) = found["programs"]
    assert program["parameters"] == 784 * 10 + 10
    assert program["steps_a_run"] == 15
    assert program["seconds_a_step"] > 0
    assert found["seconds_by_devices"] == {"1": pytest.approx(15 * program["seconds_a_step"])}
    # Products of 20 examples: forward, and the kernel's gradient; the input needs none.
    products = 2 * 2 * 20 * 784 * 10
    assert products < program["flops_a_step"] < 2 * products
    assert program["flops_a_run"] == 15 * program["flops_a_step"]
    assert found["directory"] == "r"
    assert list(tmp_path.iterdir()) == []


def test_the_jobs_of_a_sweep_are_divided_among_devices(capsys, tmp_path, half_a_second):
    grid = ["seed=range(6)", "trainer.shuffle=true,false", "sweep.strategy=vmap"]
    found = json.loads(plan(capsys, "--json", "--devices=5", "-m", *grid, "hydra.sweep.dir=s"))
    assert [(each["jobs"], each["lanes"]) for each in found["programs"]] == [
        ([0, 2, 4, 6, 8, 10], 6),
        ([1, 3, 5, 7, 9, 11], 6),
    ]
    assert len({each["signature"] for each in found["programs"]}) == 2
    assert found["separating_keys"] == ["trainer.shuffle"]
    # Of six runs a device has 6, 3, 2 and 2; a step of one takes a sixth of the half second; two programs.
    expected = {"1": 6, "2": 3, "4": 2, "5": 2}
    assert found["seconds_by_devices"] == pytest.approx({n: runs * 15 * 0.5 / 6 * 2 for n, runs in expected.items()})
    assert list(tmp_path.iterdir()) == []


def test_the_memory_is_that_of_the_compiled_program(capsys, half_a_second):
    found = json.loads(plan(capsys, "--json", "-m", "seed=range(3)", "sweep.strategy=vmap"))
    memory = found["programs"][0]["memory"]
    variables = 4 * (784 * 10 + 10)  # bytes
    images = (100 + 500) * (784 + 4)  # of training and validation
    assert 3 * 2 * variables + images <= memory["arguments"] <= 3 * 2 * variables + images + 1000
    assert memory["outputs"] < 1000  # the state takes the place of the one before
    assert memory["temporary"] > 0


def test_lanes_that_do_not_fit_are_not_planned(capsys, monkeypatch, half_a_second):
    needed = compile_executables(prepare_run(make_config()), make_layout("vmap", 8)).needed
    limit = (2 * needed.shared + 2.5 * needed.lanes / 8) / 0.9
    monkeypatch.setattr("lenet_jax.runs.lane_memory.memory_limit", lambda device: limit)
    arguments = ["data.train_size=200", "trainer.batch_size=50", "-m", "seed=range(8)", "sweep.strategy=vmap"]
    (program,) = json.loads(plan(capsys, "--json", *arguments))["programs"]
    assert program["lanes"] < 8


def test_tables_say_the_same_and_what_is_assumed(capsys, half_a_second):
    lines = plan(capsys, "-m", "seed=range(4)", "sweep.strategy=vmap", "hydra.sweep.dir=s").splitlines()
    assert lines[0].split() == ["job", "group", "overrides"]
    header = next(number for number, line in enumerate(lines) if line.startswith("program"))
    row = lines[header + 1].split()
    assert (row[0], row[2:7]) == ("0", ["4", "vmap", "4", "1", "7,850"])
    assert row[-2:] == ["15", "500"]  # steps, milliseconds
    assert lines[header + 3].split() == ["devices", "1", "2", "4"]
    assert lines[header + 4].split() == ["time", "7.5", "s", "3.75", "s", "1.88", "s"]
    assert "4 jobs; 1 program is compiled" in lines
    assert "On N devices like these each has the same number of runs" in lines[-3]
    assert "directory: s" in lines


def test_a_launcher_of_processes_decides_itself_where_jobs_run(capsys, half_a_second):
    found = json.loads(plan(capsys, "--json", "-m", "seed=range(3)", "hydra/launcher=basic"))
    assert found["launcher"] == "BasicLauncher"
    assert [(each["strategy"], each["lanes"]) for each in found["programs"]] == [("map", 1)]
    assert found["seconds_by_devices"] == {"1": 3 * 15 * 0.5}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["seed=a"], "`seed`"),
        (["-m", "seed=0,0"], ""),
        (["--devices=0"], "plan: `--devices` must be an integer, 1 or above; got '0'."),
        (["--devices=two"], "plan: `--devices` must be an integer, 1 or above; got 'two'."),
        (["--json=x"], "plan: "),
        (["--dry-run"], "plan: unrecognized arguments: --dry-run"),
        (["--cfg", "job"], "plan: has no `--cfg`; use lenet-jax train --cfg."),
        (["debug=overfit"], "`debug` must be none or fast here: overfit needs a command of its own, lenet-jax train."),
        (["model=lenett"], ""),
    ],
)
def test_bad_input_is_one_line(arguments, message, capsys, tmp_path):
    assert main(["plan", *SMALL, *arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error
    assert list(tmp_path.iterdir()) == []


def test_help_says_how_it_is_called(capsys):
    assert main(["plan", "--help"]) == 0
    assert capsys.readouterr().out.startswith("usage: lenet-jax plan [-m] [KEY=VALUE ...] [--json] [--devices=N]")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.01234, "0.0123 s"), (59.4, "59.4 s"), (61, "1 min"), (3599, "1 h 00 min"), (93_600, "1 d 02 h")],
)
def test_times_have_two_units_at_most(seconds, text):
    assert duration(seconds) == text


def test_large_numbers_have_three_digits_and_a_prefix():
    assert [count(number) for number in (0, 999, 999.6, 5.15e6, 2e13, None)] == [
        *("0", "999", "1 k", "5.15 M", "20 T", "unknown")
    ]


def test_a_device_that_runs_out_of_memory_is_given_half_as_many_lanes(monkeypatch):
    tried = []

    def measure(prepared, layout):
        tried.append(layout.num_lanes)
        if layout.num_lanes > 2:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 99 bytes.")
        return None, 0.5

    monkeypatch.setattr(cost, "_measure", measure)
    found = cost.measure_cost(prepare_run(make_config()), "vmap", 8)
    assert tried == [8, 4, 2]
    assert (found.num_lanes, found.memory) == (2, None)
