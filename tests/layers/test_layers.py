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
