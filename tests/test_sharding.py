"""One run on several devices: the same as on one, within rounding. They are made in processes of their own."""

import json
import os
import subprocess
import sys

import jax
import pytest

from lenet_jax import sharding

ON_TWO = """
import functools, json, sys
import jax, jax.numpy as jnp, numpy as np
import lenet_jax as lj
from lenet_jax import sharding, training
from tests.test_training import DATA, KEY, MODEL, trainer

assert jax.device_count() == 2
optimizer = lj.make_optimizer("sgd", learning_rate=0.5)
config = trainer(max_epochs=2)

def run(on):
    train = sharding.jit_on(on, lj.make_train(MODEL, optimizer, config))
    return jax.device_get(train(*sharding.put_on(on, (KEY, {}, DATA))))

one, two = run(jax.devices()[:1]), run(sharding.choose_devices(config.batch_size))
difference = max(np.abs(a - b).max() for a, b in zip(*map(jax.tree.leaves, (one.variables, two.variables))))

step = functools.partial(training.train_interval, training.make_task(MODEL, config, DATA), optimizer, config)
on = sharding.choose_devices(config.batch_size)
state = sharding.put_on(on, training.init_train_state(MODEL, optimizer, config, KEY, {}))
program = sharding.jit_on(on, step, donate_argnums=0).lower(state, sharding.put_on(on, DATA)).compile()
state, evaluation = program(state, sharding.put_on(on, DATA))

print(json.dumps({
    "difference": float(difference),
    "validation": [int(n) for r in (one, two) for n in (r.validation.num_correct, r.validation.num_examples)],
    "test": [int(r.test.num_correct) for r in (one, two)],
    "iterations": [int(r.iterations) for r in (one, two)],
    "interval": bool(np.allclose(evaluation.train_loss, one.history.train_loss[0], rtol=1e-5)),
    "all_reduce": "all-reduce" in program.as_text(),
}))
"""


def on_devices(code, count):
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": str(count), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_run_on_two_devices_is_that_on_one():
    found = on_devices(ON_TWO, 2)
    assert found["difference"] < 1e-5
    assert found["validation"][:2] == found["validation"][2:]
    assert found["validation"][1] == 50
    assert found["test"][0] == found["test"][1]
    assert found["iterations"][0] == found["iterations"][1]
    assert found["interval"]
    assert found["all_reduce"]


@pytest.mark.parametrize(
    ("batch_size", "available", "expected"),
    [(500, 2, 2), (500, 8, 5), (32, 8, 2), (31, 8, 1), (8, 2, 1), (499, 4, 1), (512, 16, 16)],
)
def test_as_many_devices_as_divide_the_minibatch(monkeypatch, batch_size, available, expected):
    monkeypatch.setattr(jax, "local_devices", lambda: jax.devices("cpu")[:1] * available)
    assert len(sharding.choose_devices(batch_size)) == expected


def test_other_platforms_use_their_first_device(monkeypatch):
    class Gpu:
        platform = "gpu"

    monkeypatch.setattr(jax, "local_devices", lambda: [Gpu(), Gpu()])
    assert len(sharding.choose_devices(500)) == 1


def test_cpu_devices_share_one_copy_of_the_data():
    code = """
import json
import jax, numpy as np
from lenet_jax import sharding
host = np.arange(12, dtype=np.float32).reshape(3, 4)[:, ::2]
array = sharding.put_on(jax.devices(), {"a": host, "b": 1.0})["a"]
host[...] = 0
shards = [shard.data for shard in array.addressable_shards]
print(json.dumps([len({s.unsafe_buffer_pointer() for s in shards}), [np.asarray(s).tolist() for s in shards]]))
"""
    pointers, values = on_devices(code, 2)
    assert pointers == 1
    assert values == [[[0.0, 2.0], [4.0, 6.0], [8.0, 10.0]]] * 2


def test_an_axis_that_does_not_divide_the_minibatch_is_refused():
    code = """
import json
import jax, lenet_jax as lj
from lenet_jax import sharding
from tests.test_training import DATA, KEY, MODEL, trainer
train = sharding.jit_on(jax.devices(), lj.make_train(MODEL, lj.make_optimizer("sgd"), trainer(batch_size=15)))
try:
    train(*sharding.put_on(jax.devices(), (KEY, {}, DATA)))
except lj.InputError as error:
    print(json.dumps(str(error)))
"""
    assert on_devices(code, 2) == (
        "`axis_name` must name an axis whose size divides the minibatch of 15 examples; got 'shards', which has 2 "
        "devices."
    )


LINE_SEARCH = """
import json
import jax, numpy as np, optax
import lenet_jax as lj
from lenet_jax import sharding
from tests.test_training import DATA, KEY, MODEL, trainer

config = trainer(batch_size=None, max_epochs=3)
found = {}
with jax.numpy_dtype_promotion("standard"):
    for name, optimizer in {
        "lbfgs": optax.lbfgs(),
    }.items():
        def run(on):
            train = sharding.jit_on(on, lj.make_train(MODEL, optimizer, config))
            return jax.device_get(train(*sharding.put_on(on, (KEY, {}, DATA))))

        one, two = (run(jax.devices()[:count]) for count in (1, 2))
        pairs = zip(jax.tree.leaves(one.variables), jax.tree.leaves(two.variables))
        found[name] = float(max(np.abs(a - b).max() for a, b in pairs))
print(json.dumps(found))
"""


def test_optimizers_that_differentiate_the_loss_themselves_do_so_over_all_devices():
    assert max(on_devices(LINE_SEARCH, 2).values()) < 1e-3
