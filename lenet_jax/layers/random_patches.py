"""Units that each see one patch of an image, at a place of its own."""

import math

import jax.numpy as jnp
import numpy as np
from jax.nn.initializers import zeros
from jaxtyping import Array

from lenet_jax import ops
from lenet_jax.errors import InputError
from lenet_jax.layers.base import Cost, Layer, Shape, widen_field
from lenet_jax.layers.kernels import init_bias
from lenet_jax.ops.initializers import Initializer
from lenet_jax.ops.windows import to_int
from lenet_jax.types import Key, Variables


def random_patches(
    num_units: int, patch_size: int, kernel_init: Initializer, *, seed: int = 0, bias_init: Initializer = zeros
) -> Layer:
    """Connect each unit to one square patch of the image, at a random place: y = patch * kernel + bias, summed.

    A unit has weights for its patch only, and no other unit has them: between a dense layer, whose units see the whole
    image, and a convolution, whose units see all patches. The places belong to the network, not to its variables: they
    are drawn by NumPy from `seed`, the same in every run.

    Args:
        num_units: number of outputs.
        patch_size: height and width of the patches in pixels.
        kernel_init: initializer of the kernels (patch_size, patch_size, C, num_units).
        seed: decides the places of the patches, 0 or above.
        bias_init: initializer of the bias (num_units,); by default 0.

    Raises:
        InputError: if `num_units` or `patch_size` is no integer, 1 or above; in `init`, if the input is no image or a
            patch does not fit into it.

    Source: C. Anderson, Colorado State University, CS445, "Convolutional Neural Networks", the lesson's first answer to
    the number of weights of a dense layer.
    """
    num_units, patch_size = (
        to_int("random_patches", name, value) for name, value in (("num_units", num_units), ("patch_size", patch_size))
    )

    def init(key: Key, shape: Shape) -> tuple[Variables, Shape]:
        if len(shape) != 3:
            raise InputError(f"random_patches: the input needs three axes an example, H, W, C; got shape {shape}.")
        if patch_size > min(shape[:2]):
            raise InputError(
                f"random_patches: `patch_size` must be at most {min(shape[:2])}, to fit into {shape[0]}x{shape[1]} "
                f"pixels; got {patch_size}."
            )
        kernel = jnp.asarray(kernel_init(key, (patch_size, patch_size, shape[-1], num_units))).astype(jnp.float32)
        return Variables({"kernel": kernel, "bias": init_bias(bias_init, key, num_units)}, {}), (num_units,)

    def apply(variables: Variables, x: Array, *, train: bool, key: Key | None) -> tuple[Array, dict]:
        kernel = variables.params["kernel"]
        rows, columns = patch_pixels(x.shape[1:3], num_units, patch_size, seed)
        whole = jnp.zeros((*x.shape[1:], num_units), kernel.dtype)  # 0 outside of the patch of a unit
        whole = whole.at[rows, columns, :, np.arange(num_units)].set(kernel.transpose(0, 1, 3, 2))
        num_inputs = math.prod(x.shape[1:])
        y = ops.dense(x.reshape(x.shape[0], num_inputs), whole.reshape(num_inputs, num_units), variables.params["bias"])
        return y, variables.state

    def cost(params: dict[str, Array], shape: Shape) -> Cost:
        return Cost(sum(leaf.size for leaf in params.values()), params["kernel"].size)

    return Layer(init, apply, cost, field=lambda field: widen_field(field, patch_size, 1))


def patch_pixels(space: tuple[int, ...], num_units: int, patch_size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows and the columns of the pixels that each unit sees.

    Args:
        space: height and width of the image in pixels.
        num_units: number of units.
        patch_size: height and width of the patches in pixels.
        seed: as in `random_patches`.

    Returns:
        Two arrays that broadcast to (patch_size, patch_size, num_units).
    """
    places = [n - patch_size + 1 for n in space]
    top, left = np.random.default_rng(seed).integers(0, places, (num_units, 2)).T
    inside = np.arange(patch_size)[:, None]
    return (top + inside)[:, None], (left + inside)[None]
