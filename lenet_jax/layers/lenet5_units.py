"""The trainable subsampling and the radial basis units of LeNet-5."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from lenet_jax import ops
from lenet_jax.errors import InputError
from lenet_jax.layers.base import Cost, Layer, Shape, whole_field, widen_field, window_size
from lenet_jax.ops.arguments import to_number
from lenet_jax.ops.definitions import scale_channels, widen
from lenet_jax.ops.windows import Ints, Window, make_window
from lenet_jax.types import Key, Variables


def subsampling(size: Ints) -> Layer:
    """Multiply the mean of each window by a trained coefficient of its channel and add a trained bias.

    Coefficients are initially 1, biases 0.

    Args:
        size: size of the windows in pixels, an int or one for each spatial axis; they do not overlap.

    Raises:
        InputError: in `init`, if the windows do not fit the input.

    Source: LeCun et al. 1998, "Gradient-based learning applied to document recognition", section II.B (S2 and S4).
    """

    def window(shape: Shape) -> Window:
        pixels = window_size("subsampling", "size", size, shape)
        return make_window("subsampling", shape[:-1], pixels, pixels, "VALID", argument="size")

    def means(x: Array) -> Array:
        return ops.avg_pool(x, window(x.shape[1:]).size)

    def init(key: Key, shape: Shape) -> tuple[Variables, Shape]:
        params = {"coefficient": jnp.ones(shape[-1], jnp.float32), "bias": jnp.zeros(shape[-1], jnp.float32)}
        batch = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
        return Variables(params, {}), jax.eval_shape(means, batch).shape[1:]

    def apply(variables: Variables, x: Array, *, train: bool, key: Key | None) -> tuple[Array, dict]:
        params = variables.params
        return scale_channels(means(x), params["coefficient"], params["bias"]), variables.state

    def cost(params: dict[str, Array], shape: Shape) -> Cost:
        size, outputs = window(shape).size, math.prod(window(shape).output) * shape[-1]
        return Cost(outputs * (math.prod(size) + 1), outputs)  # the coefficient is used for each pixel, the bias once

    return Layer(init, apply, cost=cost, field=lambda field: widen_field(field, size, size))


def radial_basis(centres: Float[np.ndarray, "centres numbers"], *, scale: float = 1.0) -> Layer:
    """Return minus `scale` times the squared Euclidean distance of the input from each of some fixed points.

    As logits of a softmax cross-entropy, they give the discriminative criterion of the source, except for its constant
    additional class.

    Args:
        centres: the points, one a row.
        scale: factor of the squared distances.

    Raises:
        InputError: if `scale` is no number; in `init`, if an example is not one axis with as many values as a point.

    Source: LeCun et al. 1998, "Gradient-based learning applied to document recognition", equation 9.
    """
    scale = to_number("radial_basis", "scale", scale, "a number", lambda number: number == number)
    points = np.asarray(centres, np.float32)  # of NumPy: a layer may be made while JAX traces, and kept

    def init(key: Key, shape: Shape) -> tuple[Variables, Shape]:
        if shape != points.shape[1:]:
            raise InputError(f"radial_basis: the input needs {points.shape[1]} numbers an example; got shape {shape}.")
        return Variables({}, {}), points.shape[:1]

    def apply(variables: Variables, x: Array, *, train: bool, key: Key | None) -> tuple[Array, dict]:
        wide = widen(x)
        distances = jnp.sum((wide[:, None, :] - points.astype(wide.dtype)[None]) ** 2, axis=-1)
        return (-scale * distances).astype(x.dtype), variables.state

    def cost(params: dict[str, Array], shape: Shape) -> Cost:
        return Cost(points.size, points.size)

    return Layer(init, apply, cost=cost, field=whole_field)
