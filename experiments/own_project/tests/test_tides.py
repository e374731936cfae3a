"""The components fit each other, and training lowers the loss."""

import jax
import lenet_jax as lj

from tides.data import tide_levels
from tides.nets import TideNet
from tides.objectives import huber

DATA = tide_levels(num_days=10)
MODEL = lj.interop.to_model(TideNet, DATA.train.inputs.shape[1:], DATA.num_classes)


def test_there_is_one_prediction_a_target():
    variables = MODEL.init(jax.random.key(0))
    outputs, _ = MODEL.apply(variables, DATA.test.inputs)
    assert outputs.shape == DATA.test.targets.shape


def test_one_epoch_lowers_the_loss():
    objective, optimizer = huber(), lj.make_optimizer("adam", learning_rate=0.01)
    train = lj.make_train(MODEL, optimizer, lj.config.TrainerConfig(batch_size=16, max_epochs=1), objective=objective)
    result = jax.jit(train)(jax.random.key(0), {}, DATA)

    def loss(variables):
        outputs, _ = MODEL.apply(variables, DATA.train.inputs)
        return objective.loss(outputs, DATA.train.targets).mean()

    assert loss(result.variables) < loss(MODEL.init(jax.random.key(0)))
