"""Comparisons against scipy's tests and values worked by hand."""

import numpy as np
import pytest
from scipy import stats

from lenet_jax.cli import main
from lenet_jax.errors import InputError
from lenet_jax.report.comparison import comparison_lines
from lenet_jax.sweeps.compare import Run, Side, compare, mcnemar


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
    assert lines[2] == "changed: model.depth: 5 -> 9"


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
    assert main(["compare", "a"]) == 2
    assert "there must be two configurations or runs to compare; got 1" in capsys.readouterr().err


def test_no_metric_is_an_error():
    empty = Side("a", [Run("a", {"seed": 0}, {})])
    with pytest.raises(InputError, match="a must have a finite test metric"):
        compare(empty, side("b", [0.5]))
