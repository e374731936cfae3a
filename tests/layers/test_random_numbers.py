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
