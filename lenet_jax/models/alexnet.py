"""AlexNet, and ZFNet, which is AlexNet with smaller kernels and strides in its first layers."""

import functools
from collections.abc import Mapping
from typing import Literal

import jax

from lenet_jax import layers
from lenet_jax.config.checks import Count, Decay, Positive
from lenet_jax.layers.model import make_model
from lenet_jax.models.sizes import resized, scaled
from lenet_jax.ops.initializers import fan_in_uniform, he_normal
from lenet_jax.ops.windows import Padding
from lenet_jax.types import Model

_RELU = layers.activation(jax.nn.relu)


def alexnet(
    *,
    input_shape: tuple[int, ...],
    num_outputs: int,
    variant: Literal["two_groups", "ungrouped", "one_tower"] = "two_groups",
    width: Positive = 1.0,
    dropout: Decay = 0.5,
    image_size: Count | None = None,
    rematerialize: bool = False,
) -> Model:
    """Build AlexNet, for images of 227x227 pixels (224x224 for the variant one_tower).

    | stage | two_groups, ungrouped | maps | one_tower | maps |
    | --- | --- | --- | --- | --- |
    | conv1 | 96 of 11x11, stride 4 | 55 | 64 of 11x11, stride 4, 2 pixels of padding | 55 |
    | pool1 | 3x3, stride 2 | 27 | the same | 27 |
    | conv2 | 256 of 5x5, 2 groups | 27 | 192 of 5x5 | 27 |
    | pool2 | 3x3, stride 2 | 13 | the same | 13 |
    | conv3 | 384 of 3x3 | 13 | 384 of 3x3 | 13 |
    | conv4 | 384 of 3x3, 2 groups | 13 | 256 of 3x3 | 13 |
    | conv5 | 256 of 3x3, 2 groups | 13 | 256 of 3x3 | 13 |
    | pool5 | 3x3, stride 2 | 6 | the same | 6 |
    | fc6, fc7, fc8 | 4096, 4096, classes | | the same | |

    The outputs are logits (N, classes). Local response normalization follows conv1 and conv2, except in one_tower.
    Unlike in the paper, weights have the initialization of He et al. 2015 for rectified units and biases start at 0; in
    the paper weights have a standard deviation of 0.01, and some biases start at 1.

    Args:
        input_shape: height, width and channels of the images.
        num_outputs: number of logits.
        variant: "two_groups" as published, "ungrouped", or "one_tower" (Krizhevsky 2014).
        width: factor on the numbers of kernels and units, above 0.
        dropout: dropout rate after fc6 and fc7, 0 to 1.
        image_size: height and width in pixels to which images are resized on the device; None: no resizing.
        rematerialize: whether the backward pass recomputes the convolutions, to save memory.

    Source: Krizhevsky et al. 2012, "ImageNet classification with deep convolutional neural networks", section 3.5 and
    figure 2. The variant one_tower: Krizhevsky 2014, "One weird trick for parallelizing convolutional neural networks",
    as in torchvision.
    """
    one_tower = variant == "one_tower"
    groups = 2 if variant == "two_groups" else 1
    kernels = (64, 192, 384, 256, 256) if one_tower else (96, 256, 384, 384, 256)
    padding = ((2, 2), (2, 2)) if one_tower else "VALID"
    conv = functools.partial(_convolution, width, rematerialize, normalize=False)
    normalized = functools.partial(_convolution, width, rematerialize, normalize=not one_tower)
    stages = {
        "conv1": normalized(kernels[0], 11, strides=4, padding=padding),
        "pool1": layers.max_pooling(3, strides=2),
        "conv2": normalized(kernels[1], 5, groups=groups),
        "pool2": layers.max_pooling(3, strides=2),
        "conv3": conv(kernels[2], 3),
        "conv4": conv(kernels[3], 3, groups=groups),
        "conv5": conv(kernels[4], 3, groups=groups),
        "pool5": layers.max_pooling(3, strides=2),
    }
    return make_model(
        _with_classifier(stages, num_outputs, width=width, dropout=dropout, image_size=image_size), input_shape
    )


def zfnet(
    *,
    input_shape: tuple[int, ...],
    num_outputs: int,
    width: Positive = 1.0,
    dropout: Decay = 0.5,
    image_size: Count | None = None,
    rematerialize: bool = False,
) -> Model:
    """Build ZFNet, for images of 224x224 pixels; the outputs are logits (N, classes).

    | stage | | maps |
    | --- | --- | --- |
    | conv1 | 96 of 7x7, stride 2, 1 pixel of padding | 110 |
    | pool1 | 3x3, stride 2 | 55 |
    | conv2 | 256 of 5x5, stride 2 | 26 |
    | pool2 | 3x3, stride 2 | 13 |
    | conv3, conv4, conv5 | 384, 384, 256 of 3x3 | 13 |
    | pool5 | 3x3, stride 2 | 6 |
    | fc6, fc7, fc8 | 4096, 4096, classes | |

    Args:
        input_shape: height, width and channels of the images.
        num_outputs: number of logits.
        width: factor on the numbers of kernels and units, above 0.
        dropout: dropout rate after fc6 and fc7, 0 to 1.
        image_size: height and width in pixels to which images are resized on the device; None: no resizing.
        rematerialize: whether the backward pass recomputes the convolutions, to save memory.

    Source: Zeiler and Fergus 2014, "Visualizing and understanding convolutional networks", figure 3.
    """
    conv = functools.partial(_convolution, width, rematerialize)
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
    return make_model(
        _with_classifier(stages, num_outputs, width=width, dropout=dropout, image_size=image_size), input_shape
    )


def _convolution(
    width: float,
    rematerialize: bool,
    num_kernels: int,
    size: int,
    *,
    strides: int = 1,
    padding: Padding = "SAME",
    groups: int = 1,
    normalize: bool = False,
) -> layers.Layer:
    """Return a convolution with ReLU, followed by local response normalization if `normalize`."""
    convolution = layers.convolution(
        scaled(num_kernels, width, multiple=2),
        size,
        he_normal(),
        strides=strides,
        padding=padding,
        groups=groups,
    )
    norm = {"norm": layers.local_response_normalization()} if normalize else {}
    layer = layers.serial({"conv": convolution, "relu": _RELU, **norm})
    return layers.rematerialized(layer) if rematerialize else layer


def _with_classifier(
    stages: Mapping[str, layers.Layer], num_outputs: int, *, width: float, dropout: float, image_size: int | None
) -> layers.Layer:
    units = scaled(4096, width)
    classifier = {
        "flatten": layers.flatten(),
        "fc6": layers.dense(units, he_normal()),
        "relu6": _RELU,
        "dropout6": layers.dropout(dropout),
        "fc7": layers.dense(units, he_normal()),
        "relu7": _RELU,
        "dropout7": layers.dropout(dropout),
        "fc8": layers.dense(num_outputs, fan_in_uniform()),
    }
    return resized(image_size, {**stages, **classifier})
