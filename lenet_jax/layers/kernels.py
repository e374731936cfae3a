"""Parts that the layers of all kinds of convolution share: their variables, bias and cost."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from lenet_jax.errors import InputError
from lenet_jax.layers.base import Cost, Layer, Shape, window_size
from lenet_jax.ops.definitions import add_to_channels
from lenet_jax.ops.initializers import Initializer
from lenet_jax.ops.windows import Ints
from lenet_jax.types import Key, ReceptiveField, Variables


def with_kernels(
    name: str,
    kernel_size: Ints,
    init_kernels: Callable[[Key, Shape, int], dict[str, Array]],
    bias_size: Callable[[int], int | None],
    apply_params: Callable[..., Array],
    cost: Callable[[dict[str, Array], Shape], Cost],
    field: Callable[[ReceptiveField], ReceptiveField],
    bias_init: Initializer,
    check: Callable[[Shape], Any] = lambda shape: None,
) -> Layer:
    """Return the layer of a convolution of any kind.

    Args:
        name: of the layer, for messages.
        kernel_size: an int or one for each spatial axis.
        init_kernels: (key, kernel size, input channels) -> kernels by name; they are stored as float32.
        bias_size: input channels -> number of biases; None: no bias.
        apply_params: (params, x) -> y.
        cost: as of a layer.
        field: as of a layer.
        bias_init: initializer of the bias.
        check: shape of an example -> whatever; raises InputError if an option does not fit.
    """

    def init(key: Key, shape: Shape) -> tuple[Variables, Shape]:
        if len(shape) not in (2, 3, 4):
            raise InputError(
                f"{name}: the input needs 1 to 3 spatial axes and channels an example, as H, W, C; got shape {shape}."
            )
        size = window_size(name, "kernel_size", kernel_size, shape)
        check(shape)
        kernels = init_kernels(key, size, shape[-1])
        params = {part: jnp.asarray(kernel).astype(jnp.float32) for part, kernel in kernels.items()}
        if (num_biases := bias_size(shape[-1])) is not None:
            params["bias"] = init_bias(bias_init, key, num_biases)
        batch = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
        return Variables(params, {}), jax.eval_shape(apply_params, params, batch).shape[1:]

    def apply(variables: Variables, x: Array, *, train: bool, key: Key | None) -> tuple[Array, dict]:
        return apply_params(variables.params, x), variables.state

    return Layer(init, apply, cost, field)


def init_bias(bias_init: Initializer, key: Key, size: int) -> Array:
    """Return the initial bias (size,), as float32; its random numbers are not those of the kernels.

    They have the same key, or those that it is split into, which `jax_threefry_partitionable` makes as `fold_in` does,
    of numbers from 0 on.
    """
    bias = bias_init(jax.random.fold_in(key, 2**31), (size,), jnp.float32)
    return jnp.asarray(bias).astype(jnp.float32)


def add_bias(y: Array, bias: Array | None) -> Array:
    """Return y with a bias for each channel, its last axis; y itself if there is none."""
    return y if bias is None else add_to_channels(y, bias)


def cost_of_all(params: dict[str, Array], num_positions: int = 1) -> Cost:
    """Return the cost of a layer that uses all of its parameters at each position of its output."""
    sizes = {name: leaf.size for name, leaf in params.items()}
    products = sum(size for name, size in sizes.items() if name != "bias")
    return Cost(num_positions * sum(sizes.values()), num_positions * products)
