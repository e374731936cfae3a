import csv
import json
import math
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lenet_jax.report.text import sweep_lines
from lenet_jax.runs import Monitor
from lenet_jax.sweeps.ledger import DIVERGED, DONE, FAILED, Entry, Ledger
from lenet_jax.sweeps.statistics import describe_sample, rerun_command, summarize_sweep, write_summary
from tests.runs.small import component
from tests.sweeps.test_ledger import IDENTITY


def make_result(accuracy):
    return {
        "test_accuracy": accuracy - 0.01,
        "validation_accuracy": accuracy,
        "train_accuracy": 1.0,
        "test_loss": 0.5,
        "epochs": 2,
        "iterations": 20,
        "best_iteration": 10,
        "stopped_by": "max_epochs",
        "parameters_sha256": "ab",
        "seconds": 12.3,
    }


def make_entry(number, rate, seed, accuracy=None, state=DONE, config=None, more=(), **rest):
    overrides = ["trainer.max_epochs=2", f"optimizer.learning_rate={rate}", f"seed={seed}", *more]
    optimizer = component("optimizer", "sgd", learning_rate=float(rate))
    config = {"seed": seed, "optimizer": optimizer, **(config or {})}
    result = None if accuracy is None else make_result(accuracy)
    return Entry(number, overrides, str(number), config, state, result=result, **rest)


ENTRIES = [
    make_entry(0, 0.1, 0, 0.90),
    make_entry(1, 0.1, 1, 0.94),
    make_entry(2, 0.3, 0, 0.97),
    make_entry(3, 0.3, 1, 0.10, state=DIVERGED),
    make_entry(4, 9, 0, state=FAILED, error="nowhere: No such file"),
    make_entry(5, 9, 1, state=FAILED, error="nowhere: No such file"),
]


def test_statistics_of_a_sample_by_hand():
    # 1, 2, 6: mean 3, deviations -2, -1, 3, variance 14/2; t(0.975, 2) = 4.302653 (any table)
    found = describe_sample([1.0, 2.0, 6.0])
    assert (found.n, found.mean) == (3, 3.0)
    assert found.sd == pytest.approx(math.sqrt(7))
    assert found.interval == pytest.approx((3 - 4.302653 * math.sqrt(7 / 3), 3 + 4.302653 * math.sqrt(7 / 3)))
    assert describe_sample([2.0]) == (1, 2.0, None, None)


def test_the_interval_of_a_fraction_by_hand():
    # mean 0.91, sd 0.0282843, standard error 0.02; on the logit 0.02 / (0.91 * 0.09) = 0.2442; t(0.975, 1) = 12.7062;
    # logit(0.91) = 2.313635: from -0.789228 to 5.416498
    found = describe_sample([0.89, 0.93], is_fraction=True)
    assert found.interval == pytest.approx((0.312334, 0.995577), abs=2e-5)


@pytest.mark.parametrize(
    ("fraction", "examples", "interval"),
    [  # by the formula, at z = 1.959964; of 0 of 10 the upper end is z2 / (10 + z2)
        (0.0, 10, (0.0, 0.277533)),
        (1.0, 10, (0.722467, 1.0)),
        (0.5, 100, (0.4038315, 0.5961685)),
    ],
)
def test_the_interval_of_a_single_run_is_wilsons(fraction, examples, interval):
    found = describe_sample([fraction], is_fraction=True, examples=examples)
    assert found.interval == pytest.approx(interval, abs=1e-6)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=9))
def test_an_interval_of_a_fraction_has_its_mean_in_it_and_stays_within_0_and_1(values):
    found = describe_sample(values, is_fraction=True)
    assert found.interval is not None or found.sd == 0 or found.mean in (0, 1)
    low, high = found.interval or (found.mean, found.mean)
    assert 0 <= low <= found.mean + 1e-12
    assert found.mean - 1e-12 <= high <= 1


def test_jobs_of_two_objectives_are_summed_up_by_their_own_metrics():
    regression = {"monitor": "loss", "mode": "min", "validation_loss": 0.2, "test_loss": 0.3}
    config, more = {"objective": component("objective", "regression")}, ["objective=regression"]
    entries = [
        make_entry(0, 0.1, 0, 0.9),
        *(
            make_entry(1 + seed, 0.1, seed, config=config, more=more)._replace(
                result={**make_result(0.0), **regression}
            )
            for seed in range(2)
        ),
    ]
    summary = summarize_sweep(entries)
    assert [(monitor.metric, best.job) for monitor, best in summary.bests.items()] == [("accuracy", 0), ("loss", 1)]
    assert summary.best is None
    lines = sweep_lines(summary)
    assert any("validation accuracy" in line and "validation loss" not in line for line in lines)
    assert any("validation loss" in line and "validation accuracy" not in line for line in lines)


def test_of_a_pruned_configuration_the_last_number_is_shown(tmp_path):
    pruned = {**make_result(0.6), "stopped_by": "pruned", "epochs": 1, "last_validation_accuracy": 0.5}
    entries = [
        make_entry(0, 0.1, 0, 0.9),
        make_entry(1, 0.3, 0)._replace(result=pruned),
        make_entry(2, 9, 0, 0.1, state=DIVERGED),
    ]
    summary = summarize_sweep(entries)
    assert [group.pruned for group in summary.groups] == [None, (1.0, (1, 0.5, None, None)), None]
    lines = sweep_lines(summary)
    assert lines[1] == "3 jobs: 2 done, 1 of them pruned, 1 diverged"
    assert any("after epoch 1, validation 50.00%" in line for line in lines)
    ledger = Ledger.create(tmp_path, IDENTITY)
    for entry in entries:
        ledger.write(entry)
    write_summary(ledger)
    with (tmp_path / "summary.csv").open(newline="") as file:
        assert [row["last_validation_accuracy"] for row in csv.DictReader(file)] == ["", "0.5", ""]


def test_seeds_are_one_group_and_only_what_is_done_counts():
    summary = summarize_sweep(ENTRIES)
    assert [(group.varied, group.jobs) for group in summary.groups] == [
        ({"optimizer.learning_rate": "0.1"}, [0, 1]),
        ({"optimizer.learning_rate": "0.3"}, [2, 3]),
        ({"optimizer.learning_rate": "9"}, [4, 5]),
    ]
    first, second, third = (group.measures for group in summary.groups)
    assert first["validation_accuracy"].mean == pytest.approx(0.92)
    assert second["test_accuracy"] == (1, pytest.approx(0.96), None, None)
    assert third == {}
    assert summary.best == 2
    assert summary.varied[0] == {"optimizer.learning_rate": "0.1", "seed": "0"}


def test_a_job_that_repeats_another_counts_once():
    entries = [
        make_entry(0, 0.1, 0, 0.90),
        make_entry(1, 0.1, 1, 0.94),
        make_entry(2, 0.1, 1, 0.94),  # as a search may choose it again
        make_entry(3, 0.3, 5, state=FAILED, error="no memory"),
        make_entry(4, 0.3, 5, 0.80),  # the first one that is complete
    ]
    summary = summarize_sweep(entries)
    first, second = summary.groups
    assert (first.jobs, first.num_seeds, first.counted) == ([0, 1, 2], 2, [0, 1])
    assert first.measures["validation_accuracy"][:3] == (2, pytest.approx(0.92), pytest.approx(0.04 / math.sqrt(2)))
    assert (second.num_seeds, second.counted, second.num_measured) == (1, [4], 1)
    lines = sweep_lines(summary)
    assert lines[2] == "not counted, as another has the same configuration and seed: jobs 2"
    assert any(line.split()[:4] == ["0.1", "2", "of", "2"] for line in lines)


def test_jobs_that_differ_in_notes_and_tags_are_of_one_configuration():
    entries = [
        make_entry(seed, 0.1, seed, accuracy, config={"notes": notes, "tags": [notes]}, more=[f"++notes={notes}"])
        for seed, accuracy, notes in ((0, 0.90, "a"), (1, 0.94, "b"))
    ]
    (group,) = summarize_sweep(entries).groups
    assert (group.varied, group.counted) == ({}, [0, 1])


def test_an_option_that_follows_the_seed_is_one_of_the_seeds():
    def entry(number, seed, of_data):
        data = component("data", "embedded", seed=of_data)
        return make_entry(number, 0.1, seed, 0.9, config={"data": data}, more=["data.seed=${seed}"])

    assert len(summarize_sweep([entry(0, 0, 0), entry(1, 1, 1)]).groups) == 1
    assert len(summarize_sweep([entry(0, 0, 0), entry(1, 1, 0)]).groups) == 1
    assert len(summarize_sweep([entry(0, 0, 0), entry(1, 0, 1)]).groups) == 2


def test_what_two_editions_recorded_of_one_configuration_is_one_group():
    older = make_entry(0, 0.1, 0, 0.90)
    optimizer = {**older.config["optimizer"], "momentum": None}  # an option that was added since
    newer = make_entry(1, 0.1, 1, 0.94, config={"optimizer": optimizer, "augment": {}, "notes": ""})
    assert [group.counted for group in summarize_sweep([older, newer]).groups] == [[0, 1]]


def test_the_best_configuration_says_how_many_of_its_runs_are_counted():
    pruned = {**make_result(0.6), "stopped_by": "pruned"}
    entries = [
        make_entry(0, 0.1, 0, 0.90),
        make_entry(1, 0.1, 1, 0.94),
        make_entry(2, 0.1, 2, state=FAILED, error="no memory"),
        make_entry(3, 0.1, 3, 0.1, state=DIVERGED),
        make_entry(4, 0.1, 4)._replace(result=pruned),
    ]
    assert "best: mean of 2 of 5 runs, validation 92.00% ± 2.83, test 91.00% ± 2.83" in sweep_lines(
        summarize_sweep(entries)
    )


def test_a_value_that_is_not_finite_is_no_measure_and_its_configuration_is_no_complete_one():
    lost = {**make_result(0.99), "validation_accuracy": None}
    entries = [make_entry(0, 0.1, 0, 0.99), make_entry(1, 0.1, 1)._replace(result=lost), make_entry(2, 0.3, 0, 0.5)]
    summary = summarize_sweep(entries)
    assert [group.num_measured for group in summary.groups] == [1, 1]
    assert summary.bests[Monitor()].group.varied == {"optimizer.learning_rate": "0.3"}
    assert summary.best == 0


def test_a_sweep_of_which_nothing_is_done_has_no_best():
    summary = summarize_sweep(ENTRIES[3:])
    assert summary.best is None
    assert "best" not in "\n".join(sweep_lines(summary))


def test_the_text_has_a_row_a_group_the_best_and_the_failures():
    lines = sweep_lines(summarize_sweep(ENTRIES))
    assert lines[1] == "6 jobs: 3 done, 2 failed, 1 diverged"
    rows = [line.split("  ") for line in lines]
    assert [[cell.strip() for cell in row if cell] for row in rows[4:7]] == [
        ["0.1", "2 of 2", "92.00% ± 2.83", "91.00% ± 2.83", "31.23% to 99.56%"],
        ["0.3", "1 of 2", "97.00%", "96.00%"],
        ["9", "0 of 2"],
    ]
    assert lines[7] == "95 % interval of the test accuracy: of the mean over the seeds, Student's t on the logit"
    # By its mean 0.3 would be the best, but one of its two seeds diverged.
    assert "best: optimizer.learning_rate=0.1, mean of 2 runs, validation 92.00% ± 2.83, test 91.00% ± 2.83" in lines
    assert "best run: job 2, validation 97.00%, test 96.00%  optimizer.learning_rate=0.3 seed=0" in lines
    assert lines[-2:] == [
        "job 5 failed: nowhere: No such file",
        "lenet-jax train trainer.max_epochs=2 optimizer.learning_rate=9 seed=1",
    ]


def test_the_command_that_runs_a_job_again_can_be_pasted():
    entry = Entry(0, ["data.directory='a b'", "model.num_kernels=[2,3]"], "0", {})
    assert shlex.split(rerun_command(entry)) == ["lenet-jax", "train", *entry.overrides]


def test_the_files_have_all_jobs_and_no_times(tmp_path):
    ledger = Ledger.create(tmp_path, IDENTITY)
    for entry in ENTRIES:
        ledger.write(entry)
    write_summary(ledger)
    text = (tmp_path / "summary.json").read_text()
    content = json.loads(text)
    assert [job["state"] for job in content["jobs"]] == [entry.state for entry in ENTRIES]
    assert content["best"] == 2
    assert [failure["number"] for failure in content["failures"]] == [4, 5]
    assert "seconds" not in text
    with (tmp_path / "summary.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["number"], row["optimizer.learning_rate"], row["seed"]) for row in rows[:2]] == [
        ("0", "0.1", "0"),
        ("1", "0.1", "1"),
    ]
    assert float(rows[2]["validation_accuracy"]) == 0.97
    assert rows[4]["validation_accuracy"] == ""
