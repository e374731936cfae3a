"""Whatever is wrong with an argument of an operation or a layer, the message names it as the caller knows it."""

import inspect
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lenet_jax as lj
from lenet_jax import layers, ops

pytestmark = pytest.mark.usefixtures("without_type_checks")

SPACES = {1: (8,), 2: (8, 8), 3: (6, 6, 6)}
INIT = lj.glorot_uniform()


def ones(*shape):
    return np.ones(shape, np.float32)


def of_axes(n):
    size, x = (3,) * n, ones(2, *SPACES[n], 4)
    return {
        f"conv{n}d": {"x": x, "kernel": ones(*size, 4, 6)},
        f"conv{n}d_transpose": {"x": x, "kernel": ones(*size, 6, 4)},
        f"depthwise_conv{n}d": {"x": x, "kernel": ones(*size, 4, 2)},
        f"separable_conv{n}d": {
            "x": x,
            "depthwise_kernel": ones(*size, 4, 2),
            "pointwise_kernel": ones(*(1,) * n, 8, 6),
        },
    }


IMAGES = ones(2, 8, 8, 4)
OPERATIONS = {
    **of_axes(1),
    **of_axes(2),
    **of_axes(3),
    "conv2d_max_pool": {"x": IMAGES, "kernel": ones(3, 3, 4, 6), "bias": ones(6), "pool_size": 2},
    "max_pool": {"x": IMAGES, "window": 2},
    "avg_pool": {"x": IMAGES, "window": 2},
    "dense": {"x": ones(2, 4), "kernel": ones(4, 3), "bias": ones(3)},
    "local_response_norm": {"x": IMAGES},
    "batch_norm": {"x": IMAGES, "mean": ones(4), "variance": ones(4), "scale": ones(4), "bias": ones(4)},
    "normalize_batch": {"x": IMAGES, "scale": ones(4), "bias": ones(4)},
    "extract_patches": {"x": IMAGES, "window": 2},
    "sliding_windows": {"images": IMAGES, "window": 2},
}
LAYERS = {
    "convolution": ({"num_kernels": 6, "kernel_size": 3, "kernel_init": INIT, "pool_size": 2}, (8, 8, 4)),
    "depthwise_convolution": ({"multiplier": 2, "kernel_size": 3, "kernel_init": INIT}, (8, 8, 4)),
    "separable_convolution": (
        {"num_kernels": 6, "kernel_size": 3, "depthwise_init": INIT, "pointwise_init": INIT},
        (8, 8, 4),
    ),
    "transposed_convolution": ({"num_kernels": 6, "kernel_size": 3, "kernel_init": INIT}, (8, 8, 4)),
    "random_patches": ({"num_units": 6, "patch_size": 3, "kernel_init": INIT}, (8, 8, 4)),
    "max_pooling": ({"size": 2}, (8, 8, 4)),
    "average_pooling": ({"size": 2}, (8, 8, 4)),
    "subsampling": ({"size": 2}, (8, 8, 4)),
    "resize": ({"size": 4}, (8, 8, 4)),
    "dense": ({"num_units": 3, "kernel_init": INIT}, (5,)),
    "dropout": ({"rate": 0.5}, (5,)),
    "batch_normalization": ({}, (5,)),
    "local_response_normalization": ({}, (5,)),
}

NO_ARRAYS = {"a text": "abc", "None": None, "ragged": [[1.0], [2.0, 3.0]]}
BAD = {
    "window": (0, -1, 2.5, "x", (0, 0), (2, 2, 2, 2), [1, "a"], True, np.ones((2, 3)), 50),
    "strides": (0, -1, 2.5, "x", (2, 2, 2, 2), True, np.ones((2, 3))),
    "padding": (-1, 2.5, "FULL", None, ((1, 1),) * 4, (-1, -1), [1, "a"], True, np.ones((2, 2, 2))),
    "dilation": (0, 2.5, None, (2, 2, 2, 2), 50),
    "groups": (0, 3, 2.5, "x", None),
    "output_shape": (0, 3, 2.5, "x", (2, 2, 2, 2, 2, 2, 2), (8, 1000)),
    "activation": ("softmax", 3, np.ones(2)),
    "number": ("x", None, (1, 2), np.ones((2, 3)), float("nan"), -1.0),
    "count": (0, -1, 2.5, "x", None, True),
    "momentum": (-0.1, 1.1, "x", None, float("nan")),
    "rate": (-0.1, 1.0, "x", None, np.ones((2, 3)), float("nan")),
}
KINDS = {
    "window": "window",
    "pool_size": "window",
    "kernel_size": "window",
    "size": "window",
    "patch_size": "count",
    "epsilon": "number",
    "alpha": "number",
    "beta": "number",
    "bias": "number",
    "depth_radius": "number",
    "radius": "number",
    "multiplier": "count",
    "num_kernels": "count",
    "num_units": "count",
    "momentum": "momentum",
}


def bad_arrays(name, good):
    """Yield arrays that do not fit, which depends on the operation."""
    yield from NO_ARRAYS.items()
    yield "an axis too many", good[None]
    yield "an axis too few", good[0]
    yield "integers", good.astype(int)
    yield "bool", good.astype(bool)
    yield "complex", good.astype(np.complex64)
    yield "half precision", good.astype(np.float16)
    yield "a channel too many", np.concatenate([good, good[..., :1]], -1)
    if name.endswith("kernel"):
        yield "an input too many", np.concatenate([good, good[..., :1, :]], -2)
        yield "no pixels", good[:0]


MISFITS = [
    pytest.param(function, argument, value, id=f"{function}-{argument}-{what}")
    for function, good in OPERATIONS.items()
    for argument in inspect.signature(getattr(ops, function)).parameters
    for what, value in (
        bad_arrays(argument, good[argument])
        if hasattr(good.get(argument), "shape")
        else ((repr(value), value) for value in BAD[KINDS.get(argument, argument)])
    )
]


def refusal(run):
    """Return the message that a call is refused with; None if it is not."""
    try:
        with jax.numpy_dtype_promotion("standard"):
            run()
    except lj.InputError as error:
        return str(error)
    return None


def names_in(message):
    return {name for name in re.findall(r"`([^`]+)`", message) if name.isidentifier()}


@pytest.mark.parametrize(("function", "argument", "value"), MISFITS)
def test_an_operation_names_its_own_arguments(function, argument, value):
    run = getattr(ops, function)
    message = refusal(lambda: run(**{**OPERATIONS[function], argument: value}))
    is_misfit = hasattr(value, "shape") or value == 50  # of two arguments, of which one may be named
    if message is None:
        assert is_misfit or (function, argument) in OPTIONAL
        return
    assert message.startswith(f"{function}: ")
    assert "\n" not in message
    named = names_in(message)
    assert named
    assert named <= set(inspect.signature(run).parameters)
    assert argument in named or is_misfit


OPTIONAL = {("conv2d_max_pool", "bias"), ("dense", "bias"), ("max_pool", "strides"), ("avg_pool", "strides")}


@pytest.mark.parametrize("function", list(OPERATIONS))
def test_nothing_that_is_no_array_is_taken(function):
    for argument, good in OPERATIONS[function].items():
        for value in NO_ARRAYS.values() if hasattr(good, "shape") else ():
            if value is None and (function, argument) in OPTIONAL:
                continue
            with pytest.raises(lj.InputError, match=f"{function}: `{argument}` (must be|needs) "):
                getattr(ops, function)(**{**OPERATIONS[function], argument: value})


def test_every_operation_and_layer_with_arguments_of_its_own_is_tried():
    of_no_arrays = {"BATCH_SIZE", "initializers", "fan_in_uniform", "glorot_uniform", "map_batches"}
    assert set(ops.__all__) - of_no_arrays == set(OPERATIONS)
    others = {"Cost", "Layer", "Shape", "make_model", "take_auxiliary", "trace_layer", "activation", "auxiliary"}
    others |= {"branch", "flatten", "function", "global_average_pooling", "radial_basis", "rematerialized", "residual"}
    assert set(layers.__all__) - others - {"serial"} == set(LAYERS)


NO_OPTIONS = {"kernel_init", "bias_init", "depthwise_init", "pointwise_init", "use_bias", "table", "seed"}
LAYER_MISFITS = [
    pytest.param(layer, argument, value, id=f"{layer}-{argument}-{value!r}")
    for layer in LAYERS
    for argument in inspect.signature(getattr(layers, layer)).parameters
    if argument not in NO_OPTIONS | {"initial_scale"}
    for value in BAD[KINDS.get(argument, argument)]
]


@pytest.mark.parametrize(("layer", "argument", "value"), LAYER_MISFITS)
def test_a_layer_names_its_own_arguments(layer, argument, value):
    make = getattr(layers, layer)
    options, shape = LAYERS[layer]
    message = refusal(lambda: make(**{**options, argument: value}).init(jax.random.key(0), shape))
    if message is None:
        assert value is None or layer in ("resize", "transposed_convolution")
        return
    named = names_in(message)
    assert named
    assert named <= set(inspect.signature(make).parameters)
    assert argument in named or (value == 50 and "kernel_size" in named)
    assert message.startswith(f"{layer}: ")


@pytest.mark.parametrize("layer", [name for name in LAYERS if "convolution" in name or name == "random_patches"])
def test_initializers_decide_the_biases_of_every_convolution_in_float32(layer):
    def third(key, shape, dtype=jnp.float32):
        return np.full(shape, 1 / 3)  # in float64, where there is any

    options, shape = LAYERS[layer]
    options = {name: third if name.endswith("_init") else value for name, value in options.items()}
    with jax.enable_x64(True):
        params = getattr(layers, layer)(**options, bias_init=third).init(jax.random.key(0), shape)[0].params
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    assert all(np.all(np.asarray(leaf) == np.float32(1 / 3)) for leaf in jax.tree.leaves(params))
