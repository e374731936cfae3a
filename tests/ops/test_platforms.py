"""Programs for a GPU are compiled where there is none: what is meant is computed there by XLA's own operations."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

import lenet_jax as lj
from lenet_jax import ops

IMAGES = (4, 12, 12, 6)

OPERATIONS = {
    "conv1d": (ops.conv1d, [(4, 12, 6), (3, 6, 8)]),
    "conv2d": (ops.conv2d, [IMAGES, (3, 3, 6, 8)]),
    "conv2d, one channel": (ops.conv2d, [(4, 12, 12, 1), (5, 5, 1, 20)]),
    "conv2d, one pixel": (ops.conv2d, [IMAGES, (1, 1, 6, 8)]),
    "conv2d, strides": (functools.partial(ops.conv2d, strides=2, padding="SAME"), [IMAGES, (3, 3, 6, 8)]),
    "conv2d, dilation": (functools.partial(ops.conv2d, dilation=2), [IMAGES, (3, 3, 6, 8)]),
    "conv2d, groups": (functools.partial(ops.conv2d, groups=3), [IMAGES, (3, 3, 2, 9)]),
    "conv3d": (ops.conv3d, [(2, 6, 6, 6, 3), (2, 2, 2, 3, 4)]),
    "depthwise_conv2d": (ops.depthwise_conv2d, [IMAGES, (3, 3, 6, 2)]),
    "separable_conv2d": (ops.separable_conv2d, [IMAGES, (3, 3, 6, 2), (1, 1, 12, 8)]),
    "conv2d_transpose": (functools.partial(ops.conv2d_transpose, strides=2), [IMAGES, (3, 3, 8, 6)]),
    "conv2d_max_pool": (functools.partial(ops.conv2d_max_pool, pool_size=2), [IMAGES, (3, 3, 6, 8), (8,)]),
    "max_pool": (functools.partial(ops.max_pool, window=2), [IMAGES]),
    "max_pool, overlapping": (functools.partial(ops.max_pool, window=3, strides=2, padding="CEIL"), [IMAGES]),
    "avg_pool": (functools.partial(ops.avg_pool, window=3, strides=2, padding="SAME"), [IMAGES]),
    "local_response_norm": (ops.local_response_norm, [IMAGES]),
    "normalize_batch": (lambda *args: ops.normalize_batch(*args)[0], [IMAGES, (6,), (6,)]),
    "batch_norm": (ops.batch_norm, [IMAGES, (6,), (6,), (6,), (6,)]),
    "dense": (ops.dense, [(4, 6), (6, 8), (8,)]),
}
"""Operation, and the shapes of its arguments."""

COMPUTED_BY = {
    "conv": ("stablehlo.convolution",),
    "depthwise": ("stablehlo.convolution",),
    "separable": ("stablehlo.convolution",),
    "conv2d_max_pool": ("stablehlo.convolution", "stablehlo.reduce_window"),
    "max_pool": ("stablehlo.reduce_window",),
    "avg_pool": ("stablehlo.reduce_window",),
    "dense": ("stablehlo.dot_general",),
}
"""Beginning of an operation's name -> the operations of XLA that compute it on a GPU."""


def program(fn, *args, platform="cuda"):
    """Return the program of a function for a platform, as text."""
    return export.export(jax.jit(fn), platforms=[platform])(*args).mlir_module()


def arguments(name, dtype=jnp.float32):
    return [jax.ShapeDtypeStruct(shape, dtype) for shape in OPERATIONS[name][1]]


def gradient(fn, args):
    """Return the gradients of the sum of squares of an operation's values with respect to all of its arguments."""
    return jax.grad(lambda args: jnp.sum(jnp.square(fn(*args).astype(jnp.float32))))(args)


def expected(name):
    found = [operations for beginning, operations in COMPUTED_BY.items() if name.startswith(beginning)]
    return {operation for operations in found for operation in operations}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_is_that_of_xla_on_a_gpu(name, dtype):
    text = program(OPERATIONS[name][0], *arguments(name, dtype))
    assert set(re.findall(r"stablehlo\.\w+", text)) >= expected(name)
    assert "custom_call" not in text


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_its_gradient_is_one_of_xla_on_a_gpu(name, dtype):
    text = program(functools.partial(gradient, OPERATIONS[name][0]), arguments(name, dtype))
    found = re.findall(r"stablehlo\.\w+", text)
    assert set(found) >= expected(name) - {"stablehlo.reduce_window"}
    num_arrays = len([shape for shape in OPERATIONS[name][1] if len(shape) > 2])
    if "stablehlo.convolution" in expected(name):
        forward = found_in_forward(name, "stablehlo.convolution")
        assert found.count("stablehlo.convolution") >= forward + num_arrays  # one for each argument's gradient
    if "max_pool" in name:
        assert "stablehlo.select_and_scatter" not in found  # slow and in no fixed order on a GPU
    assert "custom_call" not in text


def found_in_forward(name, operation):
    return program(OPERATIONS[name][0], *arguments(name)).count(f"{operation}(")


@pytest.mark.parametrize("name", OPERATIONS)
def test_vmapped_over_lanes_it_is_still_one_program_for_a_gpu(name):
    lanes = [jax.ShapeDtypeStruct((3, *shape), jnp.float32) for shape in OPERATIONS[name][1]]
    text = program(jax.vmap(OPERATIONS[name][0]), *lanes)
    assert set(re.findall(r"stablehlo\.\w+", text)) >= expected(name)


@pytest.mark.parametrize("name", ["conv1d", "conv2d, one channel", "conv2d, dilation", "conv3d", "conv2d_max_pool"])
def test_on_a_cpu_the_gradient_has_another_program(name):
    fn = functools.partial(gradient, OPERATIONS[name][0])
    texts = [jax.jit(fn).trace(arguments(name)).lower(lowering_platforms=(p,)).as_text() for p in ("cpu", "cuda")]
    kernels, definitions = (re.findall("stablehlo.dot_general|lenet_jax_", text) for text in texts)
    assert kernels
    assert not definitions


def test_an_exported_program_runs_where_the_kernels_are_not():
    assert "lenet_jax_" not in program(functools.partial(gradient, ops.conv2d), arguments("conv2d"), platform="cpu")


@pytest.mark.parametrize("platform", ["cuda", "rocm", "tpu"])
@pytest.mark.parametrize("name", ["lenet", "resnet18"])
def test_the_gradient_of_a_network_is_compiled_for_other_platforms(name, platform):
    model = lj.create_model(name)
    variables = jax.eval_shape(model.init, jax.random.key(0))

    def loss(params, images):
        logits, _ = model.apply(variables_of(params, variables), images, train=True)
        return jnp.sum(logits)

    images = jax.ShapeDtypeStruct((4, 28, 28, 1), jnp.float32)
    text = program(jax.grad(loss), variables.params, images, platform=platform)
    assert "stablehlo.convolution" in text


def variables_of(params, shapes):
    """Return variables with these parameters and a state of ones."""
    return shapes._replace(params=params, state=jax.tree.map(lambda x: jnp.ones(x.shape, x.dtype), shapes.state))


SIZES = {
    "conv2d": lambda x, padding: lj.conv2d(x, jnp.ones((3, 3, 2, 4)), strides=2, padding=padding),
    "avg_pool": lambda x, padding: lj.avg_pool(x, 3, strides=2, padding=padding),
    "max_pool": lambda x, padding: lj.max_pool(x, 3, strides=2, padding=padding),
}


@pytest.mark.usefixtures("without_type_checks")  # a symbolic size is no int
@pytest.mark.parametrize("padding", ["VALID", "SAME"])
@pytest.mark.parametrize("name", SIZES)
def test_an_operation_is_exported_for_images_of_any_size(name, padding):
    operation = functools.partial(SIZES[name], padding=padding)
    shape = export.symbolic_shape("b, h, w, 2", constraints=["h >= 8", "w >= 8"])
    exported = export.export(jax.jit(operation))(jax.ShapeDtypeStruct(shape, jnp.float32))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 9, 10, 2)), jnp.float32)
    expected = operation(x)
    np.testing.assert_allclose(exported.call(x), expected, rtol=1e-5, atol=1e-5)
