"""The rows of the contract: every public operation and layer, in small and odd shapes, beside its definition."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lenet_jax import layers, ops
from lenet_jax.layers.random_patches import patch_pixels
from tests.ops import definitions as D


class Row(NamedTuple):
    """An operation as a function of arrays.

    fn: the operation; the first argument is the batch.
    definition: the same in `jax.lax`.
    shapes: shapes of the arguments.
    wide: arguments that are float32 where the others have half precision, such as running means.
    positive: arguments that are above 0, such as variances.
    roundings: numbers of half precision that the operation makes one of another, where the definition makes one.
    maxima: the values of which some function of the arguments takes the largest, (candidates, ...): they must differ by
        more than a rounding error, or the gradient would be that of another candidate.
    """

    fn: Callable
    definition: Callable
    shapes: tuple[tuple[int, ...], ...]
    wide: tuple[int, ...] = ()
    positive: tuple[int, ...] = ()
    roundings: int = 1
    maxima: Callable | None = None


def row(fn: Callable, definition: Callable, *shapes: tuple[int, ...], flags: dict | None = None, **options: Any) -> Row:
    return Row(partial(fn, **options), partial(definition, **options), shapes, **(flags or {}))


def pooled(*shapes, **options):
    maxima = partial(_conv_windows, **options)
    flags = {"maxima": maxima, "roundings": 2}
    return row(ops.conv2d_max_pool, D.conv_max_pool, *shapes, flags=flags, **options)


def _conv_windows(x, kernel, bias=None, *, pool_size, **options):
    return D.windows(D.conv(x, kernel, **options), pool_size, None, "VALID", 0)


IMAGES = (2, 6, 5, 4)

OPERATIONS = {
    "conv1d": row(ops.conv1d, D.conv, (3, 7, 3), (3, 3, 5), strides=2, padding="SAME"),
    "conv1d dilation": row(ops.conv1d, D.conv, (2, 9, 2), (3, 1, 4), dilation=2, groups=2),
    "conv2d": row(ops.conv2d, D.conv, IMAGES, (3, 2, 4, 6)),
    "conv2d one channel": row(ops.conv2d, D.conv, (3, 6, 6, 1), (3, 3, 1, 17), padding="SAME"),
    "conv2d one pixel": row(ops.conv2d, D.conv, IMAGES, (1, 1, 4, 5)),
    "conv2d one pixel strides": row(ops.conv2d, D.conv, IMAGES, (1, 1, 4, 5), strides=2),
    "conv2d strides": row(ops.conv2d, D.conv, (3, 7, 8, 4), (3, 3, 4, 5), strides=2, padding="SAME"),
    "conv2d odd strides": row(ops.conv2d, D.conv, (1, 8, 7, 3), (2, 3, 3, 1), strides=(3, 1), padding=((1, 0), (0, 2))),
    "conv2d dilation": row(ops.conv2d, D.conv, (2, 7, 6, 3), (2, 3, 3, 4), dilation=(3, 2), padding="SAME"),
    "conv2d groups": row(ops.conv2d, D.conv, (2, 5, 5, 6), (3, 3, 2, 9), groups=3),
    "conv2d many groups": row(ops.conv2d, D.conv, (2, 5, 4, 5), (2, 2, 1, 5), groups=5, strides=2),
    "conv2d wide padding": row(ops.conv2d, D.conv, (2, 2, 3, 4), (3, 3, 4, 4), padding=((3, 2), (1, 4))),
    "conv2d large kernel": row(ops.conv2d, D.conv, (2, 3, 4, 4), (5, 5, 4, 3), padding="SAME"),
    "conv3d": row(ops.conv3d, D.conv, (2, 4, 3, 5, 2), (2, 3, 2, 2, 3), padding="SAME", strides=(1, 2, 2)),
    "conv3d groups": row(ops.conv3d, D.conv, (1, 4, 4, 4, 4), (2, 2, 2, 2, 4), groups=2, dilation=(2, 1, 1)),
    "conv2d_transpose": row(ops.conv2d_transpose, D.conv_transpose, (2, 3, 4, 4), (3, 3, 5, 4), strides=2),
    "conv2d_transpose valid": row(
        ops.conv2d_transpose, D.conv_transpose, (2, 3, 2, 2), (2, 4, 3, 2), strides=(3, 1), padding="VALID"
    ),
    "conv2d_transpose dilation": row(
        ops.conv2d_transpose,
        D.conv_transpose,
        (2, 2, 3, 3),
        (2, 3, 2, 3),
        strides=2,
        dilation=(2, 1),
        output_shape=(3, 6),
    ),
    "conv1d_transpose": row(ops.conv1d_transpose, D.conv_transpose, (3, 4, 2), (3, 4, 2), strides=2, padding="VALID"),
    "conv3d_transpose": row(
        ops.conv3d_transpose, D.conv_transpose, (1, 2, 3, 2, 2), (2, 2, 3, 3, 2), strides=(1, 2, 2)
    ),
    "depthwise_conv2d": row(ops.depthwise_conv2d, D.depthwise, (2, 6, 6, 3), (3, 3, 3, 2), padding="SAME"),
    "depthwise_conv2d strides": row(
        ops.depthwise_conv2d, D.depthwise, (2, 7, 6, 5), (3, 2, 5, 1), strides=2, dilation=(1, 2)
    ),
    "depthwise_conv1d": row(ops.depthwise_conv1d, D.depthwise, (2, 9, 3), (4, 3, 2), padding="SAME", dilation=2),
    "depthwise_conv3d": row(
        ops.depthwise_conv3d, D.depthwise, (1, 4, 3, 5, 2), (2, 3, 2, 2, 1), padding="SAME", strides=(2, 1, 2)
    ),
    "separable_conv1d": row(
        ops.separable_conv1d, D.separable, (2, 7, 3), (3, 3, 2), (1, 6, 4), flags={"roundings": 2}, strides=2
    ),
    "separable_conv3d": row(
        ops.separable_conv3d, D.separable, (1, 3, 4, 3, 2), (2, 2, 3, 2, 1), (1, 1, 1, 2, 3), flags={"roundings": 2}
    ),
    "separable_conv2d": row(
        ops.separable_conv2d, D.separable, (2, 6, 5, 3), (3, 3, 3, 2), (1, 1, 6, 4), flags={"roundings": 2}
    ),
    "conv2d_max_pool": pooled((2, 6, 5, 2), (3, 2, 2, 2), (2,), pool_size=2),
    "conv2d_max_pool no bias": pooled((1, 7, 8, 3), (2, 2, 3, 1), pool_size=(3, 2), strides=2, padding="SAME"),
    "conv2d_max_pool groups": pooled((1, 4, 5, 4), (2, 2, 2, 2), (2,), pool_size=(1, 2), groups=2),
    "max_pool": row(ops.max_pool, D.max_pool, (2, 6, 4, 3), window=2),
    "max_pool overlapping": row(ops.max_pool, D.max_pool, (2, 6, 7, 3), window=3, strides=2, padding="CEIL"),
    "max_pool padded": row(
        ops.max_pool, D.max_pool, (3, 5, 6, 1), window=(3, 2), strides=(1, 2), padding=((1, 1), (0, 1))
    ),
    "max_pool 1d": row(ops.max_pool, D.max_pool, (2, 7, 3), window=(3,), strides=1, padding="SAME"),
    "max_pool 3d": row(ops.max_pool, D.max_pool, (2, 4, 3, 4, 2), window=(2, 3, 2), padding="CEIL"),
    "avg_pool": row(ops.avg_pool, D.avg_pool, (2, 6, 4, 3), window=2),
    "avg_pool overlapping": row(ops.avg_pool, D.avg_pool, (2, 6, 7, 3), window=3, strides=2, padding="SAME"),
    "avg_pool 1d": row(ops.avg_pool, D.avg_pool, (2, 7, 3), window=(3,), strides=2, padding="CEIL"),
    "avg_pool 3d": row(ops.avg_pool, D.avg_pool, (2, 4, 3, 4, 2), window=(2, 3, 2)),
    "dense": row(ops.dense, D.dense, (3, 5), (5, 7), (7,)),
    "dense many axes": row(ops.dense, D.dense, (2, 3, 2, 4), (4, 3)),
    "dense one row": row(ops.dense, D.dense, (1, 9), (9, 1), (1,)),
    "batch_norm": row(
        ops.batch_norm, D.batch_norm, (4, 3), (3,), (3,), (3,), (3,), flags={"wide": (1, 2), "positive": (2,)}
    ),
    "batch_norm images": row(
        ops.batch_norm,
        D.batch_norm,
        (2, 3, 4, 5),
        *[(5,)] * 4,
        flags={"wide": (1, 2), "positive": (2,)},
        epsilon=1e-3,
    ),
    "normalize_batch": row(ops.normalize_batch, D.normalize_batch, (5, 3), (3,), (3,), flags={"roundings": 4}),
    "normalize_batch images": row(
        ops.normalize_batch, D.normalize_batch, (2, 3, 4, 5), (5,), (5,), flags={"roundings": 4}
    ),
    "local_response_norm": row(ops.local_response_norm, D.local_response_norm, (2, 3, 2, 6), alpha=0.5),
    "local_response_norm power": row(
        ops.local_response_norm, D.local_response_norm, (3, 5), depth_radius=1, alpha=0.3, beta=0.6, bias=2.0
    ),
    "extract_patches": row(ops.extract_patches, D.extract_patches, (2, 5, 6, 2), window=(2, 3), strides=(1, 2)),
    "extract_patches padded": row(ops.extract_patches, D.extract_patches, (1, 4, 4, 3), window=3, padding="SAME"),
}

EMPTY = {
    "conv1d": row(ops.conv1d, D.conv, (0, 8, 2), (3, 2, 4)),
    "conv2d": row(ops.conv2d, D.conv, (0, 8, 8, 4), (3, 3, 4, 6)),
    "conv2d one channel": row(ops.conv2d, D.conv, (0, 8, 8, 1), (5, 5, 1, 6)),
    "conv2d strides": row(ops.conv2d, D.conv, (0, 8, 8, 4), (3, 3, 4, 6), strides=2),
    "conv2d dilation": row(ops.conv2d, D.conv, (0, 8, 8, 4), (3, 3, 4, 6), dilation=2),
    "conv2d groups": row(ops.conv2d, D.conv, (0, 8, 8, 4), (3, 3, 2, 6), groups=2),
    "conv2d one pixel": row(ops.conv2d, D.conv, (0, 8, 8, 4), (1, 1, 4, 6)),
    "conv2d no channels": row(ops.conv2d, D.conv, (2, 5, 5, 0), (3, 3, 0, 6)),
    "conv2d no kernels": row(ops.conv2d, D.conv, (2, 5, 5, 4), (3, 3, 4, 0)),
    "conv3d": row(ops.conv3d, D.conv, (0, 4, 4, 4, 2), (3, 3, 3, 2, 4)),
    "conv2d_transpose": row(ops.conv2d_transpose, D.conv_transpose, (0, 4, 4, 3), (3, 3, 2, 3), strides=2),
    "depthwise_conv2d": row(ops.depthwise_conv2d, D.depthwise, (0, 6, 6, 3), (3, 3, 3, 2)),
    "depthwise_conv3d": row(ops.depthwise_conv3d, D.depthwise, (0, 3, 3, 3, 2), (2, 2, 2, 2, 1)),
    "depthwise_conv1d no kernels": row(ops.depthwise_conv1d, D.depthwise, (2, 6, 3), (3, 3, 0)),
    "separable_conv1d": row(ops.separable_conv1d, D.separable, (0, 6, 3), (3, 3, 2), (1, 6, 4)),
    "separable_conv2d": row(ops.separable_conv2d, D.separable, (0, 6, 6, 3), (3, 3, 3, 2), (1, 1, 6, 4)),
    "conv2d_max_pool": row(ops.conv2d_max_pool, D.conv_max_pool, (0, 6, 6, 2), (3, 3, 2, 4), (4,), pool_size=2),
    "max_pool": row(ops.max_pool, D.max_pool, (0, 6, 6, 2), window=2),
    "max_pool overlapping": row(ops.max_pool, D.max_pool, (0, 6, 6, 2), window=3, strides=2),
    "max_pool no channels": row(ops.max_pool, D.max_pool, (2, 6, 6, 0), window=2),
    "avg_pool": row(ops.avg_pool, D.avg_pool, (0, 6, 6, 2), window=3, strides=2, padding="SAME"),
    "dense": row(ops.dense, D.dense, (0, 4), (4, 3), (3,)),
    "dense no inputs": row(ops.dense, D.dense, (2, 0), (0, 3), (3,)),
    "batch_norm": row(ops.batch_norm, D.batch_norm, (0, 3), *[(3,)] * 4, flags={"wide": (1, 2), "positive": (2,)}),
    "local_response_norm": row(ops.local_response_norm, D.local_response_norm, (0, 2, 2, 5)),
    "extract_patches": row(ops.extract_patches, D.extract_patches, (0, 5, 5, 2), window=2),
}
"""Batches of no images, no channels, no kernels: `lax` gives empty arrays and zeros."""


def layer_row(layer: layers.Layer, shape: tuple[int, ...], definition: Callable, *, train=True, key=None, **flags: Any):
    """Return the row of a layer as a function of the batch and the leaves of its variables."""
    variables = jax.eval_shape(lambda: layer.init(jax.random.key(0), shape[1:])[0])
    paths, tree = jax.tree.flatten_with_path(variables)
    names = [jax.tree_util.keystr(path) for path, _ in paths]

    def fn(x, *leaves):
        given = jax.tree.unflatten(tree, leaves)
        y, state = layer.apply(given, x, train=train, key=None if key is None else jax.random.key(key))
        new = jax.tree.leaves(state)
        return (y, *new) if train and new else y

    state = tuple(1 + i for i, name in enumerate(names) if name.startswith(".state"))
    variances = tuple(1 + i for i, name in enumerate(names) if "variance" in name)
    shapes = (shape, *(leaf.shape for _, leaf in paths))
    return Row(fn, definition, shapes, wide=state, positive=variances, **flags)


def _init(key, shape, dtype=jnp.float32):
    return jnp.ones(shape, dtype)


def _conv_layer(x, bias, kernel, **options):
    y = D.conv(x, kernel, **options)
    return y + bias.reshape((1,) * (y.ndim - 1) + (-1,))


def _table_layer(x, bias, kernel, *, table, channels):
    rows = [(c, o) for o, inputs in enumerate(table) for c in inputs]
    full = np.zeros((len(rows), channels, len(table)))
    full[(np.arange(len(rows)), *np.transpose(rows))] = 1
    return _conv_layer(x, bias, jnp.einsum("hwp,pco->hwco", kernel, full.astype(x.dtype)))


def _softmax_network(x, conv_bias, conv_kernel, out_bias, out_kernel):
    y = D.conv_max_pool(x, conv_kernel, conv_bias, pool_size=2)
    y = jnp.exp(y - y.max(-1, keepdims=True))
    y = y / y.sum(-1, keepdims=True)
    return D.dense(y.reshape(y.shape[0], -1), out_kernel, out_bias)


def _residual(x, bias, kernel, projection):
    return jnp.tanh(_conv_layer(x, bias, kernel, padding="SAME") + D.conv(x, projection))


def _branch(x, bias, kernel):
    pool = D.max_pool(x, 3, strides=1, padding="SAME")
    return jnp.concatenate([_conv_layer(x, bias, kernel), pool], -1)


def _two_dense(x, first_bias, first_kernel, second_bias, second_kernel):
    return D.dense(jnp.tanh(D.dense(x, first_kernel, first_bias)), second_kernel, second_bias)


def _with_auxiliary(x, bias, kernel):
    return x, jnp.full((), 0.25, x.dtype), D.dense(x, kernel, bias)


def _dropped(x, *, rate, key):
    kept = jax.random.bernoulli(jax.random.key(key), jnp.float32(1 - rate), x.shape)
    return jnp.where(kept, x / (1 - rate), 0)


def _two_denses():
    return layers.serial({"a": layers.dense(4, _init), "t": layers.activation("tanh"), "b": layers.dense(3, _init)})


def _depthwise_layer(x, bias, kernel, **options):
    y = D.depthwise(x, kernel, **options)
    return y + bias.reshape((1,) * (y.ndim - 1) + (-1,))


def _separable_layer(x, bias, depthwise, pointwise, **options):
    return _conv_layer(D.depthwise(x, depthwise, **options), bias, pointwise)


def _transposed_layer(x, bias, kernel, **options):
    y = D.conv_transpose(x, kernel, **options)
    return y + bias.reshape((1,) * (y.ndim - 1) + (-1,))


def _random_patches(x, bias, kernel, *, patches):
    """Return the response of each unit, which sees the pixels from (top, left) on of its own patch."""
    size = kernel.shape[0]
    seen = jnp.stack([x[:, r : r + size, c : c + size] for r, c in patches], -1)
    return (seen * kernel[None]).sum((1, 2, 3)) + bias.reshape(1, -1)


CENTRES = np.linspace(-1, 1, 12).reshape(3, 4)
TABLE = [[0], [0, 2], [1, 2]]
_ROWS, _COLUMNS = np.broadcast_arrays(*patch_pixels((4, 5), 4, 2, 5))
PATCHES = [(int(r), int(c)) for r, c in zip(_ROWS[0, 0], _COLUMNS[0, 0], strict=True)]

LAYERS = {
    "convolution": layer_row(
        layers.convolution(3, 3, _init, strides=2, padding="SAME"),
        (2, 5, 6, 2),
        partial(_conv_layer, strides=2, padding="SAME"),
        roundings=2,
    ),
    "convolution no bias": layer_row(
        layers.convolution(4, 2, _init, groups=2, use_bias=False), (2, 4, 3, 2), partial(D.conv, groups=2)
    ),
    "convolution pooled": layer_row(
        layers.convolution(2, 2, _init, pool_size=2),
        (2, 5, 3, 2),
        lambda x, bias, kernel: D.conv_max_pool(x, kernel, bias, pool_size=2),
        maxima=lambda x, bias, kernel: _conv_windows(x, kernel, pool_size=2),
        roundings=2,
    ),
    "convolution table": layer_row(
        layers.convolution(3, 2, _init, table=TABLE),
        (2, 4, 3, 3),
        partial(_table_layer, table=TABLE, channels=3),
        roundings=2,
    ),
    "convolution 1d": layer_row(
        layers.convolution(3, (2,), _init, dilation=2), (2, 6, 2), partial(_conv_layer, dilation=2), roundings=2
    ),
    "convolution 3d": layer_row(
        layers.convolution(2, (2, 1, 2), _init, strides=(1, 2, 1)),
        (1, 3, 4, 3, 2),
        partial(_conv_layer, strides=(1, 2, 1)),
        roundings=2,
    ),
    "depthwise_convolution": layer_row(
        layers.depthwise_convolution(2, 3, _init, padding="SAME"),
        (2, 4, 5, 3),
        partial(_depthwise_layer, padding="SAME"),
        roundings=2,
    ),
    "separable_convolution": layer_row(
        layers.separable_convolution(4, 2, _init, _init, strides=2),
        (2, 5, 4, 3),
        partial(_separable_layer, strides=2),
        roundings=3,
    ),
    "depthwise_convolution 1d": layer_row(
        layers.depthwise_convolution(2, (3,), _init, dilation=2),
        (2, 7, 3),
        partial(_depthwise_layer, dilation=2),
        roundings=2,
    ),
    "separable_convolution 3d": layer_row(
        layers.separable_convolution(3, (2, 1, 2), _init, _init), (1, 3, 2, 3, 2), _separable_layer, roundings=3
    ),
    "transposed_convolution 1d": layer_row(
        layers.transposed_convolution(2, (3,), _init, strides=2),
        (2, 4, 3),
        partial(_transposed_layer, strides=2),
        roundings=2,
    ),
    "transposed_convolution": layer_row(
        layers.transposed_convolution(3, 3, _init, strides=2),
        (2, 3, 2, 2),
        partial(_transposed_layer, strides=2),
        roundings=2,
    ),
    "random_patches": layer_row(
        layers.random_patches(4, 2, _init, seed=5),
        (3, 4, 5, 2),
        partial(_random_patches, patches=PATCHES),
        roundings=2,
    ),
    "dense": layer_row(layers.dense(3, _init), (4, 5), lambda x, bias, kernel: D.dense(x, kernel, bias), roundings=2),
    "subsampling": layer_row(layers.subsampling(2), (2, 4, 5, 3), partial(D.subsampling, size=2), roundings=2),
    "radial_basis": layer_row(
        layers.radial_basis(CENTRES, scale=0.5),
        (3, 4),
        partial(D.radial_basis, centres=CENTRES.astype(np.float32), scale=0.5),
    ),
    "batch_normalization": layer_row(layers.batch_normalization(), (3, 2, 3, 4), D.running_batch_norm, roundings=4),
    "batch_normalization vectors": layer_row(
        layers.batch_normalization(momentum=0.5), (6, 3), partial(D.running_batch_norm, momentum=0.5), roundings=4
    ),
    "batch_normalization inference": layer_row(
        layers.batch_normalization(),
        (3, 2, 2, 4),
        lambda x, bias, scale, mean, variance: D.batch_norm(x, mean, variance, scale, bias),
        train=False,
    ),
    "local_response_normalization": layer_row(
        layers.local_response_normalization(alpha=0.4), (2, 2, 3, 5), partial(D.local_response_norm, alpha=0.4)
    ),
    "dropout": layer_row(layers.dropout(0.4), (4, 5), partial(_dropped, rate=0.4, key=3), key=3),
    "dropout inference": layer_row(layers.dropout(0.4), (4, 5), lambda x: x, train=False),
    "activation": layer_row(
        layers.activation("gelu"),
        (2, 3, 4),
        lambda x: x / 2 * (1 + jnp.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
        roundings=4,
    ),
    "flatten": layer_row(layers.flatten(), (3, 2, 2, 2), lambda x: x.reshape(x.shape[0], math.prod(x.shape[1:]))),
    "function": layer_row(layers.function(lambda x: x * x), (3, 4), lambda x: x**2),
    "max_pooling": layer_row(
        layers.max_pooling(3, strides=2, padding="CEIL"),
        (2, 6, 5, 2),
        partial(D.max_pool, window=3, strides=2, padding="CEIL"),
    ),
    "average_pooling": layer_row(
        layers.average_pooling(2, padding="SAME"), (2, 5, 4, 2), partial(D.avg_pool, window=2, padding="SAME")
    ),
    "global_average_pooling": layer_row(layers.global_average_pooling(), (2, 5, 4, 3), lambda x: x.mean((1, 2))),
    "resize": layer_row(layers.resize(4), (2, 6, 3, 2), partial(D.resize, size=4)),
    "serial": layer_row(
        layers.serial(
            {
                "conv": layers.convolution(2, 2, _init, pool_size=2),
                "softmax": layers.activation(jax.nn.softmax),
                "flat": layers.flatten(),
                "out": layers.dense(3, _init),
            }
        ),
        (2, 5, 3, 2),
        _softmax_network,
        maxima=lambda x, bias, kernel, *_: _conv_windows(x, kernel, pool_size=2),
        roundings=8,
    ),
    "branch": layer_row(
        layers.branch({"a": layers.convolution(2, 1, _init), "b": layers.max_pooling(3, strides=1, padding="SAME")}),
        (2, 3, 4, 2),
        _branch,
        roundings=2,
    ),
    "residual": layer_row(
        layers.residual(
            layers.convolution(3, 3, _init, padding="SAME"),
            projection=layers.convolution(3, 1, _init, use_bias=False),
            activation=jnp.tanh,
        ),
        (2, 3, 3, 2),
        _residual,
        roundings=8,
    ),
    "rematerialized": layer_row(layers.rematerialized(_two_denses()), (3, 4), _two_dense, roundings=8),
    "auxiliary": layer_row(layers.auxiliary(layers.dense(3, _init), weight=0.25), (3, 4), _with_auxiliary, roundings=2),
}

EMPTY |= {
    "layers.flatten": layer_row(layers.flatten(), (0, 2, 3, 2), lambda x: x.reshape(0, 12)),
    "layers.convolution pooled": layer_row(
        layers.convolution(2, 2, _init, pool_size=2),
        (0, 5, 3, 2),
        lambda x, bias, kernel: D.conv_max_pool(x, kernel, bias, pool_size=2),
    ),
    "layers.dropout": layer_row(layers.dropout(0.4), (0, 5), partial(_dropped, rate=0.4, key=3), key=3),
    "layers.global_average_pooling": layer_row(layers.global_average_pooling(), (0, 5, 4, 3), lambda x: x.mean((1, 2))),
    "layers.random_patches": layer_row(
        layers.random_patches(4, 2, _init, seed=5), (0, 4, 5, 2), partial(_random_patches, patches=PATCHES)
    ),
    "layers.serial": layer_row(
        layers.serial({"a": layers.convolution(2, 2, _init), "flat": layers.flatten(), "out": layers.dense(3, _init)}),
        (0, 3, 3, 2),
        lambda x, bias, kernel, out_bias, out_kernel: D.dense(
            _conv_layer(x, bias, kernel).reshape(0, 8), out_kernel, out_bias
        ),
    ),
}
