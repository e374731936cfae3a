"""Options of a module of another library may be traced: they are no variables, and other values compile nothing."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

from lenet_jax.interop.models import to_model
from lenet_jax.traced_numbers import Guards, scalar

X = jnp.linspace(-1, 1, 32).reshape(2, 4, 4, 1)


@pytest.fixture(autouse=True)
def standard_promotion():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


class Linen(linen.Module):
    rate: float = 0.3
    slope: float = 0.1

    @linen.compact
    def __call__(self, x, train=False):
        x = jax.nn.leaky_relu(linen.Dense(3)(x.reshape(len(x), -1)), 2 * self.slope)
        return linen.Dropout(self.rate, deterministic=not train)(x)


class Nnx(nnx.Module):
    def __init__(self, rngs, rate=0.3, slope=0.1):
        self.dense, self.dropout, self.slope = (
            nnx.Linear(16, 3, rngs=rngs), nnx.Dropout(rate, rngs=rngs), 2 * slope,
        )  # fmt: skip

    def __call__(self, x):
        return self.dropout(jax.nn.leaky_relu(self.dense(x.reshape(len(x), -1)), self.slope))


def make_equinox():
    eqx = pytest.importorskip("equinox")

    class Equinox(eqx.Module):
        dense: eqx.nn.Linear
        dropout: eqx.nn.Dropout
        slope: float

        def __init__(self, *, key, rate=0.3, slope=0.1):
            self.dense, self.dropout, self.slope = eqx.nn.Linear(16, 3, key=key), eqx.nn.Dropout(rate), 2 * slope

        def __call__(self, x, *, key=None):
            return self.dropout(jax.nn.leaky_relu(self.dense(x.reshape(-1)), self.slope), key=key)

    return Equinox


@pytest.mark.parametrize("library", ["linen", "nnx", "equinox"])
def test_a_program_with_traced_options_gives_what_the_options_give(library):
    module = {"linen": lambda: Linen, "nnx": lambda: Nnx, "equinox": make_equinox}[library]()

    def run(options):
        model = to_model(functools.partial(module, **options), (4, 4, 1), 3)
        variables = model.init(jax.random.key(0))
        assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == 16 * 3 + 3
        return model.apply(variables, X, train=True, key=jax.random.key(1))[0]

    guards = Guards({"rate": 0.3, "slope": 0.1})
    program = jax.jit(lambda values: run(guards.numbers(values)))
    program = program.lower({name: scalar() for name in guards.values}).compile()
    for rate, slope in ((0.3, 0.1), (0.6, 0.4)):
        found = program({"rate": np.float32(rate), "slope": np.float32(slope)})
        np.testing.assert_allclose(found, run({"rate": rate, "slope": slope}), rtol=1e-5)
