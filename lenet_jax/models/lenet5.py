"""LeNet-5, as published in 1998."""

from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from lenet_jax import layers
from lenet_jax.config.checks import Positive, Seed
from lenet_jax.errors import InputError
from lenet_jax.layers.model import make_model
from lenet_jax.ops.initializers import efficient_backprop_uniform
from lenet_jax.types import Model

C3_TABLE = (
    (0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5),
    (0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5),
    (0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5), (0, 1, 2, 3, 4, 5),
)  # fmt: skip
"""The feature maps of S2 to which each feature map of C3 is connected; table I of the paper."""

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
    """Return the 7x12 bitmaps of the digits as rows of 84 values, ink 1 and paper -1; figure 3 of the paper."""
    rows = [line.split() for line in _DIGITS.split("\n") if line]
    pixels = np.array([[list(digit) for digit in row] for row in rows])  # (12, 10, 7)
    return np.where(pixels == "#", 1.0, -1.0).swapaxes(0, 1).reshape(10, 84)


def scaled_tanh(x: Array) -> Array:
    """Return 1.7159 tanh(2x/3), which is 1 at 1 and -1 at -1 (appendix A of the paper)."""
    return 1.7159 * jnp.tanh(x * (2 / 3))


def lenet5(
    *,
    input_shape: tuple[int, ...],
    num_outputs: int,
    connections: Literal["table", "full", "random"] = "table",
    connections_seed: Seed = 0,
    output: Literal["rbf", "softmax"] = "rbf",
    rbf_scale: Positive = 0.03,
) -> Model:
    """Build LeNet-5: the image padded to 32x32, C1, S2, C3, S4, C5, F6 and an output of radial basis functions.

    The layers have the names of the paper. With the published table of connections the network has 60,000 trainable
    parameters and, including the output layer, 340,908 connections. Pixels are floats from 0 to 1. Weights start
    uniformly distributed within 2.4 / fan_in. The outputs are logits: minus `rbf_scale` times the squared distances of
    F6 from the codes of the classes.

    Args:
        input_shape: height, width and channels of the images, at most 32x32 pixels.
        num_outputs: number of classes.
        connections: connections of C3 with S2. "table": the published 60 pairs of maps. "full": all 96 pairs.
            "random": each map of C3 with four random maps of S2.
        connections_seed: seed of the random connections.
        output: "rbf": distances from fixed codes. "softmax": a dense layer.
        rbf_scale: factor on the squared distances in the logits, above 0. With a factor of 1, the cross-entropy
            saturates at 0 long before the network has learned codes that differ in 10 pixels.

    Source: LeCun, Bottou, Bengio, Haffner 1998, "Gradient-based learning applied to document recognition", section II.

    Raises:
        InputError: if the image is larger than 32x32 pixels, or the output is "rbf" with more than 10 classes, because
            only the digits have codes.
    """
    height, width, _ = input_shape
    if max(height, width) > 32:
        raise InputError(f"lenet5: `input_shape` must be at most 32x32 pixels; got {height}x{width}.")
    if output == "rbf" and num_outputs > 10:
        raise InputError(
            f"lenet5: `num_classes` must be at most 10, the digits that have codes; got {num_outputs}; "
            "use model.output=softmax."
        )
    init = efficient_backprop_uniform()
    margins = [((32 - n) // 2, 32 - n - (32 - n) // 2) for n in (height, width)]
    outputs = {
        "rbf": layers.radial_basis(_digit_codes()[:num_outputs], scale=rbf_scale),
        "softmax": layers.dense(num_outputs, init),
    }
    network = layers.serial(
        {
            # Paper is -0.1 and ink 1.175, so that the mean is about 0 and the variance about 1.
            "input": layers.function(lambda x: 1.275 * jnp.pad(x, [(0, 0), *margins, (0, 0)]) - 0.1),
            "c1": layers.convolution(6, 5, init),
            "squash1": layers.activation(scaled_tanh),
            "s2": layers.subsampling(2),
            "squash2": layers.activation(scaled_tanh),
            "c3": layers.convolution(16, 5, init, table=_table(connections, connections_seed)),
            "squash3": layers.activation(scaled_tanh),
            "s4": layers.subsampling(2),
            "squash4": layers.activation(scaled_tanh),
            "c5": layers.convolution(120, 5, init),
            "squash5": layers.activation(scaled_tanh),
            "flatten": layers.flatten(),
            "f6": layers.dense(84, init),
            "squash6": layers.activation(scaled_tanh),
            output: outputs[output],
        }
    )
    return make_model(network, input_shape)


def _table(connections: str, seed: int) -> tuple[tuple[int, ...], ...] | None:
    match connections:
        case "table":
            return C3_TABLE
        case "random":
            rng = np.random.default_rng(seed)
            return tuple(tuple(int(n) for n in sorted(rng.choice(6, 4, replace=False))) for _ in range(16))
    return None
