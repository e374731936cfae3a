"""A run waits for no tracker: they are told in threads, with a limit on what may be pending and on the end."""

import functools
import json
import threading
import time

import pytest

from lenet_jax.cli import main
from lenet_jax.components import complete_config
from lenet_jax.config import Config
from lenet_jax.config.catalogue import TARGET
from lenet_jax.runs import Evaluated, Failed, Finished, Interrupted, Started
from lenet_jax.runs.run_directory import read_record
from lenet_jax.trackers import delivery, tracked
from lenet_jax.trackers.delivery import Delivery

told = []
gate = threading.Event()  # until it is set, the tracker `held` hangs


def recorder(directory):
    """Return a tracker that keeps its events in `told`, with the name of the run's directory."""
    return lambda event: told.append((directory.rpartition("/")[2], event))


def held():
    """Return a tracker that hangs until the gate of its test is set."""
    own_gate, own_told = gate, told

    def track(event):
        own_gate.wait()
        own_told.append(event)

    return track


def failing():
    """Return a tracker that fails at once."""

    def track(event):
        raise OSError(28, "No space left on device")

    return track


@pytest.fixture(autouse=True)
def nothing_of_other_tests(monkeypatch):
    """A list and a gate of its own: what hung in another test still has those."""
    monkeypatch.setitem(globals(), "told", [])
    monkeypatch.setitem(globals(), "gate", threading.Event())
    monkeypatch.setattr(delivery, "_hanging", set())
    yield
    gate.set()


def make_config(*names):
    return complete_config(Config(trackers={name: {TARGET: f"{__name__}.{name}"} for name in names}))


STARTED = Started(Config(), 200, 10, 2, "cpu")
LINES = [Evaluated({"epoch": epoch}) for epoch in range(5)]


def test_a_tracker_is_made_at_the_first_event(tmp_path):
    with Delivery() as deliveries:
        assert not deliveries._threads
        deliveries.notify(make_config("recorder"), tmp_path / "a", LINES[0])
    assert told == [("a", LINES[0])]


def test_a_step_does_not_wait_for_a_tracker(tmp_path):
    with Delivery() as deliveries:
        start = time.monotonic()
        for event in (STARTED, *LINES):
            deliveries.notify(make_config("held"), tmp_path, event)
        assert time.monotonic() - start < 1
        assert told == []
        gate.set()
    assert told == [STARTED, *LINES, Interrupted()]


def test_the_end_waits_for_a_slow_tracker(tmp_path):
    threading.Timer(0.3, gate.set).start()
    with Delivery() as deliveries:
        deliveries.notify(make_config("held"), tmp_path, LINES[0])
    assert told == LINES[:1]


def test_the_end_does_not_wait_for_one_that_hangs(tmp_path, caplog):
    start = time.monotonic()
    with Delivery(end_seconds=0.2) as deliveries:
        deliveries.notify(make_config("held"), tmp_path, LINES[1])
    assert time.monotonic() - start < 2
    assert caplog.messages == ["`trackers.held` was not done 0.2 s after the end"]


def test_one_that_hangs_takes_no_time_from_the_others(tmp_path, caplog):
    with Delivery(end_seconds=0.5) as deliveries:
        deliveries.notify(make_config("held", "recorder"), tmp_path / "a", LINES[0])
    assert told == [("a", LINES[0])]
    assert caplog.messages == ["`trackers.held` was not done 0.5 s after the end"]


def test_a_process_waits_once_for_a_tracker_that_hangs(tmp_path, caplog):
    for _ in range(2):
        with Delivery(end_seconds=0.1) as deliveries:
            deliveries.notify(make_config("held"), tmp_path, LINES[0])
    assert len(caplog.messages) == 1


def test_a_tracker_that_is_too_far_behind_gets_no_more_and_has_no_gap(tmp_path, caplog):
    with Delivery(queue_size=2) as deliveries:
        for event in LINES:
            deliveries.notify(make_config("held"), tmp_path, event)
            time.sleep(0.1)  # the first one is taken from the queue
        gate.set()
    assert told == LINES[:3]
    assert caplog.messages == ["`trackers.held` is 2 events behind and gets no more of them"]


def test_runs_have_trackers_of_their_own_and_one_that_fails_is_no_other_ones(tmp_path, caplog):
    finished, failed = Finished({}, tmp_path), Failed(ValueError("a"))
    with Delivery() as deliveries:
        for name, event in (("a", STARTED), ("b", STARTED), ("a", finished), ("b", LINES[0]), ("c", failed)):
            deliveries.notify(make_config("recorder", "failing"), tmp_path / name, event)
    assert told == [
        *(("a", STARTED), ("b", STARTED), ("a", finished), ("b", LINES[0]), ("c", failed)),
        ("b", Interrupted()),  # the only one that has neither finished nor failed
    ]
    reason = "`trackers.failing` failed and gets no more events: OSError: [Errno 28] No space left on device"
    assert caplog.messages == 3 * [reason]


def test_a_run_that_is_interrupted_ends_for_its_trackers_too(tmp_path):
    events = tracked([STARTED, *LINES], make_config("recorder"), tmp_path / "a")
    next(events)
    with pytest.raises(KeyboardInterrupt):
        events.throw(KeyboardInterrupt)
    assert told == [("a", STARTED), ("a", Interrupted())]


def test_a_warning_of_a_built_in_tracker_says_how_to_record_what_it_lacks(tmp_path, caplog):
    target = "lenet_jax.trackers.csv_file.csv_file"
    config = complete_config(Config(trackers={TARGET: target}))
    with Delivery() as deliveries:
        deliveries.notify(config, tmp_path / "missing", LINES[0])
    (message,) = caplog.messages
    assert message.startswith("`trackers` failed and gets no more events: FileNotFoundError: ")
    assert message.endswith("; what it lacks: lenet-jax log DIR --to csv")


TINY = ["model._target_=tests.linear.linear", "data.train_size=200", "trainer.max_epochs=2"]


@pytest.mark.usefixtures("in_an_empty_folder")
@pytest.mark.parametrize("name", ["held", "failing"])
def test_a_run_with_a_tracker_that_hangs_or_fails_is_the_run_without_it(name, tmp_path, monkeypatch, capfd):
    impatient = functools.partial(Delivery, queue_size=3, end_seconds=0.2)
    for module in ("trackers", "hydra_app.lanes"):
        monkeypatch.setattr(f"lenet_jax.{module}.Delivery", impatient)
    own = f"trackers.own._target_={__name__}.{name}"
    assert main(["train", *TINY, "hydra.run.dir=without"]) == 0
    assert main(["train", *TINY, own, "hydra.run.dir=with"]) == 0
    assert main(["train", "-m", *TINY, own, "seed=0,1", "hydra.sweep.dir=sweep"]) == 0
    capfd.readouterr()
    results = [json.loads((tmp_path / name / "result.json").read_text()) for name in ("without", "with", "sweep/0")]
    assert len({result["parameters_sha256"] for result in results}) == 1
    assert len({result["state_sha256"] for result in results}) == 1
    assert [line["validation_accuracy"] for line in read_record(tmp_path / "with").metrics] == [
        line["validation_accuracy"] for line in read_record(tmp_path / "without").metrics
    ]
