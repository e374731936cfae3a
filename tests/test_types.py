import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lenet_jax as lj
from lenet_jax.types import StrayLabels, Variables
from tests.linear import linear

IMAGES = np.zeros((6, 2, 2, 1), np.float32)
LABELS = np.array([0, 1, 2, 0, 1, 2])
GOOD = lj.Split(IMAGES, LABELS)


def dataset(labels, num_classes=3):
    return lj.Dataset(lj.Split(IMAGES, labels), GOOD, GOOD, num_classes=num_classes)


@pytest.mark.parametrize(
    ("labels", "low", "high"),
    [
        (LABELS - 1, -1, 1),
        (LABELS + 1, 1, 3),
        (LABELS.astype(np.uint8) + np.uint8(253), 253, 255),
        (LABELS * 2**40, 0, 2**41),
    ],
)
def test_integer_labels_out_of_range_are_noted(labels, low, high):
    assert dataset(labels).stray_labels == (StrayLabels("train", low, high),)


def test_labels_on_a_device_are_noted_too():
    assert dataset(jnp.asarray(LABELS - 1)).stray_labels == (StrayLabels("train", -1, 1),)


@pytest.mark.parametrize("targets", [LABELS, LABELS / 7, LABELS[:, None] + 9, np.zeros(0, np.int32), None, [9, 9]])
def test_other_targets_are_not(targets):
    assert dataset(targets).stray_labels == ()


def test_a_data_set_is_a_pytree_of_its_arrays_and_keeps_its_paths():
    data = dataset(LABELS - 1)
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(data)]
    assert paths == [f".{part}.{kind}" for part in ("train", "validation", "test") for kind in ("inputs", "targets")]
    leaves, structure = jax.tree.flatten(data)
    again = jax.tree.unflatten(structure, leaves)
    assert (again.num_classes, again.pixel_divisor, again.stray_labels) == (3, 256.0, data.stray_labels)
    with pytest.raises(dataclasses.FrozenInstanceError):
        again.num_classes = 4


@pytest.mark.parametrize("leaf", [None, 3, "text", object(), jax.ShapeDtypeStruct((6,), jnp.int32)])
def test_its_structure_takes_any_leaves(leaf):
    for data in (dataset(LABELS), dataset(LABELS - 1)):
        leaves, structure = jax.tree.flatten(data)
        assert jax.tree.unflatten(structure, [leaf] * len(leaves)).train.targets is leaf


def test_data_sets_of_one_kind_can_be_mapped_over_together():
    several = jax.tree.map(lambda *parts: jnp.stack(parts), dataset(LABELS), dataset(LABELS * 0))
    assert several.train.targets.shape == (2, 6)
    assert several.stray_labels == ()


def test_labels_that_were_put_right_are_noted_no_more():
    def put_right(leaf):
        return leaf % 3 if np.issubdtype(leaf.dtype, np.integer) else leaf

    assert jax.tree.map(put_right, dataset(LABELS - 1)).stray_labels == ()
    train = lj.Split(IMAGES, LABELS)
    assert dataclasses.replace(dataset(LABELS - 1), train=train).stray_labels == ()
    assert dataclasses.replace(dataset(LABELS), num_classes=2).stray_labels[0] == StrayLabels("train", 0, 2)


# ---- what training makes of it ---------------------------------------------------------------------------------------


def train(data, objective=None, num_outputs=3, wrap=jax.jit):
    model = linear(input_shape=(2, 2, 1), num_outputs=num_outputs)
    config = lj.config.TrainerConfig(max_epochs=1, batch_size=3)
    run = lj.make_train(model, lj.make_optimizer("sgd"), config, objective=objective)
    return wrap(run)(jax.random.key(0), {}, data)


NO_LABELS = (
    "data: `targets` of train must be integers (N,) for an objective of classes; got {}; for others choose it: "
    "objective=regression, lj.objectives.regression()."
)


@pytest.mark.parametrize("wrap", [jax.jit, lambda run: run], ids=["jit", "eager"])
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (LABELS[:4], "data: train must have one target an input, and at least one example; got 6 and 4."),
        (LABELS - 1, "data: labels of train must be 0 to 2; got -1 to 1."),
        (LABELS + 1, "data: labels of train must be 0 to 2; got 1 to 3."),
        (LABELS[:, None], NO_LABELS.format("int64(6, 1)")),
        (np.eye(3, dtype=np.float32)[LABELS], NO_LABELS.format("float32(6, 3)")),
        (LABELS.astype(np.float32), NO_LABELS.format("float32(6,)")),
    ],
)
def test_labels_that_do_not_fit_are_refused_under_jit_too(labels, message, wrap):
    with pytest.raises(lj.InputError) as refused:
        train(dataset(labels), wrap=wrap)
    assert str(refused.value).replace("int32", "int64") == message


def test_labels_of_the_other_splits_are_checked():
    bad = lj.Split(IMAGES, LABELS + 1)
    for part in ("validation", "test"):
        data = dataclasses.replace(dataset(LABELS), **{part: bad})
        with pytest.raises(lj.InputError, match=f"data: labels of {part} must be 0 to 2; got 1 to 3"):
            train(data)


def test_as_many_labels_as_the_model_has_outputs_fit_whatever_the_data_set_says():
    assert train(dataset(LABELS + 1), num_outputs=4).status == lj.Status.MAX_EPOCHS


def test_integers_to_regress_on_may_be_of_any_range():
    targets = (LABELS * 100 - 50).astype(np.int32)
    data = lj.Dataset(*(lj.Split(IMAGES, targets) for _ in range(3)))
    assert len(data.stray_labels) == 3
    result = train(data, lj.objectives.regression(), num_outputs=1)
    assert result.status == lj.Status.MAX_EPOCHS


def test_an_objective_of_your_own_may_have_labels():
    mine = lj.Objective(lj.cross_entropy, {}, "loss", "min")
    data = dataset(LABELS + 1)
    with pytest.raises(lj.InputError, match="labels of train must be 0 to 2; got 1 to 3"):
        train(data, mine._replace(has_labels=True))


def test_evaluation_wants_one_target_an_input():
    model = linear(input_shape=(2, 2, 1), num_outputs=3)
    variables = model.init(jax.random.key(0))
    with pytest.raises(lj.InputError) as refused:
        lj.evaluate(model, variables, lj.Split(IMAGES, LABELS[:4]))
    assert str(refused.value) == (
        "evaluate: `split` must have one target an input, and at least one example; got 6 and 4."
    )


@pytest.mark.parametrize(("indices", "found"), [([0, 6, 1], "0 to 6"), ([-1, 2, 3], "-1 to 3")])
def test_a_step_takes_examples_that_there_are(indices, found):
    model, optimizer = linear(input_shape=(2, 2, 1), num_outputs=3), lj.make_optimizer("sgd")
    state = lj.training.init_train_state(model, optimizer, lj.config.TrainerConfig(), jax.random.key(0), {})
    with pytest.raises(lj.InputError) as refused:
        lj.training.train_step(model, optimizer, state, dataset(LABELS), jnp.array(indices))
    assert str(refused.value) == f"train_step: `indices` must be 0 to 5; got {found}."


@pytest.mark.parametrize("wrap", [jax.jit, lambda run: run], ids=["jit", "eager"])
@pytest.mark.parametrize("num_classes", [100, 200])
def test_a_model_with_too_few_outputs_for_the_classes_is_refused(num_classes, wrap):
    split = lj.Split(IMAGES, LABELS * 49 + 1)
    data = lj.Dataset(split, split, split, num_classes=num_classes)
    with pytest.raises(lj.InputError, match="data: labels of train must be 0 to 9; got 1 to 99"):
        train(data, num_outputs=10, wrap=wrap)
    assert train(data, num_outputs=100, wrap=wrap).status == lj.Status.MAX_EPOCHS


def test_a_model_with_fewer_outputs_than_classes_is_trained_on_labels_that_fit_it():
    assert train(dataset(LABELS, num_classes=10), num_outputs=3).status == lj.Status.MAX_EPOCHS


def test_evaluation_wants_labels_that_fit_the_outputs():
    model = linear(input_shape=(2, 2, 1), num_outputs=3)
    variables = model.init(jax.random.key(0))
    with pytest.raises(lj.InputError, match="evaluate: labels of `split` must be 0 to 2; got 1 to 3"):
        lj.evaluate(model, variables, lj.Split(IMAGES, LABELS + 1))
    ignoring = lj.objectives.classification(ignore_label=-1)
    assert lj.evaluate(model, variables, lj.Split(IMAGES, LABELS - 1), objective=ignoring).num_examples == 4


def test_exported_functions_of_variables_can_be_saved():
    variables = Variables({"w": jnp.ones(3)}, {})
    exported = jax.export.export(jax.jit(lambda variables, x: variables.params["w"] * x))(variables, jnp.ones(3))
    loaded = jax.export.deserialize(exported.serialize(vjp_order=1))
    np.testing.assert_array_equal(loaded.call(variables, jnp.full(3, 2.0)), jnp.full(3, 2.0))
