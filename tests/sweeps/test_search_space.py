"""Grids and draws of a search space."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import qmc

from lenet_jax.errors import InputError
from lenet_jax.sweeps.search_space import METHODS, Axis, Choice, Interval, SearchSpace, draw, grid

RATE = Axis(("rate",), (0,), Interval(0.001, 1.0, log=True))
UNITS = Axis(("units",), (2,), Interval(1, 100, is_integer=True))
SEED = Axis(("++seed",), (3,), Choice((("3",), ("4",))))
SPACE = SearchSpace(("rate", "epochs=2", "units", "++seed"), (RATE, UNITS, SEED))
LISTS = SearchSpace(
    ("a", "b"), tuple(Axis((key,), (n,), Choice((("1",), ("2",), ("3",)))) for n, key in enumerate("ab"))
)


def values(jobs, key):
    return [float(dict(each.split("=") for each in job)[key]) for job in jobs]


@given(method=st.sampled_from(METHODS), seed=st.integers(0, 2**32 - 1), size=st.integers(1, 40))
def test_draws_are_repeatable_distinct_in_their_intervals_and_begin_with_those_of_fewer(method, seed, size):
    jobs = draw(SPACE, num_trials=size, method=method, seed=seed)
    assert jobs == draw(SPACE, num_trials=size, method=method, seed=seed)
    assert draw(SPACE, num_trials=size + 9, method=method, seed=seed)[: len(jobs)] == jobs
    assert len(jobs) == len(set(map(tuple, jobs))) == 2 * size
    assert all(0.001 <= rate <= 1 for rate in values(jobs, "rate"))
    assert set(values(jobs, "units")) <= set(range(1, 101))


def test_each_configuration_runs_with_all_seeds():
    jobs = draw(SPACE, num_trials=3, method="random", seed=0)
    assert [job[3] for job in jobs] == ["++seed=3", "++seed=4"] * 3
    assert [job[:3] for job in jobs[::2]] == [job[:3] for job in jobs[1::2]]
    assert {job[1] for job in jobs} == {"epochs=2"}


def test_seeds_of_the_draws_are_different_draws():
    assert draw(SPACE, num_trials=3, method="sobol", seed=0) != draw(SPACE, num_trials=3, method="sobol", seed=1)


@pytest.mark.parametrize(("method", "engine"), [("sobol", qmc.Sobol), ("halton", qmc.Halton)])
def test_quasi_random_points_are_those_of_scipy(method, engine):
    points = engine(2, scramble=True, seed=5).random(16)
    jobs = draw(SPACE, num_trials=16, method=method, seed=5)[::2]
    np.testing.assert_allclose(values(jobs, "rate"), 10 ** (-3 + 3 * points[:, 0]), rtol=1e-5)
    np.testing.assert_array_equal(values(jobs, "units"), 1 + np.floor(100 * points[:, 1]))


def test_sixteen_points_of_sobol_are_one_in_each_sixteenth_of_each_axis():
    jobs = draw(SPACE, num_trials=16, method="sobol", seed=3)[::2]
    sixteenths = [math.floor(16 * (3 + math.log10(rate)) / 3) for rate in values(jobs, "rate")]
    assert sorted(sixteenths) == list(range(16))


def test_integers_of_a_logarithmic_interval_are_those_nearest_to_log_uniform_numbers():
    interval = Interval(1, 8, log=True, is_integer=True)  # uniform from log 0.5 to log 8.5
    assert [interval.at(place) for place in (0.0, 0.35, 0.5, 0.999)] == [("1",), ("1",), ("2",), ("8",)]
    assert 0.5 * 17**0.35 < 1.5
    assert 1.5 < 0.5 * 17**0.5 < 2.5


@pytest.mark.parametrize("method", METHODS)
def test_as_many_draws_as_there_are_combinations_are_all_of_them(method):
    assert sorted(draw(LISTS, num_trials=9, method=method, seed=0)) == sorted(grid(LISTS))


def test_a_grid_changes_its_last_key_first():
    assert grid(LISTS) == [[f"a={a}", f"b={b}"] for a, b in itertools.product("123", "123")]


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (LISTS, r"num_trials` must be at most 9, the number of different configurations; got 10"),
        (SearchSpace((), ()), r"must have a key to draw, as KEY=interval\(a,b\); got none\."),
        (SearchSpace(("a",), (Axis(("a",), (0,), Choice((("1",),) * 12)),)), "at most 1, the different configurations"),
    ],
)
def test_what_cannot_be_drawn_is_refused(space, message):
    with pytest.raises(InputError, match=message):
        draw(space, num_trials=10, method="random", seed=0)


def test_seeds_are_chosen_from_where_nothing_else_varies():
    space = SearchSpace(("seed",), (Axis(("seed",), (0,), Choice((("1",), ("2",)))),))
    assert sorted(draw(space, num_trials=2, method="random", seed=0)) == [["seed=1"], ["seed=2"]]
    assert space.num_crossed == 1


def test_an_interval_has_no_grid():
    with pytest.raises(InputError, match=r"`rate` must be swept over a list .* got tag\(log,interval\(0.001,1\)\); "):
        grid(SPACE)
