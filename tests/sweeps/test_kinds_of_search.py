"""Every kind of search, killed at some instant and resumed, comes to the very summary of one that was left alone."""

import json
import signal

import pytest

from tests.sweeps.test_resume import TINY, finish, start, summaries

RATE = "optimizer.learning_rate=tag(log,interval(0.01,1))"
TRIALS = ["hydra.sweeper.num_trials=6", RATE, "seed=0,1"]
KINDS = {
    "random": ["hydra/sweeper=random", *TRIALS, "hydra.sweeper.method=sobol"],
    "asha": [
        *("hydra/sweeper=asha", "hydra.sweeper.reduction=2", *TRIALS),
        *("trainer.max_epochs=4", "sweep.max_parallel=4"),
    ],
    "programs": [  # two of them, which halving could not judge together
        *("hydra/sweeper=asha", "trainer.batch_size=20,50", "optimizer.learning_rate=0.05,0.1,0.2"),
        *("seed=0,1", "trainer.max_epochs=4"),
    ],
    "hyperband": ["hydra/sweeper=hyperband", *TRIALS, "trainer.max_epochs=4"],
    "optuna": ["hydra/sweeper=optuna_batch", *TRIALS, "hydra.sweeper.batch_size=3", "hydra.sweeper.sampler=qmc"],
    "folds": ["data.folds=4", "data.fold=range(4)", "optimizer.learning_rate=0.05,0.1,0.2"],
}
INSTANTS = [("asha", "metrics", 11)]
ALL_INSTANTS = [
    *(("asha", "metrics", count) for count in (1, 5, 6, 7, 8, 9, 10, 13, 16)),
    *(("asha", "ledger", count) for count in (13, 19, 25, 31)),
    *(("programs", "metrics", count) for count in (5, 15)),
    *(("hyperband", "metrics", count) for count in (3, 13, 17)),
    *((kind, "metrics", count) for kind in ("random", "optuna", "folds") for count in (5, 14)),
    *((kind, "ledger", count) for kind in ("random", "optuna", "folds") for count in (3, 20)),
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A function that returns the directory of a sweep that was left alone, and its output."""
    folder, known = tmp_path_factory.mktemp("sweeps"), {}

    def run(kind):
        if kind not in known:
            code, output = finish(start(folder, "train", "-m", *TINY, *KINDS[kind], f"hydra.sweep.dir={kind}"))
            assert code == 0, output
            known[kind] = folder / kind, output
        return known[kind]

    return run


def check_killed_and_resumed(kind, when, count, whole):
    directory, _ = whole(kind)
    name = f"{kind}-{when}-{count}"
    command = ["train", "-m", *TINY, *KINDS[kind], f"hydra.sweep.dir={name}"]
    code, output = finish(start(directory.parent, *command, when=when, count=count))
    assert code == -signal.SIGKILL, output
    code, output = finish(start(directory.parent, "resume", name))
    assert code == 0, output
    assert summaries(directory.parent / name) == summaries(directory)


@pytest.mark.parametrize(("kind", "when", "count"), INSTANTS)
def test_killed_and_resumed(kind, when, count, whole):
    check_killed_and_resumed(kind, when, count, whole)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "when", "count"), ALL_INSTANTS)
def test_killed_and_resumed_at_other_instants(kind, when, count, whole):
    check_killed_and_resumed(kind, when, count, whole)


def test_asha_stops_configurations_with_all_their_seeds_at_a_rung(whole):
    directory, output = whole("asha")
    jobs = json.loads((directory / "summary.json").read_text())["jobs"]
    assert len(jobs) == 12
    epochs = [job["epochs"] for job in jobs]
    assert epochs[::2] == epochs[1::2]
    assert {job["epochs"] for job in jobs if job["stopped_by"] == "pruned"} <= {1, 2}
    assert 4 in epochs
    assert f"12 jobs: 12 done, {sum(each < 4 for each in epochs)} of them pruned" in output
