"""What trackers are told, and what becomes of one that fails."""

import pytest

from lenet_jax.components import complete_config
from lenet_jax.config import Config
from lenet_jax.config.catalogue import TARGET, built_in
from lenet_jax.environment import install_command
from lenet_jax.errors import InputError
from lenet_jax.runs import Evaluated, Finished, Started
from lenet_jax.trackers import check_installed, delivery, tracked

told = []


def recorder(directory, name="recorder"):
    """Return a tracker that keeps its events in `told`."""
    told.append((name, directory))
    return lambda event: told.append((name, event))


def failing_at(number):
    """Return a tracker that fails at its event of a number, from 0."""
    count = iter(range(100))

    def track(event):
        told.append(("failing", event))
        if next(count) == number:
            raise RuntimeError("no network")

    return track


def not_to_be_had():
    """Fail as a tracker whose server is not reached."""
    raise ConnectionError("no server")


def node(name, /, **options):
    return {TARGET: f"{__name__}.{name}", **options}


def events(config, directory):
    return [
        Started(config, 200, 10, 2, "cpu"),
        Evaluated({"epoch": 1, "validation_accuracy": 0.5}),
        Finished({"test_accuracy": 0.5}, directory),
    ]


def make_config(nodes):
    told.clear()
    return complete_config(Config(trackers=nodes))


def test_each_tracker_gets_the_directory_and_each_event_in_its_order(tmp_path):
    config = make_config({"a": node("recorder", name="a"), "b": node("recorder", name="b")})
    expected = events(config, tmp_path)
    assert list(tracked(expected, config, tmp_path)) == expected
    assert [each for each in told if each[0] == "a"] == [("a", str(tmp_path)), *(("a", event) for event in expected)]
    assert [each for each in told if each[0] == "b"] == [("b", str(tmp_path)), *(("b", event) for event in expected)]


def test_a_run_without_trackers_is_what_it_was(tmp_path):
    config = make_config({})
    expected = events(config, tmp_path)
    assert list(tracked(expected, config, tmp_path)) == expected


def test_a_single_one_and_a_list_are_trackers_too(tmp_path):
    for nodes in (node("recorder"), [node("recorder")]):
        config = make_config(nodes)
        list(tracked(events(config, tmp_path), config, tmp_path))
        assert len(told) == 4


def test_a_tracker_that_fails_gets_no_more_events_and_the_others_do(tmp_path, caplog):
    config = make_config({"bad": node("failing_at", number=1), "good": node("recorder")})
    expected = events(config, tmp_path)
    assert list(tracked(expected, config, tmp_path)) == expected
    assert [event for name, event in told if name == "failing"] == expected[:2]
    assert [event for name, event in told if name == "recorder"][1:] == expected
    assert caplog.messages == ["`trackers.bad` failed and gets no more events: RuntimeError: no network"]
    assert caplog.records[0].name == delivery.__name__


def test_a_tracker_that_cannot_be_made_is_left_out_and_the_run_goes_on(tmp_path, caplog):
    config = make_config([node("not_to_be_had"), node("recorder")])
    expected = events(config, tmp_path)
    assert list(tracked(expected, config, tmp_path)) == expected
    assert len(told) == 4
    assert caplog.messages == ["`trackers[0]` failed and gets no more events: ConnectionError: no server"]


@pytest.mark.parametrize(
    ("name", "module"), [("tensorboard", "tensorboardX"), ("mlflow", "mlflow"), ("wandb", "wandb")]
)
def test_a_missing_package_is_named_with_the_command_that_installs_it(name, module, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda module: None)
    check_installed([Config(trackers=built_in("trackers")["csv"])])
    with pytest.raises(InputError) as refused:
        check_installed([Config(trackers=built_in("trackers")[name])])
    assert str(refused.value) == f"`trackers.{name}` needs the package {module}: {install_command(name)}."
