"""Depthwise, separable and transposed convolutions as layers."""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import jax
from jax.nn.initializers import zeros
from jaxtyping import Array

from lenet_jax import ops
from lenet_jax.layers.base import Cost, Layer, Shape, widen_field
from lenet_jax.layers.kernels import add_bias, cost_of_all, with_kernels
from lenet_jax.ops.convolution import convolve_transposed
from lenet_jax.ops.initializers import Initializer
from lenet_jax.ops.windows import Ints, Padding, Window, make_window, to_int, to_tuple
from lenet_jax.types import Key, ReceptiveField


def depthwise_convolution(
    multiplier: int,
    kernel_size: Ints,
    kernel_init: Initializer,
    *,
    strides: Ints = 1,
    padding: Padding = "VALID",
    dilation: Ints = 1,
    use_bias: bool = True,
    bias_init: Initializer = zeros,
) -> Layer:
    """Convolve each channel with its own kernels, which are not flipped, and add a bias to each output channel.

    Args:
        multiplier: number of kernels, and so of outputs, of each channel.
        kernel_size: size of the kernels in pixels, an int or one for each of 1 to 3 spatial axes.
        kernel_init: initializer of the kernels (*kernel_size, C, multiplier), as `he_normal(kernel="depthwise")`.
        strides: as in `convolution`.
        padding: as in `convolution`.
        dilation: as in `convolution`.
        use_bias: as in `convolution`.
        bias_init: as in `convolution`.

    Raises:
        InputError: if `multiplier` is no integer, 1 or above; in `init`, if an option does not fit the input.
    """
    multiplier = to_int("depthwise_convolution", "multiplier", multiplier)
    options: dict[str, Any] = {"strides": strides, "padding": padding, "dilation": dilation}

    def window(shape: Shape) -> Window:
        return make_window("depthwise_convolution", shape[:-1], kernel_size, argument="kernel_size", **options)

    def init_kernels(key: Key, size: Shape, num_channels: int) -> dict[str, Array]:
        return {"kernel": kernel_init(key, (*size, num_channels, multiplier))}

    def apply_params(params: dict[str, Array], x: Array) -> Array:
        return add_bias(_DEPTHWISE[x.ndim - 2](x, params["kernel"], **options), params.get("bias"))

    def cost(params: dict[str, Array], shape: Shape) -> Cost:
        return cost_of_all(params, math.prod(window(shape).output))

    return with_kernels(
        "depthwise_convolution",
        kernel_size,
        init_kernels,
        lambda num_channels: num_channels * multiplier if use_bias else None,
        apply_params,
        cost,
        lambda field: widen_field(field, kernel_size, strides, dilation),
        bias_init,
        window,
    )


def separable_convolution(
    num_kernels: int,
    kernel_size: Ints,
    depthwise_init: Initializer,
    pointwise_init: Initializer,
    *,
    multiplier: int = 1,
    strides: Ints = 1,
    padding: Padding = "VALID",
    dilation: Ints = 1,
    use_bias: bool = True,
    bias_init: Initializer = zeros,
) -> Layer:
    """Apply a depthwise convolution, then one with kernels of a single pixel, and add a bias to each channel.

    Args:
        num_kernels: number of output channels.
        kernel_size: size of the depthwise kernels in pixels, an int or one for each of 1 to 3 spatial axes.
        depthwise_init: initializer of the depthwise kernels (*kernel_size, C, multiplier).
        pointwise_init: initializer of the kernels of a single pixel (*ones, C * multiplier, num_kernels).
        multiplier: number of depthwise kernels of each channel.
        strides: of the depthwise convolution, as in `convolution`.
        padding: of the depthwise convolution, as in `convolution`.
        dilation: of the depthwise convolution, as in `convolution`.
        use_bias: as in `convolution`.
        bias_init: as in `convolution`.

    Raises:
        InputError: if `num_kernels` or `multiplier` is no integer, 1 or above; in `init`, if an option does not fit the
            input.
    """
    name = "separable_convolution"
    num_kernels, multiplier = to_int(name, "num_kernels", num_kernels), to_int(name, "multiplier", multiplier)
    options: dict[str, Any] = {"strides": strides, "padding": padding, "dilation": dilation}

    def window(shape: Shape) -> Window:
        return make_window(name, shape[:-1], kernel_size, argument="kernel_size", **options)

    def init_kernels(key: Key, size: Shape, num_channels: int) -> dict[str, Array]:
        first, second = jax.random.split(key)
        pointwise = (*(1,) * len(size), num_channels * multiplier, num_kernels)
        return {
            "depthwise": depthwise_init(first, (*size, num_channels, multiplier)),
            "pointwise": pointwise_init(second, pointwise),
        }

    def apply_params(params: dict[str, Array], x: Array) -> Array:
        y = _SEPARABLE[x.ndim - 2](x, params["depthwise"], params["pointwise"], **options)
        return add_bias(y, params.get("bias"))

    def cost(params: dict[str, Array], shape: Shape) -> Cost:
        return cost_of_all(params, math.prod(window(shape).output))

    bias_size = num_kernels if use_bias else None
    field = lambda field: widen_field(field, kernel_size, strides, dilation)  # noqa: E731
    return with_kernels(
        name, kernel_size, init_kernels, lambda _: bias_size, apply_params, cost, field, bias_init, window
    )


def transposed_convolution(
    num_kernels: int,
    kernel_size: Ints,
    kernel_init: Initializer,
    *,
    strides: Ints = 1,
    padding: Padding = "SAME",
    output_shape: Ints | None = None,
    dilation: Ints = 1,
    use_bias: bool = True,
    bias_init: Initializer = zeros,
) -> Layer:
    """Apply a transposed convolution, as `lenet_jax.conv2d_transpose`, and add a bias to each channel.

    Args:
        num_kernels: number of output channels.
        kernel_size: size of the kernels in pixels, an int or one for each of 1 to 3 spatial axes.
        kernel_init: initializer of the kernels (*kernel_size, num_kernels, C), as `he_normal(kernel="transposed")`.
        strides: factor by which the output is larger, an int or one for each spatial axis.
        padding: as in `lenet_jax.conv2d_transpose`.
        output_shape: spatial shape of the output, as in `lenet_jax.conv2d_transpose`.
        dilation: as in `convolution`.
        use_bias: as in `convolution`.
        bias_init: as in `convolution`.

    Raises:
        InputError: if `num_kernels` is no integer, 1 or above; in `init`, if an option does not fit the input.
    """
    name = "transposed_convolution"
    num_kernels = to_int(name, "num_kernels", num_kernels)

    def init_kernels(key: Key, size: Shape, num_channels: int) -> dict[str, Array]:
        return {"kernel": kernel_init(key, (*size, num_kernels, num_channels))}

    def apply_params(params: dict[str, Array], x: Array) -> Array:
        y = convolve_transposed(name, x.ndim - 2, x, params["kernel"], strides, padding, output_shape, dilation)
        return add_bias(y, params.get("bias"))

    def cost(params: dict[str, Array], shape: Shape) -> Cost:
        # Each pixel of the input is multiplied by the whole kernel, those parts included that padding cuts off.
        products = math.prod(shape[:-1]) * params["kernel"].size
        output = jax.eval_shape(apply_params, params, jax.ShapeDtypeStruct((1, *shape), params["kernel"].dtype))
        return Cost(products + (math.prod(output.shape) if use_bias else 0), products)

    def field(field: ReceptiveField) -> ReceptiveField:
        # Pixels of the output lie 1 / stride of an input pixel apart: as the window of a convolution with that stride.
        finer = [Fraction(1, step) for step in to_tuple("conv", "strides", strides, len(field.size))]
        apart = tuple(step * each for step, each in zip(field.stride, finer, strict=True))
        widened = widen_field(field._replace(stride=apart), kernel_size, 1, dilation)
        return widened

    bias_size = num_kernels if use_bias else None
    return with_kernels(name, kernel_size, init_kernels, lambda _: bias_size, apply_params, cost, field, bias_init)


_DEPTHWISE: dict[int, Callable[..., Array]] = {
    1: ops.depthwise_conv1d,
    2: ops.depthwise_conv2d,
    3: ops.depthwise_conv3d,
}


_SEPARABLE: dict[int, Callable[..., Array]] = {
    1: ops.separable_conv1d,
    2: ops.separable_conv2d,
    3: ops.separable_conv3d,
}
