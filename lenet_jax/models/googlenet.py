"""GoogLeNet: nine inception modules, and two more classifiers beside them while it trains."""

import jax

from lenet_jax import layers
from lenet_jax.config import GoogLeNetConfig
from lenet_jax.errors import InputError
from lenet_jax.layers import Layer
from lenet_jax.models.scaling import resized, scaled
from lenet_jax.network import make_model
from lenet_jax.ops.initializers import fan_in_uniform, he_normal
from lenet_jax.types import Model

# Kernels of 1x1; of 1x1 before 3x3, of 3x3; of 1x1 before 5x5, of 5x5; of 1x1 after the pooling. Table 1.
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
_AUXILIARY_WEIGHT = 0.3  # of the losses of the other two classifiers; section 5
_AUXILIARY_DROPOUT = 0.7


def googlenet(config: GoogLeNetConfig, input_shape: tuple[int, int, int], num_classes: int) -> Model:
    """Build GoogLeNet, for images of 224x224 pixels: logits of shape (N, classes).

    | stage | | maps |
    | --- | --- | --- |
    | conv1, pool1 | 64 of 7x7, step 2; 3x3, step 2 | 112, 56 |
    | reduce2, conv2, pool2 | 64 of 1x1; 192 of 3x3; 3x3, step 2 | 56, 28 |
    | inception3a, 3b, pool3 | to 256, 480 maps | 28, 14 |
    | inception4a to 4e, pool4 | to 512, 512, 512, 528, 832 maps | 14, 7 |
    | inception5a, 5b | to 832, 1024 maps | 7 |
    | mean, dropout, fc | classes | |

    `form="torchvision"` is what torchvision has weights for: batch normalization after each convolution instead of
    biases and of the normalization of responses, 3x3 where the paper has 5x5, and a pool4 of 2x2.

    With `auxiliary_heads`, the outputs of 4a and 4d are classified as well while it trains (section 5).

    Raises:
        InputError: if there are auxiliary heads in torchvision's form.

    Source: Szegedy et al. 2015, "Going deeper with convolutions", table 1.
    """
    if config.auxiliary_heads and config.form != "paper":
        raise InputError("googlenet: `auxiliary_heads` must be false for form=torchvision, which is loaded without.")
    return make_model(resized(config.image_size, _stages(config, num_classes)), input_shape)


def _stages(config: GoogLeNetConfig, num_classes: int) -> dict[str, Layer]:
    is_paper = config.form == "paper"
    padding = "SAME" if is_paper else "CEIL"  # at 224x224 both are the paper's

    def response_norm(number: int) -> dict[str, Layer]:
        return {f"norm{number}": layers.local_response_normalization()} if is_paper else {}

    def pool(size: int = 3) -> Layer:
        return layers.max_pooling(size, strides=2, padding=padding)

    def modules(*names: str) -> dict[str, Layer]:
        made = {f"inception{name}": _inception(config, name) for name in names}
        return {
            name: layers.rematerialized(module) if config.rematerialize else module for name, module in made.items()
        }

    def head(number: int) -> dict[str, Layer]:
        classifier = layers.auxiliary(_auxiliary_head(config, num_classes), weight=_AUXILIARY_WEIGHT)
        return {f"auxiliary{number}": classifier} if config.auxiliary_heads else {}

    return {
        "conv1": _convolution(config, 64, 7, strides=2),
        "pool1": pool(),
        **response_norm(1),
        "reduce2": _convolution(config, 64, 1),
        "conv2": _convolution(config, 192, 3),
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
        "dropout": layers.dropout(config.dropout),
        "fc": layers.dense(num_classes, fan_in_uniform()),
    }


def _convolution(config: GoogLeNetConfig, num_kernels: int, size: int, *, strides: int = 1) -> Layer:
    """Convolve and rectify; torchvision's form normalizes in between."""
    is_paper = config.form == "paper"
    around = (size // 2, size // 2)
    convolution = layers.convolution(
        scaled(num_kernels, config.width),
        size,
        he_normal(),
        strides=strides,
        padding=(around, around),
        use_bias=is_paper,
    )
    norm = {} if is_paper else {"norm": layers.batch_normalization(epsilon=1e-3)}
    return layers.serial({"conv": convolution, **norm, "relu": layers.activation(jax.nn.relu)})


def _inception(config: GoogLeNetConfig, name: str) -> Layer:
    """Build a module of figure 2b."""
    single, before_3x3, of_3x3, before_5x5, of_5x5, after_pool = _MODULES[name]

    def reduced(before: int, num_kernels: int, size: int) -> Layer:
        return layers.serial(
            {"reduce": _convolution(config, before, 1), "conv": _convolution(config, num_kernels, size)}
        )

    return layers.branch(
        {
            "1x1": _convolution(config, single, 1),
            "3x3": reduced(before_3x3, of_3x3, 3),
            "5x5": reduced(before_5x5, of_5x5, 5 if config.form == "paper" else 3),
            "pool": layers.serial(
                {
                    "pool": layers.max_pooling(3, strides=1, padding="SAME"),
                    "project": _convolution(config, after_pool, 1),
                }
            ),
        }
    )


def _auxiliary_head(config: GoogLeNetConfig, num_classes: int) -> Layer:
    return layers.serial(
        {
            "pool": layers.average_pooling(5, strides=3),
            "conv": _convolution(config, 128, 1),
            "flatten": layers.flatten(),
            "hidden": layers.dense(scaled(1024, config.width), he_normal()),
            "relu": layers.activation(jax.nn.relu),
            "dropout": layers.dropout(_AUXILIARY_DROPOUT),
            "fc": layers.dense(num_classes, fan_in_uniform()),
        }
    )
