"""Sweeps from their command line to their directory."""

import json
import platform
import re
import shlex
import sys
from datetime import datetime
from pathlib import Path

import jax
import pytest
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins

from lenet_jax.cli import main
from lenet_jax.hydra_app import sweep as sweeps
from lenet_jax.runs import group
from lenet_jax.storage import dump_with_digest, load_verified
from lenet_jax.sweeps import optuna_batch
from lenet_jax.sweeps.ledger import Ledger
from tests.faults.training import without_times

TINY = ["model._target_=tests.linear.linear", "trainer.max_epochs=2", "data.train_size=200"]

pytestmark = pytest.mark.usefixtures("in_an_empty_folder")


@pytest.fixture(autouse=True)
def allowed(monkeypatch):
    monkeypatch.setenv("LENET_JAX_ALLOW", "tests")


def sweep(*arguments, directory="sweep"):
    return main(["train", "-m", *TINY, f"hydra.sweep.dir={directory}", *arguments])


def refused(capsys, *arguments):
    capsys.readouterr()
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err.removeprefix("lenet-jax: ").rstrip("\n")


def read(path):
    return json.loads(path.read_text())


def states(directory):
    paths = sorted((directory / "jobs").iterdir(), key=lambda path: int(path.stem))
    return [read(path)["state"] for path in paths]


def test_a_job_has_the_files_and_the_result_of_the_run_alone(tmp_path, capsys):
    assert sweep("seed=3,4", "optimizer.learning_rate=0.1,0.2") == 0
    assert "4 jobs: 4 done" in capsys.readouterr().out
    alone = ["seed=4", "optimizer.learning_rate=0.1"]
    assert main(["train", *TINY, *alone, "hydra.run.dir=alone"]) == 0
    job, run = tmp_path / "sweep" / "2", tmp_path / "alone"
    assert {path.relative_to(job) for path in job.rglob("*")} == {path.relative_to(run) for path in run.rglob("*")}
    assert without_times(read(job / "result.json")) == without_times(read(run / "result.json"))
    assert read(job / "run.json")["config"] == read(run / "run.json")["config"]
    assert (job / ".hydra" / "config.yaml").read_text() == (run / ".hydra" / "config.yaml").read_text()
    assert (job / ".hydra" / "overrides.yaml").read_text().split() == " - ".join(["", *TINY, *alone]).split()
    log = (job / "train.log").read_text()
    assert "validation loss" in log
    assert "test accuracy" in log


def test_jobs_with_one_signature_share_a_program(monkeypatch):
    compiled = []

    def count(prepared, **options):
        compiled.append(options)
        return compile_programs(prepared, **options)

    compile_programs = group.compile_programs
    monkeypatch.setattr(group, "compile_programs", count)
    assert sweep("seed=0,1", "optimizer.learning_rate=0.1,0.2", "trainer.batch_size=20,50") == 0
    assert len(compiled) == 2


def test_other_launchers_come_to_the_same_summary(tmp_path):
    grid = ["seed=0,1", "optimizer.learning_rate=0.1,1e38"]
    assert sweep(*grid) == 1
    assert sweep(*grid, "hydra/launcher=basic", "hydra/sweeper=basic", directory="basic") == 1
    assert states(tmp_path / "basic") == ["done", "diverged", "done", "diverged"]
    for name in ("summary.json", "summary.csv"):
        assert (tmp_path / "sweep" / name).read_bytes() == (tmp_path / "basic" / name).read_bytes()


def test_a_failed_job_does_not_lose_the_others_and_is_run_again_when_asked(tmp_path, capsys):
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "1").touch()  # where a directory should be
    assert sweep("seed=0,1,2") == 1
    assert states(tmp_path / "sweep") == ["done", "failed", "done"]
    out = capsys.readouterr().out
    assert "3 jobs: 2 done, 1 failed" in out
    assert f"lenet-jax train {' '.join(TINY)} seed=1" in out

    (tmp_path / "sweep" / "1").unlink()
    assert main(["resume", "sweep"]) == 1
    assert states(tmp_path / "sweep") == ["done", "failed", "done"]
    assert main(["resume", "sweep", "--retry-failed"]) == 0
    assert states(tmp_path / "sweep") == ["done", "done", "done"]


@pytest.mark.parametrize("launcher", ["lanes", "basic"])
def test_a_failed_job_stops_the_others_when_asked(launcher, tmp_path, monkeypatch):
    def fail(*args, **options):
        raise jax.errors.JaxRuntimeError("INTERNAL: no such luck")

    monkeypatch.setattr(group, "compile_programs", fail)
    arguments = ["seed=0", "trainer.batch_size=20,50,100", "sweep.on_failure=stop", f"hydra/launcher={launcher}"]
    assert sweep(*arguments) == 1
    monkeypatch.undo()
    assert states(tmp_path / "sweep")[0] == "failed"
    assert "done" not in states(tmp_path / "sweep")
    assert "no such luck" in read(tmp_path / "sweep" / "jobs" / "0.json")["error"]


def test_a_changed_sweep_is_refused_and_the_key_named(tmp_path, capsys, monkeypatch):
    assert sweep("seed=0,1") == 0
    describe = sweeps._describe

    def changed(*arguments):
        described = describe(*arguments)
        return {**described, "versions": {**described["versions"], "jax": "0.1"}}

    monkeypatch.setattr(sweeps, "_describe", changed)
    message = refused(capsys, "resume", "sweep")
    assert message.startswith("`versions.jax` has changed since the sweep began, from '")
    assert message.endswith("' to '0.1'; use --allow-changed to resume anyway.")
    assert main(["resume", "sweep", "--allow-changed"]) == 0


def edit(path, change):
    """Change a file of the ledger, with a digest that fits."""
    content = load_verified(path, path.read_bytes())
    change(content)
    path.write_bytes(dump_with_digest(content))


def test_a_job_whose_configuration_is_not_that_of_the_plan_is_refused(capsys):
    assert sweep("seed=0,1") == 0
    edit(Path("sweep/jobs/1.json"), lambda entry: entry["config"]["optimizer"].update(learning_rate=7))
    assert refused(capsys, "resume", "sweep") == (
        "sweep/jobs/1.json: is damaged, config differs from that in plan.json; restore it, or remove it to run the job "
        "again."
    )


def test_a_damaged_or_foreign_ledger_is_one_line(tmp_path, capsys):
    assert sweep("seed=0,1") == 0
    before = {path: path.read_bytes() for path in (tmp_path / "sweep").rglob("*") if path.is_file()}
    message = refused(capsys, "train", "-m", *TINY, "seed=5", "hydra.sweep.dir=sweep")
    assert message.startswith("`hydra.sweep.dir` must not hold a sweep yet; sweep does: resume it by ")
    (tmp_path / "sweep" / "jobs" / "1.json").write_text('{"schema": 1')
    assert re.match(r"sweep/jobs/1\.json: must be JSON as .*; restore it, or remove it to run the job again\.$",
                    refused(capsys, "resume", "sweep"))  # fmt: skip
    after = {path: path.read_bytes() for path in before}
    assert [path.name for path in before if after[path] != before[path]] == ["1.json"]
    (tmp_path / "sweep" / "jobs" / "1.json").unlink()
    assert main(["resume", "sweep"]) == 0
    assert (tmp_path / "sweep" / "summary.json").read_bytes() == before[tmp_path / "sweep" / "summary.json"]
    (tmp_path / "sweep" / "plan.json").unlink()  # without it, jobs that have not begun would be left out
    assert refused(capsys, "resume", "sweep").startswith("sweep: has no plan.json, which lists its jobs; restore it, ")
    Ledger(tmp_path / "sweep").write_plan([])
    assert refused(capsys, "resume", "sweep").startswith("sweep: has no job in plan.json, which lists its jobs; ")


def test_a_job_that_was_killed_just_after_its_result_leaves_no_checkpoint(tmp_path):
    assert sweep("seed=0") == 0
    ledger, left = Ledger(tmp_path / "sweep"), tmp_path / "sweep" / "0" / "checkpoints" / "0000000002"
    ledger.write(ledger.entry(0)._replace(state="running", result=None))
    left.mkdir()
    assert main(["resume", "sweep"]) == 0
    assert ledger.entry(0).state == "done"
    assert not left.exists()


def test_sweeps_that_start_in_the_same_second_have_directories_of_their_own(tmp_path, monkeypatch):
    names = iter(["cccc", "aaaa", "dddd", "aaaa", "bbbb"])  # two of each sweep tell whether the name is fixed
    monkeypatch.setattr("lenet_jax.hydra_app.composition.secrets.token_hex", lambda size: next(names))
    monkeypatch.setattr("hydra.core.utils.datetime", type("Frozen", (datetime,), {"now": lambda: datetime(2026, 1, 2)}))
    from lenet_jax.hydra_app.composition import open_hydra, register_schemas

    register_schemas()
    taken = []
    for seed in range(2):
        with open_hydra() as hydra, sweeps.start_sweep(hydra, [f"seed={seed}"]) as sweep:
            taken.append(sweep.ledger.directory.name)
    assert taken == ["2026-01-02T00-00-00-aaaa", "2026-01-02T00-00-00-bbbb"]


def test_the_report_of_a_sweep_is_a_page_that_needs_no_network(tmp_path, capsys):
    assert sweep("seed=0,1", "optimizer.learning_rate=0.1,0.2") == 0
    directory = tmp_path / "sweep"
    written = (directory / "index.html").read_bytes()
    (directory / "index.html").unlink()
    assert main(["report", "sweep"]) == 0
    assert (directory / "index.html").read_bytes() == written
    assert "report: sweep/index.html" in capsys.readouterr().out
    page = (directory / "index.html").read_text()
    assert "://" not in page
    sources = re.findall(r'<a href="(figures/[^"]+)"', page)
    assert sorted(sources) == sorted(f"figures/{path.name}" for path in (directory / "figures").iterdir())
    assert sources == ["figures/learning_curves.png", "figures/effect_of_optimizer.learning_rate.png"]
    assert [f'<a href="{number}/">{number}</a>' in page for number in range(4)] == [True] * 4
    assert 'href="0/index.html"' not in page
    assert main(["report", "sweep/0"]) == main(["report", "sweep"]) == 0
    assert '<a href="0/index.html">0</a>' in (directory / "index.html").read_text()


def test_a_launcher_that_is_not_installed_says_what_installs_it(capsys, monkeypatch):
    Plugins.instance()  # has the others register what they offer
    monkeypatch.delitem(ConfigStore.instance().repo["hydra"]["launcher"], "joblib.yaml", raising=False)
    message = refused(capsys, "train", "-m", "seed=0,1", "hydra/launcher=joblib")
    assert message == f"hydra/launcher=joblib needs a package: {sys.executable} -m pip install 'lenet-jax[joblib]'."


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["hydra.sweeper.reduction=1"], "`hydra.sweeper.reduction` must be an integer, 2 or above; got 1."),
        (["hydra/launcher=basic"], "`hydra/launcher` must be lanes for hydra/sweeper=halving, "),
        (["trainer.batch_size=20,50"], "`hydra/sweeper=halving` must have jobs that differ only in seed and "),
        (["sweep.strategy=map"], "`hydra/sweeper=halving` must run its 4 jobs in parallel; got sweep.strategy=map, "),
        (
            ["sweep.max_parallel=3"],
            "`hydra/sweeper=halving` must run its 4 jobs in parallel; got sweep.strategy=auto, ",
        ),
    ],
)
def test_halving_needs_jobs_in_parallel(arguments, message, tmp_path, capsys):
    command = ["train", "-m", *TINY, "hydra/sweeper=halving", "seed=0,1,2,3", *arguments, "hydra.sweep.dir=sweep"]
    assert refused(capsys, *command).startswith(message)
    assert list(tmp_path.iterdir()) == []


def test_optuna_chooses_the_jobs_and_an_interrupted_search_goes_on(tmp_path, capsys):
    search = ["hydra/sweeper=optuna_batch", "optimizer.learning_rate=tag(log,interval(0.01,1))", "seed=1"]
    size = ["hydra.sweeper.num_trials=5", "hydra.sweeper.batch_size=2"]
    assert sweep(*search, *size) == 0
    assert states(tmp_path / "sweep") == 5 * ["done"]
    assert "best: job " in capsys.readouterr().out
    summary = (tmp_path / "sweep" / "summary.json").read_bytes()
    path = tmp_path / "sweep" / "jobs" / "4.json"
    path.write_bytes(dump_with_digest({**load_verified(path, path.read_bytes()), "state": "running", "result": None}))
    assert main(["resume", "sweep"]) == 0
    assert (tmp_path / "sweep" / "summary.json").read_bytes() == summary


def test_a_search_that_was_stopped_before_its_last_jobs_were_chosen_goes_on(tmp_path, monkeypatch):
    search = ["hydra/sweeper=optuna_batch", "optimizer.learning_rate=tag(log,interval(0.01,1))"]
    size = ["hydra.sweeper.num_trials=5", "hydra.sweeper.batch_size=2", "hydra.sweep.subdir='job ${hydra:job.num}'"]
    assert sweep(*search, *size, directory="whole") == 0

    def stop(batches, first, size):
        if first == 2:
            raise KeyboardInterrupt
        return ask(batches, first, size)

    ask = optuna_batch.Batches.ask
    with monkeypatch.context() as patch:
        patch.setattr(optuna_batch.Batches, "ask", stop)
        assert sweep(*search, *size) == 75
    assert states(tmp_path / "sweep") == 2 * ["done"]
    assert main(["resume", "sweep"]) == 0
    for name in ("summary.json", "summary.csv"):
        assert (tmp_path / "sweep" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"whole", "sweep"}
    assert {f"job {number}" for number in range(5)} <= {path.name for path in (tmp_path / "sweep").iterdir()}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "hydra/sweeper=optuna_batch must have a key to vary, as KEY=interval(a,b); got none."),
        (
            ["seed=1,2", "hydra.sweeper.sampler=tep"],
            "`hydra.sweeper.sampler` has no 'tep'; choose one of: tpe, cmaes, gp, grid, nsgaii, qmc, random.",
        ),
    ],
)
def test_a_search_that_cannot_be_leaves_nothing_behind(arguments, message, tmp_path, capsys):
    command = ["train", "-m", "hydra/sweeper=optuna_batch", *arguments, "hydra.sweep.dir=sweep"]
    assert refused(capsys, *command) == message
    assert list(tmp_path.iterdir()) == []


# ---- verified -------------------------------------------------------------------------------------------------------


def test_jobs_of_a_sweep_are_verified_and_a_damaged_one_is_named(tmp_path, capsys):
    assert sweep("seed=0,1,2") == 0
    assert main(["verify", "sweep"]) == 0
    assert "3 of 3 jobs verified" in capsys.readouterr().out
    assert all((tmp_path / "sweep" / name / "verification.json").is_file() for name in "012")
    log = tmp_path / "sweep" / "1" / "metrics.jsonl"
    log.write_bytes(log.read_bytes() + b"{}\n")
    assert main(["verify", "sweep", "--jobs", "0,2"]) == 0
    assert main(["verify", "sweep", "--jobs", "1,2"]) == 1
    out, err = capsys.readouterr()
    assert "1 of 2 jobs verified; different or damaged: 1" in out
    assert "sweep/1/metrics.jsonl: is damaged; it must have SHA-256" in err
    for command in (["report", "sweep/1"], ["report", "sweep"]):
        assert main(command) == 2
        assert "sweep/1/metrics.jsonl: is damaged; it must have SHA-256" in capsys.readouterr().err
    assert refused(capsys, "verify", "sweep", "--jobs", "3").startswith("verify: `--jobs` must be numbers of jobs")


def test_the_seconds_of_a_job_are_its_own(tmp_path):
    assert sweep("seed=range(6)", "sweep.max_parallel=1", "sweep.strategy=map") == 0
    results = [read(tmp_path / "sweep" / str(number) / "result.json") for number in range(6)]
    run = [read(tmp_path / "sweep" / str(number) / "run.json") for number in range(6)]
    # One after the other: those after the first compile nothing, and none counts the time of those before it.
    last = datetime.fromisoformat(run[5]["ended"]) - datetime.fromisoformat(run[5]["started"])
    assert results[5]["seconds"] <= last.total_seconds() + 1
    assert results[5]["seconds"] < results[0]["seconds"]
    assert results[5]["compile_seconds"] == 0
    assert shlex.split(run[0]["command"])[:3] == ["lenet-jax", "train", "-m"]
    assert run[0]["host"] == platform.node()
