import jax
import jax.numpy as jnp
import optax
import pytest

import lenet_jax as lj
from lenet_jax.hydra_app.composition import compose_config
from lenet_jax.optimizers.by_path import by_path
from lenet_jax.runs.prepared_run import prepare_run

PARAMS = {"conv1": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}, "out": {"kernel": jnp.ones((2, 2))}}


def updates_of(rules):
    optimizer = by_path(rules=rules)
    updates, _ = optimizer.update(PARAMS, optimizer.init(PARAMS), PARAMS)
    return {"conv1/kernel": updates["conv1"]["kernel"], "conv1/bias": updates["conv1"]["bias"],
            "out/kernel": updates["out"]["kernel"]}  # fmt: skip


def test_each_parameter_follows_the_last_rule_that_matches_its_path():
    found = updates_of({"*": optax.sgd(0.1), "conv1/*": optax.set_to_zero(), "*/bias": optax.sgd(1.0)})
    assert {path: float(each.ravel()[0]) for path, each in found.items()} == {
        "conv1/kernel": 0.0, "conv1/bias": -1.0, "out/kernel": pytest.approx(-0.1),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"*": optax.sgd(0.1), "cnov1/*": optax.sgd(1.0)}, r"must apply to a parameter each; 'cnov1/\*' is the last"),
        ({"conv1/*": optax.sgd(0.1)}, r"must have a pattern for each parameter, as .\*.; out/kernel has none"),
        ({}, "must be optimizers by pattern"),
    ],
)
def test_rules_that_do_not_fit_the_parameters_are_refused(rules, message):
    with pytest.raises(lj.InputError, match=message):
        updates_of(rules)


RULES = "optimizer.rules={conv?/*: {_target_: optax.set_to_zero}}"
SMALL = ["optimizer=by_path", "model.num_kernels=[2,2]", "model.hidden_units=4", "data.train_size=100"]


def test_rules_come_from_the_command_line_after_that_for_all():
    optimizer = prepare_run(compose_config([RULES, *SMALL])).parts.optimizer
    params = lj.create_model("lenet", num_kernels=(2, 2), hidden_units=4).init(jax.random.key(0)).params
    params = jax.tree.map(jnp.ones_like, params)
    updates, _ = optimizer.update(params, optimizer.init(params), params)
    assert {name for name, each in updates.items() if jnp.any(each["kernel"])} == {"hidden", "softmax"}


def test_a_rule_without_a_parameter_is_refused_before_the_run():
    with pytest.raises(lj.InputError, match=r"'cnov/\*' is the last match of none of conv1/bias"):
        prepare_run(compose_config([RULES.replace("conv?", "cnov"), *SMALL]))
