"""AlexNet, and ZFNet, which is AlexNet with smaller windows and steps at the beginning."""

import functools
from collections.abc import Mapping

import jax

from lenet_jax import layers
from lenet_jax.config import AlexNetConfig, ZfNetConfig
from lenet_jax.models.scaling import resized, scaled
from lenet_jax.network import make_model
from lenet_jax.ops.initializers import fan_in_uniform, he_normal
from lenet_jax.ops.windows import Padding
from lenet_jax.types import Model

_RELU = layers.activation(jax.nn.relu)


def alexnet(config: AlexNetConfig, input_shape: tuple[int, int, int], num_classes: int) -> Model:
    """Build AlexNet, for images of 227x227 pixels (224x224 of the one tower): logits of shape (N, classes).

    | stage | two_groups, ungrouped | maps | one_tower | maps |
    | --- | --- | --- | --- | --- |
    | conv1 | 96 of 11x11, step 4 | 55 | 64 of 11x11, step 4, 2 pixels around | 55 |
    | pool1 | 3x3, step 2 | 27 | the same | 27 |
    | conv2 | 256 of 5x5, 2 groups | 27 | 192 of 5x5 | 27 |
    | pool2 | 3x3, step 2 | 13 | the same | 13 |
    | conv3 | 384 of 3x3 | 13 | 384 of 3x3 | 13 |
    | conv4 | 384 of 3x3, 2 groups | 13 | 256 of 3x3 | 13 |
    | conv5 | 256 of 3x3, 2 groups | 13 | 256 of 3x3 | 13 |
    | pool5 | 3x3, step 2 | 6 | the same | 6 |
    | fc6, fc7, fc8 | 4096, 4096, classes | | the same | |

    The responses of conv1 and conv2 are normalized, but for the one tower. Weights start as He et al. 2015 have it for
    rectified units, and biases at 0; the paper has a standard deviation of 0.01, and some biases at 1.

    Source: Krizhevsky et al. 2012, "ImageNet classification with deep convolutional neural networks", section 3.5 and
    figure 2; the one tower: Krizhevsky 2014, "One weird trick for parallelizing convolutional neural networks", as in
    torchvision.
    """
    one_tower = config.form == "one_tower"
    groups = 2 if config.form == "two_groups" else 1
    kernels = (64, 192, 384, 256, 256) if one_tower else (96, 256, 384, 384, 256)
    around = ((2, 2), (2, 2)) if one_tower else "VALID"
    conv = functools.partial(_convolution, config, normalize=False)
    normalized = functools.partial(_convolution, config, normalize=not one_tower)
    stages = {
        "conv1": normalized(kernels[0], 11, strides=4, padding=around),
        "pool1": layers.max_pooling(3, strides=2),
        "conv2": normalized(kernels[1], 5, groups=groups),
        "pool2": layers.max_pooling(3, strides=2),
        "conv3": conv(kernels[2], 3),
        "conv4": conv(kernels[3], 3, groups=groups),
        "conv5": conv(kernels[4], 3, groups=groups),
        "pool5": layers.max_pooling(3, strides=2),
    }
    return make_model(_with_classifier(stages, config, num_classes), input_shape)


def zfnet(config: ZfNetConfig, input_shape: tuple[int, int, int], num_classes: int) -> Model:
    """Build ZFNet, for images of 224x224 pixels: logits of shape (N, classes).

    | stage | | maps |
    | --- | --- | --- |
    | conv1 | 96 of 7x7, step 2, 1 pixel around | 110 |
    | pool1 | 3x3, step 2 | 55 |
    | conv2 | 256 of 5x5, step 2 | 26 |
    | pool2 | 3x3, step 2 | 13 |
    | conv3, conv4, conv5 | 384, 384, 256 of 3x3 | 13 |
    | pool5 | 3x3, step 2 | 6 |
    | fc6, fc7, fc8 | 4096, 4096, classes | |

    Source: Zeiler and Fergus 2014, "Visualizing and understanding convolutional networks", figure 3.
    """
    conv = functools.partial(_convolution, config)
    stages = {
        "conv1": conv(96, 7, strides=2, padding=((1, 1), (1, 1)), normalize=True),
        "pool1": layers.max_pooling(3, strides=2, padding="CEIL"),
        "conv2": conv(256, 5, strides=2, padding="VALID", normalize=True),
        "pool2": layers.max_pooling(3, strides=2, padding="CEIL"),
        "conv3": conv(384, 3),
        "conv4": conv(384, 3),
        "conv5": conv(256, 3),
        "pool5": layers.max_pooling(3, strides=2),
    }
    return make_model(_with_classifier(stages, config, num_classes), input_shape)


def _convolution(
    config: AlexNetConfig | ZfNetConfig,
    num_kernels: int,
    size: int,
    *,
    strides: int = 1,
    padding: Padding = "SAME",
    groups: int = 1,
    normalize: bool = False,
) -> layers.Layer:
    """Convolve and rectify; normalize the responses on request."""
    convolution = layers.convolution(
        scaled(num_kernels, config.width, multiple=2),
        size,
        he_normal(),
        strides=strides,
        padding=padding,
        groups=groups,
    )
    norm = {"norm": layers.local_response_normalization()} if normalize else {}
    layer = layers.serial({"conv": convolution, "relu": _RELU, **norm})
    return layers.rematerialized(layer) if config.rematerialize else layer


def _with_classifier(
    stages: Mapping[str, layers.Layer], config: AlexNetConfig | ZfNetConfig, num_classes: int
) -> layers.Layer:
    units = scaled(4096, config.width)
    classifier = {
        "flatten": layers.flatten(),
        "fc6": layers.dense(units, he_normal()),
        "relu6": _RELU,
        "dropout6": layers.dropout(config.dropout),
        "fc7": layers.dense(units, he_normal()),
        "relu7": _RELU,
        "dropout7": layers.dropout(config.dropout),
        "fc8": layers.dense(num_classes, fan_in_uniform()),
    }
    return resized(config.image_size, {**stages, **classifier})
