import itertools
import random

import pytest

from lenet_jax.errors import InputError
from lenet_jax.sweeps.halving import Halving

# Nine jobs and their accuracies after epochs 1, 2, ... 9; rungs at 1 and 3, so 9, 3 and 1 of them continue.
CURVES = {
    0: [0.10, 0.20, 0.30, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9],
    1: [0.50, 0.60, 0.70, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7],
    2: [0.60, 0.61, 0.62, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6],
    3: [0.20, 0.99, 0.99, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9],  # would have been the best, and is not among the first three
    4: [0.50, 0.20, 0.10, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1],  # as good as job 1 at first, and with a higher number
    5: [0.55, 0.56, 0.57, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5],
    6: [0.10, 0.20, 0.30, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9],
    7: [0.10, 0.20, 0.30, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9],
    8: [0.10, 0.20, 0.30, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9],
}


def play(halving, order):
    """Let the jobs train an epoch each in an order, until they have finished or are pruned; return their epochs."""
    epochs = dict.fromkeys(order, 0)
    alive = list(order)
    while alive:
        for number in list(alive):
            if number in halving.pruned:
                alive.remove(number)
                halving.finish(number, diverged=False)
                continue
            epochs[number] += 1
            halving.observe(number, epochs[number], 1 - CURVES[number][epochs[number] - 1])
            if epochs[number] == 9:
                alive.remove(number)
                halving.finish(number, diverged=False)
    return epochs


def test_a_third_continues_at_each_rung():
    halving = Halving([[number] for number in CURVES], max_epochs=9)
    play(halving, sorted(CURVES))
    assert halving.pruned == {0, 3, 4, 6, 7, 8} | {2, 5}


@pytest.mark.parametrize("seed", range(5))
def test_the_order_does_not_matter(seed):
    order = sorted(CURVES)
    random.Random(seed).shuffle(order)
    halving = Halving([[number] for number in order], max_epochs=9)
    play(halving, order)
    assert halving.pruned == set(CURVES) - {1}


def test_a_job_that_finished_early_stays_in_the_race_and_one_that_diverged_does_not():
    halving = Halving([[0], [1], [2], [3]], max_epochs=4, min_epochs=2, reduction=2)
    halving.observe(0, 1, 0.1)
    halving.finish(0, diverged=False)  # out of patience before the first rung
    halving.observe(1, 1, 0.01)
    halving.finish(1, diverged=True)
    for number, error in ((2, 0.5), (3, 0.2)):
        assert halving.pruned == set()
        halving.observe(number, 2, error)
    assert halving.pruned == {1, 2}


def test_evaluations_need_not_fall_on_the_rungs():
    halving = Halving([[0], [1]], max_epochs=4, min_epochs=1, reduction=2)
    for epoch, number in itertools.product((0.75, 1.5), range(2)):
        assert halving.pruned == set()
        halving.observe(number, epoch, 0.5 - number / 10)
    assert halving.pruned == {0}


def test_seeds_of_a_configuration_are_judged_by_their_mean_and_stop_together():
    # Errors after the first rung: 0.1 and 0.5 (mean 0.30), 0.2 and 0.3 (0.25), 0.4 and 0.4 (0.40).
    errors = {0: 0.1, 1: 0.5, 2: 0.2, 3: 0.3, 4: 0.4, 5: 0.4}
    halving = Halving([[0, 1], [2, 3], [4, 5]], max_epochs=3, reduction=3)
    for number, error in errors.items():
        assert halving.pruned == set()
        halving.observe(number, 1, error)
    assert halving.pruned == {0, 1, 4, 5}


def test_a_configuration_of_which_a_seed_diverged_does_not_continue():
    halving = Halving([[0, 1], [2, 3]], max_epochs=2, reduction=2)
    for number, error in {0: 0.1, 2: 0.6, 3: 0.7}.items():
        halving.observe(number, 1, error)
    halving.finish(1, diverged=True)
    assert halving.pruned == {0, 1}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"min_epochs": 0}, r"min_epochs. must be an integer, 1 or above; got 0"),
        ({"reduction": 1}, r"reduction. must be an integer, 2 or above; got 1"),
    ],
)
def test_rungs_that_never_end_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        Halving([[0], [1], [2]], max_epochs=3, **arguments)
