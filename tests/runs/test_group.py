"""Jobs in lanes: more jobs than lanes, each recorded as if it ran alone."""

import json

import jax
import jaxtyping
import pytest

from lenet_jax.config import EarlyStoppingConfig
from lenet_jax.runs import Evaluated, Failed, Finished, group
from lenet_jax.runs.group import Job
from lenet_jax.runs.prepared_run import prepare_run
from lenet_jax.runs.programs import compile_programs
from tests.faults.training import without_times
from tests.linear import put_in_place_of_lenet
from tests.runs.small import component, make_config, run_whole

pytestmark = pytest.mark.usefixtures("without_type_checks")

STOPPING = EarlyStoppingConfig(patience=6, patience_increase=1)


def make_jobs(path):
    """Ten runs that end at different times, one of them by diverging."""
    rates = [0.1, 0.2, 1e-6, 0.05, 1e38, 0.3, 1e-7, 0.1, 0.02, 0.4]
    return [
        Job(
            make_config(
                seed,
                component("optimizer", "momentum", learning_rate=rate, momentum=seed / 12),
                STOPPING,
                max_epochs=4,
            ),
            path / str(seed),
        )
        for seed, rate in enumerate(rates)
    ]


def run_jobs(path, **options):
    """Run the jobs in a folder; yield their events."""
    jobs = make_jobs(path)
    return group.run_jobs(jobs, prepare_run(jobs[0].config), **options)


def results(path):
    """Return result.json and metrics.jsonl of each job, without times."""
    found = []
    for number in range(10):
        result = json.loads((path / str(number) / "result.json").read_text())
        lines = [json.loads(line) for line in (path / str(number) / "metrics.jsonl").read_text().splitlines()]
        found.append([without_times(each) for each in (result, *lines)])
    return found


@pytest.fixture(scope="module", autouse=True)
def alone(tmp_path_factory):
    """What each job comes to alone; the model is a small one in all tests here."""
    path = tmp_path_factory.mktemp("alone")
    with pytest.MonkeyPatch.context() as patch:
        put_in_place_of_lenet(patch)
        with pytest.MonkeyPatch.context() as unchecked:
            unchecked.setattr(jaxtyping.config, "jaxtyping_disable", True)
            for job in make_jobs(path):
                run_whole(job.config, job.path)
        yield results(path)


@pytest.mark.parametrize(("strategy", "num_lanes"), [("map", 1), ("devices", 1), ("devices", 4)])
def test_ten_jobs_in_few_lanes_are_bit_for_bit_the_runs_alone(strategy, num_lanes, alone, tmp_path):
    events = list(run_jobs(tmp_path, strategy=strategy, num_lanes=num_lanes))
    assert sorted(number for number, event in events if isinstance(event, Finished)) == list(range(10))
    assert results(tmp_path) == alone
    assert len({result["iterations"] for result, *_ in alone}) > 1
    assert alone[4][0]["stopped_by"] == "diverged"


def test_vmapped_jobs_are_the_runs_alone_within_rounding(alone, tmp_path):
    list(run_jobs(tmp_path, strategy="vmap", num_lanes=4))
    for (ours, *lines), (theirs, *expected) in zip(results(tmp_path), alone, strict=True):
        assert (ours["iterations"], ours["stopped_by"]) == (theirs["iterations"], theirs["stopped_by"])
        assert ours["test_loss"] == pytest.approx(theirs["test_loss"], rel=1e-4)
        assert len(lines) == len(expected)


def test_where_the_memory_is_too_small_half_as_many_are_tried(alone, tmp_path, monkeypatch):
    tried = []

    def compile_small(*args, num_lanes, **options):
        programs = compile_programs(*args, num_lanes=num_lanes, **options)
        steps = iter(range(1000))

        def advance_if_it_fits(*args):
            tried.append(num_lanes)
            if num_lanes > 2 and next(steps) == 1:  # some evaluations are written by then
                raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 99 bytes.")
            return programs.advance(*args)

        return programs._replace(advance=advance_if_it_fits)

    monkeypatch.setattr(group, "compile_programs", compile_small)
    list(run_jobs(tmp_path, strategy="devices", num_lanes=4))
    assert results(tmp_path) == alone
    assert tried[:3] == [4, 4, 2]
    assert 4 not in tried[2:]


def test_another_error_of_a_program_ends_the_jobs(tmp_path, monkeypatch):
    def compile_broken(*args, **options):
        raise jax.errors.JaxRuntimeError("INTERNAL: no such luck")

    monkeypatch.setattr(group, "compile_programs", compile_broken)
    with pytest.raises(jax.errors.JaxRuntimeError, match="no such luck"):
        list(run_jobs(tmp_path, strategy="devices", num_lanes=4))


def test_a_job_that_cannot_be_written_does_not_lose_the_others(tmp_path):
    (tmp_path / "3").touch()  # where a directory should be
    events = list(run_jobs(tmp_path, strategy="devices", num_lanes=2))
    ((number, failed),) = [(number, event) for number, event in events if isinstance(event, Failed)]
    assert number == 3
    assert isinstance(failed.error, OSError)
    assert sorted(number for number, event in events if isinstance(event, Finished)) == [0, 1, 2, *range(4, 10)]


@pytest.mark.parametrize(("strategy", "num_lanes"), [("map", 1), ("devices", 10), ("vmap", 3)])
def test_a_pruned_job_ends_where_it_is_and_leaves_the_others_as_they_are(strategy, num_lanes, alone, tmp_path):
    pruned = set()
    for number, event in run_jobs(tmp_path, strategy=strategy, num_lanes=num_lanes, should_prune=pruned.__contains__):
        if number in (0, 8) and isinstance(event, Evaluated) and event.record["iteration"] == 3:
            pruned.add(number)
    for number, ((ours, *lines), (theirs, *expected)) in enumerate(zip(results(tmp_path), alone, strict=True)):
        if number in pruned:
            assert (ours["stopped_by"], ours["iterations"]) == ("pruned", 3)
            assert len(lines) == 2
        elif strategy != "vmap":
            assert [ours, *lines] == [theirs, *expected]
        else:
            assert ours["stopped_by"] == theirs["stopped_by"]
    assert pruned == {0, 8}
