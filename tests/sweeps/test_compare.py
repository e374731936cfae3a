"""Comparisons against scipy's tests and values worked by hand."""

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from lenet_jax.cli import main
from lenet_jax.components import complete_config
from lenet_jax.config import from_dict, to_dict
from lenet_jax.errors import InputError
from lenet_jax.report.comparison import comparison_lines, left_out_lines, several_lines
from lenet_jax.sweeps.compare import Run, Side, compare, mcnemar, read_sides
from lenet_jax.sweeps.ledger import DIVERGED, FAILED, Ledger
from tests.sweeps.test_ledger import IDENTITY
from tests.sweeps.test_statistics import make_entry, make_result


def side(name, values, seeds=None, **config):
    seeds = range(len(values)) if seeds is None else seeds
    runs = [
        Run(name, {"seed": seed, "model": {"depth": 5, **config}}, {"test_accuracy": value})
        for seed, value in zip(seeds, values, strict=True)
    ]
    return Side(name, runs)


def test_seeds_that_both_have_are_pairs():
    one, other = side("a", [0.90, 0.91, 0.93]), side("b", [0.95, 0.92, 0.97, 0.1], depth=9)
    found = compare(one, other)
    expected = stats.ttest_rel([0.95, 0.92, 0.97], [0.90, 0.91, 0.93])
    assert found.difference == pytest.approx(0.1 / 3)
    assert found.interval == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert found.changed == [("model.depth", 5, 9)]
    assert "paired over 3 seeds" in found.method
    lines = comparison_lines(found)
    assert lines[1].startswith("b - a: test accuracy +3.33 points, 95 % interval")
    assert lines[2] == "without a pair: seed 3 of b (a has none)"
    assert lines[3] == "changed: model.depth: 5 -> 9"


def test_without_pairs_the_means_are_compared():
    a, b = [0.90, 0.91, 0.93], [0.95, 0.92, 0.97, 0.96]
    found = compare(side("a", a), side("b", b, seeds=range(10, 14)))
    expected = stats.ttest_ind(b, a, equal_var=False)
    assert found.difference == pytest.approx(np.mean(b) - np.mean(a))
    assert found.interval == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert "Welch" in found.method


def test_two_runs_have_no_interval_over_seeds():
    found = compare(side("a", [0.9]), side("b", [0.8]))
    assert (found.difference, found.interval) == (pytest.approx(-0.1), None)


@pytest.mark.parametrize("seeds", [range(3), range(7, 10)])
def test_equal_differences_have_no_interval(seeds):
    found = compare(side("a", [0.90, 0.90, 0.90]), side("b", [0.95, 0.95, 0.95], seeds=seeds))
    assert (found.difference, found.interval) == (pytest.approx(0.05), None)
    assert comparison_lines(found)[1].endswith(": equal values tell nothing of an interval)")


def test_an_interval_of_a_difference_of_fractions_stays_within_its_range():
    found = compare(side("a", [0.0, 1.0]), side("b", [1.0, 0.0]))
    assert found.interval == (-1.0, 1.0)


@pytest.mark.parametrize(("b", "c"), [(12, 5), (0, 0), (0, 7), (3, 3)])
def test_mcnemar_is_a_binomial_test(b, c):
    labels = np.zeros(100, np.int32)
    one, other = np.zeros(100, np.int32), np.zeros(100, np.int32)
    one[b : b + c] = 1  # wrong where the other is right
    other[:b] = 1
    found = mcnemar(labels, one, other)
    assert found[:3] == (100, b, c)
    assert found.p == pytest.approx(stats.binomtest(b, b + c).pvalue if b + c else 1.0)
    # By hand with a half added to each count: b + 1/2, c + 1/2 of n + 2.
    difference = (c - b) / 102
    margin = 1.959964 * (((b + c + 1) - (c - b) ** 2 / 102) ** 0.5) / 102
    assert found.interval == pytest.approx((difference - margin, difference + margin), abs=1e-6)


# ---- what is compared -----------------------------------------------------------------------------------------------


def sweep(path, *entries):
    ledger = Ledger.create(path, IDENTITY)
    for entry in entries:
        ledger.write(entry)
    return path


def lines_of(*directories):
    sides, left_out = read_sides(directories)
    return [*left_out_lines(left_out), *comparison_lines(compare(sides[0], sides[1]))]


def test_jobs_that_did_not_come_to_an_end_are_named_and_so_are_the_seeds_that_lose_their_pair(tmp_path):
    pruned = {**make_result(0.6), "stopped_by": "pruned"}
    one = sweep(tmp_path / "a", *(make_entry(seed, 0.1, seed, 0.90 + seed / 100) for seed in range(5)))
    other = sweep(
        tmp_path / "b",
        make_entry(0, 0.3, 0, 0.93),
        make_entry(1, 0.3, 1, 0.95),
        make_entry(2, 0.3, 2, 0.1, state=DIVERGED),
        make_entry(3, 0.3, 3)._replace(result=pruned),
        make_entry(4, 0.3, 9, 0.99),
        make_entry(5, 0.3, 8, state=FAILED, error="no memory"),
    )
    found = lines_of(one, other)
    assert found[0] == (
        f"left out: 3 runs: diverged: job 2 of {other} (seed 2); pruned: job 3 of {other} (seed 3); "
        f"failed: job 5 of {other} (seed 8)"
    )
    assert found[2].startswith(f"{other} - {one}: test accuracy +3.50 points, ")  # of 3 and 4 points
    assert found[2].endswith("(paired over 2 seeds, Student's t)")
    assert found[3] == (
        f"without a pair: seed 2 of {one} (job 2 of {other}: diverged), seed 3 of {one} (job 3 of {other}: pruned), "
        f"seed 4 of {one} ({other} has none), seed 9 of {other} ({one} has none)"
    )


def test_seeds_without_any_pair_are_named_if_they_have_lost_it(tmp_path):
    one = sweep(tmp_path / "a", make_entry(0, 0.1, 0, 0.90), make_entry(1, 0.1, 1, 0.91))
    other = sweep(
        tmp_path / "b",
        make_entry(0, 0.3, 0, 0.1, state=DIVERGED),
        make_entry(1, 0.3, 5, 0.95),
        make_entry(2, 0.3, 6, 0.97),
    )
    found = lines_of(one, other)
    assert found[2].endswith("(2 and 2 runs that share no two seeds, Welch's t)")
    assert found[3] == f"without a pair: seed 0 of {one} (job 0 of {other}: diverged)"


def test_a_job_that_repeats_another_is_no_second_seed(tmp_path):
    one = sweep(tmp_path / "a", *(make_entry(number, 0.1, number // 2, 0.9) for number in range(4)))
    other = sweep(tmp_path / "b", make_entry(0, 0.3, 0, 0.93), make_entry(1, 0.3, 1, 0.95))
    found = lines_of(one, other)
    assert found[0] == f"left out: 2 runs: repeated: job 1 of {one} (seed 0), job 3 of {one} (seed 1)"
    assert found[2].endswith("(paired over 2 seeds, Student's t)")


def test_a_configuration_of_which_no_job_is_done_is_no_side_and_is_named(tmp_path):
    path = sweep(
        tmp_path / "a",
        make_entry(0, 0.1, 0, 0.90),
        make_entry(1, 0.3, 0, 0.91),
        make_entry(2, 9, 0, 0.1, state=DIVERGED),
    )
    sides, left_out = read_sides([path])
    assert [side.name for side in sides] == [f"{path} optimizer.learning_rate={rate}" for rate in (0.1, 0.3)]
    assert [run.name for run in left_out] == [f"job 2 of {path}"]


def test_of_several_differences_it_is_said_that_each_interval_stands_by_itself(tmp_path):
    sides, _ = read_sides([sweep(tmp_path / "a", *(make_entry(n, rate, 0, 0.9) for n, rate in enumerate((1, 2, 3))))])
    assert (
        several_lines(sides)[-1] == "Each 95 % interval is of one difference by itself; of 2 some may miss by chance."
    )
    assert several_lines(sides[:2]) == []


def test_notes_and_tags_make_no_configuration_of_their_own(tmp_path):
    entries = [make_entry(seed, 0.1, seed, 0.9, config={"notes": f"n{seed}", "tags": [str(seed)]}) for seed in (0, 1)]
    one = sweep(tmp_path / "a", *entries)
    other = sweep(tmp_path / "b", make_entry(0, 0.3, 0, 0.93), make_entry(1, 0.3, 1, 0.95))
    found = lines_of(one, other)
    assert found[-1] == "changed: optimizer.learning_rate: 0.1 -> 0.3"
    assert len(found) == 3


def test_metrics_of_two_directions_are_not_compared(tmp_path):
    paths = [
        sweep(tmp_path / mode, make_entry(0, 0.1, 0)._replace(result={**make_result(0.5), "mode": mode}))
        for mode in ("max", "min")
    ]
    with pytest.raises(InputError, match=r"must be judged by one metric; got accuracy \(max\), accuracy \(min\)"):
        read_sides(paths)


def test_a_key_that_an_older_edition_lacks_has_its_default_of_today(tmp_path):
    older, newer = make_entry(0, 0.1, 0, 0.9), make_entry(0, 0.1, 0, 0.9)
    newer.config.update(to_dict(complete_config(from_dict(newer.config))))
    assert "momentum" in newer.config["optimizer"]
    assert "momentum" not in older.config["optimizer"]
    found = lines_of(sweep(tmp_path / "a", older), sweep(tmp_path / "b", newer))
    assert found[-1] == "changed: nothing"
    newer.config["optimizer"]["momentum"] = 0.9
    found = lines_of(tmp_path / "a", sweep(tmp_path / "c", newer))
    assert found[-1] == "changed: optimizer.momentum: None -> 0.9"


def test_a_key_of_one_side_alone_is_said_to_be_that(tmp_path):
    own = {"model": {"_target_": "mylab.nets.tiny", "width": None, "old": 1}}
    other = {"model": {"_target_": "mylab.nets.tiny", "width": 3, "depth": None}}
    one = sweep(tmp_path / "a", make_entry(0, 0.1, 0, 0.9, config=own))
    two = sweep(tmp_path / "b", make_entry(0, 0.1, 0, 0.9, config=other))
    assert lines_of(one, two)[-3:] == [
        "changed: model.width: None -> 3",
        f"only in {one}: model.old: 1",
        f"only in {two}: model.depth: None",
    ]


# ---- the command ----------------------------------------------------------------------------------------------------


TINY = ["model._target_=tests.linear.linear", "trainer.max_epochs=1", "data.train_size=100"]


@pytest.mark.usefixtures("in_an_empty_folder")
def test_the_command_compares_runs_and_sweeps(monkeypatch, capsys):
    monkeypatch.setenv("LENET_JAX_ALLOW", "tests")
    for name, rate in (("a", 0.1), ("b", 0.01)):
        rate = f"optimizer.learning_rate={rate}"
        assert main(["train", *TINY, rate, f"hydra.run.dir={name}"]) == 0
        assert main(["train", "-m", *TINY, rate, "seed=0,1", f"hydra.sweep.dir=s{name}"]) == 0
    capsys.readouterr()
    assert main(["compare", "a", "b"]) == 0
    out = capsys.readouterr().out
    assert "McNemar's exact test: the first alone is right on" in out
    assert "changed: optimizer.learning_rate: 0.1 -> 0.01" in out
    assert main(["compare", "sa", "sb"]) == 0
    out = capsys.readouterr().out
    assert "paired over 2 seeds" in out
    assert "McNemar" not in out
    Path("b/checkpoints/best.safetensors").unlink()
    assert main(["compare", "a", "b"]) == 0
    out = capsys.readouterr().out
    assert "b - a: test accuracy" in out
    assert (
        "McNemar's test is left out: `DIR` must have the weights of its run, checkpoints/best.safetensors; b has "
        "none\n" in out
    )
    assert "changed: optimizer.learning_rate: 0.1 -> 0.01" in out
    monkeypatch.delenv("LENET_JAX_ALLOW")
    assert main(["compare", "a", "b"]) == 0
    assert "McNemar's test is left out: `model` of a names code to run" in capsys.readouterr().out
    assert main(["compare", "a"]) == 2
    assert "there must be two configurations or runs to compare; got 1" in capsys.readouterr().err


def test_no_metric_is_an_error():
    empty = Side("a", [Run("a", {"seed": 0}, {})])
    with pytest.raises(InputError, match="a must have a finite test metric"):
        compare(empty, side("b", [0.5]))
