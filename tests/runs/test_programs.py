"""How many lanes there are, and what the compiled programs do with them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lenet_jax.errors import InputError
from lenet_jax.runs.prepared_run import prepare_run
from lenet_jax.runs.programs import choose_lanes, compile_programs, lane_inputs
from lenet_jax.types import Status
from lenet_jax.weights import unwrap_keys
from tests.linear import put_in_place_of_lenet
from tests.runs.small import make_config
from tests.test_lanes import on_devices

pytestmark = pytest.mark.usefixtures("without_type_checks")


def test_there_are_as_many_lanes_as_help():
    num_devices = len(jax.local_devices())
    assert choose_lanes("auto", 24) == (("devices", num_devices) if num_devices > 1 else ("map", 1))
    assert choose_lanes("auto", 1) == ("map", 1)
    assert choose_lanes("auto", 24, may_divide=True) == ("map", 1)
    assert choose_lanes("vmap", 24) == ("vmap", 24)
    assert choose_lanes("vmap", 1000) == ("vmap", 64)
    assert choose_lanes("vmap", 24, max_parallel=5) == ("vmap", 5)
    assert choose_lanes("map", 24, max_parallel=5) == ("map", 1)
    with pytest.raises(InputError, match=r"sweep\.strategy. has no 'pmap'"):
        choose_lanes("pmap", 2)


@pytest.mark.parametrize(
    ("strategy", "num_jobs", "max_parallel", "num_lanes"),
    [
        ("devices", 6, None, 4),
        ("devices", 3, None, 3),
        ("vmap", 6, None, 8),  # all at once, and two lanes in which no job runs
        ("vmap", 6, 6, 8),
        ("vmap", 24, 6, 4),  # no more at once than the user allows
        ("vmap", 24, 3, 3),
        ("vmap", 1000, None, 256),
        ("auto", 6, None, 4),
    ],
)
def test_each_of_four_devices_has_as_many_lanes(monkeypatch, strategy, num_jobs, max_parallel, num_lanes):
    monkeypatch.setattr(jax, "local_devices", lambda: jax.devices()[:1] * 4)
    assert choose_lanes(strategy, num_jobs, max_parallel)[1] == num_lanes


def test_seeds_and_traced_options_of_runs_are_columns_over_the_lanes():
    prepared, options = prepare_run(make_config(0)), ("optimizer.learning_rate", "optimizer.weight_decay")
    prepared = prepared._replace(as_constants=tuple(path for path in prepared.options if path not in options))
    seeds, values, folds = lane_inputs(prepared, [make_config(3), make_config(2**32 - 1)])
    assert folds is None
    assert (seeds.dtype, seeds.tolist()) == (np.uint32, [3, 2**32 - 1])
    assert {name: (column.dtype, column.tolist()) for name, column in values.items()} == {
        "optimizer.learning_rate": (np.float32, [np.float32(0.1)] * 2),
        "optimizer.weight_decay": (np.float32, [0.0, 0.0]),
    }


@pytest.mark.parametrize("strategy", ["devices", "vmap"])
def test_only_the_lanes_that_are_new_start_and_those_that_have_finished_stay_as_they_are(strategy, monkeypatch):
    put_in_place_of_lenet(monkeypatch)
    configs = [make_config(seed) for seed in range(3)]
    prepared = prepare_run(configs[0])
    programs = compile_programs(prepared, strategy=strategy, num_lanes=3)
    is_new = np.array([True, False, True])
    seeds, values, folds = lane_inputs(prepared, configs)
    states = programs.start(programs.states, (is_new, seeds, values), None)
    assert states.status.tolist() == [Status.RUNNING, Status.MAX_EPOCHS, Status.RUNNING]
    kernels = np.asarray(states.variables.params["softmax"]["kernel"])
    assert not kernels[1].any()
    assert kernels[0].any()
    assert kernels[2].any()

    before = jax.device_get(unwrap_keys(states))
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, before, unwrap_keys(programs.restore(before)))))
    states, evaluations = programs.advance(states, (values, folds), programs.data)
    assert evaluations.iteration.tolist() == [4, 0, 4]
    assert jnp.isfinite(evaluations.train_loss[jnp.array([0, 2])]).all()
    finished = jax.tree.map(lambda x: x[1], jax.device_get(unwrap_keys(states)))
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, finished, jax.tree.map(lambda x: x[1], before))))


def test_cpu_devices_share_one_copy_of_the_data():
    code = """
import json
import jax, numpy as np
from lenet_jax.runs.programs import put_on
host = np.arange(12, dtype=np.float32).reshape(3, 4)[:, ::2]
array = put_on(jax.devices(), {"a": host, "b": 1.0})["a"]
host[...] = 0
shards = [shard.data for shard in array.addressable_shards]
print(json.dumps([len({s.unsafe_buffer_pointer() for s in shards}), [np.asarray(s).tolist() for s in shards]]))
"""
    pointers, values = on_devices(code, 2)
    assert pointers == 1
    assert values == [[[0.0, 2.0], [4.0, 6.0], [8.0, 10.0]]] * 2
