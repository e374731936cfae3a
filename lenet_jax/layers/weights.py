"""Layers with weights: convolution, dense, subsampling; and distances to fixed points."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from lenet_jax.errors import InputError
from lenet_jax.layers.base import Layer, Shape, Work, slide
from lenet_jax.ops.convolution import conv2d
from lenet_jax.ops.cpu.channel_sums import along_channels
from lenet_jax.ops.cpu.convolution import convolve_batch_last
from lenet_jax.ops.cpu.matmul import mix
from lenet_jax.ops.initializers import Initializer
from lenet_jax.ops.pooling import avg_pool, max_along_axes, max_pool
from lenet_jax.ops.windows import Padding, make_window
from lenet_jax.types import Key, ReceptiveField, Variables


def convolution(
    num_kernels: int,
    kernel_size: int,
    kernel_init: Initializer,
    *,
    strides: int = 1,
    padding: Padding = "VALID",
    groups: int = 1,
    use_bias: bool = True,
    pool_size: int | None = None,
    table: Sequence[Sequence[int]] | None = None,
) -> Layer:
    """Convolve, max-pool windows of `pool_size` pixels if it is given, and add a bias, which starts at 0, to each map.

    `strides`, `padding` and `groups` are those of `lenet_jax.conv2d`. Before a normalization, which takes the bias away
    again, `use_bias=False` saves it.

    The bias is added after the pooling, as Theano's tutorial does. The largest of the values does not depend on it, and
    a step of LeNet takes 1.6 times as long on CPU if it is added to the larger maps before.

    `table` names for each kernel the input channels that it sees, as LeNet-5's C3 does; default: all. Then the weights
    are kept as (kernel_size, kernel_size, pairs), kernel after kernel, and initialized as for that many inputs.
    """
    if table is not None and len(table) != num_kernels:
        raise InputError(f"convolution: `table` must have {num_kernels} lists, one a kernel; got {len(table)}.")
    kernels = [kernel for kernel, channels in enumerate(table or ()) for _ in channels]
    channels = [channel for channels in table or () for channel in channels]

    def full_kernel(params: dict[str, Array], num_channels: int) -> Array:
        if table is None:
            return params["kernel"]
        empty = jnp.zeros((kernel_size, kernel_size, num_channels, num_kernels), params["kernel"].dtype)
        return empty.at[:, :, channels, kernels].set(params["kernel"])

    def init_kernel(key: Key, num_channels: int) -> Array:
        if num_channels % groups or num_kernels % groups:
            raise InputError(
                f"convolution: `groups` must divide the {num_channels} channels and the {num_kernels} kernels; "
                f"got {groups}."
            )
        if table is None:
            return kernel_init(key, (kernel_size, kernel_size, num_channels // groups, num_kernels))
        if not all(0 <= channel < num_channels for channel in channels):
            raise InputError(f"convolution: `table` must name channels from 0 to {num_channels - 1}; got {table!r}.")
        keys = jax.random.split(key, num_kernels)
        shapes = [(kernel_size, kernel_size, len(inputs), 1) for inputs in table]
        return jnp.concatenate([kernel_init(k, s)[..., 0] for k, s in zip(keys, shapes, strict=True)], axis=-1)

    def apply_params(params: dict[str, Array], x: Array) -> Array:
        maps = conv2d(x, full_kernel(params, x.shape[-1]), strides=strides, padding=padding, groups=groups)
        maps = maps if pool_size is None else max_pool(maps, pool_size)
        return _add_bias(maps, params["bias"]) if use_bias else maps

    def batch_last(params: dict[str, Array], x: Array) -> Array:
        window = make_window("conv2d", x.shape[1:-1], kernel_size, strides, padding)
        maps = convolve_batch_last(x, full_kernel(params, x.shape[0]), window=window, groups=groups)
        if pool_size is not None:
            pooling = make_window("max_pool", maps.shape[1:-1], pool_size, pool_size, "VALID")
            maps = max_along_axes(maps, window=pooling)
        return maps + jnp.expand_dims(params["bias"], (1, 2, 3)) if use_bias else maps

    def init(key: Key, shape: Shape) -> tuple[Variables, Shape]:
        if len(shape) != 3:
            raise InputError(f"convolution: the input needs three axes an example, H, W, C; got shape {shape}.")
        params = {"kernel": init_kernel(key, shape[-1])}
        if use_bias:
            params["bias"] = jnp.zeros(num_kernels, jnp.float32)
        batch = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
        return Variables(params, {}), jax.eval_shape(apply_params, params, batch).shape[1:]

    def apply(variables: Variables, x: Array, *, train: bool, key: Key | None) -> tuple[Array, dict]:
        return apply_params(variables.params, x), variables.state

    def work(params: dict[str, Array], shape: Shape) -> Work:
        return _work(params, math.prod(make_window("conv2d", shape[:-1], kernel_size, strides, padding).output))

    def field(field: ReceptiveField) -> ReceptiveField:
        field = slide(field, kernel_size, strides)
        return field if pool_size is None else slide(field, pool_size, pool_size)

    # Without pooling the maps are large, and swapping them back takes longer than the other layout saves.
    return Layer(init, apply, None if pool_size is None else batch_last, work, field)


def _work(params: dict[str, Array], num_positions: int = 1) -> Work:
    """Return the work of a layer that uses all of its parameters at each position of its output."""
    sizes = [leaf.size for leaf in params.values()]
    return Work(num_positions * sum(sizes), num_positions * params["kernel"].size)


def _add_bias(x: Array, bias: Array) -> Array:
    return x + along_channels(bias, x)


def dense(num_units: int, kernel_init: Initializer) -> Layer:
    """Weigh all inputs for each unit and add a bias, which starts at 0."""

    def init(key: Key, shape: Shape) -> tuple[Variables, Shape]:
        if len(shape) != 1:
            raise InputError(f"dense: the input needs one axis an example; got shape {shape}; put `flatten` before it.")
        params = {"kernel": kernel_init(key, (shape[0], num_units)), "bias": jnp.zeros(num_units, jnp.float32)}
        return Variables(params, {}), (num_units,)

    def apply(variables: Variables, x: Array, *, train: bool, key: Key | None) -> tuple[Array, dict]:
        return _add_bias(mix(x, variables.params["kernel"]), variables.params["bias"]), variables.state

    return Layer(init, apply, work=lambda params, shape: _work(params), field=lambda _: ReceptiveField(math.inf))


def subsampling(size: int) -> Layer:
    """Weigh the mean of each window of `size` pixels by a coefficient of its map, and add a bias of its map.

    Both are trained; they start at 1 and 0. Source: LeCun et al. 1998, "Gradient-based learning applied to document
    recognition", section II.B, layers S2 and S4.
    """

    def init(key: Key, shape: Shape) -> tuple[Variables, Shape]:
        params = {"coefficient": jnp.ones(shape[-1], jnp.float32), "bias": jnp.zeros(shape[-1], jnp.float32)}
        batch = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
        return Variables(params, {}), jax.eval_shape(lambda x: avg_pool(x, size), batch).shape[1:]

    def apply(variables: Variables, x: Array, *, train: bool, key: Key | None) -> tuple[Array, dict]:
        means = avg_pool(x, size)
        weighted = means * along_channels(variables.params["coefficient"], means)
        return _add_bias(weighted, variables.params["bias"]), variables.state

    def work(params: dict[str, Array], shape: Shape) -> Work:
        outputs = math.prod(make_window("avg_pool", shape[:-1], size, size, "VALID").output) * shape[-1]
        return Work(outputs * (size**2 + 1), outputs)  # the coefficient is used for each pixel, the bias once

    return Layer(init, apply, work=work, field=lambda field: slide(field, size, size))


def radial_basis(centres: Float[np.ndarray, "centres numbers"], *, scale: float = 1.0) -> Layer:
    """Measure how near the input is to each of some fixed points: minus `scale` times the squared Euclidean distance.

    As logits, they make of softmax and cross-entropy the discriminative criterion of LeCun et al. 1998,
    "Gradient-based learning applied to document recognition", equation 9 (there with a constant class besides).
    """
    points = jnp.asarray(centres, jnp.float32)

    def init(key: Key, shape: Shape) -> tuple[Variables, Shape]:
        if shape != points.shape[1:]:
            raise InputError(f"radial_basis: the input needs {points.shape[1]} numbers an example; got shape {shape}.")
        return Variables({}, {}), points.shape[:1]

    def apply(variables: Variables, x: Array, *, train: bool, key: Key | None) -> tuple[Array, dict]:
        return -scale * jnp.sum((x[:, None, :] - points[None]) ** 2, axis=-1), variables.state

    def work(params: dict[str, Array], shape: Shape) -> Work:
        return Work(points.size, points.size)

    return Layer(init, apply, work=work, field=lambda _: ReceptiveField(math.inf))
