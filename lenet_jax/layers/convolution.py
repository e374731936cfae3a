"""The convolution as a layer."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.nn.initializers import zeros
from jaxtyping import Array

from lenet_jax import ops
from lenet_jax.errors import InputError
from lenet_jax.layers.base import Cost, Layer, Shape, widen_field
from lenet_jax.layers.kernels import add_bias, cost_of_all, with_kernels
from lenet_jax.ops.initializers import Initializer
from lenet_jax.ops.products import FUSED_ACTIVATIONS
from lenet_jax.ops.windows import Ints, Padding, Window, make_window, to_int, to_tuple
from lenet_jax.types import Key, LayerTrace, ReceptiveField, Variables


def convolution(
    num_kernels: int,
    kernel_size: Ints,
    kernel_init: Initializer,
    *,
    strides: Ints = 1,
    padding: Padding = "VALID",
    dilation: Ints = 1,
    groups: int = 1,
    use_bias: bool = True,
    bias_init: Initializer = zeros,
    pool_size: Ints | None = None,
    table: Sequence[Sequence[int]] | None = None,
) -> Layer:
    """Convolve over 1 to 3 spatial axes, optionally max-pool, and add a bias to each channel.

    The input decides how many spatial axes there are: images (H, W, C), volumes (D, H, W, C), or sequences (W, C), for
    which the kernel size has one entry, as (5,). Kernels are not flipped, as in TensorFlow and PyTorch; Theano flips
    them. Max-pooling commutes with adding a bias, so the bias is added after it, to fewer values, as in Theano's
    tutorial. In `lenet_jax.activations` and `summarize` the maps before the pooling, bias included, come first, as
    "NAME.maps".

    Args:
        num_kernels: number of output channels.
        kernel_size: size of the kernels in pixels, an int or one for each spatial axis.
        kernel_init: initializer of the kernels (*kernel_size, C // groups, num_kernels).
        strides: steps in pixels, an int or one for each spatial axis.
        padding: as in `lenet_jax.conv2d`.
        dilation: pixels from one entry of the kernel to the next, an int or one for each spatial axis.
        groups: number of groups that channels and kernels are split into.
        use_bias: False leaves the bias out, as before a normalization, which would subtract it.
        bias_init: initializer of the bias (num_kernels,); by default 0.
        pool_size: size in pixels of the max-pooling windows, which do not overlap, an int or one for each spatial axis;
            None does not pool.
        table: the input channels of each kernel, as in LeNet-5's C3; None connects all. The weights are then stored as
            (*kernel_size, pairs), kernel after kernel, and initialized for each kernel's number of inputs.

    Raises:
        InputError: if `table` does not have a list for each kernel; in `init`, if an option does not fit the input.
    """
    num_kernels, groups = to_int("convolution", "num_kernels", num_kernels), to_int("convolution", "groups", groups)
    if table is not None and len(table) != num_kernels:
        raise InputError(f"convolution: `table` must have {num_kernels} lists, one a kernel; got {len(table)}.")
    kernels = [kernel for kernel, channels in enumerate(table or ()) for _ in channels]
    channels = [channel for channels in table or () for channel in channels]
    options: dict[str, Any] = {"strides": strides, "padding": padding}

    def window(shape: Shape) -> Window:
        """Return the window over an input, checked together with that of the pooling."""
        window = make_window(
            "convolution", shape[:-1], kernel_size, dilation=dilation, argument="kernel_size", **options
        )
        if pool_size is not None:
            make_window("convolution", window.output, pool_size, pool_size, "VALID", argument="pool_size")
        return window

    def init_kernels(key: Key, size: Shape, num_channels: int) -> dict[str, Array]:
        if num_channels % groups or num_kernels % groups:
            raise InputError(
                f"convolution: `groups` must divide the {num_channels} channels and the {num_kernels} kernels; "
                f"got {groups}."
            )
        if table is None:
            return {"kernel": kernel_init(key, (*size, num_channels // groups, num_kernels))}
        if not all(0 <= channel < num_channels for channel in channels):
            raise InputError(f"convolution: `table` must name channels from 0 to {num_channels - 1}; got {table!r}.")
        keys, shapes = jax.random.split(key, num_kernels), [(*size, len(inputs), 1) for inputs in table]
        drawn = [kernel_init(k, shape)[..., 0] for k, shape in zip(keys, shapes, strict=True)]
        return {"kernel": jnp.concatenate(drawn, axis=-1)}

    def full_kernel(params: dict[str, Array], num_channels: int) -> Array:
        kernel = params["kernel"]
        if table is None:
            return kernel
        empty = jnp.zeros((*kernel.shape[:-1], num_channels, num_kernels), kernel.dtype)
        return empty.at[..., channels, kernels].set(kernel)

    def apply_params(
        params: dict[str, Array], x: Array, pool_size: Ints | None = pool_size, activation: Any = None
    ) -> Array:
        kernel, bias = full_kernel(params, x.shape[-1]), params.get("bias")
        if pool_size is not None and x.ndim == 4 and to_tuple("conv2d", "dilation", dilation, 2) == (1, 1):
            return ops.conv2d_max_pool(
                x, kernel, bias, pool_size=pool_size, groups=groups, activation=activation, **options
            )
        y = _CONVOLUTIONS[x.ndim - 2](x, kernel, dilation=dilation, groups=groups, **options)
        if pool_size is not None:
            y = ops.max_pool(y, to_tuple("convolution", "pool_size", pool_size, x.ndim - 2))
        y = add_bias(y, bias)
        return y if activation is None else getattr(jax.nn, activation)(y)

    def cost(params: dict[str, Array], shape: Shape) -> Cost:
        return cost_of_all(params, math.prod(window(shape).output))

    def field(field: ReceptiveField) -> ReceptiveField:
        field = widen_field(field, kernel_size, strides, dilation)
        return field if pool_size is None else widen_field(field, pool_size, pool_size)

    def trace(variables: Variables, x: Array, x_field: ReceptiveField) -> tuple[list[LayerTrace], ReceptiveField]:
        """Return the maps before the pooling, and the layer's output with all of its cost."""
        params = variables.params
        maps = apply_params(params, x, None)
        num_parameters, costs = sum(leaf.size for leaf in params.values()), cost(params, x.shape[1:])
        return [
            LayerTrace("maps", x, maps, 0, 0, 0, widen_field(x_field, kernel_size, strides, dilation)),
            LayerTrace("", x, apply_params(params, x), num_parameters, *costs, field(x_field)),
        ], field(x_field)

    bias_size = num_kernels if use_bias else None
    layer = with_kernels(
        "convolution", kernel_size, init_kernels, lambda _: bias_size, apply_params, cost, field, bias_init, window
    )
    if pool_size is None:
        return layer

    def activated(name: str) -> Layer | None:
        def apply(variables: Variables, x: Array, *, train: bool, key: Key | None) -> tuple[Array, dict]:
            return apply_params(variables.params, x, activation=name), variables.state

        return layer._replace(apply=apply) if name in FUSED_ACTIVATIONS else None

    return layer._replace(trace=trace, activated=activated)


_CONVOLUTIONS: dict[int, Callable[..., Array]] = {1: ops.conv1d, 2: ops.conv2d, 3: ops.conv3d}
