"""A directory that somebody else has made may not say where results, configuration and weights are sent to."""

import pytest

from lenet_jax.config import Config
from lenet_jax.config.catalogue import built_in
from lenet_jax.errors import InputError
from lenet_jax.trackers.destinations import check_destinations

NAMED = [
    ("mlflow", "tracking_uri", "http://theirs:5000"),
    ("mlflow", "tracking_uri", "sqlite:////home/you/.profile"),
    ("wandb", "mode", "online"),
    ("wandb", "entity", "theirs"),
]


@pytest.mark.parametrize(("name", "option", "value"), NAMED)
def test_a_recorded_destination_is_refused_unless_its_package_is_allowed(name, option, value):
    config = Config(trackers={"a": {**built_in("trackers")[name][name], option: value}})
    with pytest.raises(InputError) as refused:
        check_destinations(config, {"mylab"}, "run")
    assert str(refused.value) == (
        f"`trackers.a.{option}` of run says where the run is sent to, {value!r}; if that is yours, "
        f"allow it: --allow {name} on this command, or LENET_JAX_ALLOW={name}."
    )
    check_destinations(config, {name}, "run")
    check_destinations(config, {"*"}, "run")


@pytest.mark.parametrize("name", ["csv", "tensorboard", "mlflow", "wandb"])
def test_the_default_place_needs_no_permission(name):
    check_destinations(Config(trackers=built_in("trackers")[name]), (), "run")


def test_a_tracker_of_an_allowed_package_is_its_own():
    check_destinations(Config(trackers={"_target_": "mylab.mlflow", "tracking_uri": "http://mine"}), (), "run")
