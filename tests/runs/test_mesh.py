"""One run over several devices: the same run, what it sends, and what is refused."""

import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from lenet_jax.errors import InputError
from lenet_jax.runs.mesh import _check_division
from lenet_jax.runs.prepared_run import prepare_run
from lenet_jax.runs.programs import choose_lanes
from lenet_jax.sharding import Sharding, make_mesh, one_device, state_specs
from tests.conftest import ROOT
from tests.runs.sharded import config_of
from tests.runs.small import make_config

pytestmark = pytest.mark.usefixtures("without_type_checks")


def on_four_devices(*arguments):
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "4", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    return json.loads(on_four_devices("-m", "tests.runs.sharded", str(tmp_path_factory.mktemp("runs"))))


@pytest.mark.parametrize("name", ["2", "4", "fsdp"])
def test_a_run_over_several_devices_is_that_of_one_within_rounding(name, outcomes):
    """With batch normalization, dropout, random changes and two microbatches."""
    np.testing.assert_allclose(outcomes[name]["losses"], outcomes["none"]["losses"], rtol=1e-5)


def test_the_same_devices_give_the_same_bits_also_where_it_was_resumed(outcomes):
    assert outcomes["again"] == outcomes["4"] == outcomes["4 resumed"]
    assert outcomes["fsdp resumed"] == outcomes["fsdp"]
    assert outcomes["4"]["level"] == "bitwise"


def test_the_devices_are_recorded(outcomes):
    assert outcomes["none"]["mesh"] is None
    assert outcomes["2"]["mesh"] == {"axes": {"batch": 2}, "state": "replicated", "processes": 1}
    assert outcomes["fsdp"]["mesh"] == {"axes": {"batch": 4}, "state": "sharded", "processes": 1}


SENT = """
import json
from experiments.scaling import measure_steps

options = ["model.num_kernels=[4,8]", "model.hidden_units=64", "trainer.batch_size=64"]
steps = {name: measure_steps([*options, f"sharding={name}"]) for name in ("data", "fsdp")}
print(json.dumps({name: [step._asdict() for step in found] for name, found in steps.items()}))
"""


def test_a_step_sends_the_gradients_and_no_examples():
    """LeNet: 25 * 4 + 4 + 25 * 4 * 8 + 8 + 128 * 64 + 64 + 64 * 10 + 10 parameters of 4 bytes."""
    found = json.loads(on_four_devices("-c", SENT))
    parameters = 4 * (100 + 4 + 800 + 8 + 128 * 64 + 64 + 640 + 10)
    for step in found["data"] + found["fsdp"]:
        assert step["parameters"] == parameters
    alone, *several = found["data"]
    assert alone["collectives"] == {}
    for step in several:
        assert list(step["collectives"]) == ["all-reduce"]
        assert parameters <= step["collectives"]["all-reduce"] <= 1.05 * parameters + 64  # and the loss
        assert alone["flops"] / step["devices"] / step["flops"] > 0.8
    for step in found["fsdp"][1:]:
        assert step["collectives"]["all-gather"] == 4 * 128 * 64  # the kernel of the hidden layer, the only large array
        assert step["collectives"]["all-reduce"] <= 1.05 * parameters + 64


def test_the_longest_axis_that_the_devices_divide_is_divided():
    shapes = [(5, 5, 4, 8), (128, 500), (500, 10), (3, 5), (), (1024,)]
    state = [jax.ShapeDtypeStruct(shape, np.float32) for shape in shapes]
    found = [tuple(spec) for spec in state_specs(Sharding(4, smallest=100), state, 4)]
    assert found == [(None, None, None, "batch"), (None, "batch"), ("batch",), (), (), ("batch",)]
    assert [tuple(spec) for spec in state_specs(Sharding(4), state, 4)] == [()] * 6


OF_MICROBATCHES = r"got 60 in 2 microbatches \(trainer\.grad_accumulation_steps\)"


@pytest.mark.parametrize(
    ("batch", "steps", "got", "remedy"),
    [(50, 1, "got 50", (48, 2)), (60, 2, OF_MICROBATCHES, (56, 3)), (3, 1, "got 3", (4, 3))],
)
def test_a_batch_that_the_devices_do_not_divide_is_refused(batch, steps, got, remedy):
    remedies = r"use trainer\.batch_size={}, or sharding\.num_devices={}\.".format(*remedy)
    rule = r"`trainer\.batch_size` must give each of 4 devices as many examples of a microbatch"
    with pytest.raises(InputError, match=rf"^{rule}; {got}; {remedies}$"):
        _check_division(batch, steps, 4)
    _check_division(remedy[0], steps, 4)
    _check_division(batch, steps, remedy[1])


def test_more_devices_than_there_are_are_refused():
    count = len(jax.devices())
    with pytest.raises(InputError, match=rf"at most the number of devices, {count} here; got 99; .*NUM_CPU_DEVICES=99"):
        prepare_run(config_of("data", num_devices=99))
    assert make_mesh(one_device(), jax.devices()) is None


def test_a_function_that_returns_no_sharding_is_refused():
    config = make_config(groups={"sharding": {"_target_": "lenet_jax.objectives.regression"}})
    with pytest.raises(InputError, match=r"`sharding` must return a Sharding; .*regression returns a Objective"):
        prepare_run(config)


def test_the_jobs_of_a_sweep_are_sequential_where_each_takes_all_devices():
    assert choose_lanes("auto", 24, is_sharded=True) == ("map", 1)
    with pytest.raises(InputError, match=r"`sweep\.strategy` must be auto or map where each run takes .*; got vmap\."):
        choose_lanes("vmap", 24, is_sharded=True)
