"""Lanes on four devices: each has its share of them, and every run is what it is alone on one device."""

import json
import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.sweeps.test_resume import finish

FOUR = "--xla_force_host_platform_device_count=4"


def on_four_devices(code, folder):
    """Run code in a process with four CPU devices; return the JSON that it prints last."""
    environment = {**os.environ, "XLA_FLAGS": FOUR, "XDG_CACHE_HOME": str(folder / "cache"), "PYTHONPATH": str(ROOT)}
    environment.pop("JAX_NUM_CPU_DEVICES", None)
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


FLOPS = """
import json
import jax
from lenet_jax import lanes
from tests.test_lanes import CONFIG, DATA, KEYS, MODEL, OPTIMIZER, VALUES, lane

jax.config.update("jax_disable_most_optimizations", False)
arguments = KEYS[:8], lane(VALUES, slice(8)), DATA

def compiled(strategy, count, number=slice(8)):
    train = lanes.make_train_lanes(MODEL, OPTIMIZER, CONFIG, strategy=strategy, devices=jax.devices()[:count])
    return jax.jit(train).lower(*lane(arguments[:2], number), DATA).compile()

def flops(*args):
    return compiled(*args).cost_analysis()["flops"]

print(json.dumps({
    "vmap": [flops("vmap", count) for count in (1, 4)],
    "two": flops("vmap", 1, slice(2)),
    "loops": [compiled("devices", count).as_text().count(f"f32[{lanes},100,8]") > 0
              for count, lanes in ((1, 8), (4, 2), (4, 8))],
}))
"""


def test_each_of_four_devices_computes_a_quarter_of_eight_lanes(tmp_path):
    found = on_four_devices(FLOPS, tmp_path)
    one, four = found["vmap"]
    assert four / one == pytest.approx(1 / 4, rel=0.03)
    assert four == pytest.approx(found["two"], rel=0.01)  # the program of a device is that of two lanes
    assert found["loops"] == [True, True, False]


# Ten jobs that end at different times, one of them by diverging; lanes of their own on four devices.
GROUPS = """
import json
import pathlib
import jax
import pytest
from lenet_jax.runs import Evaluated, programs
from lenet_jax.runs.prepared_run import prepare_run
from lenet_jax.config import EarlyStoppingConfig
from tests.linear import put_in_place_of_lenet
from tests.runs import test_group
from tests.runs.test_group import make_jobs, results, run_jobs

test_group.STOPPING = EarlyStoppingConfig(patience=6, patience_increase=2)  # so that a run that improves goes on
here, patch = pathlib.Path(), pytest.MonkeyPatch()
put_in_place_of_lenet(patch)
assert jax.device_count() == 4
list(run_jobs(here / "alone", strategy="map"))
found = {}

def compare(name):
    ours, theirs = results(here / name), results(here / "alone")
    keys = ("iterations", "stopped_by")
    found[name] = {
        "same": [a == b for a, b in zip(ours, theirs, strict=True)],
        "outcomes": [[a[0][key] == b[0][key] for key in keys] for a, b in zip(ours, theirs, strict=True)],
        "close": [abs(a[0]["test_loss"] - b[0]["test_loss"]) <= 1e-4 * abs(b[0]["test_loss"])
                  for a, b in zip(ours, theirs, strict=True)],
        **{key: [a[0][key] for a in ours] for key in keys},
    }

def sharded(prepared, strategy, number):
    states = programs.compile_programs(prepared, strategy=strategy, num_lanes=number).states
    return sorted(len(shard.data) for shard in states.iteration.addressable_shards)

for strategy in ("devices", "vmap"):
    for number in (4, 8, 10):
        layout = programs.choose_lanes(strategy, 10, number)
        name = f"{strategy}-{number}"
        list(run_jobs(here / name, strategy=layout[0], num_lanes=layout[1]))
        compare(name)
        found[name]["lanes"] = layout[1]
prepared = prepare_run(make_jobs(here)[0].config)
found["six"] = programs.choose_lanes("vmap", 6)
found["shares"] = {n: sharded(prepared, "devices", n) for n in (2, 8)}

pruned = set()
for number, event in run_jobs(here / "pruned", strategy="devices", num_lanes=8, should_prune=pruned.__contains__):
    if number in (0, 8) and isinstance(event, Evaluated) and event.record["iteration"] == 3:
        pruned.add(number)
compare("pruned")
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def groups(tmp_path_factory):
    return on_four_devices(GROUPS, tmp_path_factory.mktemp("groups"))


@pytest.mark.parametrize(("limit", "num_lanes"), [(4, 4), (8, 8), (10, 12)])
def test_jobs_on_four_devices_are_bit_for_bit_the_runs_alone(groups, limit, num_lanes):
    found = groups[f"devices-{limit}"]
    assert found["lanes"] == num_lanes  # ten lanes are three on each device, in two of which no job runs
    assert found["same"] == [True] * 10
    assert set(found["stopped_by"]) == {"diverged", "patience", "max_epochs"}
    assert len(set(found["iterations"])) > 2  # some end while others train


@pytest.mark.parametrize("limit", [4, 8, 10])
def test_vmapped_jobs_on_four_devices_are_the_runs_alone_within_rounding(groups, limit):
    found = groups[f"vmap-{limit}"]
    assert found["outcomes"] == [[True, True]] * 10
    assert [close or end == "diverged" for close, end in zip(found["close"], found["stopped_by"], strict=True)] == [
        True
    ] * 10


def test_lanes_are_spread_evenly(groups):
    assert groups["six"] == ["vmap", 8]
    assert groups["shares"] == {"2": [1, 1], "8": [2, 2, 2, 2]}


def test_a_pruned_lane_leaves_those_beside_it_on_its_device_as_they_are(groups):
    found = groups["pruned"]
    assert [number for number in range(10) if found["stopped_by"][number] == "pruned"] == [0, 8]
    assert [number for number in range(10) if not found["same"][number]] == [0, 8]


SWEEP = ["model._target_=tests.linear.linear", "trainer.max_epochs=2", "data.train_size=200", "seed=range(6)"]


def start(folder, num_devices, *arguments, when="never", count=0):
    environment = {
        **os.environ,
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={num_devices}",
        "XDG_CACHE_HOME": str(folder / "cache"),
        "PYTHONPATH": str(ROOT),
        "LENET_JAX_ALLOW": "tests",
    }
    environment.pop("JAX_NUM_CPU_DEVICES", None)
    command = [sys.executable, "-m", "tests.sweeps.program", "SIGKILL", when, str(count), *arguments]
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def parameters(directory):
    results = [json.loads((directory / str(number) / "result.json").read_text()) for number in range(6)]
    return [(result["parameters_sha256"], result["iterations"], result["test_loss"]) for result in results]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a sweep whose jobs have run one after another on one device."""
    folder = tmp_path_factory.mktemp("sweeps")
    code, output = finish(start(folder, 1, "train", "-m", *SWEEP, "sweep.strategy=map", "hydra.sweep.dir=alone"))
    assert code == 0, output
    return folder


@pytest.mark.parametrize(
    ("strategy", "then"),
    [("devices", 3), *(pytest.param(*each, marks=pytest.mark.slow) for each in (("devices", 2), ("vmap", 1)))],
)
def test_a_sweep_killed_on_four_devices_goes_on_with_another_number(strategy, then, folder):
    name = f"{strategy}-{then}"
    options = [f"sweep.strategy={strategy}", "sweep.max_parallel=6", f"hydra.sweep.dir={name}"]
    code, output = finish(start(folder, 4, "train", "-m", *SWEEP, *options, when="metrics", count=8))
    assert code == -9, output
    code, output = finish(start(folder, then, "resume", name))
    assert code == 0, output
    ours, alone = parameters(folder / name), parameters(folder / "alone")
    if strategy == "devices":
        assert ours == alone
    else:
        assert [each[1] for each in ours] == [each[1] for each in alone]
        assert [each[2] for each in ours] == pytest.approx([each[2] for each in alone], rel=1e-4)
