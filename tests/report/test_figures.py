"""Figures: what they show, read back from matplotlib."""

import io

import numpy as np
import pytest
from PIL import Image

from lenet_jax.report import figures


def pixels(figure):
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return np.asarray(Image.open(file).convert("RGB"))


def texts(figure):
    return [text.get_text() for axis in figure.axes for text in axis.texts]


def test_a_constant_image_is_grey_and_not_black():
    figure = figures.image_grid(np.full((1, 4, 4), 0.5), value_range=(0.0, 1.0))
    drawn = pixels(figure)
    height, width, _ = drawn.shape
    assert abs(int(drawn[height // 2, width // 2, 0]) - 128) <= 1


def test_weights_of_0_are_the_same_grey_in_all_filters():
    kernel = np.zeros((3, 3, 1, 2))
    kernel[1, 1, 0, 0] = 5.0
    figure = figures.filters(kernel)
    ranges = {image.get_clim() for axis in figure.axes for image in axis.images}
    assert (-5.0, 5.0) in ranges


def test_the_confusion_matrix_is_in_percent_of_the_true_class():
    figure = figures.confusion([[3, 1], [0, 5]])
    assert sorted(texts(figure)) == ["100.0", "25.0", "75.0"]
    assert figure.axes[0].get_xlabel() == "predicted class"
    assert figure.axes[0].get_ylabel() == "true class"


def test_learning_curves_mark_the_lowest_error():
    metrics = {
        "epoch": [1, 2, 3],
        "train_loss": [1.0, 0.5, 0.2],
        "validation_loss": [1.1, 0.6, 0.7],
        "monitored": [10.0, 4.0, 5.0],
    }
    figure = figures.learning_curves(metrics)
    assert texts(figure) == ["4.00 %"]
    assert [axis.get_xlabel() for axis in figure.axes] == ["epoch", "epoch"]


def test_the_likelihood_is_exp_of_minus_the_loss():
    figure = figures.likelihood_curve([np.log(2), 0.0])
    np.testing.assert_allclose(figure.axes[0].lines[0].get_ydata(), [0.5, 1.0])


def test_misclassified_digits_carry_label_and_prediction():
    images = np.zeros((3, 4, 4, 1), np.uint8)
    figure = figures.misclassified(images, [1, 2, 3], [1, 7, 5])
    assert [axis.get_title() for axis in figure.axes] == ["2 > 7", "3 > 5"]
    assert figure.get_suptitle() == "2 of 3 classified wrongly: label > prediction"
    assert figures.misclassified(images, [1, 2, 3], [1, 2, 3]).get_suptitle().startswith("0 of 3")


def test_misclassified_digits_carry_their_number_and_confidence():
    figure = figures.misclassified(np.zeros((3, 4, 4, 1), np.uint8), [1, 2, 3], [1, 7, 5], confidences=[1, 0.512, 0.9])
    assert [axis.get_title() for axis in figure.axes] == ["2 > 7\n#1, 51%", "3 > 5\n#2, 90%"]


def test_calibration_draws_the_accuracy_of_each_bin_at_its_mean_confidence():
    confidences = [0.15, 0.25, 0.9, 1.0, 1.0]
    figure = figures.calibration(confidences, [True, False, True, True, False], num_bins=5)
    top, bottom = figure.axes
    np.testing.assert_allclose(top.lines[1].get_xdata(), [15, 25, 290 / 3])
    np.testing.assert_allclose(top.lines[1].get_ydata(), [100, 0, 200 / 3])
    assert [bar.get_height() for bar in bottom.patches] == [1, 1, 0, 0, 3]


def test_learning_curves_have_the_minibatches_where_they_were_measured():
    metrics = {"epoch": [1, 2], "train_loss": [1, 1], "validation_loss": [1, 1], "monitored": [9, 4]}
    alone = figures.learning_curves(metrics).axes[1]
    both = figures.learning_curves({**metrics, "train_monitored": [8, 3]}).axes[1]
    assert alone.get_legend_handles_labels()[1] == ["validation"]
    assert both.get_legend_handles_labels()[1] == ["train, while training", "validation"]


def test_patches_are_drawn_in_their_places():
    windows = np.arange(6.0)[:, None, None].reshape(2, 3, 1, 1) / 6 * np.ones((2, 3, 2, 2))
    figure = figures.patches(windows)
    assert [float(axis.images[0].get_array()[0, 0]) for axis in figure.axes] == pytest.approx(list(np.arange(6) / 6))


def test_feature_maps_stand_beside_their_filters():
    rng = np.random.default_rng(0)
    figure = figures.feature_maps(rng.random((8, 8)), rng.normal(size=(3, 3, 4)), rng.normal(size=(6, 6, 4)))
    assert sum(len(axis.images) for axis in figure.axes if axis.get_label() != "<colorbar>") == 1 + 2 * 4
    assert pixels(figure).std() > 10
