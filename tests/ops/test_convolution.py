"""Convolutions against loops in float64, torch, the lax definition, finite differences and hand-worked values."""

import functools
import inspect

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from jax import lax
from jax.test_util import check_grads

import lenet_jax as lj
from tests.reference import convolve, same_pads

CONVOLUTIONS = {1: lj.conv1d, 2: lj.conv2d, 3: lj.conv3d}
LAYOUTS = {1: ("NWC", "WIO", "NWC"), 2: ("NHWC", "HWIO", "NHWC"), 3: ("NDHWC", "DHWIO", "NDHWC")}


@st.composite
def cases(draw, axes=(1, 2, 3), pairs=True):
    """Draw arrays and options of a convolution whose kernel fits the image."""
    num_axes = draw(st.sampled_from(axes))
    per_axis = functools.partial(st.lists, min_size=num_axes, max_size=num_axes)
    size = draw(per_axis(st.integers(1, 4)))
    dilation = draw(per_axis(st.integers(1, 2)))
    strides = draw(per_axis(st.integers(1, 3)))
    extent = [(k - 1) * d + 1 for k, d in zip(size, dilation, strict=True)]
    space = [draw(st.integers(e, e + 4)) for e in extent]
    explicit = per_axis(st.tuples(st.integers(0, 2), st.integers(0, 2)))
    padding = draw(st.one_of(st.sampled_from(["VALID", "SAME"]), explicit) if pairs else st.just("SAME"))
    groups, inputs, per_group = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 2))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    x = rng.standard_normal((draw(st.integers(1, 2)), *space, groups * inputs)).astype(np.float32)
    kernel = rng.standard_normal((*size, inputs, groups * per_group)).astype(np.float32)
    return x, kernel, {"strides": tuple(strides), "padding": padding, "dilation": tuple(dilation), "groups": groups}


def explicit_pads(x, kernel, options):
    if options["padding"] == "VALID":
        return [(0, 0)] * (x.ndim - 2)
    if options["padding"] == "SAME":
        extent = [(k - 1) * d + 1 for k, d in zip(kernel.shape[:-2], options["dilation"], strict=True)]
        return [same_pads(n, e, s) for n, e, s in zip(x.shape[1:-1], extent, options["strides"], strict=True)]
    return list(options["padding"])


def close(actual, expected, tolerance=2e-5):
    np.testing.assert_allclose(np.asarray(actual, np.float64), expected, rtol=tolerance, atol=tolerance)


def value_and_transpose(f):
    """Compile f and its transpose as one program: (dy, *xs) -> (f(*xs), dxs)."""

    @jax.jit
    def program(dy, *xs):
        y, transpose = jax.vjp(f, *xs)
        return y, transpose(dy)

    return program


@hypothesis.given(cases())
def test_equals_loops_in_float64(case):
    x, kernel, options = case
    y = CONVOLUTIONS[x.ndim - 2](jnp.asarray(x), jnp.asarray(kernel), **options)
    pads = explicit_pads(x, kernel, options)
    close(y, convolve(x, kernel, options["strides"], pads, options["dilation"], options["groups"]))


@hypothesis.given(cases())
def test_and_its_gradients_equal_torch(case):
    torch = pytest.importorskip("torch")
    x, kernel, options = case
    num_axes = x.ndim - 2
    ours = functools.partial(CONVOLUTIONS[num_axes], **options)
    shape = jax.eval_shape(ours, x, kernel).shape
    dy = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    y, (dx, dkernel) = value_and_transpose(ours)(dy, x, kernel)

    def channels_first(a):
        return torch.tensor(np.moveaxis(a, -1, 1).astype(np.float64))

    tx = channels_first(x).requires_grad_()
    tkernel = (
        torch.tensor(np.moveaxis(kernel, (-1, -2), (0, 1)).astype(np.float64).copy()).contiguous().requires_grad_()
    )
    flat_pads = [p for pair in reversed(explicit_pads(x, kernel, options)) for p in pair]
    padded = torch.nn.functional.pad(tx, flat_pads)
    conv = getattr(torch.nn.functional, f"conv{num_axes}d")
    ty = conv(padded, tkernel, None, options["strides"], 0, options["dilation"], options["groups"])
    ty.backward(channels_first(dy))
    close(y, np.moveaxis(ty.detach().numpy(), 1, -1))
    close(dx, np.moveaxis(tx.grad.numpy(), 1, -1))
    close(dkernel, np.moveaxis(tkernel.grad.numpy(), (0, 1), (-1, -2)), 1e-4)


KEY = jax.random.key(1)


def definition(x, kernel, options):
    return lax.conv_general_dilated(
        x,
        kernel,
        options["strides"],
        explicit_pads(x, kernel, options),
        rhs_dilation=options["dilation"],
        dimension_numbers=LAYOUTS[x.ndim - 2],
        feature_group_count=options["groups"],
    )


@hypothesis.given(cases(axes=(2,)))
def test_is_the_definition_of_lax_in_every_derivative(case):
    x, kernel, options = case
    x, kernel = jnp.asarray(x), jnp.asarray(kernel)
    direction = jnp.ones_like(kernel)

    def curvature(convolution):
        loss = lambda k: jnp.sum(jnp.tanh(convolution(x, k)))  # noqa: E731
        return jax.jit(lambda k, d: jax.jvp(jax.grad(loss), (k,), (d,))[1])(
            kernel, direction
        )  # the Hessian-vector product of Møller's optimizer

    close(curvature(functools.partial(lj.conv2d, **options)), curvature(lambda a, b: definition(a, b, options)), 2e-4)


DIRECT = {
    "same": ((5, 3, 8, 4), 1, 1, "SAME"),
    "valid": ((3, 3, 8, 4), 1, 1, "VALID"),
    "uneven": ((3, 2, 8, 4), 1, 1, ((2, 0), (0, 1))),
    "groups": ((3, 3, 4, 6), 1, 2, "SAME"),
    "few": ((3, 5, 2, 16), 1, 1, "SAME"),
    "pixel": ((1, 1, 8, 4), (3, 2), 1, "SAME"),
    "blocks": ((3, 3, 8, 4), 2, 1, "SAME"),
    "few channels in blocks": ((5, 5, 3, 4), 2, 1, ((2, 2), (2, 2))),
    "uneven blocks": ((5, 3, 4, 6), (2, 3), 2, ((1, 2), (0, 1))),
    "larger than the image": ((3, 3, 4, 6), 1, 1, "SAME", (2, 3)),
    "one pixel of the image": ((3, 5, 4, 6), 1, 1, "SAME", (1, 1)),
    "blocks of a small image": ((7, 7, 3, 4), 2, 1, ((3, 3), (3, 3)), (2, 5)),
}


@pytest.mark.parametrize("case", DIRECT)
@pytest.mark.parametrize("in_axes", [None, (0, None), (None, 0), (0, 0)])
def test_computed_directly_every_derivative_and_map_is_that_of_lax(case, in_axes):
    shape, strides, groups, padding, *space = DIRECT[case]
    x, kernel = (
        jax.random.normal(KEY, (2, 3, *(space[0] if space else (14, 13)), groups * shape[2])),
        jax.random.normal(jax.random.key(2), (2, *shape)),
    )
    axes = in_axes or (None, None)
    pair = [array if axis == 0 else array[0] for array, axis in zip((x, kernel), axes, strict=True)]

    def ours(x, kernel):
        return lj.conv2d(x, kernel, strides=strides, groups=groups, padding=padding)

    def theirs(x, kernel):
        steps = strides if isinstance(strides, tuple) else (strides,) * 2
        return lax.conv_general_dilated(
            x, kernel, steps, padding, dimension_numbers=LAYOUTS[2], feature_group_count=groups
        )

    def everything(convolve):
        loss = lambda x, k: jnp.mean(jnp.tanh(convolve(x, k)))  # noqa: E731
        gradient = jax.grad(loss, (0, 1))
        of_gradient = lambda x, k: sum(jnp.sum(g**2) for g in gradient(x, k))  # noqa: E731

        def compute(x, k):
            return convolve(x, k), gradient(x, k), jax.jvp(gradient, (x, k), (x, k))[1], jax.grad(of_gradient)(x, k)

        return jax.jit(compute if in_axes is None else jax.vmap(compute, in_axes))(*pair)

    for a, b in zip(jax.tree.leaves(everything(ours)), jax.tree.leaves(everything(theirs)), strict=True):
        close(a, b, 1e-4)


@pytest.mark.parametrize("in_axes", [(0, None), (None, 0), (0, 0)])
def test_maps_over_images_kernels_and_both(in_axes):
    x, kernel = (
        jax.random.normal(jax.random.key(0), (3, 2, 6, 5, 4)),
        jax.random.normal(jax.random.key(1), (3, 3, 2, 2, 6)),
    )
    arguments = [a if axis == 0 else a[0] for a, axis in zip((x, kernel), in_axes, strict=True)]
    conv = functools.partial(lj.conv2d, groups=2, padding="SAME")
    mapped = jax.vmap(conv, in_axes)(*arguments)
    one_by_one = [conv(x[i if in_axes[0] == 0 else 0], kernel[i if in_axes[1] == 0 else 0]) for i in range(3)]
    close(mapped, jnp.stack(one_by_one))


@pytest.mark.parametrize("in_axes", [(0, None), (None, 0), (0, 0)])
def test_gradients_map_over_images_kernels_and_both_before_and_after(in_axes):
    x, kernel = jax.random.normal(jax.random.key(0), (3, 2, 6, 5, 4)), jax.random.normal(KEY, (3, 3, 2, 4, 6))
    arguments = [a if axis == 0 else a[0] for a, axis in zip((x, kernel), in_axes, strict=True)]
    loss = lambda x, k: jnp.sum(jnp.tanh(lj.conv2d(x, k)) ** 2)  # noqa: E731
    gradients = jax.grad(loss, (0, 1))
    mapped = jax.vmap(gradients, in_axes)(*arguments)
    of_sum = jax.grad(lambda x, k: jnp.sum(jax.vmap(loss, in_axes)(x, k)), (0, 1))(*arguments)
    one_by_one = [gradients(x[i if in_axes[0] == 0 else 0], kernel[i if in_axes[1] == 0 else 0]) for i in range(3)]
    for number, axis in enumerate(in_axes):
        stacked = jnp.stack([each[number] for each in one_by_one])
        close(mapped[number], stacked)
        close(of_sum[number], stacked if axis == 0 else jnp.sum(stacked, 0))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_gradients_inside_scan_and_remat_are_those_outside(dtype):
    x, kernel = (
        jax.random.normal(jax.random.key(0), (3, 4, 7, 6, 2), dtype),
        jax.random.normal(KEY, (3, 3, 2, 5), dtype),
    )
    loss = lambda k, x: jnp.sum(lj.max_pool(lj.conv2d(x, k, padding="SAME"), 2))  # noqa: E731
    gradient = jax.grad(jax.checkpoint(loss))
    total = lambda k: lax.scan(lambda g, x: (g + gradient(k, x), None), jnp.zeros_like(k), x)[0]  # noqa: E731
    expected = sum(jax.grad(loss)(kernel, each) for each in x)
    assert jax.jit(total)(kernel).dtype == dtype
    close(
        jax.jit(total)(kernel).astype(jnp.float32), expected.astype(jnp.float32), 1e-5 if dtype == jnp.float32 else 0.05
    )


def test_a_kernel_with_very_many_taps_is_left_to_lax():
    x, kernel = jax.random.normal(jax.random.key(0), (2, 20, 21, 2)), jax.random.normal(KEY, (17, 16, 2, 3))
    options = {"strides": (1, 2), "dilation": (1, 1), "groups": 1, "padding": "VALID"}
    close(lj.conv2d(x, kernel, strides=(1, 2)), definition(x, kernel, options), 1e-4)


def test_gradients_are_those_of_finite_differences():
    x, kernel = jax.random.normal(jax.random.key(0), (2, 5, 6, 2)), jax.random.normal(jax.random.key(1), (3, 2, 2, 3))
    conv = jax.jit(functools.partial(lj.conv2d, strides=2, padding="SAME"))
    check_grads(conv, (x, kernel), order=2, atol=0.05, rtol=0.05)


def test_hand_worked_values():
    x = jnp.arange(9.0).reshape(1, 3, 3, 1)
    kernel = jnp.array([[1.0, 2.0], [3.0, 4.0]]).reshape(2, 2, 1, 1)
    assert lj.conv2d(x, kernel)[0, :, :, 0].tolist() == [[27, 37], [57, 67]]
    assert lj.conv2d(x, kernel, padding="SAME", strides=2)[0, :, :, 0].tolist() == [[27, 17], [20, 8]]


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_keeps_the_dtype(dtype):
    assert lj.conv2d(jnp.ones((1, 4, 4, 1), dtype), jnp.ones((2, 2, 1, 3), dtype)).dtype == dtype


def test_takes_numpy_arrays():
    x, kernel = np.random.default_rng(0).standard_normal((1, 5, 5, 2)), np.ones((3, 3, 2, 4))
    close(lj.conv2d(x, kernel), convolve(x, kernel, (1, 1), [(0, 0), (0, 0)], (1, 1), 1))


def test_works_in_float64():
    with jax.enable_x64(True):
        x, kernel = np.random.default_rng(0).standard_normal((2, 1, 6, 6, 2, 2))[:, :, :, :, :, 0]
        kernel = kernel[0, :3, :3, :, None]
        y = lj.conv2d(jnp.asarray(x), jnp.asarray(kernel))
        assert y.dtype == jnp.float64
        close(y, convolve(x, kernel, (1, 1), [(0, 0), (0, 0)], (1, 1), 1), 1e-12)


def test_depthwise_convolves_each_channel_with_its_own_kernels():
    x = jax.random.normal(jax.random.key(0), (2, 7, 6, 3))
    kernel = jax.random.normal(jax.random.key(1), (3, 2, 3, 2))
    y = lj.depthwise_conv2d(x, kernel, strides=2, padding="SAME")
    for c in range(3):
        for m in range(2):
            alone = lj.conv2d(x[..., c : c + 1], kernel[:, :, c : c + 1, m : m + 1], strides=2, padding="SAME")
            close(y[..., c * 2 + m], alone[..., 0])


def test_separable_is_one_convolution_with_the_product_of_its_kernels():
    x = jax.random.normal(jax.random.key(0), (2, 7, 6, 3))
    depthwise = jax.random.normal(jax.random.key(1), (3, 3, 3, 2))
    pointwise = jax.random.normal(jax.random.key(2), (1, 1, 6, 4))
    product = jnp.einsum("hwcm,cmo->hwco", depthwise, pointwise.reshape(3, 2, 4))
    for options in ({}, {"padding": "SAME", "dilation": 2}, {"strides": (1, 2)}):
        close(lj.separable_conv2d(x, depthwise, pointwise, **options), lj.conv2d(x, product, **options), 5e-5)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("strides", [1, 2, 3, (4, 1)])
@pytest.mark.parametrize("size", [(2, 3), (1, 4), (5, 5)])
def test_transpose_is_the_gradient_of_the_convolution(size, strides, padding):
    y_shape, x = (2, 4, 3, 5), jax.random.normal(jax.random.key(0), (2, 4, 3, 5))
    kernel = jax.random.normal(jax.random.key(1), (*size, 2, 5))
    out = lj.conv2d_transpose(x, kernel, strides=strides, padding=padding)
    forward = functools.partial(lj.conv2d, strides=strides, padding=padding)
    y, transpose = jax.vjp(lambda image: forward(image, kernel), jnp.zeros(out.shape))
    assert y.shape == y_shape
    close(out, transpose(x)[0])


# The messages are checked on the bare functions: the shape checker of the tests would answer first.
bare = {name: inspect.unwrap(getattr(lj, name)) for name in ("conv2d", "depthwise_conv2d", "separable_conv2d")}
X, K = jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 2, 4))


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((X[0], K), {}, "conv2d: `x` needs 4 axes (NHWC); got shape (4, 4, 2); add the batch axis: x[None]."),
        ((X, K[0]), {}, "conv2d: `kernel` needs 4 axes (HWIO); got shape (3, 2, 4)."),
        ((X.astype(int), K), {}, "conv2d: `x` must be floating point; got int32; convert it with .astype(float)."),
        ((X, K.astype(jnp.bfloat16)), {}, "conv2d: `x` and `kernel` must have one dtype; got float32 and bfloat16."),
        (
            (X, K[:, :, :1]),
            {},
            "conv2d: `kernel` must have channels / groups = 2 inputs on its second to last axis; "
            "got shape (3, 3, 1, 4).",
        ),
        (
            (X, K),
            {"groups": 3},
            "conv2d: `groups` must divide the 2 channels of `x` and the 4 maps of `kernel`; got 3.",
        ),
        (
            (X, K),
            {"strides": 0},
            "conv2d: `strides` must be an integer, 1 or above, or 2 of them, one a spatial axis; got 0.",
        ),
        (
            (X, K),
            {"padding": "FULL"},
            'conv2d: `padding` must be "VALID", "SAME" or 2 (before, after) pairs of integers, 0 or above; '
            "got 'FULL'.",
        ),
        (
            (X, jnp.ones((5, 3, 2, 4))),
            {},
            "conv2d: `kernel` must fit into the image; a window of 5x3 pixels is larger than 4x4 with padding 'VALID'; "
            "use a smaller window or more padding.",
        ),
    ],
)
def test_bad_input_is_refused_with_the_rule_and_the_value(arguments, options, message):
    with pytest.raises(lj.InputError) as error:
        bare["conv2d"](*arguments, **options)
    assert str(error.value) == message


def test_depthwise_separable_and_transpose_name_what_does_not_fit():
    with pytest.raises(
        lj.InputError, match=r"must have the 2 channels of `x` on its second to last axis; got shape \(3, 3, 1, 1\)"
    ):
        lj.depthwise_conv2d(X, K[:, :, :1, :1])
    with pytest.raises(
        lj.InputError,
        match=r"`pointwise_kernel` must have shape \(1, 1, 2, O\), for the 2 channels .* got \(3, 3, 2, 4\)",
    ):
        lj.separable_conv2d(X, K[:, :, :, :1], K)
    with pytest.raises(
        lj.InputError, match=r"must have the 2 channels of `x` on its last axis; got shape \(3, 3, 2, 4\)"
    ):
        lj.conv2d_transpose(X, K)
    with pytest.raises(lj.InputError, match=r'`padding` must be "SAME" or "VALID"; got \'CEIL\''):
        lj.conv2d_transpose(X, jnp.ones((3, 3, 4, 2)), padding="CEIL")


def test_a_linear_function_of_either_array_can_be_transposed():
    dy = jax.random.normal(KEY, lj.conv2d(X, K).shape)
    expected = value_and_transpose(lj.conv2d)(dy, X, K)[1]
    for number, linear in enumerate((lambda x: lj.conv2d(x, K), lambda kernel: lj.conv2d(X, kernel))):
        close(jax.linear_transpose(linear, (X, K)[number])(dy)[0], expected[number])


POOLED = {
    "few channels": ((3, 3, 2, 4), {"pool_size": 2}),
    "many channels": ((3, 2, 8, 6), {"pool_size": (2, 3), "padding": "SAME"}),
    "strides": ((3, 3, 4, 6), {"pool_size": 2, "strides": 2, "padding": ((1, 0), (2, 1))}),
    "groups": ((3, 3, 2, 4), {"pool_size": 2, "groups": 2}),
    "pixel": ((1, 1, 3, 4), {"pool_size": 3}),
}


@pytest.mark.parametrize("case", POOLED)
@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("num_examples", [3, 101])
def test_convolution_and_pooling_together_are_the_definition_in_every_derivative_and_map(case, has_bias, num_examples):
    shape, options = POOLED[case]
    pool_size, groups = options["pool_size"], options.get("groups", 1)
    size = pool_size if isinstance(pool_size, tuple) else (pool_size,) * 2
    x = jax.random.normal(KEY, (num_examples, 9, 8, groups * shape[2]))
    kernel = jax.random.normal(jax.random.key(2), shape)
    bias = jnp.arange(1.0, shape[-1] + 1) if has_bias else None

    def theirs(x, kernel, bias):
        strides = (options.get("strides", 1),) * 2
        y = lax.conv_general_dilated(
            x,
            kernel,
            strides,
            options.get("padding", "VALID"),
            dimension_numbers=LAYOUTS[2],
            feature_group_count=groups,
        )
        y = lax.reduce_window(y, -jnp.inf, lax.max, (1, *size, 1), (1, *size, 1), "VALID")
        return y if bias is None else y + bias[None, None, None]

    def everything(apply):
        loss = lambda *point: jnp.mean(jnp.tanh(apply(*point)))  # noqa: E731
        arguments = (0, 1, 2) if has_bias else (0, 1)
        gradient = jax.grad(loss, arguments)

        def compute(x, kernel, bias):
            point = (x, kernel, bias)
            return apply(*point), gradient(*point), jax.jvp(gradient, point, point)[1]

        images = jax.vmap(apply, (0, None, None))(x[:3, None], kernel, bias)
        kernels = jax.vmap(apply, (None, 0, None))(x[:3], jnp.stack([kernel, -kernel]), bias)
        return jax.jit(compute)(x, kernel, bias), images, kernels, jax.jit(apply)(x, kernel, bias)

    ours = functools.partial(lj.ops.conv2d_max_pool, **options)
    for a, b in zip(jax.tree.leaves(everything(ours)), jax.tree.leaves(everything(theirs)), strict=True):
        close(a, b, 1e-4)


def test_convolution_and_pooling_by_hand():
    x = jnp.arange(9.0).reshape(1, 3, 3, 1)
    kernel = jnp.array([[1.0, 2.0], [3.0, 4.0]]).reshape(2, 2, 1, 1)
    y = lj.ops.conv2d_max_pool(x, kernel, jnp.array([0.5]), pool_size=2)
    assert y.tolist() == [[[[67.5]]]]


@pytest.mark.parametrize(
    ("bias", "options", "message"),
    [
        (
            jnp.ones(3),
            {},
            "conv2d_max_pool: `bias` needs shape (4,), one value per kernel, and the dtype float32 of `x`; "
            "got (3,) and float32.",
        ),
        (
            jnp.ones(4, jnp.bfloat16),
            {},
            "conv2d_max_pool: `bias` needs shape (4,), one value per kernel, and the dtype float32 of `x`; "
            "got (4,) and bfloat16.",
        ),
        (
            None,
            {"pool_size": 0},
            "conv2d_max_pool: `pool_size` must be an integer, 1 or above, or 2 of them, one a spatial axis; got 0.",
        ),
        (
            None,
            {"pool_size": 3},
            "conv2d_max_pool: `pool_size` must fit into the image; a window of 3x3 pixels is larger than 2x2 with "
            "padding 'VALID'; use a smaller window or more padding.",
        ),
        (
            None,
            {"groups": 3},
            "conv2d_max_pool: `groups` must divide the 2 channels of `x` and the 4 maps of `kernel`; got 3.",
        ),
    ],
)
def test_convolution_and_pooling_refuse_bad_input_with_the_rule_and_the_value(bias, options, message):
    with pytest.raises(lj.InputError) as error:
        inspect.unwrap(lj.ops.conv2d_max_pool)(X, K, bias, **{"pool_size": 2, **options})
    assert str(error.value) == message


# ---- transposed convolutions -----------------------------------------------------------------------------------------

TRANSPOSED = {1: lj.conv1d_transpose, 2: lj.conv2d_transpose, 3: lj.conv3d_transpose}


@hypothesis.given(cases())
def test_transposed_convolutions_are_gradients_of_convolutions_for_every_size(case):
    image, kernel, options = case
    options = {**options, "groups": 1}
    num_axes, kernel = image.ndim - 2, kernel[..., :1, :].repeat(image.shape[-1], -2)
    forward = functools.partial(CONVOLUTIONS[num_axes], kernel=kernel, **options)
    y, transpose = jax.vjp(forward, jnp.asarray(image))
    cotangent = np.random.default_rng(0).standard_normal(y.shape).astype(np.float32)
    del options["groups"]
    ours = functools.partial(TRANSPOSED[num_axes], cotangent, kernel, **options)
    expected = transpose(jnp.asarray(cotangent))[0]
    close(ours(output_shape=image.shape[1:-1]), expected)
    close(ours(output_shape=image.shape), expected)  # as TensorFlow has it
    default = ours()
    assert jax.eval_shape(forward, default).shape == y.shape


@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize(("strides", "extra"), [(1, 0), (2, 0), (2, 1), (3, 2)])
@pytest.mark.parametrize("dilation", [1, 2])
def test_transposed_convolutions_equal_torch(padding, strides, extra, dilation):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x, kernel = rng.standard_normal((2, 4, 5, 3)), rng.standard_normal((3, 4, 2, 3))
    theirs = torch.nn.functional.conv_transpose2d(
        torch.tensor(np.moveaxis(x, -1, 1)),
        torch.tensor(kernel.transpose(3, 2, 0, 1).copy()),
        stride=strides,
        padding=padding,
        output_padding=extra,
        dilation=dilation,
    )
    expected = np.moveaxis(theirs.numpy(), 1, -1)
    ours = lj.conv2d_transpose(
        x.astype(np.float32),
        kernel.astype(np.float32),
        strides=strides,
        padding=padding,
        output_shape=expected.shape[1:3],
        dilation=dilation,
    )
    close(ours, expected, 1e-4)


def test_a_transposed_convolution_by_hand():
    x, kernel = jnp.array([1.0, 10.0]).reshape(1, 2, 1), jnp.array([1.0, 2.0, 3.0]).reshape(3, 1, 1)
    full = lj.conv1d_transpose(x, kernel, strides=2, padding="VALID")
    assert full[0, :, 0].tolist() == [1, 2, 13, 20, 30]  # the kernel is stamped, not flipped
    longer = lj.conv1d_transpose(x, kernel, strides=2, padding="VALID", output_shape=6)
    assert longer[0, :, 0].tolist() == [1, 2, 13, 20, 30, 0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"output_shape": (9, 8), "strides": 2},
            "`output_shape` must be a size of which the convolution makes 4x4, from 7x7 to 8x8; got 9x8.",
        ),
        (
            {"output_shape": (2, 8, 8, 4), "strides": 2},
            "`output_shape` must begin with the 1 examples of `x` and end with the 4 channels that `kernel` makes; "
            "got (2, 8, 8, 4).",
        ),
        (
            {"output_shape": (8.0, 8)},
            "`output_shape` must be an integer, 1 or above, or 2 of them, one a spatial axis; got (8.0, 8).",
        ),
        (
            {"padding": 3},
            "`padding` must leave at least one pixel of the output; got 3, of which 0x0 pixels are left; use less "
            "padding.",
        ),
    ],
)
def test_transposed_convolutions_refuse_sizes_that_do_not_fit(options, message, without_type_checks):
    with pytest.raises(lj.InputError) as error:
        lj.conv2d_transpose(X, jnp.ones((3, 3, 4, 2)), **options)
    assert str(error.value) == f"conv2d_transpose: {message}"


def test_kernels_are_not_flipped():
    image = jnp.zeros((1, 3, 3, 1)).at[0, 1, 1, 0].set(1.0)
    kernel = jnp.arange(9.0).reshape(3, 3, 1, 1)
    assert lj.conv2d(image, kernel, padding="SAME")[0, :, :, 0].tolist() == [[8, 7, 6], [5, 4, 3], [2, 1, 0]]
    theano = lj.conv2d(image, kernel[::-1, ::-1], padding="SAME")
    np.testing.assert_array_equal(theano[0, :, :, 0], kernel[:, :, 0, 0])
