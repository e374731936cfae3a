"""Layers with variables, normalization and dropout."""

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.nn.initializers import zeros
from jaxtyping import Array, Float

from lenet_jax import ops
from lenet_jax.errors import InputError
from lenet_jax.layers.base import Cost, Layer, Shape, function, is_one_key, whole_field, widen_field, window_size
from lenet_jax.ops.arguments import check_number
from lenet_jax.ops.convolution import convolve_transposed
from lenet_jax.ops.definitions import add_to_channels, scale_channels, widen
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
        y = _add_bias(y, bias)
        return y if activation is None else getattr(jax.nn, activation)(y)

    def cost(params: dict[str, Array], shape: Shape) -> Cost:
        return _cost(params, math.prod(window(shape).output))

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
    layer = _with_kernels(
        "convolution", kernel_size, init_kernels, lambda _: bias_size, apply_params, cost, field, bias_init, window
    )
    if pool_size is None:
        return layer

    def activated(name: str) -> Layer | None:
        def apply(variables: Variables, x: Array, *, train: bool, key: Key | None) -> tuple[Array, dict]:
            return apply_params(variables.params, x, activation=name), variables.state

        return layer._replace(apply=apply) if name in FUSED_ACTIVATIONS else None

    return layer._replace(trace=trace, activated=activated)


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
        return _add_bias(_DEPTHWISE[x.ndim - 2](x, params["kernel"], **options), params.get("bias"))

    def cost(params: dict[str, Array], shape: Shape) -> Cost:
        return _cost(params, math.prod(window(shape).output))

    return _with_kernels(
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
        return _add_bias(y, params.get("bias"))

    def cost(params: dict[str, Array], shape: Shape) -> Cost:
        return _cost(params, math.prod(window(shape).output))

    bias_size = num_kernels if use_bias else None
    field = lambda field: widen_field(field, kernel_size, strides, dilation)  # noqa: E731
    return _with_kernels(
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
        return _add_bias(y, params.get("bias"))

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
    return _with_kernels(name, kernel_size, init_kernels, lambda _: bias_size, apply_params, cost, field, bias_init)


_CONVOLUTIONS: dict[int, Callable[..., Array]] = {1: ops.conv1d, 2: ops.conv2d, 3: ops.conv3d}
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


def _with_kernels(
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


def _add_bias(y: Array, bias: Array | None) -> Array:
    return y if bias is None else add_to_channels(y, bias)


def _cost(params: dict[str, Array], num_positions: int = 1) -> Cost:
    """Return the cost of a layer that uses all of its parameters at each position of its output."""
    sizes = {name: leaf.size for name, leaf in params.items()}
    products = sum(size for name, size in sizes.items() if name != "bias")
    return Cost(num_positions * sum(sizes.values()), num_positions * products)


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

    return Layer(init, apply, cost=lambda params, shape: _cost(params), field=whole_field)


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
        InputError: in `init`, if an example is not one axis with as many values as a point.

    Source: LeCun et al. 1998, "Gradient-based learning applied to document recognition", equation 9.
    """
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


def batch_normalization(*, momentum: float = 0.9, epsilon: float = 1e-5, initial_scale: float = 1.0) -> Layer:
    """Normalize each channel over the batch, scale it and add a bias.

    In training, mean and variance are those of the batch. Otherwise they are running averages from the state:
    running = momentum * running + (1 - momentum) * batch, where the variance is the unbiased one, as in PyTorch.
    So at inference an output does not depend on the rest of the batch.

    Args:
        momentum: decay of the running averages, 0 to 1.
        epsilon: added to the variance, above 0.
        initial_scale: initial value of the scale; with 0 in its last normalization a residual block is initially the
            identity (Goyal et al. 2017, section 5.1).

    Raises:
        InputError: if an argument is out of its range; in training, if a batch has one value per channel only.

    Source: Ioffe and Szegedy 2015, "Batch normalization: accelerating deep network training by reducing internal
    covariate shift", algorithms 1 and 2.
    """
    name = "batch_normalization"
    check_number(name, "momentum", momentum, "from 0 to 1", lambda number: 0 <= number <= 1)
    check_number(name, "epsilon", epsilon, "above 0", lambda number: number > 0)

    def init(key: Key, shape: Shape) -> tuple[Variables, Shape]:
        none, ones = jnp.zeros(shape[-1], jnp.float32), jnp.ones(shape[-1], jnp.float32)
        return Variables({"scale": initial_scale * ones, "bias": none}, {"mean": none, "variance": ones}), shape

    def apply(variables: Variables, x: Array, *, train: bool, key: Key | None) -> tuple[Array, dict]:
        params, state = variables
        if not train:
            return ops.batch_norm(x, **state, **params, epsilon=epsilon), state
        count = x.size // x.shape[-1]
        if isinstance(count, int) and count < 2:  # it is symbolic in a program for any number of images
            raise InputError(
                f"batch_normalization: `x` needs at least 2 values per channel in training; got shape {x.shape}; "
                "use larger batches or images."
            )
        y, mean, variance = ops.normalize_batch(x, params["scale"], params["bias"], epsilon)
        batch = {"mean": mean, "variance": variance * (count / (count - 1))}
        running = jax.tree.map(lambda old, new: momentum * old + (1 - momentum) * new, state, batch)
        return y, running

    def cost(params: dict[str, Array], shape: Shape) -> Cost:
        positions = math.prod(shape[:-1])
        return Cost(2 * positions * shape[-1], 0)  # no products: after training it can be merged into a convolution

    return Layer(init, apply, cost=cost)


def local_response_normalization(
    *, radius: int = 2, alpha: float = 2e-5, beta: float = 0.75, bias: float = 1.0
) -> Layer:
    """Normalize each value by the squared values of nearby channels; see `lenet_jax.ops.local_response_norm`.

    Args:
        radius: number of channels on each side, 0 or more.
        alpha: factor of the sum of squares, 0 or more.
        beta: exponent, 0 or more.
        bias: added to the sum, above 0.

    Raises:
        InputError: if an argument is out of its range.
    """
    name = "local_response_normalization"
    radius = to_int(name, "radius", radius, least=0)
    check_number(name, "bias", bias, "above 0", lambda number: number > 0)
    check_number(name, "alpha", alpha, "0 or above", lambda number: number >= 0)
    check_number(name, "beta", beta, "0 or above", lambda number: number >= 0)
    return function(lambda x: ops.local_response_norm(x, depth_radius=radius, alpha=alpha, beta=beta, bias=bias))


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
    check_number("dropout", "rate", rate, "from 0 to below 1", lambda number: 0 <= number < 1)

    def init(key: Key, shape: Shape) -> tuple[Variables, Shape]:
        return Variables({}, {}), shape

    def draw(key: Key, shape: Shape) -> Array:
        # In float32 even where JAX's default is float64, so that the same key draws the same mask.
        return jax.random.bernoulli(key, jnp.asarray(1 - rate, jnp.float32), shape)

    def apply(variables: Variables, x: Array, *, train: bool, key: Key | None) -> tuple[Array, dict]:
        if not train or rate == 0:
            return x, {}
        if key is None:
            raise InputError("dropout: `key` must be given while the model trains; pass a jax.random.key.")
        if is_one_key(key):
            kept = draw(key, x.shape)
        elif len(key) == len(x):
            kept = jax.vmap(lambda key: draw(key, x.shape[1:]))(key)
        else:
            raise InputError(f"dropout: `key` must be one key or {len(x)}, one for each example; got {len(key)} keys.")
        return jnp.where(kept, x / (1 - rate), jnp.zeros_like(x)), {}

    return Layer(init, apply, stochastic=True)
