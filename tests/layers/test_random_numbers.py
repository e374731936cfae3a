"""Numbers that are drawn together are those that JAX draws."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lenet_jax as lj
from lenet_jax import layers
from lenet_jax.layers.random_numbers import draw_together
from lenet_jax.ops.initializers import fan_in_uniform, he_normal


def assert_equal(found: Any, expected: Any) -> None:
    def plain(leaf: Any) -> np.ndarray:
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(leaf) if is_key else leaf)

    jax.tree.map(lambda a, b: np.testing.assert_array_equal(plain(a), plain(b)), found, expected)


def draw_many(key: jax.Array) -> dict[str, Any]:
    keys = jax.random.split(key, 6)
    several = jax.random.split(keys[0], (2, 3))
    longer = jax.random.normal(keys[4], (7, 3001))  # more than a row
    return {
        "keys": several,
        "bits": jax.random.bits(several[1, 2], (3, 5)),
        "few bits": jax.random.bits(keys[0], (9,), jnp.uint8),
        "uniform": jax.random.uniform(keys[1], (4, 2, 3), jnp.float32, -0.25, 0.75),
        "scalar": jax.random.uniform(keys[2]),
        "none": jax.random.normal(keys[2], (0, 3)),
        "normal": jax.random.normal(keys[3], (5,)) * jnp.sqrt(jnp.float32(0.3)),
        "longer": longer,
        "of a drawn key": jax.random.normal(jax.random.key(jax.random.bits(keys[5])), (3,)),
        "of each key": jax.vmap(lambda key: jax.random.normal(key, (2,)))(keys),
        "constant": np.arange(3),
        "changed": jax.random.permutation(jax.random.fold_in(key, 3), 10),
    }


@pytest.mark.parametrize("seed", [0, 2**31 + 5])
def test_the_numbers_are_those_of_jax(seed: int) -> None:
    key = jax.random.key(seed)
    assert_equal(jax.jit(functools.partial(draw_together, draw_many, separately=True))(key), draw_many(key))


def test_inside_a_program_they_are_those_of_a_program() -> None:
    key = jax.random.key(1)
    drawn = jax.jit(functools.partial(draw_together, draw_many, separately=False))(key)
    assert_equal(drawn, jax.jit(draw_many)(key))


@pytest.mark.parametrize("make_key", [lambda: jax.random.key(3, impl="rbg"), lambda: jax.random.PRNGKey(3)])
def test_other_generators_and_keys_of_integers(make_key: Callable[[], jax.Array]) -> None:
    def draw(key: jax.Array) -> list[jax.Array]:
        return [jax.random.uniform(each, (40,)) for each in jax.random.split(key)]

    assert_equal(jax.jit(functools.partial(draw_together, draw, separately=True))(make_key()), draw(make_key()))


def test_the_older_order_of_random_numbers() -> None:
    def draw(key: jax.Array) -> list[jax.Array]:
        return [jax.random.uniform(each, (5, 4)) for each in jax.random.split(key)]

    with jax.threefry_partitionable(False):
        key = jax.random.key(4)
        assert_equal(draw_together(draw, key, separately=True), draw(key))


def test_an_initializer_may_choose_the_order_of_its_random_numbers() -> None:
    def draw(key: jax.Array) -> jax.Array:
        with jax.threefry_partitionable(False):
            return jax.random.normal(key, (5, 4))

    key = jax.random.key(4)
    assert_equal(draw_together(draw, key, separately=True), draw(key))
    assert_equal(jax.jit(lambda key: draw_together(draw, key, separately=False))(key), jax.jit(draw)(key))


def test_effects_of_an_initializer_keep_their_order() -> None:
    def draw(key: jax.Array) -> jax.Array:
        ref = jax.new_ref(jnp.zeros(3))
        ref[...] = jax.random.normal(key, (3,))
        return ref[...]

    key = jax.random.key(4)
    assert_equal(jax.jit(lambda key: draw_together(draw, key, separately=False))(key), jax.jit(draw)(key))


def _network(num_blocks: int) -> layers.Layer:
    def block(size: int) -> layers.Layer:
        conv = layers.convolution(size, 3, he_normal(), padding="SAME")
        return layers.serial({"conv": conv, "norm": layers.batch_normalization(), "relu": layers.activation("relu")})

    blocks = {str(number): block(4 + number) for number in range(num_blocks)}
    return layers.serial({**blocks, "flatten": layers.flatten(), "fc": layers.dense(3, fan_in_uniform())})


def test_a_network_starts_with_the_numbers_of_its_layers() -> None:
    layer = _network(3)
    model = layers.make_model(layer, (6, 6, 2))
    keys = jax.random.split(jax.random.key(0), 3)
    own = lambda key: layer.init(key, (6, 6, 2))[0]  # noqa: E731
    assert_equal(model.init(keys[0]), own(keys[0]))
    assert_equal(jax.jit(model.init)(keys[1]), jax.jit(own)(keys[1]))
    assert_equal(jax.jit(jax.vmap(model.init))(keys), jax.jit(jax.vmap(own))(keys))


def test_deeper_networks_have_no_more_generators() -> None:
    def count(num_blocks: int) -> int:
        model = layers.make_model(_network(num_blocks), (6, 6, 2))
        return str(jax.make_jaxpr(model.init)(jax.random.key(0))).count("scan[")

    assert count(8) == count(2) > 0


def test_lenet_starts_with_the_numbers_that_it_always_had() -> None:
    """The sum of the magnitudes of its kernels for key 0, in float64."""
    params = lj.create_model("lenet").init(jax.random.key(0)).params
    sums = [float(np.abs(np.asarray(params[name]["kernel"], np.float64)).sum()) for name in ("conv1", "conv2")]
    np.testing.assert_allclose(
        sums, [52.10203905426897, 1077.340539951172], rtol=1e-8
    )  # some processors round once less


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg", "unsafe_rbg"])
def test_keys_of_all_types_in_one_initializer(impl: str) -> None:
    typed = jax.random.key(3, impl=impl)
    raw = [jax.random.key_data(typed)] if impl != "unsafe_rbg" else []  # `jax.jit` takes its raw keys for those of rbg
    with jax.default_prng_impl(impl):
        for key in (typed, *raw):
            together = jax.jit(functools.partial(draw_together, _own_keys, separately=True))
            assert_equal(together(key), _own_keys(key))


def _own_keys(key: jax.Array) -> dict[str, Any]:
    first, second = jax.random.split(key)
    own = jax.random.key(5, impl="threefry2x32")
    return {
        "given": jax.random.normal(first, (3,)),
        "given keys": jax.random.split(second, 2),
        "own": jax.random.normal(own, (3,)),
        "own keys": jax.random.split(own, 2),
        "others": [jax.random.normal(jax.random.key(5, impl=impl), (3,)) for impl in ("rbg", "unsafe_rbg")],
    }


def test_an_initializer_may_draw_from_keys_that_do_not_vary_over_devices() -> None:
    mesh = jax.make_mesh((1,), ("runs",), axis_types=(jax.sharding.AxisType.Auto,))

    def draw(key: jax.Array) -> jax.Array:
        return jax.random.normal(key, (3,)) + jax.random.normal(jax.random.key(1), (3,))

    def run(init: Callable[[jax.Array], jax.Array]) -> jax.Array:
        spec = jax.sharding.PartitionSpec("runs")
        mapped = jax.shard_map(lambda keys: init(keys[0])[None], mesh=mesh, in_specs=spec, out_specs=spec)
        return jax.jit(mapped)(jax.random.split(jax.random.key(0), 1))

    assert_equal(run(lambda key: draw_together(draw, key, separately=False)), run(draw))


def test_options_of_jitted_functions_are_kept() -> None:
    mesh = jax.make_mesh((1,), ("parts",), axis_types=(jax.sharding.AxisType.Auto,))
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("parts"))

    def draw(key: jax.Array) -> jax.Array:
        return jax.jit(lambda key: jax.random.normal(key, (4,)), out_shardings=split)(key)

    jaxpr = jax.make_jaxpr(lambda key: draw_together(draw, key, separately=False))(jax.random.key(0))
    assert "out_shardings" in str(jaxpr)
    assert_equal(draw_together(draw, jax.random.key(0), separately=False), draw(jax.random.key(0)))


def test_results_are_arrays_of_jax_whatever_they_are_made_of() -> None:
    def draw(key: jax.Array) -> list[Any]:
        return [np.float32(0.5), 0.25, np.arange(3), jnp.zeros(2), key]

    found = draw_together(draw, jax.random.key(0), separately=False)
    assert all(isinstance(each, jax.Array) for each in found)
    assert [each.dtype for each in found[:4]] == [jnp.float32, jnp.float32, jnp.int32, jnp.float32]


CONTEXTS: dict[str, Callable[[Callable, jax.Array], Any]] = {
    "jit": lambda init, key: jax.jit(init)(key),
    "vmap": lambda init, key: jax.tree.map(lambda x: x[0], jax.vmap(init)(key[None])),
    "scan": lambda init, key: jax.tree.map(lambda x: x[0], jax.lax.map(init, key[None])),
    "cond": lambda init, key: jax.jit(lambda key: jax.lax.cond(jax.random.bits(key) >= 0, init, init, key))(key),
    "remat": lambda init, key: jax.checkpoint(init)(key),
    "constant inside jit": lambda init, key: jax.jit(lambda: init(key))(),
    "disable_jit": lambda init, key: jax.disable_jit()(init)(key),
    "gradient of what it is scaled by": lambda init, key: jax.jvp(
        lambda scale: jax.tree.map(lambda x: scale * x, init(key)), (jnp.float32(1),), (jnp.float32(1),)
    )[1],
    "shard_map": lambda init, key: jax.jit(
        jax.shard_map(
            init,
            mesh=jax.make_mesh((1,), ("b",)),
            in_specs=jax.sharding.PartitionSpec(),
            out_specs=jax.sharding.PartitionSpec(),
        )
    )(key),
}


@pytest.mark.parametrize("context", CONTEXTS)
def test_a_model_starts_alike_wherever_jax_goes(context: str) -> None:
    model = layers.make_model(_network(1), (6, 6, 2))
    for key in (jax.random.key(0), jax.random.PRNGKey(0)):
        expected, found = model.init(key), CONTEXTS[context](model.init, key)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7), found, expected)
        shapes = jax.eval_shape(model.init, key)
        assert jax.tree.map(lambda x: (x.shape, x.dtype), shapes) == jax.tree.map(
            lambda x: (x.shape, x.dtype), expected
        )


def test_initializers_are_functions_of_their_key_alone_as_make_model_says() -> None:
    rng = np.random.default_rng(0)
    impure = layers.dense(2, lambda key, shape: jnp.asarray(rng.standard_normal(shape), jnp.float32))
    model = layers.make_model(impure, (3,))
    first, second = (model.init(jax.random.key(seed)).params["kernel"] for seed in (0, 1))
    np.testing.assert_array_equal(first, second)  # drawn once, when `init` was traced
    assert "functions of their key" in " ".join(str(layers.make_model.__doc__).split())
