"""Random initial weights, as in `jax.nn.initializers`: functions (key, shape, dtype) -> array.

The bound or variance of a draw depends on the fans: fan_in is the number of inputs of an output unit, fan_out the
number of outputs that an input is used for. By default the last two axes of a kernel are its input and output channels,
and the axes before them are spatial: (*size, I, O), dense kernels (I, O). Kernels of grouped convolutions
(*size, C // groups, O) are such kernels too. For others an argument `kernel` says what their axes are; see
`KernelLayout`.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array

from lenet_jax.config.checks import convert
from lenet_jax.errors import InputError

Initializer = Callable[..., Array]
KernelLayout = Literal["plain", "depthwise", "transposed"]
"""The axes of a kernel.

- "plain": (*size, I, O), of dense layers and convolutions, grouped ones too; fan_in = area * I, fan_out = area * O.
- "depthwise": (*size, C, M), M kernels for each of C channels; fan_in = area, fan_out = area * M.
- "transposed": (*size, O, I), of a transposed convolution from I to O channels; fan_in = area * I, fan_out = area * O.
"""


def fan_in_uniform(*, kernel: KernelLayout = "plain") -> Initializer:
    """Return an initializer that draws from U(-b, b), b = 1 / sqrt(fan_in).

    fan_in is the number of inputs of a unit: kernel area times input channels. The weighted input of a unit then stays
    in the range where a sigmoid is not saturated (LeCun et al. 1998, "Efficient BackProp", section 4.6).

    Args:
        kernel: what the axes of the kernels are; see `KernelLayout`.

    Raises:
        InputError: if `kernel` is unknown; when called, if the kernel has fewer than two axes.
    """
    return _initializer(kernel, _uniform, lambda fan_in, fan_out: 1 / math.sqrt(fan_in))


def efficient_backprop_uniform(*, kernel: KernelLayout = "plain") -> Initializer:
    """Return an initializer that draws from U(-b, b), b = 2.4 / fan_in.

    Args:
        kernel: what the axes of the kernels are; see `KernelLayout`.

    Raises:
        InputError: as `fan_in_uniform`.

    Source: LeCun et al. 1998, "Gradient-based learning applied to document recognition", appendix A.
    """
    return _initializer(kernel, _uniform, lambda fan_in, fan_out: 2.4 / fan_in)


def glorot_uniform(*, pool_area: int = 1, kernel: KernelLayout = "plain") -> Initializer:
    """Return an initializer that draws from U(-b, b), b = sqrt(6 / (fan_in + fan_out / pool_area)).

    Glorot and Bengio 2010, equation 16. fan_in and fan_out are kernel area times input and output channels.

    Args:
        pool_area: pixels in the pooling window after a convolution, 1 or more. A max-pool passes the gradient to one of
            them, so fan_out is divided by their number (Theano's LeNet tutorial).
        kernel: what the axes of the kernels are; see `KernelLayout`.

    Raises:
        InputError: if `pool_area` is below 1; as `fan_in_uniform`.
    """
    if pool_area < 1:
        raise InputError(f"glorot_uniform: `pool_area` must be 1 or above; got {pool_area!r}.")
    return _initializer(kernel, _uniform, lambda fan_in, fan_out: math.sqrt(6 / (fan_in + fan_out / pool_area)))


def he_normal(*, kernel: KernelLayout = "plain") -> Initializer:
    """Return an initializer that draws from N(0, 2 / fan_in), for layers before a ReLU.

    Args:
        kernel: what the axes of the kernels are; see `KernelLayout`.

    Raises:
        InputError: as `fan_in_uniform`.

    Source: He et al. 2015, "Delving deep into rectifiers", equation 10.
    """
    return _initializer(kernel, _normal, lambda fan_in, fan_out: 2 / fan_in)


def fans(shape: Sequence[int], kernel: KernelLayout = "plain") -> tuple[int, int]:
    """Return fan_in and fan_out of a kernel.

    Args:
        shape: of the kernel.
        kernel: what its axes are; see `KernelLayout`.

    Raises:
        InputError: if it has fewer than two axes.

    >>> fans((3, 3, 16, 2), "depthwise")
    (9, 18)
    """
    if len(shape) < 2:
        raise InputError(f"initializer: `shape` needs input and output channels as its last axes; got {shape}.")
    area = math.prod(shape[:-2])
    inputs, outputs = {
        "plain": (shape[-2], shape[-1]),
        "depthwise": (1, shape[-1]),
        "transposed": (shape[-1], shape[-2]),
    }[kernel]
    return area * inputs, area * outputs


def _initializer(kernel: KernelLayout, draw: Callable[..., Array], scale: Callable[[int, int], float]) -> Initializer:
    """Return an initializer that draws from a distribution whose bound or variance is a function of the fans."""
    convert("kernel", KernelLayout, kernel)

    def init(key: Array, shape: Sequence[int], dtype: jax.typing.DTypeLike = jnp.float32) -> Array:
        fan_in, fan_out = fans(shape, kernel)
        if math.prod(shape) == 0:
            return jnp.zeros(tuple(shape), dtype)  # a fan may be 0, by which a scale would be divided
        return draw(key, tuple(shape), dtype, scale(fan_in, fan_out))

    return init


def _uniform(key: Array, shape: tuple[int, ...], dtype: jax.typing.DTypeLike, bound: float) -> Array:
    return jax.random.uniform(key, shape, dtype, -bound, bound)


def _normal(key: Array, shape: tuple[int, ...], dtype: jax.typing.DTypeLike, variance: float) -> Array:
    return jax.random.normal(key, shape, dtype) * jnp.sqrt(jnp.asarray(variance, dtype))
