"""LeNet-5, layer by layer as published in 1998."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from lenet_jax import layers
from lenet_jax.config import LeNet5Config
from lenet_jax.errors import InputError
from lenet_jax.network import make_model
from lenet_jax.ops.initializers import efficient_backprop_uniform
from lenet_jax.types import Model

C3_TABLE = (
    (0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5),
    (0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5),
    (0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5), (0, 1, 2, 3, 4, 5),
)  # fmt: skip
"""The maps of S2 that each map of C3 sees; table I of the paper."""

_DIGITS = """
.#####. ...##.. .#####. ####### .#####. .#####. ..####. ####### .#####. .#####.
....... ..###.. ....... .....## ....... ....... .##.... .....## ##...## ##..###
..###.. .####.. .#####. ....##. ....... ####### ##..... .....## ##...## ##...##
.##.##. ...##.. ##...## ...##.. .##..## ##..... ##..... ....##. ##...## ##...##
##...## ...##.. #....## ..####. .##..## ##..... #####.. ...##.. .#####. ##..###
##...## ...##.. ....##. .....## ###..## .####.. ###..## ...##.. ##...## .######
##...## ...##.. ..###.. .....## ##...## ..####. ##...## ..##... ##...## .....##
##...## ...##.. .##.... .....## ##...## .....## ##...## ..##... ##...## .....##
.##.##. ...##.. ##..... ##...## ##..### ##...## ###..## ..##... ##...## ....##.
..###.. .###### ####### .#####. .###### .#####. .#####. ..##... .#####. .####..
....... ....... ....... ....... .....## ....... ....... ....... ....... .......
....... ....... ....... ....... .....## ....... ....... ....... ....... .......
"""


def _digit_codes() -> np.ndarray:
    """Return the 7x12 bitmaps of the digits as rows of 84 numbers, 1 ink and -1 paper; figure 3 of the paper."""
    rows = [line.split() for line in _DIGITS.split("\n") if line]
    pixels = np.array([[list(digit) for digit in row] for row in rows])  # (12, 10, 7)
    return np.where(pixels == "#", 1.0, -1.0).swapaxes(0, 1).reshape(10, 84)


def squash(x: Array) -> Array:
    """Return 1.7159 tanh(2x/3), which is 1 at 1 and -1 at -1 (appendix A of the paper)."""
    return 1.7159 * jnp.tanh(x * (2 / 3))


def lenet5(config: LeNet5Config, input_shape: tuple[int, int, int], num_classes: int) -> Model:
    """Build LeNet-5: the image padded to 32x32, C1, S2, C3, S4, C5, F6 and an output of radial basis functions.

    The names are the paper's. With the table of connections it has 60,000 trained parameters and, with the output's,
    340,908 connections. Images are numbers from 0 to 1. Weights start uniform within 2.4 / fan_in. `apply` returns
    logits: minus `config.rbf_scale` times the squared distances of F6 to the codes of the classes.

    Source: LeCun, Bottou, Bengio, Haffner 1998, "Gradient-based learning applied to document recognition", section II.

    Raises:
        InputError: if the image is larger than 32x32, or the output is "rbf" and there are more than 10 classes, which
            have no codes.
    """
    height, width, _ = input_shape
    if max(height, width) > 32:
        raise InputError(f"lenet5: `input_shape` must be at most 32x32 pixels; got {height}x{width}.")
    if config.output == "rbf" and num_classes > 10:
        raise InputError(
            f"lenet5: `num_classes` must be at most 10, the digits that have codes; got {num_classes}; "
            "use model.output=softmax."
        )
    init = efficient_backprop_uniform()
    margins = [((32 - n) // 2, 32 - n - (32 - n) // 2) for n in (height, width)]
    outputs = {
        "rbf": layers.radial_basis(_digit_codes()[:num_classes], scale=config.rbf_scale),
        "softmax": layers.dense(num_classes, init),
    }
    network = layers.serial(
        {
            # paper is -0.1 and ink 1.175, which makes the mean about 0 and the variance about 1
            "input": layers.function(lambda x: 1.275 * jnp.pad(x, [(0, 0), *margins, (0, 0)]) - 0.1),
            "c1": layers.convolution(6, 5, init),
            "squash1": layers.activation(squash),
            "s2": layers.subsampling(2),
            "squash2": layers.activation(squash),
            "c3": layers.convolution(16, 5, init, table=_table(config)),
            "squash3": layers.activation(squash),
            "s4": layers.subsampling(2),
            "squash4": layers.activation(squash),
            "c5": layers.convolution(120, 5, init),
            "squash5": layers.activation(squash),
            "flatten": layers.flatten(),
            "f6": layers.dense(84, init),
            "squash6": layers.activation(squash),
            config.output: outputs[config.output],
        }
    )
    return make_model(network, input_shape)


def _table(config: LeNet5Config) -> tuple[tuple[int, ...], ...] | None:
    match config.connections:
        case "table":
            return C3_TABLE
        case "random":
            rng = np.random.default_rng(config.connections_seed)
            return tuple(tuple(int(n) for n in sorted(rng.choice(6, 4, replace=False))) for _ in range(16))
    return None
