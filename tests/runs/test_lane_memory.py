"""How many lanes fit: hand-worked numbers, the memory of compiled programs, and a group that is given too little."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lenet_jax.runs import lane_memory
from lenet_jax.runs.lane_memory import Needed, TooManyLanesError, check_fits, fewer_lanes, lanes_that_fit, needed_memory
from lenet_jax.runs.prepared_run import prepare_run
from lenet_jax.runs.programs import compile_executables, compile_programs, make_layout
from tests.linear import put_in_place_of_lenet
from tests.runs.small import make_config
from tests.runs.test_group import make_jobs, results, run_jobs

pytestmark = pytest.mark.usefixtures("without_type_checks")


class Device:
    def __init__(self, platform):
        self.platform = platform


def devices(count, platform="gpu"):
    return [Device(platform)] * count


def set_limit(monkeypatch, limit):
    monkeypatch.setattr(lane_memory, "memory_limit", lambda device: limit)


@pytest.mark.parametrize(
    ("num_lanes", "num_devices", "limit", "expected"),
    [  # 10 bytes a lane; 90 % of the limit less 20 bytes of data
        (8, 1, 200, 8),
        (8, 1, 112, 8),  # 100.8 - 20
        (8, 1, 111, 7),  # 99.9 - 20
        (8, 1, 50, 2),
        (8, 1, 10, 1),  # the data alone do not fit: the device says what it can
        (8, 4, 45, 8),  # two lanes on each device
        (8, 4, 44, 4),
        (8, 4, 10, 4),
    ],
)
def test_each_accelerator_has_as_many_lanes_as_its_memory_holds(monkeypatch, num_lanes, num_devices, limit, expected):
    set_limit(monkeypatch, limit)
    needed = Needed(lanes=10 * num_lanes // num_devices, shared=20)
    assert lanes_that_fit(num_lanes, needed, devices(num_devices)) == expected


@pytest.mark.parametrize(
    ("num_lanes", "num_devices", "limit", "expected"),
    [  # the same lanes; the data are twice in one memory
        (8, 4, 134, 8),  # 120.6 - 40
        (8, 4, 133, 4),  # 7 lanes would fit, and each device has the same number
        (4, 4, 80, 3),  # 72 - 40: on three devices
        (4, 4, 60, 1),
        (4, 4, 10, 1),
    ],
)
def test_the_devices_of_a_cpu_share_its_memory(monkeypatch, num_lanes, num_devices, limit, expected):
    set_limit(monkeypatch, limit)
    needed = Needed(lanes=10 * num_lanes // num_devices, shared=20)
    assert lanes_that_fit(num_lanes, needed, devices(num_devices, "cpu")) == expected


def test_all_lanes_are_taken_where_nothing_is_known_of_the_memory(monkeypatch):
    set_limit(monkeypatch, None)
    assert lanes_that_fit(8, Needed(10**15, 10**15), devices(1)) == 8
    check_fits(8, None, devices(1))


def test_a_single_lane_is_left_to_the_device(monkeypatch):
    set_limit(monkeypatch, 1)
    check_fits(1, Needed(100, 100), devices(1))


def test_the_error_says_what_is_needed_and_what_there_is(monkeypatch):
    set_limit(monkeypatch, 50_000_000)
    with pytest.raises(TooManyLanesError) as caught:
        check_fits(8, Needed(lanes=40_000_000, shared=20_000_000), devices(2))
    assert str(caught.value) == (
        "8 lanes on 2 devices do not fit into their memory: a lane needs 10.0 MB, the data 20.0 MB, and 90% of 50.0 MB "
        "is for each device"
    )
    assert fewer_lanes(caught.value, 8, 2) == 4


@pytest.mark.parametrize(
    ("num_lanes", "num_devices", "expected"), [(8, 1, 4), (7, 1, 3), (12, 4, 4), (4, 4, 2), (3, 3, 1), (1, 1, None)]
)
def test_out_of_memory_each_device_has_half_as_many(num_lanes, num_devices, expected):
    error = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 99 bytes.")
    assert fewer_lanes(error, num_lanes, num_devices) == expected
    assert fewer_lanes(jax.errors.JaxRuntimeError("INTERNAL: no such luck"), num_lanes, num_devices) is None


def test_the_memory_of_programs_is_that_of_their_arrays():
    x, shared = jnp.zeros((3, 1000)), jnp.zeros((1, 1000))
    small = jax.jit(lambda x, shared: x[0]).lower(x, shared).compile()
    large = jax.jit(lambda x, shared: (x * shared, x + shared)).lower(x, shared).compile()
    donated = jax.jit(lambda x, shared: x * shared, donate_argnums=0).lower(x, shared).compile()
    lanes, data = needed_memory([small, large, donated], states=x.nbytes, shared=shared.nbytes)
    assert data == 4000
    assert 4 * x.nbytes <= lanes <= 4 * x.nbytes + 200  # the empty and the old states, two results, and little else
    lanes, _ = needed_memory([donated], states=x.nbytes, shared=shared.nbytes)
    assert 2 * x.nbytes <= lanes <= 2 * x.nbytes + 200  # the result is where the argument was


@pytest.mark.parametrize("strategy", ["vmap", "devices"])
def test_more_lanes_need_more_memory_and_the_same_data(strategy):
    prepared = prepare_run(make_config(0))
    two, eight = (compile_executables(prepared, make_layout(strategy, number)).needed for number in (2, 8))
    splits = prepared.data.splits().values()
    assert two.shared == eight.shared == sum(leaf.nbytes for leaf in jax.tree.leaves(list(splits)))
    states = 2 * sum(np.prod(leaf.shape) * 4 for leaf in jax.tree.leaves(prepared.state.variables))  # and their best
    assert eight.lanes - two.lanes >= 6 * states


def test_a_group_takes_as_many_lanes_as_fit_and_trains_the_same_runs(tmp_path, monkeypatch):
    put_in_place_of_lenet(monkeypatch)
    list(run_jobs(tmp_path / "alone"))
    prepared = prepare_run(make_jobs(tmp_path)[0].config)
    lanes, shared = compile_executables(prepared, make_layout("devices", 8)).needed
    counts = []

    def compile_and_count(*args, num_lanes, **options):
        counts.append(num_lanes)
        return compile_programs(*args, num_lanes=num_lanes, **options)

    monkeypatch.setattr("lenet_jax.runs.group.compile_programs", compile_and_count)
    set_limit(monkeypatch, (2 * shared + 5.5 * lanes / 8) / lane_memory.USABLE)
    events = list(run_jobs(tmp_path / "lanes", strategy="devices", num_lanes=8))
    assert counts[0] == 8
    assert counts[1] in (4, 5)  # some of what eight lanes need does not grow with them
    assert len(counts) == 2
    assert results(tmp_path / "lanes") == results(tmp_path / "alone")
    for number in {number for number, _ in events}:
        execution = json.loads((tmp_path / "lanes" / str(number) / "run.json").read_text())["execution"]
        assert execution == {"strategy": "devices", "lanes": counts[1]}
