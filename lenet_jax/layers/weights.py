"""Layers with variables, normalization and dropout."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from lenet_jax import ops
from lenet_jax.errors import InputError
from lenet_jax.layers.base import Cost, Layer, Shape, function, is_one_key, widen_field
from lenet_jax.ops.definitions import add_to_channels, scale_channels, widen
from lenet_jax.ops.initializers import Initializer
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
    """Convolve images, optionally max-pool, and add a bias, initially 0, to each channel.

    Max-pooling commutes with adding a bias, so the bias is added after it, to fewer values, as in Theano's tutorial.

    Args:
        num_kernels: number of output channels.
        kernel_size: height and width of the kernels in pixels.
        kernel_init: initializer of the kernels (kernel_size, kernel_size, C // groups, num_kernels).
        strides: steps down and right in pixels.
        padding: as in `lenet_jax.conv2d`.
        groups: number of groups that channels and kernels are split into.
        use_bias: False leaves the bias out, as before a normalization, which would subtract it.
        pool_size: height and width in pixels of the max-pooling windows, which do not overlap; None does not pool.
        table: the input channels of each kernel, as in LeNet-5's C3; None connects all. The weights are then stored as
            (kernel_size, kernel_size, pairs), kernel after kernel, and initialized for each kernel's number of inputs.

    Raises:
        InputError: if `table` does not have a list for each kernel; in `init`, if an option does not fit the input.
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
        kernel, options = full_kernel(params, x.shape[-1]), {"strides": strides, "padding": padding, "groups": groups}
        if pool_size is not None:
            return ops.conv2d_max_pool(x, kernel, params.get("bias"), pool_size=pool_size, **options)
        y = ops.conv2d(x, kernel, **options)
        return add_to_channels(y, params["bias"]) if use_bias else y

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

    def cost(params: dict[str, Array], shape: Shape) -> Cost:
        return _cost(params, math.prod(make_window("conv2d", shape[:-1], kernel_size, strides, padding).output))

    def field(field: ReceptiveField) -> ReceptiveField:
        field = widen_field(field, kernel_size, strides)
        return field if pool_size is None else widen_field(field, pool_size, pool_size)

    return Layer(init, apply, cost, field)


def _cost(params: dict[str, Array], num_positions: int = 1) -> Cost:
    """Return the cost of a layer that uses all of its parameters at each position of its output."""
    sizes = [leaf.size for leaf in params.values()]
    return Cost(num_positions * sum(sizes), num_positions * params["kernel"].size)


def dense(num_units: int, kernel_init: Initializer) -> Layer:
    """Connect all inputs to each unit: y = x @ kernel + bias, with a bias that is initially 0.

    Args:
        num_units: number of outputs.
        kernel_init: initializer of the kernel (inputs, num_units).

    Raises:
        InputError: in `init`, if an example has more than one axis.
    """

    def init(key: Key, shape: Shape) -> tuple[Variables, Shape]:
        if len(shape) != 1:
            raise InputError(f"dense: the input needs one axis an example; got shape {shape}; put `flatten` before it.")
        params = {"kernel": kernel_init(key, (shape[0], num_units)), "bias": jnp.zeros(num_units, jnp.float32)}
        return Variables(params, {}), (num_units,)

    def apply(variables: Variables, x: Array, *, train: bool, key: Key | None) -> tuple[Array, dict]:
        return ops.dense(x, variables.params["kernel"], variables.params["bias"]), variables.state

    return Layer(init, apply, cost=lambda params, shape: _cost(params), field=lambda _: ReceptiveField(math.inf))


def subsampling(size: int) -> Layer:
    """Multiply the mean of each window by a trained coefficient of its channel and add a trained bias.

    Coefficients are initially 1, biases 0.

    Args:
        size: height and width of the windows in pixels; they do not overlap.

    Source: LeCun et al. 1998, "Gradient-based learning applied to document recognition", section II.B (S2 and S4).
    """

    def init(key: Key, shape: Shape) -> tuple[Variables, Shape]:
        params = {"coefficient": jnp.ones(shape[-1], jnp.float32), "bias": jnp.zeros(shape[-1], jnp.float32)}
        batch = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
        return Variables(params, {}), jax.eval_shape(lambda x: ops.avg_pool(x, size), batch).shape[1:]

    def apply(variables: Variables, x: Array, *, train: bool, key: Key | None) -> tuple[Array, dict]:
        means = ops.avg_pool(x, size)
        return scale_channels(means, variables.params["coefficient"], variables.params["bias"]), variables.state

    def cost(params: dict[str, Array], shape: Shape) -> Cost:
        outputs = math.prod(make_window("avg_pool", shape[:-1], size, size, "VALID").output) * shape[-1]
        return Cost(outputs * (size**2 + 1), outputs)  # the coefficient is used for each pixel, the bias once

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
    points = jnp.asarray(centres, jnp.float32)

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

    return Layer(init, apply, cost=cost, field=lambda _: ReceptiveField(math.inf))


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
    if not 0 <= momentum <= 1 or not epsilon > 0:
        raise InputError(
            f"batch_normalization: `momentum` must be 0 to 1 and `epsilon` above 0; got {momentum!r} and {epsilon!r}."
        )

    def init(key: Key, shape: Shape) -> tuple[Variables, Shape]:
        zeros, ones = jnp.zeros(shape[-1], jnp.float32), jnp.ones(shape[-1], jnp.float32)
        return Variables({"scale": initial_scale * ones, "bias": zeros}, {"mean": zeros, "variance": ones}), shape

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
    """Normalize each value by the squared values of nearby channels; see `lenet_jax.ops.local_response_norm`."""
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
    if not 0 <= rate < 1:
        raise InputError(f"dropout: `rate` must be from 0 to below 1; got {rate!r}.")

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
