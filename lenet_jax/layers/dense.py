"""Layers in which every input reaches every unit, and dropout."""

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.nn.initializers import zeros
from jaxtyping import Array

from lenet_jax import ops
from lenet_jax.errors import InputError
from lenet_jax.layers.base import Layer, Shape, is_one_key, whole_field
from lenet_jax.layers.kernels import cost_of_all, init_bias
from lenet_jax.ops.arguments import to_number
from lenet_jax.ops.initializers import Initializer
from lenet_jax.ops.windows import to_int
from lenet_jax.types import Key, Variables


def dense(num_units: int, kernel_init: Initializer, *, bias_init: Initializer = zeros) -> Layer:
    """Connect all inputs to each unit: y = x @ kernel + bias.

    Args:
        num_units: number of outputs.
        kernel_init: initializer of the kernel (inputs, num_units).
        bias_init: initializer of the bias (num_units,); by default 0.

    Raises:
        InputError: if `num_units` is no integer, 1 or above; in `init`, if an example has more than one axis.
    """
    num_units = to_int("dense", "num_units", num_units)

    def init(key: Key, shape: Shape) -> tuple[Variables, Shape]:
        if len(shape) != 1:
            raise InputError(f"dense: the input needs one axis an example; got shape {shape}; put `flatten` before it.")
        kernel = jnp.asarray(kernel_init(key, (shape[0], num_units))).astype(jnp.float32)
        params = {"kernel": kernel, "bias": init_bias(bias_init, key, num_units)}
        return Variables(params, {}), (num_units,)

    def apply(variables: Variables, x: Array, *, train: bool, key: Key | None) -> tuple[Array, dict]:
        return ops.dense(x, variables.params["kernel"], variables.params["bias"]), variables.state

    return Layer(init, apply, cost=lambda params, shape: cost_of_all(params), field=whole_field)


def dropout(rate: float) -> Layer:
    """In training, set each value to 0 with probability `rate` and divide the others by 1 - rate.

    With an array of keys (N,), the mask of each example is drawn from its own key, whatever the rest of the batch is;
    with one key, the mask of the whole batch is drawn from it.

    Args:
        rate: probability, from 0 to below 1.

    Raises:
        InputError: if the rate is out of its range; in training, if there is no key or not one for each example.

    Source: Srivastava et al. 2014, "Dropout: a simple way to prevent neural networks from overfitting", section 10.
    """
    rate = to_number("dropout", "rate", rate, "from 0 to below 1", lambda number: 0 <= number < 1)

    def init(key: Key, shape: Shape) -> tuple[Variables, Shape]:
        return Variables({}, {}), shape

    def draw(key: Key, shape: Shape) -> Array:
        # In float32 even where JAX's default is float64, so that the same key draws the same mask.
        return jax.random.bernoulli(key, jnp.asarray(1 - rate, jnp.float32), shape)

    def apply(variables: Variables, x: Array, *, train: bool, key: Key | None) -> tuple[Array, dict]:
        if not train or (not isinstance(rate, Tracer) and rate == 0):
            return x, {}
        if key is None:
            raise InputError("dropout: `key` must be given while the model trains; pass a jax.random.key.")
        if is_one_key(key):
            kept = draw(key, x.shape)
        elif len(key) == len(x):
            kept = jax.vmap(lambda key: draw(key, x.shape[1:]))(key)
        else:
            raise InputError(f"dropout: `key` must be one key or {len(x)}, one for each example; got {len(key)} keys.")
        return jnp.where(kept, x / jnp.asarray(1 - rate, x.dtype), jnp.zeros_like(x)), {}

    return Layer(init, apply, stochastic=True)
