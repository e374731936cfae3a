"""What speaks for the class of an image, on the page of a run."""

import jax
import numpy as np
import pytest
from flax import linen as nn

import lenet_jax as lj
from lenet_jax.report.explanation import draw_explanations
from lenet_jax.report.figures import to_pictures
from lenet_jax.runs.evaluate import EvaluationReport


class Net(nn.Module):
    @nn.compact
    def __call__(self, images):
        x = nn.relu(nn.Conv(4, (3, 3))(images))
        return nn.Dense(3)(x.reshape(len(x), -1))


class Dense(nn.Module):
    @nn.compact
    def __call__(self, images):
        return nn.Dense(3)(images.reshape(len(images), -1))


def evaluation(module, inputs, targets, predictions):
    model = lj.interop.to_model(module, inputs.shape[1:])
    split = lj.Split(inputs, np.asarray(targets, np.int32))
    variables = model.init(jax.random.key(0))
    return EvaluationReport(model, variables, split, 256.0, {}, np.asarray(predictions), np.eye(3))


def titles(figure):
    return [axis.get_title() for axis in figure.axes if axis.get_title()]


def test_the_predicted_class_of_a_colour_image_is_explained_and_the_true_one_where_it_is_another():
    inputs = np.random.default_rng(0).integers(0, 256, (2, 8, 6, 3), dtype=np.uint8)
    found = evaluation(Net(), inputs, [1, 2], [1, 0])
    (right,), (wrong,) = (list(draw_explanations(found, number, None)) for number in (0, 1))
    names = ["saliency", "Grad-CAM", "occlusion"]
    assert [title.split(":")[0] for title in titles(right.figure)] == ["image as a 1", *names]
    assert [title.split(":")[0] for title in titles(wrong.figure)] == ["image as a 0", *names, "image as a 2", *names]
    assert "taken for a 0" in wrong.caption
    assert "largest magnitude of a channel" in wrong.caption


def test_zero_is_in_the_middle_of_the_colours_of_values_with_two_signs():
    inputs = np.random.default_rng(1).normal(size=(1, 8, 6, 1)).astype(np.float32)
    ((picture),) = draw_explanations(evaluation(Net(), inputs, [1], [1]), 0, None)
    axes = {axis.get_title(): axis for axis in picture.figure.axes}
    for name in ("saliency", "occlusion"):
        (image,) = axes[name].images
        low, high = image.get_clim()
        assert (low, image.cmap.name) == (-high, "RdBu_r")


def test_a_network_without_feature_maps_has_the_other_explanations():
    inputs = np.zeros((1, 8, 6, 1), np.uint8)
    (picture,) = draw_explanations(evaluation(Dense(), inputs, [1], [1]), 0, None)
    assert [title.split(":")[0] for title in titles(picture.figure)] == ["image as a 1", "saliency", "occlusion"]
    with pytest.raises(lj.InputError, match=r"`layer` is for a model made of lenet_jax\.layers"):
        list(draw_explanations(evaluation(Dense(), inputs, [1], [1]), 0, "conv"))


def test_pictures_are_from_0_to_1():
    np.testing.assert_allclose(to_pictures(np.array([[[[0]], [[255]]]], np.uint8)), [[[0], [1]]])
    np.testing.assert_allclose(to_pictures(np.array([[[[-2.0]], [[0.0]], [[2.0]]]])), [[[0], [0.5], [1]]])
    assert to_pictures(np.zeros((2, 4, 5, 3))).shape == (2, 4, 5, 3)
    assert to_pictures(np.zeros((2, 4, 5, 7))).shape == (2, 4, 5)
