"""Figures of the effects of hyperparameters, read back from matplotlib."""

import itertools

import numpy as np
import pytest

from lenet_jax.report.effects import (
    four_digits,
    heat_map,
    hyperparameter_effect,
    is_grid,
    is_logarithmic,
    parallel_coordinates,
)
from lenet_jax.report.sweep_page import _draw_effects, group_curves


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("0.0123456789", "0.01235"),
        ("1.23456e-05", "1.235e-05"),
        ("0.03", "0.03"),
        ("0.0", "0.0"),
        ("1e-3", "1e-3"),
        ("123456", "123456"),
        ("[0.123456]", "[0.123456]"),
        ("my_net", "my_net"),
        ("", ""),
    ],
)
def test_rates_have_four_digits_and_other_values_are_as_they_are(text, shown):
    assert four_digits(text) == shown


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 2, 4, 8], True),
        ([0.001, 0.003, 0.01, 0.03], True),
        ([0.01, 0.1], True),
        ([1, 2, 3, 4], False),
        (range(1, 21), False),
        ([0.5, 0.9], False),
        ([0, 0.1, 10], False),
        (10 ** np.random.default_rng(0).uniform(-4, -1, 40), True),
        (np.random.default_rng(0).uniform(0.1, 100, 40), False),
    ],
)
def test_an_axis_is_logarithmic_where_the_values_are_spaced_or_sampled_so(values, expected):
    assert is_logarithmic(np.array(values)) == expected
    texts = [str(value) for value in values]
    axis = hyperparameter_effect("a_rate", texts, np.arange(len(texts))).axes[0]
    assert axis.get_xscale() == ("log" if expected else "linear")
    assert axis.get_xlabel() == "a_rate"


def test_each_value_of_another_key_is_a_line_of_means():
    values, others = ["1", "1", "2", "2"] * 2, ["a_b"] * 4 + [None] * 4
    figure = hyperparameter_effect("x", values, [1, 3, 5, 7, 2, 2, 4, 4], other=("net_name", others))
    dots, means, _, others_means = figure.axes[0].lines
    assert list(dots.get_ydata()) == [1, 3, 5, 7]
    assert list(means.get_ydata()) == [2, 6]
    assert list(others_means.get_ydata()) == [2, 4]
    assert [text.get_text() for text in figure.legends[0].texts] == ["net_name=a_b", "net_name=(not set)"]


def test_categories_are_dots_without_lines_between_them():
    axis = hyperparameter_effect("model", ["lenet", "my_net", None], [1, 2, 3]).axes[0]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["lenet", "my_net", "(not set)"]
    assert all(line.get_linestyle() == "None" for line in axis.lines)


def test_labels_of_forty_trials_do_not_overlap():
    rng = np.random.default_rng(1)
    for values in (10 ** rng.uniform(-5, -1, 40), rng.uniform(0, 1, 40), 10 ** rng.uniform(-3, -2, 40)):
        figure = hyperparameter_effect("optimizer.learning_rate", [str(value) for value in values], rng.random(40))
        figure.draw_without_rendering()
        axis = figure.axes[0]
        shown = [
            each
            for each in axis.get_xticklabels()
            if axis.get_xlim()[0] <= each.get_position()[0] <= axis.get_xlim()[1]
        ]
        boxes = sorted((each.get_window_extent() for each in shown if each.get_text()), key=lambda box: box.x0)
        assert len(boxes) >= 2
        assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))


def test_a_heat_map_has_the_mean_of_each_pair():
    figure = heat_map(("a_b", "c"), [1, 1, 2, 2], [0.1, 0.1, 0.1, 0.2], [10, 20, 30, 40])
    image = np.ma.filled(figure.axes[0].images[0].get_array(), np.nan)
    np.testing.assert_array_equal(image, [[15, 30], [np.nan, 40]])
    assert figure.axes[0].get_xlabel() == "a_b"


def test_what_is_drawn_of_several_keys_is_a_map_of_a_grid_or_lines():
    rates, depths = np.repeat([0.1, 0.2, 0.3], 3), np.tile([1.0, 2.0, 3.0], 3)
    assert is_grid(rates, depths)
    assert not is_grid(rates, rates)
    texts = [[str(value) for value in each] for each in (rates, depths, rates + depths)]
    names = [
        [each.name for each in _draw_effects(dict(zip("abc", texts[:n], strict=False)), rates.tolist(), "e")]
        for n in (1, 2, 3)
    ]
    assert names == [
        ["effect_of_a"],
        ["effect_of_a", "effect_of_b", "two_hyperparameters"],
        ["effect_of_a", "effect_of_b", "effect_of_c", "parallel_coordinates"],
    ]


def test_parallel_coordinates_draw_the_best_run_last():
    figure = parallel_coordinates({"a": [1.0, 2.0, 3.0], "b": [0.1, 0.01, 0.001]}, [3, 1, 2])
    lines = [line.get_ydata() for line in figure.axes[0].lines if len(set(line.get_xdata())) == 2]
    np.testing.assert_allclose(lines, [[0, 1], [1, 0], [0.5, 0.5]], atol=1e-12)


def test_pruned_runs_are_drawn_up_to_where_they_stopped():
    figure = group_curves({"a": [([1, 2, 3], [9, 5, 4])]}, pruned=[([1], [30]), ([1, 2], [20, 19])])
    assert [list(line.get_ydata()) for line in figure.axes[0].lines] == [[9, 5, 4], [30], [20, 19]]
    assert [text.get_text() for text in figure.legends[0].texts] == ["a", "pruned (2)"]


def test_pruned_runs_are_crosses_and_their_values_decide_the_scale():
    pruned = [str(value) for value in 10 ** np.linspace(-3, 0, 20)]
    figure = hyperparameter_effect("rate", ["0.5", "0.6", "0.7"], [1, 2, 3], pruned=(pruned, [9.0] * 20))
    (axis,) = figure.axes
    assert axis.get_xscale() == "log"
    crosses = next(line for line in axis.lines if line.get_marker() == "x")
    np.testing.assert_allclose(crosses.get_xdata(), [float(value) for value in pruned])
    assert [text.get_text() for text in figure.legends[0].texts][-1] == "pruned (20), where they stopped"
