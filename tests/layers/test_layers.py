"""Single layers against their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import lenet_jax as lj
from lenet_jax import layers
from lenet_jax.ops.initializers import fan_in_uniform, he_normal
from lenet_jax.types import Variables

KEY = jax.random.key(0)


@pytest.mark.parametrize("pool_size", [None, 2])
def test_a_table_of_connections_is_a_convolution_with_zeros(pool_size):
    table = ((0, 2), (1,), (0, 1, 2))
    layer = layers.convolution(3, 3, fan_in_uniform(), table=table, pool_size=pool_size)
    network = layers.serial({"conv": layer})
    variables, shape = network.init(jax.random.key(0), (8, 8, 3))
    kernel = variables.params["conv"]["kernel"]
    assert kernel.shape == (3, 3, 6)
    assert shape[-1] == 3
    full = np.zeros((3, 3, 3, 3), np.float32)
    for pair, (channel, output) in enumerate([(0, 0), (2, 0), (1, 1), (0, 2), (1, 2), (2, 2)]):
        full[:, :, channel, output] = kernel[:, :, pair]
    x = jax.random.normal(jax.random.key(1), (5, 8, 8, 3))

    def maps(full):
        return lj.conv2d(x, full) if pool_size is None else lj.max_pool(lj.conv2d(x, full), pool_size)

    def ours(params):
        return network.apply(Variables(params, {}), x, train=True, key=None)[0]

    np.testing.assert_allclose(ours(variables.params), maps(full), atol=1e-5)
    grads = jax.grad(lambda params: jnp.sum(ours(params) ** 2))(variables.params)["conv"]["kernel"]
    expected = jax.grad(lambda full: jnp.sum(maps(full) ** 2))(jnp.asarray(full))
    pairs = expected[:, :, [0, 2, 1, 0, 1, 2], [0, 0, 1, 2, 2, 2]]
    np.testing.assert_allclose(grads, pairs, rtol=1e-4, atol=1e-3)


def test_a_table_must_fit():
    with pytest.raises(lj.InputError, match=r"`table` must have 2 lists, one a kernel; got 1"):
        layers.convolution(2, 3, fan_in_uniform(), table=((0,),))
    with pytest.raises(lj.InputError, match=r"`table` must name channels from 0 to 1; got"):
        layers.convolution(1, 3, fan_in_uniform(), table=((2,),)).init(jax.random.key(0), (8, 8, 2))


def test_subsampling_weighs_the_mean_of_each_window():
    layer = layers.subsampling(2)
    variables, shape = layer.init(jax.random.key(0), (4, 2, 1))
    assert shape == (2, 1, 1)
    params = {"coefficient": jnp.array([3.0]), "bias": jnp.array([0.5])}
    x = jnp.array([[1.0, 2.0], [3.0, 4.0], [0.0, 0.0], [0.0, 8.0]]).reshape(1, 4, 2, 1)
    y, _ = layer.apply(Variables(params, {}), x, train=False, key=None)
    assert y.ravel().tolist() == [3 * 2.5 + 0.5, 3 * 2 + 0.5]
    assert jax.tree.map(float, jax.tree.map(jnp.sum, variables.params)) == {"coefficient": 1.0, "bias": 0.0}


def test_radial_basis_is_minus_the_squared_distance():
    layer = layers.radial_basis(np.array([[1.0, -1.0], [0.0, 3.0]]))
    variables, shape = layer.init(jax.random.key(0), (2,))
    assert shape == (2,)
    y, _ = layer.apply(variables, jnp.array([[2.0, 1.0]]), train=False, key=None)
    assert y.tolist() == [[-5.0, -8.0]]
    halved = layers.radial_basis(np.array([[1.0, -1.0], [0.0, 3.0]]), scale=0.5)
    assert halved.apply(variables, jnp.array([[2.0, 1.0]]), train=False, key=None)[0].tolist() == [[-2.5, -4.0]]
    with pytest.raises(lj.InputError, match=r"radial_basis: the input needs 2 numbers an example; got shape \(3,\)"):
        layer.init(jax.random.key(0), (3,))


def test_dropout_drops_at_its_rate_and_keeps_the_mean():
    layer, x = layers.dropout(0.25), jnp.ones((100, 100))
    variables, shape = layer.init(KEY, (100,))
    assert shape == (100,)
    y, _ = layer.apply(variables, x, train=True, key=KEY)
    assert set(np.unique(y).tolist()) == {0.0, np.float32(1 / 0.75).item()}
    assert float(jnp.mean(y == 0)) == pytest.approx(0.25, abs=0.02)
    np.testing.assert_array_equal(layer.apply(variables, x, train=False, key=None)[0], x)
    with pytest.raises(lj.InputError, match="dropout: `key` must be given while the model trains"):
        layer.apply(variables, x, train=True, key=None)
    with pytest.raises(lj.InputError, match="dropout: `rate` must be from 0 to below 1; got 1"):
        layers.dropout(1)


def test_running_statistics_are_means_of_those_of_the_batches():
    layer = layers.batch_normalization(momentum=0.8)
    variables, _ = layer.init(KEY, (3,))
    batches = jax.random.normal(KEY, (4, 6, 3)) * 2.0 + 1.0
    mean, variance = np.zeros(3), np.ones(3)
    for batch in np.asarray(batches):
        y, state = layer.apply(variables, jnp.asarray(batch), train=True, key=None)
        np.testing.assert_allclose(jnp.mean(y, 0), np.zeros(3), atol=1e-5)
        variables = variables._replace(state=state)
        mean = 0.8 * mean + 0.2 * np.mean(batch, 0)
        variance = 0.8 * variance + 0.2 * np.var(batch, 0, ddof=1)  # as torch: unbiased
    np.testing.assert_allclose(variables.state["mean"], mean, rtol=1e-5)
    np.testing.assert_allclose(variables.state["variance"], variance, rtol=1e-5)
    y, state = layer.apply(variables, batches[0], train=False, key=None)
    np.testing.assert_allclose(y, (np.asarray(batches[0]) - mean) / np.sqrt(variance + 1e-5), rtol=1e-4, atol=1e-5)
    with pytest.raises(lj.InputError, match="`x` needs at least 2 values per channel in training; got shape"):
        layer.apply(variables, batches[0][:1], train=True, key=None)


def test_a_residual_block_with_zero_scale_is_the_identity():
    block = layers.serial(
        {
            "conv": layers.convolution(2, 3, he_normal(), padding="SAME"),
            "norm": layers.batch_normalization(initial_scale=0),
        }
    )
    layer, x = layers.residual(block), jax.random.normal(KEY, (2, 5, 5, 2))
    variables, _ = layer.init(KEY, (5, 5, 2))
    np.testing.assert_allclose(layer.apply(variables, x, train=True, key=None)[0], x, atol=1e-6)


def test_paths_and_blocks_must_fit():
    wide, same = (layers.convolution(4, 3, he_normal(), padding=padding) for padding in ("VALID", "SAME"))
    with pytest.raises(
        lj.InputError, match=r"branch: `paths` must make maps of the same size; got a \(3, 3, 4\), b \(5, 5, 4\)"
    ):
        layers.branch({"a": wide, "b": same}).init(KEY, (5, 5, 2))
    with pytest.raises(
        lj.InputError, match=r"residual: `block` must make maps of the shape .* \(5, 5, 2\); got \(5, 5, 4\)"
    ):
        layers.residual(same).init(KEY, (5, 5, 2))


CHANNEL_FUNCTIONS = {
    "softmax over channels": jax.nn.softmax,
    "along the rows": lambda x: jnp.cumsum(x, axis=1),
    "along the last axis": lambda x: x / jnp.linalg.norm(x, axis=-1, keepdims=True),
}


def pooled_by_definition(params, x):
    y = lax.conv_general_dilated(x, params["kernel"], (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    y = lax.reduce_window(y, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    return y + params["bias"][None, None, None]


@pytest.mark.parametrize("name", CHANNEL_FUNCTIONS)
def test_an_activation_behind_a_pooled_convolution_sees_images_with_channels_last(name):
    fn = CHANNEL_FUNCTIONS[name]
    network = layers.serial(
        {"conv": layers.convolution(4, 3, fan_in_uniform(), pool_size=2), "act": layers.activation(fn)}
    )
    variables, shape = network.init(KEY, (8, 7, 2))
    params = {"conv": {**variables.params["conv"], "bias": jnp.array([0.5, -1.0, 0.0, 2.0])}}
    x = jax.random.normal(jax.random.key(1), (5, 8, 7, 2))
    weights = jax.random.normal(jax.random.key(2), (5, *shape))

    def ours(params, x):
        return network.apply(Variables(params, {}), x, train=True, key=None)[0]

    def expected(params, x):
        return fn(pooled_by_definition(params["conv"], x))

    def results(apply):
        def loss(params, x):
            return jnp.sum(weights * apply(params, x))

        images = x[:, None]
        tangents = jax.tree.map(jnp.ones_like, (params, x))
        return {
            "jit": jax.jit(apply)(params, x),
            "value_and_grad": jax.jit(jax.value_and_grad(loss, (0, 1)))(params, x),
            "vmap": jax.jit(jax.vmap(apply, (None, 0)))(params, images),
            "jvp": jax.jit(lambda *primals: jax.jvp(apply, primals, tangents))(params, x),
        }

    actual, reference = results(ours), results(expected)
    for transform, value in reference.items():
        for a, b in zip(jax.tree.leaves(actual[transform]), jax.tree.leaves(value), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5, err_msg=transform)


KEYS = jax.random.split(jax.random.key(5), 6)


def test_the_mask_of_an_example_depends_on_its_own_key_only():
    layer, x = layers.dropout(0.5), jax.random.normal(KEY, (6, 10, 3)) + 5.0
    variables, _ = layer.init(KEY, (10, 3))
    y, _ = layer.apply(variables, x, train=True, key=KEYS)
    order = jnp.array([4, 1, 3])
    few, _ = layer.apply(variables, x[order], train=True, key=KEYS[order])
    np.testing.assert_array_equal(few, y[order])
    for n in range(6):
        kept = jax.random.bernoulli(KEYS[n], 0.5, (10, 3))
        np.testing.assert_array_equal(y[n], jnp.where(kept, x[n] * 2, 0))
    raw, _ = layer.apply(variables, x, train=True, key=jax.random.key_data(KEYS))
    np.testing.assert_array_equal(raw, y)


def test_one_key_draws_the_mask_of_the_whole_batch():
    layer, x = layers.dropout(0.25), jnp.ones((6, 10, 3))
    variables, _ = layer.init(KEY, (10, 3))
    expected = jnp.where(jax.random.bernoulli(KEY, 0.75, x.shape), x / 0.75, 0)
    for key in (KEY, jax.random.key_data(KEY)):
        np.testing.assert_array_equal(layer.apply(variables, x, train=True, key=key)[0], expected)


def test_as_many_keys_as_examples():
    layer = layers.dropout(0.5)
    with pytest.raises(lj.InputError, match="dropout: `key` must be one key or 5, one for each example; got 6 keys"):
        layer.apply(Variables({}, {}), jnp.ones((5, 2)), train=True, key=KEYS)


def test_parts_get_the_key_of_their_position_or_none():
    seen = {}

    def recording(name, stochastic):
        def apply(variables, x, *, train, key):
            seen[name] = key
            return x, {}

        return layers.Layer(lambda key, shape: (Variables({}, {}), shape), apply, stochastic=stochastic)

    network = layers.serial({name: recording(name, name != "b") for name in "abc"})
    assert network.stochastic
    x, variables = jnp.ones((6, 2)), Variables({}, {})
    network.apply(variables, x, train=True, key=KEY)
    first, _, third = jax.random.split(KEY, 3)
    assert (seen["a"], seen["c"]) == (first, third)
    assert seen["b"] is None
    network.apply(variables, x, train=True, key=KEYS)
    for n in range(6):
        first, _, third = jax.random.split(KEYS[n], 3)
        assert (seen["a"][n], seen["c"][n]) == (first, third)
    assert seen["b"] is None

    quiet = layers.residual(layers.serial({"a": recording("a", False)}))
    assert not quiet.stochastic
    quiet.apply(variables, x, train=True, key=KEY)
    assert seen["a"] is None


def test_networks_of_every_combinator_take_one_key_an_example():
    def block(name):
        return layers.serial({name: layers.convolution(2, 3, he_normal(), padding="SAME"), "drop": layers.dropout(0.3)})

    network = layers.serial(
        {
            "remat": layers.rematerialized(block("a")),
            "branch": layers.branch({"left": block("b"), "right": layers.max_pooling(1)}),
            "aux": layers.auxiliary(layers.serial({"drop": layers.dropout(0.3), "flat": layers.flatten()}), weight=0.3),
            "residual": layers.residual(block("c"), projection=layers.convolution(2, 1, he_normal())),
        }
    )
    variables, _ = network.init(KEY, (5, 4, 2))
    x = jax.random.normal(jax.random.key(1), (6, 5, 4, 2))

    @jax.jit
    def value_and_gradient(x, keys):
        def loss(params):
            y, state = network.apply(Variables(params, {}), x, train=True, key=keys)
            return jnp.sum(y**2), (y, layers.take_auxiliary(state)[0][0][1])

        (_, outputs), gradient = jax.value_and_grad(loss, has_aux=True)(variables.params)
        return outputs, gradient

    outputs, gradient = value_and_gradient(x, KEYS)
    assert all(jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))
    few, _ = value_and_gradient(x[2:4], KEYS[2:4])
    for a, b in zip(few, outputs, strict=True):
        np.testing.assert_allclose(a, b[2:4], rtol=1e-5, atol=1e-6)
    other, _ = value_and_gradient(x, KEYS[::-1])
    assert not jnp.allclose(other[0], outputs[0])


# ---- convolutions of every kind --------------------------------------------------------------------------------------

SPACES = {1: (11,), 2: (9, 7), 3: (5, 6, 7)}
SIZES = {1: (4,), 2: (3, 2), 3: (2, 3, 1)}
CONVOLUTIONS = {1: lj.conv1d, 2: lj.conv2d, 3: lj.conv3d}
TRANSPOSED = {1: lj.conv1d_transpose, 2: lj.conv2d_transpose, 3: lj.conv3d_transpose}


def applied(layer, space, channels=4):
    """Return the layer's parameters, an input, its output, and the trace of the layer in a model."""
    model = layers.make_model(layer, (*space, channels))
    params = model.init(KEY).params
    if "bias" in params:
        params = {**params, "bias": jnp.arange(1.0, params["bias"].size + 1)}
    x = jax.random.normal(jax.random.key(1), (2, *space, channels))
    y, _ = model.apply(Variables(params, {}), x)
    *_, row = lj.summarize(model)  # after the maps before a pooling, if there are any
    assert row.output_shape == y.shape[1:]
    assert row.parameters == sum(leaf.size for leaf in params.values())
    return params, x, y, row


def bias_of(params, y):
    return params["bias"].reshape((1,) * (y.ndim - 1) + (-1,))


@pytest.mark.parametrize("options", [{"strides": 2}, {"dilation": 2, "groups": 2}, {"padding": "SAME"}], ids=str)
@pytest.mark.parametrize("num_axes", [1, 2, 3])
def test_convolution_over_any_number_of_axes_is_the_operation_and_a_bias(num_axes, options):
    space, size = SPACES[num_axes], SIZES[num_axes]
    params, x, y, row = applied(layers.convolution(6, size, fan_in_uniform(), **options), space)
    expected = CONVOLUTIONS[num_axes](x, params["kernel"], **options)
    np.testing.assert_allclose(y, expected + bias_of(params, y), rtol=1e-5, atol=1e-5)
    positions = np.prod(y.shape[1:-1])
    assert (row.connections, row.multiply_adds) == (positions * row.parameters, positions * params["kernel"].size)
    assert row.receptive_field == tuple((k - 1) * options.get("dilation", 1) + 1 for k in size)


WITH_BIAS = {
    "dense": (lambda init, **options: layers.dense(500, init, **options), (7,)),
    "convolution": (lambda init, **options: layers.convolution(500, 3, init, **options), (6, 6, 2)),
    "table": (lambda init, **options: layers.convolution(3, 3, init, table=((0,), (1,), (0, 1)), **options), (6, 6, 2)),
    "depthwise": (lambda init, **options: layers.depthwise_convolution(250, 3, init, **options), (6, 6, 2)),
    "separable": (lambda init, **options: layers.separable_convolution(500, 3, init, init, **options), (6, 6, 2)),
    "transposed": (lambda init, **options: layers.transposed_convolution(500, 3, init, **options), (6, 6, 2)),
}


@pytest.mark.parametrize("name", WITH_BIAS)
def test_initial_biases_are_drawn_by_their_initializer_and_leave_the_kernels_alone(name):
    make, shape = WITH_BIAS[name]
    keys = []

    def uniform(key, shape, dtype=jnp.float32):
        keys.append(tuple(np.asarray(jax.random.key_data(key)).tolist()))
        return jax.random.uniform(key, shape, dtype, -0.5, 0.5)

    usual = make(uniform).init(KEY, shape)[0].params
    keys.clear()
    params = make(uniform, bias_init=uniform).init(KEY, shape)[0].params
    assert len(set(keys)) == len(keys) > 1  # no two arrays have the same random numbers
    bias = np.asarray(params.pop("bias"))
    assert not np.any(usual.pop("bias"))
    jax.tree.map(np.testing.assert_array_equal, params, usual)
    assert np.abs(bias).max() <= 0.5
    if name != "table":  # of 500 numbers: the standard deviation of U(-0.5, 0.5)
        assert bias.std() == pytest.approx(1 / np.sqrt(12), rel=0.1)


@pytest.mark.parametrize("num_axes", [1, 2, 3])
def test_depthwise_convolves_each_channel_alone(num_axes):
    space, size = SPACES[num_axes], SIZES[num_axes]
    layer = layers.depthwise_convolution(2, size, he_normal(kernel="depthwise"), strides=2, padding="SAME")
    params, x, y, row = applied(layer, space)
    assert params["kernel"].shape == (*size, 4, 2)
    for channel in range(4):
        alone = CONVOLUTIONS[num_axes](
            x[..., channel : channel + 1], params["kernel"][..., channel : channel + 1, :], strides=2, padding="SAME"
        )
        mine = slice(2 * channel, 2 * channel + 2)
        np.testing.assert_allclose(y[..., mine], alone + bias_of(params, y)[..., mine], rtol=1e-5, atol=1e-5)
    assert row.multiply_adds == np.prod(y.shape[1:-1]) * np.prod(size) * 8
    assert row.receptive_field == size


def test_separable_is_the_operation_and_a_bias():
    layer = layers.separable_convolution(
        5, (3, 2), he_normal(kernel="depthwise"), he_normal(), multiplier=2, strides=(1, 2), dilation=2
    )
    params, x, y, row = applied(layer, (9, 7))
    expected = lj.separable_conv2d(x, params["depthwise"], params["pointwise"], strides=(1, 2), dilation=2)
    np.testing.assert_allclose(y, expected + bias_of(params, y), rtol=1e-5, atol=1e-5)
    assert row.multiply_adds == np.prod(y.shape[1:-1]) * (3 * 2 * 4 * 2 + 8 * 5)
    assert row.receptive_field == (5, 3)
    volumes = layers.separable_convolution(5, 2, he_normal(kernel="depthwise"), he_normal(), use_bias=False)
    params, _, y, _ = applied(volumes, SPACES[3])
    assert "bias" not in params
    assert y.shape == (2, 4, 5, 6, 5)


@pytest.mark.parametrize("num_axes", [1, 2, 3])
def test_transposed_is_the_operation_and_a_bias(num_axes):
    space, size = SPACES[num_axes], SIZES[num_axes]
    layer = layers.transposed_convolution(3, size, he_normal(kernel="transposed"), strides=2)
    params, x, y, row = applied(layer, space)
    assert params["kernel"].shape == (*size, 3, 4)
    expected = TRANSPOSED[num_axes](x, params["kernel"], strides=2)
    np.testing.assert_allclose(y, expected + bias_of(params, y), rtol=1e-5, atol=1e-5)
    assert row.multiply_adds == np.prod(space) * params["kernel"].size
    assert row.connections == row.multiply_adds + np.prod(y.shape[1:])
    larger = layers.transposed_convolution(
        3, 3, he_normal(kernel="transposed"), strides=2, padding="VALID", output_shape=(20, 15), dilation=1
    )
    assert applied(larger, (9, 7))[2].shape == (2, 20, 15, 3)


def test_receptive_fields_of_all_kinds_are_what_the_gradient_reaches():
    ones = jax.nn.initializers.ones
    network = {
        "wide": layers.convolution(2, (1, 3), ones, dilation=(1, 2), use_bias=False),
        "halved": layers.depthwise_convolution(1, (3, 2), ones, strides=(2, 1)),
        "pooled": layers.average_pooling((2, 1)),
        "doubled": layers.transposed_convolution(2, (5, 3), ones, strides=(2, 3), padding="VALID"),
        "last": layers.separable_convolution(2, (3, 2), ones, ones),
    }
    model = layers.make_model(layers.serial(network), (40, 30, 2))
    variables = model.init(KEY)
    x = jnp.ones((1, 40, 30, 2))
    for row in lj.summarize(model):
        shape = row.output_shape
        seen = [0, 0]
        for offset in range(4):  # places differ behind a transposed convolution
            place = tuple(n // 2 + offset for n in shape[:2])
            total = lambda x, row=row, place=place: lj.activations(model, variables, x)[row.layer][(0, *place)].sum()  # noqa: E731
            reached = np.asarray(jax.grad(total)(x))[0].any(axis=-1)
            along = [np.flatnonzero(reached.any(axis=axis)) for axis in (1, 0)]
            seen = [max(a, int(np.ptp(pixels)) + 1) for a, pixels in zip(seen, along, strict=True)]
        assert tuple(seen) == row.receptive_field, row.layer


def test_pooling_and_resizing_along_each_axis():
    x = jax.random.normal(KEY, (2, 6, 9, 3))
    for layer, expected in (
        (layers.max_pooling((2, 3)), lj.max_pool(x, (2, 3))),
        (layers.average_pooling([2, 3], strides=np.array([1, 2])), lj.avg_pool(x, (2, 3), strides=(1, 2))),
        (layers.resize((3, 9)), jax.image.resize(x, (2, 3, 9, 3), "linear")),
        (layers.global_average_pooling(), x.mean((1, 2))),
    ):
        variables, shape = layer.init(KEY, x.shape[1:])
        y, _ = layer.apply(variables, x, train=False, key=None)
        assert shape == expected.shape[1:]
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
    for space in SPACES.values():
        size = (2,) * len(space)
        assert layers.max_pooling(size).init(KEY, (*space, 3))[1] == (*(n // 2 for n in space), 3)
        assert layers.global_average_pooling().init(KEY, (*space, 3))[1] == (3,)


@pytest.mark.parametrize("num_axes", [1, 3])
def test_a_pooled_convolution_of_sequences_and_volumes(num_axes):
    space, size = SPACES[num_axes], SIZES[num_axes]
    pool_size = (2,) * num_axes
    params, x, y, _ = applied(layers.convolution(3, size, fan_in_uniform(), pool_size=pool_size), space)
    expected = lj.max_pool(CONVOLUTIONS[num_axes](x, params["kernel"]), pool_size) + bias_of(params, y)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "shape", "message"),
    [
        (lambda: layers.convolution(4, 3.0, he_normal()), (8, 8, 1), "convolution: `kernel_size` must be an integer"),
        (lambda: layers.convolution(4, (3,), he_normal()), (8, 8, 1), "`kernel_size` must be an integer, .*or 2 of"),
        (lambda: layers.convolution(0, 3, he_normal()), (8, 8, 1), "convolution: `num_kernels` must be an integer"),
        (lambda: layers.convolution(4, 3, he_normal()), (8, 8), r"grey image .*; for sequences give `kernel_size` one"),
        (lambda: layers.convolution(4, 3, he_normal()), (8,), "convolution: the input needs 1 to 3 spatial axes"),
        (
            lambda: layers.convolution(4, 9, he_normal()),
            (8, 8, 1),
            "convolution: `kernel_size` must fit into the image",
        ),
        (
            lambda: layers.convolution(4, 3, he_normal(), strides=0),
            (8, 8, 1),
            "convolution: `strides` must be an integer",
        ),
        (lambda: layers.max_pooling(2.0), (8, 8, 1), "max_pooling: `size` must be an integer"),
        (
            lambda: layers.average_pooling(2),
            (8, 8),
            "average_pooling: .*grey image .*for sequences give `size` one entry",
        ),
        (lambda: layers.depthwise_convolution(True, 3, he_normal()), (8, 8, 1), "`multiplier` must be an integer"),
        (lambda: layers.transposed_convolution(2, 3, he_normal(), strides=None), (8, 8, 1), "`strides` must be an"),
        (lambda: layers.dense(2.5, he_normal()), (8,), "dense: `num_units` must be an integer, 1 or above; got 2.5"),
        (lambda: layers.serial([layers.flatten()]), (8,), "serial: `layers` must map names to layers; got a list"),
        (lambda: layers.branch({"a": jnp.tanh}), (8,), "branch: `paths` must map names to layers; 'a' is"),
    ],
)
def test_layers_refuse_what_does_not_fit_by_name(make, shape, message, without_type_checks):
    with pytest.raises(lj.InputError, match=message):
        make().init(KEY, shape)


def test_the_gradient_of_a_bias_in_bfloat16_is_summed_in_float32():
    layer = layers.convolution(2, 3, fan_in_uniform(), strides=2, padding=1)
    variables, _ = layer.init(KEY, (80, 80, 1))
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), variables.params)
    x = jax.random.normal(KEY, (1, 80, 80, 1), jnp.bfloat16)

    def total(params):
        return jnp.sum(layer.apply(Variables(params, {}), x, train=True, key=None)[0].astype(jnp.float32))

    assert jax.grad(total)(params)["bias"].astype(jnp.float32).tolist() == [1600, 1600]


def test_a_model_that_is_made_while_jax_traces_can_be_kept():
    for name in ("lenet", "lenet5", "mnist_cnn"):
        made = []

        def logits(x, name=name, made=made):
            made.append(lj.create_model(name))
            return made[0].apply(made[0].init(KEY), x)[0]

        x = jnp.ones((1, 28, 28, 1))
        inside = jax.jit(logits)(x)
        np.testing.assert_allclose(made[0].apply(made[0].init(KEY), x)[0], inside, rtol=1e-4, atol=1e-4)


def test_layers_are_float32_with_x64_and_take_images_of_numpy():
    with jax.enable_x64(True):
        model = lj.create_model("lenet", num_kernels=(2, 2), hidden_units=8)
        variables = model.init(jax.random.key(0))
        assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
        assert model.apply(variables, np.ones((1, 28, 28, 1), np.uint8) / 256)[0].dtype == jnp.float32


@pytest.mark.parametrize("key", [0, None, np.ones(3)])
def test_a_seed_is_no_key(key, without_type_checks):
    with pytest.raises(lj.InputError, match=r"model: `key` must be a key; got .*; make one: jax\.random\.key"):
        lj.create_model("lenet").init(key)


NUMBERS = {
    "dropout": lambda number: layers.dropout(number(0.5)),
    "batch_normalization": lambda number: layers.batch_normalization(
        momentum=number(0.9), epsilon=number(1e-5), initial_scale=number(0.5)
    ),
    "local_response_normalization": lambda number: layers.local_response_normalization(
        alpha=number(1e-4), beta=number(0.5), bias=number(1.0)
    ),
    "radial_basis": lambda number: layers.radial_basis(np.zeros((3, 6)), scale=number(2.0)),
}


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.usefixtures("without_type_checks")
def test_options_of_numpy_leave_dtypes_as_they_are(name):
    with jax.enable_x64(True):
        for number in (np.float64, np.float32):
            layer = NUMBERS[name](number)
            variables, _ = layer.init(KEY, (6,))
            x = jnp.ones((4, 6), jnp.bfloat16)
            y, state = layer.apply(variables, x, train=True, key=KEY)
            assert y.dtype == jnp.bfloat16
            assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves((variables, state)))


def test_the_rate_of_dropout_may_be_traced():
    def dropped(rate):
        return layers.dropout(rate).apply(Variables({}, {}), jnp.ones((4, 5)), train=True, key=KEY)[0]

    np.testing.assert_array_equal(jax.jit(dropped)(0.5), dropped(0.5))
