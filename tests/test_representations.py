"""What a person sees who types the name of a value: one short line."""

import jax
import numpy as np
import pytest

import lenet_jax as lj


@pytest.fixture(scope="module")
def data():
    return lj.load_dataset()


def test_a_dataset_is_one_line(data):
    assert repr(data.train) == "Split(inputs=uint8[4000,28,28,1], targets=int32[4000])"
    assert repr(data) == (
        "Dataset(train=Split(inputs=uint8[4000,28,28,1], targets=int32[4000]), "
        "validation=Split(inputs=uint8[500,28,28,1], targets=int32[500]), "
        "test=Split(inputs=uint8[500,28,28,1], targets=int32[500]), num_classes=10, pixel_divisor=256.0)"
    )


@pytest.mark.parametrize("name", ["lenet", "resnet50"])
def test_variables_are_one_line(name):
    model = lj.create_model(name)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    assert repr(shapes).startswith("Variables(params={")
    assert "float32[" in repr(shapes)
    assert len(repr(shapes)) < 500


def test_a_result_is_one_line(data):
    small = lj.Split(data.train.inputs[:20], data.train.targets[:20])
    optimizer, config = lj.make_optimizer("sgd"), lj.config.TrainerConfig(max_epochs=1, batch_size=10)
    model = lj.create_model("window_classifier", num_kernels=2, hidden_units=3)
    result = lj.make_train(model, optimizer, config)(jax.random.key(0), {}, lj.Dataset(small, small, small))
    assert len(repr(result)) < 1_000
    assert "iterations=2" in repr(result)
    assert "\n" not in repr(result)
    assert repr(result.test).startswith("Metrics(loss_sum=")


def test_any_pytree_may_stand_in_a_split(data):
    traced = []
    jax.jit(lambda split: traced.append(repr(split)))(lj.Split({"a": np.zeros((3, 2), np.float32)}, None))
    assert traced == ["Split(inputs={'a': float32[3,2]}, targets=None)"]
    assert repr(lj.Split(0, None)) == "Split(inputs=0, targets=None)"  # as in_axes has it
    assert repr(lj.Split(jax.random.key(0), 1)) == "Split(inputs=key<fry>[], targets=1)"
