import io
import logging
import re
import time
from pathlib import Path

import pytest
from rich.console import Console

from lenet_jax.components import complete_config
from lenet_jax.config import Config
from lenet_jax.report.columns import resident_memory, sparkline
from lenet_jax.report.terminal import (
    SweepDisplay,
    describe_evaluation,
    describe_job,
    describe_result,
    describe_start,
    show,
)
from lenet_jax.runs import Evaluated, Failed, Finished, Started

STARTED = Started(complete_config(Config()), num_train=4000, num_parameters=431080, num_evaluations=2, device="cpu")
RECORD = {
    "epoch": 1,
    "iteration": 80,
    "train_loss": 0.95617,
    "validation_loss": 0.4326,
    "validation_accuracy": 0.876,
    "seconds": 5.81,
}
EVALUATED = Evaluated(RECORD)
RESULT = {
    "validation_accuracy": 0.964,
    "test_accuracy": 0.976,
    "test_examples": 500,
    "epochs": 20,
    "iterations": 1600,
    "best_iteration": 1520,
    "stopped_by": "max_epochs",
    "seconds": 38.14,
    "compile_seconds": 8.29,
    "images_per_second": 2694.6,
}
START = "lenet, 431,080 parameters; 4,000 examples of mnist_5k; sgd, learning rate 0.1, batch 50; cpu"
EVALUATION = "epoch    1  train loss 0.9562  validation loss 0.4326  accuracy  87.60%     5.8 s"
TABLE = """
validation accuracy  96.40%
test accuracy        97.60% of 500 images
epochs               20 (1,600 iterations, best 1,520)
stopped by           max_epochs
seconds              38.1 (compilation 8.3)
images a second      2,695
run directory        outputs/a
"""


@pytest.fixture
def finished():
    return Finished(RESULT, Path.cwd() / "outputs" / "a")


def test_a_start_an_evaluation_and_a_result_read_well(finished):
    assert describe_start(STARTED) == START
    assert describe_evaluation(EVALUATED) == EVALUATION
    assert describe_result(finished) == TABLE.rstrip("\n").split("\n")


REGRESSION = {"validation_mean_squared_error": 0.01234, "validation_mean_absolute_error": 0.1}


def test_other_metrics_than_accuracy_are_shown_by_their_names(tmp_path):
    record = {key: value for key, value in RECORD.items() if key != "validation_accuracy"} | REGRESSION
    assert describe_evaluation(Evaluated(record)) == (
        "epoch    1  train loss 0.9562  validation loss 0.4326  mean squared error 0.01234  mean absolute error 0.1  "
        "   5.8 s"
    )
    result = {key: value for key, value in RESULT.items() if not key.endswith("accuracy")}
    result |= REGRESSION | {"test_mean_squared_error": 0.02, "test_mean_absolute_error": 0.2}
    result |= {"monitor": "mean_squared_error", "mode": "min"}
    lines = describe_result(Finished(result, tmp_path))
    assert lines[1] == "validation mean squared error   0.01234"
    assert lines[4] == "test mean absolute error        0.2 of 500 examples"
    assert lines[8] == "examples a second               2,695"
    line = describe_job(3, ["seed=1"], Finished(result, tmp_path))
    assert line == "job   3  validation 0.01234  test 0.02    20 epochs, max_epochs    38.1 s  seed=1"


def test_the_line_of_a_pruned_job_has_the_validation_where_it_stood(tmp_path):
    result = {"validation_accuracy": 0.9, "test_accuracy": 0.8, "last_validation_accuracy": 0.5, "epochs": 2}
    result |= {"stopped_by": "pruned", "seconds": 1.0}
    line = describe_job(3, ["seed=1"], Finished(result, tmp_path))
    assert line == "job   3  validation  50.00%     2 epochs, pruned     1.0 s  seed=1"


def test_losses_that_are_not_finite_are_shown():
    diverged = Evaluated({**RECORD, "train_loss": float("nan"), "validation_loss": float("inf")})
    assert "train loss nan  validation loss inf" in describe_evaluation(diverged)


def test_a_directory_elsewhere_is_shown_in_full(tmp_path):
    assert describe_result(Finished(RESULT, tmp_path))[-1].split() == ["run", "directory", str(tmp_path)]


def test_without_a_terminal_there_are_plain_lines_and_a_table(finished):
    file = io.StringIO()
    assert show([STARTED, EVALUATED, EVALUATED, finished], Console(file=file, width=40)) is finished
    assert file.getvalue() == f"{START}\n{EVALUATION}\n{EVALUATION}\n{TABLE}"


def test_on_a_terminal_there_is_a_progress_bar_besides(finished):
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=120, highlight=False, legacy_windows=False)
    show([STARTED, EVALUATED, EVALUATED, finished], console)
    assert "\x1b[" in file.getvalue()
    assert "2/2" in file.getvalue()
    assert file.getvalue().endswith(TABLE)


def test_the_lines_go_to_the_log_as_well(finished, caplog):
    with caplog.at_level(logging.INFO):
        show([STARTED, EVALUATED, finished], Console(file=io.StringIO()))
    assert caplog.messages == [START, EVALUATION, *TABLE.strip("\n").split("\n")]


def test_a_run_that_fails_has_no_result():
    file = io.StringIO()
    failed = Failed(OSError(28, "No space left on device", "a/run.json"))
    assert show([STARTED, EVALUATED, failed], Console(file=file)) is None
    assert file.getvalue().splitlines()[-1] == "failed: a/run.json: No space left on device"


def printed_on_a_terminal(events, width):
    file = io.StringIO()
    show(events, Console(file=file, force_terminal=True, width=width, highlight=False, legacy_windows=False))
    return re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", file.getvalue())


@pytest.mark.parametrize("width", [120, 40])
def test_compiling_is_shown_until_the_first_epoch(finished, width):
    def events():
        for event in (STARTED, EVALUATED, EVALUATED, finished):
            yield event
            time.sleep(0.15)  # the bar is drawn ten times a second

    lines = re.split(r"[\r\n]+", printed_on_a_terminal(events(), width))
    bars = [line for line in lines if re.match(r"(compiling|evaluation) +\d+/2 ", line)]
    assert [bar.split()[:2] for bar in dict.fromkeys(bar[:15] for bar in bars)] == [
        *(["compiling", "0/2"], ["evaluation", "1/2"], ["evaluation", "2/2"])
    ]
    assert all(len(bar) <= width and bar.count(":") >= 2 for bar in bars)


@pytest.mark.parametrize(("seconds", "expected"), [(0.05, ["compiling, for 0 s so far"]), (60.0, [])])
def test_without_a_terminal_a_long_compilation_is_a_line(finished, seconds, expected, monkeypatch):
    monkeypatch.setattr("lenet_jax.report.terminal._LONG", seconds)

    def events():
        yield STARTED
        time.sleep(0.3)
        yield EVALUATED
        time.sleep(0.3)
        yield finished

    file = io.StringIO()
    show(events(), Console(file=file))
    assert file.getvalue().splitlines()[:3] == [START, *expected, EVALUATION, ""][:3]


def test_a_sweep_is_compiling_until_a_job_is_evaluated():
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=120, highlight=False, legacy_windows=False)
    with SweepDisplay(2, console) as display:
        for number in (0, 1):
            display.show(number, [], STARTED._replace(compiles=True))
        assert display.description == "jobs 0/2, 2 running, compiling"
        display.show(0, [], EVALUATED)
        assert display.description == "jobs 0/2, 2 running"
        display.show(1, [], STARTED)
        assert display.description == "jobs 0/2, 2 running"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], ""),
        ([0.5], "▁"),
        ([1, 1], "▁▁"),
        ([0, 7, 3, None, float("nan")], "▁█▄  "),
        (list(range(8)), "▁▂▃▄▅▆▇█"),
        (list(range(15)), "▁▂▃▄▅▆▇█"),
    ],
)
def test_a_curve_is_from_the_lowest_to_the_highest_value(values, expected):
    assert sparkline(values, 8) == expected


@pytest.mark.parametrize(
    ("width", "has_curve", "has_memory"), [(120, True, True), (80, True, False), (40, False, False)]
)
def test_a_curve_the_time_left_and_the_memory_are_shown_where_there_is_room(finished, width, has_curve, has_memory):
    def events():
        for event in (STARTED, EVALUATED, Evaluated({**RECORD, "validation_accuracy": 0.9}), finished):
            yield event
            time.sleep(0.15)  # the bar is drawn ten times a second

    lines = re.split(r"[\r\n]+", printed_on_a_terminal(events(), width))
    bars = [line for line in lines if re.match(r"evaluation +2/2 ", line)]
    assert bars
    assert all(len(line) <= width for line in bars)
    assert any("▁█" in line for line in bars) == has_curve
    assert any(" left " in line for line in bars) == has_curve
    assert any(line.rstrip().endswith("GB") for line in bars) == (has_memory and resident_memory() is not None)
