"""GoogLeNet: nine inception modules, with two optional auxiliary classifiers in training."""

from typing import Literal, NamedTuple

import jax

from lenet_jax import layers
from lenet_jax.config.checks import Count, Decay, Positive
from lenet_jax.errors import InputError
from lenet_jax.layers import Layer
from lenet_jax.layers.model import make_model
from lenet_jax.models.sizes import resized, scaled
from lenet_jax.ops.initializers import fan_in_uniform, he_normal
from lenet_jax.types import Model

# Numbers of kernels (table 1): 1x1; 1x1 before 3x3, 3x3; 1x1 before 5x5, 5x5; 1x1 after the pooling.
_MODULES = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
_AUXILIARY_WEIGHT = 0.3  # of each auxiliary classifier's loss; section 5
_AUXILIARY_DROPOUT = 0.7


class _Options(NamedTuple):
    num_outputs: int
    is_paper: bool
    width: float
    dropout: float
    auxiliary_heads: bool
    rematerialize: bool


def googlenet(
    *,
    input_shape: tuple[int, ...],
    num_outputs: int,
    variant: Literal["paper", "torchvision"] = "paper",
    width: Positive = 1.0,
    dropout: Decay = 0.4,
    auxiliary_heads: bool = False,
    image_size: Count | None = None,
    rematerialize: bool = False,
) -> Model:
    """Build GoogLeNet, for images of 224x224 pixels; the outputs are logits (N, classes).

    | stage | | maps |
    | --- | --- | --- |
    | conv1, pool1 | 64 of 7x7, stride 2; 3x3, stride 2 | 112, 56 |
    | reduce2, conv2, pool2 | 64 of 1x1; 192 of 3x3; 3x3, stride 2 | 56, 28 |
    | inception3a, 3b, pool3 | to 256, 480 maps | 28, 14 |
    | inception4a to 4e, pool4 | to 512, 512, 512, 528, 832 maps | 14, 7 |
    | inception5a, 5b | to 832, 1024 maps | 7 |
    | mean, dropout, fc | classes | |

    `variant="torchvision"` is the architecture of torchvision's weights: it has batch normalization after each
    convolution instead of biases and local response normalization, 3x3 kernels instead of 5x5, and a pool4 of 2x2.

    Args:
        input_shape: height, width and channels of the images.
        num_outputs: number of logits.
        variant: "paper" or "torchvision".
        width: factor on the numbers of kernels and units, above 0.
        dropout: dropout rate before the softmax layer, 0 to 1.
        auxiliary_heads: whether auxiliary classifiers follow 4a and 4d in training, each with a loss weight of 0.3
            (section 5); if so, `apply` returns `Heads` in training.
        image_size: height and width in pixels to which images are resized on the device; None: no resizing.
        rematerialize: whether the backward pass recomputes each module, to save memory.

    Raises:
        InputError: if `auxiliary_heads` is true for the variant "torchvision".

    Source: Szegedy et al. 2015, "Going deeper with convolutions", table 1.
    """
    if auxiliary_heads and variant != "paper":
        raise InputError("googlenet: `auxiliary_heads` must be false for variant=torchvision, which is loaded without.")
    options = _Options(num_outputs, variant == "paper", width, dropout, auxiliary_heads, rematerialize)
    return make_model(resized(image_size, _stages(options)), input_shape)


def _stages(options: _Options) -> dict[str, Layer]:
    is_paper = options.is_paper
    padding = "SAME" if is_paper else "CEIL"  # for 224x224 pixels both give the sizes of the paper

    def response_norm(number: int) -> dict[str, Layer]:
        return {f"norm{number}": layers.local_response_normalization()} if is_paper else {}

    def pool(size: int = 3) -> Layer:
        return layers.max_pooling(size, strides=2, padding=padding)

    def modules(*names: str) -> dict[str, Layer]:
        built = {f"inception{name}": _inception(options, name) for name in names}
        return {
            name: layers.rematerialized(module) if options.rematerialize else module for name, module in built.items()
        }

    def head(number: int) -> dict[str, Layer]:
        classifier = layers.auxiliary(_auxiliary_head(options), weight=_AUXILIARY_WEIGHT)
        return {f"auxiliary{number}": classifier} if options.auxiliary_heads else {}

    return {
        "conv1": _convolution(options, 64, 7, strides=2),
        "pool1": pool(),
        **response_norm(1),
        "reduce2": _convolution(options, 64, 1),
        "conv2": _convolution(options, 192, 3),
        **response_norm(2),
        "pool2": pool(),
        **modules("3a", "3b"),
        "pool3": pool(),
        **modules("4a"),
        **head(1),
        **modules("4b", "4c", "4d"),
        **head(2),
        **modules("4e"),
        "pool4": pool(3 if is_paper else 2),
        **modules("5a", "5b"),
        "mean": layers.global_average_pooling(),
        "dropout": layers.dropout(options.dropout),
        "fc": layers.dense(options.num_outputs, fan_in_uniform()),
    }


def _convolution(options: _Options, num_kernels: int, size: int, *, strides: int = 1) -> Layer:
    """Return a convolution with ReLU; the variant "torchvision" has batch normalization between the two."""
    is_paper = options.is_paper
    pads = (size // 2, size // 2)
    convolution = layers.convolution(
        scaled(num_kernels, options.width),
        size,
        he_normal(),
        strides=strides,
        padding=(pads, pads),
        use_bias=is_paper,
    )
    norm = {} if is_paper else {"norm": layers.batch_normalization(epsilon=1e-3)}
    return layers.serial({"conv": convolution, **norm, "relu": layers.activation(jax.nn.relu)})


def _inception(options: _Options, name: str) -> Layer:
    """Return an inception module of figure 2b."""
    single, before_3x3, of_3x3, before_5x5, of_5x5, after_pool = _MODULES[name]

    def reduced(before: int, num_kernels: int, size: int) -> Layer:
        return layers.serial(
            {"reduce": _convolution(options, before, 1), "conv": _convolution(options, num_kernels, size)}
        )

    return layers.branch(
        {
            "1x1": _convolution(options, single, 1),
            "3x3": reduced(before_3x3, of_3x3, 3),
            "5x5": reduced(before_5x5, of_5x5, 5 if options.is_paper else 3),
            "pool": layers.serial(
                {
                    "pool": layers.max_pooling(3, strides=1, padding="SAME"),
                    "project": _convolution(options, after_pool, 1),
                }
            ),
        }
    )


def _auxiliary_head(options: _Options) -> Layer:
    return layers.serial(
        {
            "pool": layers.average_pooling(5, strides=3),
            "conv": _convolution(options, 128, 1),
            "flatten": layers.flatten(),
            "hidden": layers.dense(scaled(1024, options.width), he_normal()),
            "relu": layers.activation(jax.nn.relu),
            "dropout": layers.dropout(_AUXILIARY_DROPOUT),
            "fc": layers.dense(options.num_outputs, fan_in_uniform()),
        }
    )
