"""Random initial weights, as in `jax.nn.initializers`: functions (key, shape, dtype) -> array.

The last two axes of a kernel are its input and output channels, the axes before them are spatial (HWIO). A dense kernel
is (inputs, outputs).
"""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array

from lenet_jax.errors import InputError

Initializer = Callable[..., Array]


def fan_in_uniform() -> Initializer:
    """Return an initializer that draws from U(-b, b), b = 1 / sqrt(fan_in).

    fan_in is the number of inputs of a unit: kernel area times input channels. The weighted input of a unit then stays
    in the range where a sigmoid is not saturated (LeCun et al. 1998, "Efficient BackProp", section 4.6).
    """
    return _uniform(lambda fan_in, fan_out: 1 / math.sqrt(fan_in))


def efficient_backprop_uniform() -> Initializer:
    """Return an initializer that draws from U(-b, b), b = 2.4 / fan_in.

    Source: LeCun et al. 1998, "Gradient-based learning applied to document recognition", appendix A.
    """
    return _uniform(lambda fan_in, fan_out: 2.4 / fan_in)


def glorot_uniform(*, pool_area: int = 1) -> Initializer:
    """Return an initializer that draws from U(-b, b), b = sqrt(6 / (fan_in + fan_out / pool_area)).

    Glorot and Bengio 2010, equation 16. fan_in and fan_out are kernel area times input and output channels.

    Args:
        pool_area: pixels in the pooling window after a convolution, 1 or more. A max-pool passes the gradient to one of
            them, so fan_out is divided by their number (Theano's LeNet tutorial).

    Raises:
        InputError: if `pool_area` is below 1.
    """
    if pool_area < 1:
        raise InputError(f"glorot_uniform: `pool_area` must be 1 or above; got {pool_area!r}.")
    return _uniform(lambda fan_in, fan_out: math.sqrt(6 / (fan_in + fan_out / pool_area)))


def he_normal() -> Initializer:
    """Return an initializer that draws from N(0, 2 / fan_in), for layers before a ReLU.

    Source: He et al. 2015, "Delving deep into rectifiers", equation 10.
    """
    return jax.nn.initializers.variance_scaling(2.0, "fan_in", "normal", dtype=jnp.float32)


def _uniform(bound: Callable[[int, int], float]) -> Initializer:
    def init(key: Array, shape: Sequence[int], dtype: jax.typing.DTypeLike = jnp.float32) -> Array:
        if len(shape) < 2:
            raise InputError(f"initializer: `shape` needs input and output channels as its last axes; got {shape}.")
        area = math.prod(shape[:-2])
        b = bound(area * shape[-2], area * shape[-1])
        return jax.random.uniform(key, tuple(shape), dtype, -b, b)

    return init
