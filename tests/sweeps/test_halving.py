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


# ---- Hyperband ------------------------------------------------------------------------------------------------------

# Table 1 of Li et al., "Hyperband", JMLR 2018, by its algorithm 1: R = 81 epochs, a third of the configurations
# continues; the numbers of configurations and the epochs at which they are compared, for s = 4, 3, 2, 1, 0.
TABLE_1 = {
    1: [81, 27, 9, 3, 1],  # first rung -> the number of configurations at it and at each further one
    3: [34, 11, 3, 1],
    9: [15, 5, 1],
    27: [8, 2],
    81: [5],
}


def test_the_brackets_are_those_of_the_paper():
    n = sum(numbers[0] for numbers in TABLE_1.values())
    assert n == 143
    halving = Halving([[number] for number in range(n)], max_epochs=81, brackets=None)
    assert halving.sizes == [numbers[0] for numbers in TABLE_1.values()]
    alive = dict.fromkeys(range(n), 0)  # number -> the last epoch to which it trained
    for epoch in (1, 3, 9, 27, 81):
        for number in [number for number in alive if number not in halving.pruned]:
            alive[number] = epoch
            halving.observe(number, epoch, number / n)
    for index, (first, numbers) in enumerate(TABLE_1.items()):
        members = halving._brackets[index].queues[0]
        reached = {epoch: sum(alive[number] >= epoch for (number,) in members) for epoch in (1, 3, 9, 27, 81)}
        assert [reached[first * 3**i] for i in range(len(numbers))] == numbers


def test_brackets_are_spread_over_the_order_of_the_configurations():
    halving = Halving([[number] for number in range(143)], max_epochs=81, brackets=None)
    for bracket in halving._brackets:
        members = [number for (number,) in bracket.queues[0]]
        assert abs(sum(members) / len(members) - 71) < 10


def test_seeds_stay_in_one_bracket():
    halving = Halving([[2 * n, 2 * n + 1] for n in range(10)], max_epochs=9, brackets=None)
    assert sum(halving.sizes) == 10
    members = [numbers for bracket in halving._brackets for numbers in bracket.queues[0]]
    assert sorted(members) == [(2 * n, 2 * n + 1) for n in range(10)]


@pytest.mark.parametrize(
    ("brackets", "jobs", "message"),
    [
        (5, 9, r"brackets. must be 1 to 3, as the rungs are at \[1, 3\] of 9 epochs; got 5"),
        (None, 2, r"brackets. must be at most the number of configurations, 2; got 3"),
    ],
)
def test_brackets_without_a_rung_or_a_configuration_are_refused(brackets, jobs, message):
    with pytest.raises(InputError, match=message):
        Halving([[number] for number in range(jobs)], max_epochs=9, brackets=brackets)


@pytest.mark.parametrize("jobs", range(5, 40))
def test_every_configuration_is_in_a_bracket_and_no_bracket_is_empty(jobs):
    sizes = Halving([[number] for number in range(jobs)], max_epochs=81, brackets=None).sizes
    assert sum(sizes) == jobs
    assert min(sizes) >= 1


# ---- asynchronous ---------------------------------------------------------------------------------------------------

# Errors at the rungs, epochs 1 and 2, and what follows by hand with reduction 2: of the n configurations up to this one
# it must be among the best max(1, n // 2).
ERRORS = {
    0: (0.5, 0.4),  # the first of 1, and at the second rung too: continues
    1: (0.6, 0.0),  # the second of 2, of which one continues: stops at 1
    2: (0.4, 0.5),  # the first of 3; at the second rung the second of 2: stops at 2
    3: (0.45, 0.3),  # the second of 4, of which two continue; at the second rung the first of 3
    4: (0.45, 0.2),  # the third of 5, as a tie is the earlier one's: stops at 1
    5: (0.1, 0.35),  # the first of 6; at the second rung the second of 4, of which two continue
}
STOPPED = {1: 1, 2: 2, 4: 1}  # number -> epoch


def asynchronous():
    return Halving([[number] for number in ERRORS], max_epochs=4, reduction=2, asynchronous=True)


def play_in_lanes(halving, lanes):
    """Train four epochs in some lanes, in which the next job starts when one is free; return the epochs of each."""
    pending, running, epochs = list(ERRORS), {}, {}
    while pending or running:
        for lane in range(lanes):
            if lane not in running and pending:
                running[lane] = pending.pop(0)
                epochs[running[lane]] = 0
        for number in running.values():
            epochs[number] += 1
            halving.observe(number, epochs[number], ERRORS[number][epochs[number] > 1])
        for lane, number in list(running.items()):
            if number in halving.pruned or epochs[number] == 4:
                halving.finish(number, diverged=False)
                del running[lane]
    return epochs


@pytest.mark.parametrize("lanes", range(1, 7))
def test_a_configuration_is_compared_with_those_before_it_in_any_number_of_lanes(lanes):
    halving = asynchronous()
    assert play_in_lanes(halving, lanes) == {number: STOPPED.get(number, 4) for number in ERRORS}
    assert halving.pruned == {*STOPPED}


@pytest.mark.parametrize("seed", range(5))
def test_decisions_follow_from_the_evaluations_whatever_their_order(seed):
    halving, chance = asynchronous(), random.Random(seed)
    epochs = dict.fromkeys(ERRORS, 0)
    while running := [number for number, epoch in epochs.items() if epoch < 4]:
        number = chance.choice(running)
        epochs[number] += 1
        halving.observe(number, epochs[number], ERRORS[number][epochs[number] > 1])
    assert halving.pruned == {*STOPPED}


def test_a_configuration_waits_for_the_one_before_it_and_all_its_seeds():
    halving = Halving([[0, 1], [2, 3]], max_epochs=3, asynchronous=True)
    for number, error in ((3, 0.9), (2, 0.9), (0, 0.5)):
        halving.observe(number, 1, error)
        assert halving.pruned == set()
    halving.observe(1, 1, 0.5)
    assert halving.pruned == {2, 3}


def test_what_has_diverged_does_not_hold_the_others_up():
    halving = Halving([[0], [1], [2]], max_epochs=3, asynchronous=True)
    halving.finish(0, diverged=True)
    halving.observe(1, 1, 0.5)
    halving.observe(2, 1, 0.6)
    assert halving.pruned == {2}
