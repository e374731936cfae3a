import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lenet_jax as lj
from lenet_jax.hydra_app.composition import compose_config
from lenet_jax.runs.learning_rates import RATES, find_learning_rates
from lenet_jax.runs.prepared_run import prepare_run
from lenet_jax.training import init_train_state, train_step

pytestmark = pytest.mark.usefixtures("in_an_empty_folder")

PLACE = 16  # of the rate 0.1
OVERRIDES = ["data.train_size=200", "trainer.shuffle=false", "model.num_kernels=[2,3]", "model.hidden_units=10"]


def test_the_loss_at_a_rate_is_that_of_a_plain_loop_with_it():
    """Four minibatches of 50 in the order of the data, 25 times."""
    prepared = prepare_run(compose_config([*OVERRIDES, "schedule=cosine"]))
    found = find_learning_rates(prepared)
    assert RATES[PLACE] == pytest.approx(0.1)

    model = lj.create_model("lenet", num_kernels=(2, 3), hidden_units=10)
    optimizer = lj.make_optimizer("sgd", learning_rate=0.1)
    state = init_train_state(model, optimizer, prepared.config.trainer, jax.random.key(0), {})
    step = jax.jit(lambda state, indices: train_step(model, optimizer, state, prepared.data, indices))
    losses = []
    for number in range(100):
        state, loss = step(state, 50 * (number % 4) + jnp.arange(50))
        losses.append(float(loss))
    np.testing.assert_allclose(found.losses[PLACE], np.mean(losses[-20:]), rtol=1e-4)
