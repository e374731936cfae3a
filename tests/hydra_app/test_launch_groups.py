"""Groups of a sweep as tasks: how they are divided, and what becomes of those that are lost."""

import dataclasses
import json
from collections import Counter
from pathlib import Path

import pytest

from lenet_jax.cli import main
from lenet_jax.config import Config, SweepConfig
from lenet_jax.hydra_app import engine_choice, run_group
from lenet_jax.hydra_app.group_worker import GroupTask
from lenet_jax.hydra_app.launch_groups import MAX_JOBS, MAX_LOSSES, divide
from lenet_jax.runs import Evaluated
from lenet_jax.sweeps.groups import SweepJob
from lenet_jax.sweeps.ledger import DONE, FAILED, PENDING, Ledger
from tests.linear import put_in_place_of_lenet

SWEEP = ["train", "-m", "data.train_size=200", "trainer.max_epochs=3", "trainer.batch_size=20,25", "seed=0,1"]


# ---- tasks ----------------------------------------------------------------------------------------------------------


def make_jobs(sizes):
    """Return jobs of several groups, which differ in their batch size."""
    trainer = Config().trainer
    configs = [
        Config(seed=seed, trainer=dataclasses.replace(trainer, batch_size=10 + group))
        for group, size in enumerate(sizes)
        for seed in range(size)
    ]
    return [SweepJob(number, (), config, Path(str(number))) for number, config in enumerate(configs)]


@pytest.mark.parametrize(
    ("sizes", "max_parallel", "num_workers", "expected"),
    [
        ([5, 2], None, None, [(0, 1, 2, 3, 4), (5, 6)]),  # a queue of its own: whole groups
        ([5, 2], 2, None, [(0, 1), (2, 3), (4,), (5, 6)]),
        ([5, 2], None, 2, [(0, 1, 2), (3, 4), (5,), (6,)]),  # a part for each process
        ([5, 2], 4, 2, [(0, 1, 2, 3), (4,), (5, 6)]),
        ([1], None, 8, [(0,)]),
    ],
)
def test_a_task_is_a_group_or_an_equal_part_of_one(sizes, max_parallel, num_workers, expected):
    tasks = divide(make_jobs(sizes), SweepConfig(max_parallel=max_parallel), num_workers)
    assert [task.jobs for task in tasks] == expected


def test_a_task_has_no_more_jobs_than_a_process_can_lock(monkeypatch):
    monkeypatch.setattr("lenet_jax.hydra_app.launch_groups.by_signature", lambda jobs: {"": jobs})
    jobs = [SweepJob(number, (), Config(), Path()) for number in range(MAX_JOBS + 1)]
    assert [len(task.jobs) for task in divide(jobs, SweepConfig(), None)] == [MAX_JOBS, 1]


# ---- a sweep --------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """As kill -9: nothing handles it."""


class Gone(Exception):
    pass


class Ended:
    """A future that has ended."""

    def __init__(self, error=None):
        self.error = error

    def done(self):
        return True

    def result(self):
        if self.error is not None:
            raise self.error
        return True

    def cancel(self):
        pass


class Scripted:
    """An engine in this process, whose first tasks are killed after some evaluations each."""

    lost = (Gone,)

    def __init__(self, monkeypatch, kills, num_workers=None):
        self.kills, self.num_workers, self.started = list(kills), num_workers, Counter()
        write = run_group.JournalWriter.write

        def write_and_die(journal, number, event):
            write(journal, number, event)
            self.left -= isinstance(event, Evaluated)
            if self.left == 0:
                raise Killed

        monkeypatch.setattr(run_group.JournalWriter, "write", write_and_die)

    def start(self, function, tasks):
        return [self._start(function, task) for task in tasks]

    def close(self):
        pass

    def _start(self, function, task):
        self.started[task] += 1
        self.left = self.kills.pop(0) if self.kills else -1
        if self.left == 0:
            return Ended(Gone("killed before it began"))
        try:
            run_group.run_group(task, function.launch)
        except Killed:
            return Ended(Gone("killed"))
        return Ended()


@pytest.fixture
def script(monkeypatch, in_an_empty_folder):
    """Returns a function that has a scripted engine carry the tasks of the launcher `joblib`."""
    put_in_place_of_lenet(monkeypatch)
    monkeypatch.setattr("lenet_jax.hydra_app.launch_groups._SECONDS", 0.0)

    def script(*kills, num_workers=None):
        engine = Scripted(monkeypatch, kills, num_workers)
        monkeypatch.setattr(engine_choice, "ENGINES", {**engine_choice.ENGINES, "JoblibLauncher": lambda _: engine})
        return engine

    return script


def carried(*arguments, directory):
    return main([*SWEEP, *arguments, "hydra/launcher=joblib", f"hydra.sweep.dir={directory}"])


def states(directory):
    return [entry.state for entry in Ledger(Path(directory)).entries()]


def test_groups_whose_processes_are_killed_go_on_to_the_same_bits(script, tmp_path, capsys):
    assert main([*SWEEP, "hydra.sweep.dir=whole"]) == 0
    engine = script(2, 0, 3, 1)
    assert carried(directory="killed") == 0
    assert engine.started == {GroupTask((0, 1)): 3, GroupTask((2, 3)): 3}
    assert capsys.readouterr().err.count("they go on in another one\n") == 4
    for name in ("summary.json", "summary.csv"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    for number in range(4):
        ends = [json.loads((tmp_path / name / str(number) / "result.json").read_text()) for name in ("whole", "killed")]
        assert ends[0]["state_sha256"] == ends[1]["state_sha256"]
        log = (tmp_path / "killed" / str(number) / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line).get("epoch") for line in log] == [None, 1, 2, 3]
    assert not (tmp_path / "killed" / ".launches").exists()


def test_a_group_that_gets_no_further_fails_and_can_be_tried_again_by_another_launcher(script, tmp_path, capsys):
    script(*[0] * (2 * MAX_LOSSES - 1))  # the first task has one loss more than the other, which then ends
    assert carried(directory="lost") == 1
    assert states("lost") == [FAILED, FAILED, DONE, DONE]
    (error,) = {entry.error for entry in Ledger(Path("lost")).entries() if entry.state == FAILED}
    assert error == (
        f"the process is gone (Gone: killed before it began), {MAX_LOSSES} times in a row without an evaluation more; "
        "see its log, then resume with --retry-failed."
    )
    assert f"failed: {error}" in capsys.readouterr().out
    assert main(["resume", "lost", "hydra/launcher=lanes", "--retry-failed"]) == 0
    assert states("lost") == [DONE] * 4


def test_a_failure_leaves_the_other_groups_pending_if_the_sweep_is_to_stop(script, monkeypatch):
    monkeypatch.setattr("lenet_jax.hydra_app.launch_groups.MAX_LOSSES", 1)
    script(0, num_workers=1)
    assert carried("sweep.on_failure=stop", "sweep.max_parallel=2", directory="stopped") == 1
    assert states("stopped") == [FAILED, FAILED, PENDING, PENDING]


@pytest.mark.usefixtures("in_an_empty_folder")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["hydra.launcher.n_jobs=2"],
            "options of a launcher must come with its name, as hydra/launcher=joblib; got hydra.launcher.n_jobs=2.",
        ),
        (
            ["hydra/launcher=lanes", "seed=3"],
            "a sweep is resumed as it began, or by another launcher, as hydra/launcher=joblib; got seed=3; train anew "
            "with other options.",
        ),
    ],
)
def test_only_the_launcher_of_a_sweep_can_be_another_one(arguments, message, capsys):
    main(["train", "-m", "data.train_size=200", "trainer.max_epochs=1", "seed=0,1", "hydra.sweep.dir=s"])
    capsys.readouterr()
    assert main(["resume", "s", *arguments]) == 2
    assert capsys.readouterr().err == f"lenet-jax: resume: {message}\n"


@pytest.mark.usefixtures("in_an_empty_folder")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["hydra.launcher.timeout=3"],
            "`hydra.launcher.timeout` must be null, as a group goes on from its checkpoints and is not given up; got "
            "3.0; stop the sweep by Ctrl-C, and resume it.",
        ),
        (
            ["hydra/sweeper=optuna_batch", "hydra.sweeper.pruner=median", "optimizer.learning_rate=interval(0.1,0.2)"],
            "`hydra.sweeper.pruner` must be none with a launcher other than lanes, whose jobs do not run in step; got "
            "median.",
        ),
    ],
)
def test_what_cannot_be_kept_is_refused_before_anything_is_written(arguments, message, capsys, tmp_path):
    assert main(["train", "-m", "seed=0,1", "hydra/launcher=joblib", *arguments]) == 2
    assert capsys.readouterr().err == f"lenet-jax: {message}\n"
    assert list(tmp_path.iterdir()) == []
