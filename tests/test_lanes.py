"""Lanes: each as if it were alone, whatever becomes of the others."""

import functools
import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lenet_jax as lj
from lenet_jax import lanes, layers, training
from lenet_jax.config import EarlyStoppingConfig
from lenet_jax.types import Status
from tests.test_training import DATA, KEY, bits, trainer

LAYERS = {  # compiles in a third of the time of a convolution
    "flatten": layers.flatten(),
    "hidden": layers.dense(8, lj.fan_in_uniform()),
    "tanh": layers.activation(jnp.tanh),
    "softmax": layers.dense(4, lj.fan_in_uniform()),
}
MODEL = layers.make_model(layers.serial(LAYERS), (10, 10, 1))

CONFIG = trainer(max_epochs=6, early_stopping=EarlyStoppingConfig(patience=6, patience_increase=2))
OPTIMIZER = lj.make_optimizer("momentum")
KEYS = jax.random.split(KEY, 10)
VALUES = {
    "learning_rate": jnp.array([0.5, 0.1, 1e-6, 0.2, 0.3, jnp.inf, 0.05, 0.4, 1e-7, 0.6]),
    "momentum": jnp.linspace(0, 0.9, 10),
}


def lane(tree, number):
    return jax.tree.map(lambda x: x[number], tree)


@functools.cache
def alone():
    train = jax.jit(lj.make_train(MODEL, OPTIMIZER, CONFIG))
    return [train(KEYS[i], lane(VALUES, i), DATA) for i in range(10)]


@functools.cache
def together(strategy):
    return jax.jit(lanes.make_train_lanes(MODEL, OPTIMIZER, CONFIG, strategy=strategy))(KEYS, VALUES, DATA)


def test_lanes_end_at_different_times_for_different_reasons():
    assert len({int(result.iterations) for result in alone()}) > 2
    assert {Status(int(result.status)) for result in alone()} >= {Status.DIVERGED, Status.PATIENCE}


@pytest.mark.parametrize("strategy", ["map", "devices", "auto"])  # here "devices" has one
def test_each_of_ten_lanes_is_bit_for_bit_the_run_alone(strategy):
    for number, result in enumerate(alone()):
        assert bits(lane(together(strategy), number)) == bits(result)


@pytest.mark.usefixtures("optimized")
def test_vmapped_lanes_are_the_runs_alone_within_rounding():
    for number, result in enumerate(alone()):
        mapped = lane(together("vmap"), number)
        assert int(mapped.status) == int(result.status)
        assert int(mapped.iterations) == int(result.iterations)
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4), mapped.variables, result.variables
        )


FAILURES = {
    "an infinite step": {"learning_rate": jnp.inf},
    "a step that is no number": {"weight_decay": jnp.nan},
    "a loss that overflows": {"learning_rate": 1e18},
}


def check_others(strategy, num_lanes, bad, failure):
    """Let a lane diverge, and compare the others with those of lanes that all behave."""
    keys = jax.random.split(KEY, num_lanes)
    train = compiled(strategy)
    values = {"learning_rate": jnp.full(num_lanes, 0.3), "weight_decay": jnp.full(num_lanes, 1e-4)}
    hurt_values = {name: value.at[bad].set(FAILURES[failure].get(name, value[bad])) for name, value in values.items()}
    good, hurt = train(keys, values, DATA), train(keys, hurt_values, DATA)
    assert Status(int(hurt.status[bad])) is Status.DIVERGED
    assert int(hurt.iterations[bad]) == (1 if failure == "a loss that overflows" else 0)
    for number in set(range(num_lanes)) - {bad}:
        assert bits(lane(hurt, number)) == bits(lane(good, number))


@pytest.mark.parametrize("strategy", ["vmap", "map"])
@pytest.mark.parametrize(("bad", "failure"), list(zip([0, 7, 15], FAILURES, strict=True)))
def test_a_lane_that_diverges_does_not_touch_the_fifteen_others(strategy, bad, failure):
    check_others(strategy, 16, bad, failure)


@pytest.mark.slow
@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("bad", [0, 13, 31, 50, 63])
def test_a_lane_that_diverges_does_not_touch_the_sixty_three_others(bad, failure):
    check_others("vmap", 64, bad, failure)


@functools.cache
def compiled(strategy):
    optimizer = lj.make_optimizer("sgd")
    return jax.jit(lanes.make_train_lanes(MODEL, optimizer, trainer(max_epochs=3), strategy=strategy))


def drive(config, strategy):
    start = jax.jit(
        lanes.over_lanes(lambda lane, _: training.init_train_state(MODEL, OPTIMIZER, config, *lane), strategy=strategy)
    )
    task = training.make_task(MODEL, config, DATA)
    advance = jax.jit(lanes.over_lanes(functools.partial(lanes.advance, task, OPTIMIZER, config), strategy=strategy))
    states, evaluations = start((KEYS, VALUES), None), []
    while jnp.any(states.status == Status.RUNNING):
        ended = states.status != Status.RUNNING
        states, evaluation = advance(states, DATA)
        evaluations.append(evaluation)
        assert jnp.all(jnp.isnan(evaluation.train_loss) >= ended)
        assert jnp.all((evaluation.validation.num_examples == 0) == ended)
    return states, evaluations


def test_driving_lanes_interval_by_interval_gives_the_same_bits():
    states, _ = drive(CONFIG, "map")
    assert bits(states.best) == bits(together("map").variables)
    assert bits(states.iteration) == bits(together("map").iterations)


def test_driving_vmapped_lanes_interval_by_interval_is_the_same_within_rounding():
    # Two programs, and XLA promises their bits to nobody; so nothing may stop by what rounding decides.
    config = trainer(max_epochs=2)
    whole = jax.jit(lanes.make_train_lanes(MODEL, OPTIMIZER, config, strategy="vmap"))(KEYS, VALUES, DATA)
    states, evaluations = drive(config, "vmap")
    assert bits(states.iteration) == bits(whole.iterations)
    for number, evaluation in enumerate(evaluations):
        np.testing.assert_allclose(evaluation.train_loss, whole.history.train_loss[:, number], rtol=1e-4)
        np.testing.assert_allclose(evaluation.validation.loss, whole.history.validation.loss[:, number], rtol=1e-4)


def test_other_values_do_not_compile_again():
    train = compiled("map")
    train(KEYS[:3], {"learning_rate": jnp.array([0.1, 0.2, 0.3])}, DATA)
    before = train._cache_size()
    train(KEYS[3:6], {"learning_rate": jnp.array([0.4, 0.5, 0.6])}, DATA)
    assert train._cache_size() == before


def on_devices(code, count):
    """Run code in a process with several CPU devices; return the JSON that it prints."""
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": str(count), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


ON_THREE = """
import json
import jax
from lenet_jax import lanes
from tests.test_lanes import CONFIG, DATA, KEYS, MODEL, OPTIMIZER, VALUES, alone, bits, lane

assert jax.device_count() == 3
train = jax.jit(lanes.make_train_lanes(MODEL, OPTIMIZER, CONFIG))
result = train(KEYS, VALUES, DATA)
two = jax.jit(lanes.make_train_lanes(MODEL, OPTIMIZER, CONFIG))(KEYS[:2], lane(VALUES, slice(2)), DATA)
with jax.set_mesh(jax.make_mesh((3,), ("batch",))):  # of explicit axes
    doubled = jax.jit(lanes.over_lanes(lambda lane, factor: lane * factor, strategy="devices"))(jax.numpy.arange(4), 2)
print(json.dumps({
    "same": [bits(lane(result, i)) == bits(alone()[i]) for i in range(10)],
    "fewer_lanes_than_devices": [bits(lane(two, i)) == bits(alone()[i]) for i in range(2)],
    "devices": len(result.iterations.devices()),
    "inside_a_mesh": doubled.tolist(),
}))
"""


def test_lanes_sharded_over_three_devices_are_the_runs_alone():
    found = on_devices(ON_THREE, 3)
    assert all(found["same"])
    assert all(found["fewer_lanes_than_devices"])
    assert found["inside_a_mesh"] == [0, 2, 4, 6]


ON_FOUR = """
import json
import jax, numpy as np
from lenet_jax import lanes
from tests.test_lanes import CONFIG, DATA, KEYS, MODEL, OPTIMIZER, VALUES, alone, bits, lane

jax.config.update("jax_disable_most_optimizations", False)  # as users compile: rounding decides when a run stops
assert jax.device_count() == 4
arguments = KEYS[:8], lane(VALUES, slice(8)), DATA
programs = {
    strategy: jax.jit(lanes.make_train_lanes(MODEL, OPTIMIZER, CONFIG, strategy=strategy)).lower(*arguments).compile()
    for strategy in ("vmap", "map", "devices")
}
results = {strategy: program(*jax.device_put(arguments, program.input_shardings[0]))
           for strategy, program in programs.items()}

def close(a, b):
    leaves = map(jax.tree.leaves, (a, b))
    return all(np.allclose(x, y, rtol=1e-3, atol=1e-4, equal_nan=True) for x, y in zip(*leaves, strict=True))

def outcome(result):
    return [int(result.status), int(result.iterations)]

vmapped = [lane(results["vmap"], i) for i in range(8)]
print(json.dumps({
    "shapes": {
        strategy: [f"f32[{n},100,8]" in program.as_text() for n in (1, 2, 8)] for strategy, program in programs.items()
    },
    "device_counts": {strategy: len(result.iterations.sharding.device_set) for strategy, result in results.items()},
    "vmap": [close(v.variables, a.variables) and outcome(v) == outcome(a) for v, a in zip(vmapped, alone())],
    **{s: [bits(lane(results[s], i)) == bits(alone()[i]) for i in range(8)] for s in ("map", "devices")},
}))
"""


def test_eight_lanes_on_four_devices_are_two_on_each():
    found = on_devices(ON_FOUR, 4)
    assert found["shapes"]["vmap"] == [False, True, False]  # the weights of the hidden layer, of two lanes
    assert found["shapes"]["map"][2]  # all of them, on one device
    assert not found["shapes"]["devices"][2]
    assert found["device_counts"] == {"vmap": 4, "map": 1, "devices": 4}
    assert found["vmap"] == [True] * 8
    assert found["map"] == found["devices"] == [True] * 8


def test_the_strategy_follows_platform_and_size():
    class Gpu:
        platform = "gpu"

    cpus = jax.devices("cpu")[:1] * 2
    assert lanes.choose_strategy(8, [Gpu()]) == "vmap"
    assert lanes.choose_strategy(8, cpus) == "devices"
    assert lanes.choose_strategy(1, cpus) == "map"
    assert lanes.choose_strategy(8, cpus[:1]) == "map"


def test_bad_lanes_are_refused():
    with pytest.raises(lj.InputError, match="`lanes strategy` has no 'pmap'; choose one of: "):
        lanes.over_lanes(lambda lane, shared: lane, strategy="pmap")
    double = lanes.over_lanes(lambda lane, shared: jax.tree.map(lambda x: 2 * x, lane))
    for bad in ((jnp.zeros(2), jnp.zeros(3)), (), jnp.zeros(0), jnp.zeros(())):
        with pytest.raises(
            lj.InputError, match="all arrays in `lanes` must share a first axis of length 1 or more; got "
        ):
            double(bad, None)
