import json
import multiprocessing

import pytest

from lenet_jax.errors import InputError
from lenet_jax.runs.provenance import differences
from lenet_jax.sweeps.groups import SweepJob, register, to_entry
from lenet_jax.sweeps.ledger import DONE, PENDING, RUNNING, Entry, Ledger, this_process
from tests.runs.small import make_config

IDENTITY = {
    **{"arguments": ["seed=1,2"], "config_name": "config", "folders": {}},
    **{"base": {"seed": 0}, "code": {}, "versions": {}, "data": []},
}
ENTRY = Entry(3, ["seed=1"], "3", {"seed": 1})


@pytest.fixture
def ledger(tmp_path):
    return Ledger.create(tmp_path / "sweep", IDENTITY)


def test_what_is_entered_is_read_back_in_the_order_of_the_numbers(ledger):
    entries = [
        Entry(10, ["seed=2"], "10", {"seed": 2}, DONE, result={"test_accuracy": 0.5}),
        ENTRY._replace(state=RUNNING, owner=this_process()),
        Entry(4, ["seed=3"], "4", {"seed": 3}),
    ]
    for entry in entries:
        ledger.write(entry)
    again = Ledger(ledger.directory)
    assert again.identity["arguments"] == ["seed=1,2"]
    assert [entry.number for entry in again.entries()] == [3, 4, 10]
    assert again.entry(10) == entries[0]
    assert again.entry(3) == entries[1]
    assert again.entry(5) is None


def test_a_state_replaces_the_one_before(ledger):
    ledger.write(ENTRY)
    ledger.write(ENTRY._replace(state=DONE))
    assert [entry.state for entry in ledger.entries()] == [DONE]
    assert ENTRY.state == PENDING


def test_numbers_that_are_not_finite_are_null(ledger):
    ledger.write(ENTRY._replace(result={"test_loss": float("nan")}))
    assert ledger.entry(3).result == {"test_loss": None}


def test_a_directory_holds_one_sweep(ledger):
    with pytest.raises(InputError, match=r"must not hold a sweep yet; .* lenet-jax resume "):
        Ledger.create(ledger.directory, IDENTITY)


@pytest.mark.parametrize("name", ["plan.json", "jobs/3.json", "optuna.journal", ".launches/0.jsonl"])
def test_what_is_left_of_another_sweep_is_not_counted_as_jobs_of_a_new_one(name, tmp_path):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("{}")
    left = name.removesuffix("/0.jsonl")
    with pytest.raises(InputError, match=rf"must not hold jobs of another sweep; .* has {left} without sweep\.json; "):
        Ledger.create(tmp_path, IDENTITY)
    assert not (tmp_path / "sweep.json").exists()


def test_a_directory_without_a_sweep_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"must be the directory of a sweep, with a sweep\.json in it; got "):
        Ledger(tmp_path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "Expecting value"),
        (b'{"schema": 1, "number": 3', "Expecting ',' delimiter"),
        (b"\xff\xfe", "'utf-8' codec can't decode|Expecting|BOM|truncated"),
        (b"[]", "an object of schema 1"),
        (b'{"schema": 2}', "an object of schema 1"),
        (b'{"schema": 1, "number": 3}', "no 'overrides'"),
        (json.dumps({"schema": 1, **ENTRY._asdict(), "state": "asleep"}).encode(), "number 3, state 'asleep'"),
        (json.dumps({"schema": 1, **ENTRY._asdict(), "number": 4}).encode(), "number 4, state 'pending'"),
    ],
)
def test_a_damaged_file_is_named(content, reason, ledger):
    ledger.write(ENTRY)
    path = ledger.directory / "jobs" / "3.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"jobs/3\.json: .*({reason}).*; restore it, or remove it"):
        ledger.entries()


def test_a_damaged_identity_is_named(ledger):
    (ledger.directory / "sweep.json").write_text("{")
    with pytest.raises(InputError, match=r"sweep\.json: must be JSON .*; restore it\."):
        Ledger(ledger.directory)


def _try_to_lock(directory, answers):
    try:
        with Ledger(directory).locked():
            answers.put("taken")
    except InputError as error:
        answers.put(str(error))


def test_a_sweep_is_worked_on_by_one_process(ledger):
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()

    def ask():
        process = context.Process(target=_try_to_lock, args=(ledger.directory, answers))
        process.start()
        answer = answers.get(timeout=60)
        process.join()
        return answer

    with ledger.locked():
        assert ask().endswith("in use by another process, which works on this sweep; wait until it exits.")
    assert ask() == "taken"


def test_differences_have_their_full_keys():
    then = {"a": {"b": 1, "c": [1, 2]}, "d": 3}
    now = {"a": {"b": 2, "c": [1, 2], "e": 4}}
    assert list(differences(then, now)) == [("a.b", 1, 2), ("a.e", None, 4), ("d", 3, None)]
    assert list(differences(then, then)) == []


def test_a_job_that_an_older_edition_has_planned_keeps_its_recorded_configuration(ledger):
    config = make_config()
    job = SweepJob(3, ("seed=1",), config, ledger.directory / "3")
    planned = to_entry(job, ledger)
    del planned.config["trainer"]["running_metrics"]  # an option that was added since
    ledger.write_plan([planned])
    for _ in range(2):
        assert register([job], ledger) == {3}
        assert ledger.known_entries() == [planned]
