"""Residual networks of 18 to 152 layers."""

import functools
from typing import Literal

import jax

from lenet_jax import layers
from lenet_jax.config.checks import Count, Positive
from lenet_jax.layers import Layer
from lenet_jax.layers.model import make_model
from lenet_jax.models.sizes import cropped, resized, scaled
from lenet_jax.ops.initializers import fan_in_uniform, he_normal
from lenet_jax.types import Model

_BLOCKS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
"""Depth -> numbers of blocks in conv2 to conv5; table 1 of the paper."""

_EXPANSION = 4  # output channels of a bottleneck per channel of its 3x3 convolution
_conv = functools.partial(layers.convolution, kernel_init=he_normal(), use_bias=False)


def resnet(
    *,
    input_shape: tuple[int, ...],
    num_outputs: int,
    depth: Literal[18, 34, 50, 101, 152] = 50,
    width: Positive = 1.0,
    zero_initial_scale: bool = False,
    stem: Literal["imagenet", "cifar"] = "imagenet",
    crop_size: Count | None = None,
    image_size: Count | None = None,
    rematerialize: bool = False,
) -> Model:
    """Build a residual network, for images of 224x224 pixels; the outputs are logits (N, classes).

    | stage | 18 and 34 layers | 50, 101 and 152 layers | maps |
    | --- | --- | --- | --- |
    | conv1 | 64 of 7x7, stride 2 | the same | 112 |
    | pool1 | 3x3, stride 2 | the same | 56 |
    | conv2 | 3x3, 64; 3x3, 64 | 1x1, 64; 3x3, 64; 1x1, 256 | 56 |
    | conv3 | 3x3, 128; 3x3, 128 | 1x1, 128; 3x3, 128; 1x1, 512 | 28 |
    | conv4 | 3x3, 256; 3x3, 256 | 1x1, 256; 3x3, 256; 1x1, 1024 | 14 |
    | conv5 | 3x3, 512; 3x3, 512 | 1x1, 512; 3x3, 512; 1x1, 2048 | 7 |

    Shortcuts are projections where the shape changes (option B). A bottleneck has its stride of 2 in the 3x3
    convolution, as in torchvision, and not in the first 1x1 convolution: 4.1e9 multiply-adds for 50 layers instead of
    3.8e9.

    Args:
        input_shape: height, width and channels of the images.
        num_outputs: number of logits.
        depth: number of layers with weights; blocks have two 3x3 convolutions (18, 34), or 1x1, 3x3 and 1x1 ones.
        width: factor on the number of channels, above 0.
        zero_initial_scale: whether blocks start as the identity (Goyal et al. 2017).
        stem: "cifar", for images of about 32x32 pixels: conv1 is 3x3 with stride 1, and there is no pool1.
        crop_size: height and width in pixels of the middle of the images, which alone is used; None: all of them.
        image_size: height and width in pixels to which images are resized on the device; None: no resizing.
        rematerialize: whether the backward pass recomputes each block, to save memory.

    Source: He et al. 2016, "Deep residual learning for image recognition", table 1.
    """
    bottleneck = depth >= 50
    stages: dict[str, Layer] = {}
    channels = first = scaled(64, width)
    for stage, num_blocks in enumerate(_BLOCKS[depth]):
        num_maps = scaled(64 * 2**stage, width)
        blocks = {}
        for number in range(num_blocks):
            strides = 2 if stage > 0 and number == 0 else 1
            block = _block(channels, num_maps, strides, bottleneck=bottleneck, zero=zero_initial_scale)
            blocks[str(number)] = layers.rematerialized(block) if rematerialize else block
            channels = num_maps * (_EXPANSION if bottleneck else 1)
        stages[f"conv{stage + 2}"] = layers.serial(blocks)
    network = {
        **_stem(first, small=stem == "cifar"),
        **stages,
        "mean": layers.global_average_pooling(),
        "fc": layers.dense(num_outputs, fan_in_uniform()),
    }
    return make_model(resized(image_size, cropped(crop_size, network)), input_shape)


def _stem(num_maps: int, *, small: bool) -> dict[str, Layer]:
    """Return the first layers; for small images (He et al. 2016, section 4.2) those that keep their size."""
    convolution = (
        _conv(num_maps, 3, padding=((1, 1), (1, 1)))
        if small
        else _conv(num_maps, 7, strides=2, padding=((3, 3), (3, 3)))
    )
    first = {
        "conv1": convolution,
        "norm1": layers.batch_normalization(),
        "relu1": layers.activation(jax.nn.relu),
    }
    return first if small else {**first, "pool1": layers.max_pooling(3, strides=2, padding=((1, 1), (1, 1)))}


def _block(channels: int, num_maps: int, strides: int, *, bottleneck: bool, zero: bool) -> Layer:
    """Return a residual block of figure 5: two 3x3 convolutions, or a bottleneck of 1x1, 3x3 and 1x1 convolutions."""
    pads = ((1, 1), (1, 1))
    num_outputs = num_maps * _EXPANSION if bottleneck else num_maps
    if bottleneck:
        convolutions = [_conv(num_maps, 1), _conv(num_maps, 3, strides=strides, padding=pads), _conv(num_outputs, 1)]
    else:
        convolutions = [_conv(num_maps, 3, strides=strides, padding=pads), _conv(num_outputs, 3, padding=pads)]
    parts: dict[str, Layer] = {}
    for number, convolution in enumerate(convolutions, 1):
        is_last = number == len(convolutions)
        parts[f"conv{number}"] = convolution
        parts[f"norm{number}"] = layers.batch_normalization(initial_scale=0.0 if zero and is_last else 1.0)
        if not is_last:
            parts[f"relu{number}"] = layers.activation(jax.nn.relu)
    projection = None
    if strides > 1 or channels != num_outputs:
        projection = layers.serial(
            {"conv": _conv(num_outputs, 1, strides=strides), "norm": layers.batch_normalization()}
        )
    return layers.residual(layers.serial(parts), projection=projection, activation=jax.nn.relu)
