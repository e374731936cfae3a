"""A traced number gives what the float gives, and keeps what Python asked of it."""

import math
import operator

import flax.linen
import hypothesis
import hypothesis.strategies as some
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from lenet_jax.traced_numbers import Guards, floats_in, scalar, with_floats

X = jnp.linspace(-2.0, 2.0, 8).reshape(2, 4)


def trace(function, **values):
    """Compile a function of numbers, and return it as a function of other values, and the guards."""
    guards = Guards(values)
    compiled = jax.jit(lambda arrays: function(**guards.numbers(arrays)))
    compiled = compiled.lower({name: scalar() for name in values}).compile()
    return lambda **others: compiled({name: np.float32(value) for name, value in others.items()}), guards


def holds(guards, **values):
    return all(guard.holds(values) for guard in guards.asked)


TRACED = {
    "product": lambda p: X * p,
    "reflected": lambda p: 1.0 - X / (1 - p) + p**2 - 2**p,
    "two of them": lambda p: X * (p * p + (p - 1) / p),
    "negative": lambda p: X + -p + abs(p),
    "array": lambda p: jnp.asarray(p) * X + jnp.float32(p),
    "list": lambda p: jnp.array([p, 2 * p]),
    "leaky_relu": lambda p: jax.nn.leaky_relu(X, negative_slope=p),
    "clip": lambda p: jnp.clip(X, -p, p),
    "where": lambda p: jnp.where(p < X, X, p),
    "maximum": lambda p: jnp.maximum(X, p),
    "jitted": lambda p: jax.jit(lambda x, q: x * q)(X, p),
    "scan": lambda p: jax.lax.scan(lambda carry, _: (carry * p, None), X, length=3)[0],
    "vmap": lambda p: jax.vmap(lambda row: row * p)(X),
    "bernoulli": lambda p: jax.random.bernoulli(jax.random.key(0), 1 - p, (9,)),
    "range": lambda p: X * p if 0 <= p < 1 else X,
    "numpy": lambda p: jnp.asarray(np.float32(3) * p) + jnp.asarray(np.ones(3, np.float32) * p),
}


@pytest.mark.parametrize("name", TRACED)
def test_a_program_of_a_number_serves_other_values(name):
    function = TRACED[name]
    program, guards = trace(function, p=0.3)
    assert holds(guards, p=0.7)
    with jax.numpy_rank_promotion("allow"):
        np.testing.assert_allclose(program(p=0.7), function(0.7), rtol=1e-6)


def test_a_number_is_as_weakly_typed_as_a_float():
    program, _ = trace(lambda p: jnp.ones(3, jnp.bfloat16) * p, p=0.5)
    assert program(p=0.25).dtype == jnp.bfloat16


ASKED = {
    "truth": (lambda p: X if p else -X, 0.5, 0.0),
    "equal": (lambda p: X if p == 0.5 else -X, 0.5, 0.25),
    "derived": (lambda p: X if (1 - p) * 2 > 1 else -X, 0.25, 0.75),
    "round": (lambda p: jnp.ones(round(8 * p)), 0.5, 0.75),
    "int": (lambda p: jnp.ones(int(8 * p)), 0.5, 0.75),
    "floor": (lambda p: jnp.ones(math.floor(p)), 2.5, 3.5),
    "float": (lambda p: X * math.sqrt(p), 0.25, 0.5),
    "smaller": (lambda p: X * min(p, 0.5), 0.25, 0.75),
}


@pytest.mark.parametrize("name", ASKED)
def test_what_python_must_know_is_kept_as_a_guard(name):
    function, value, other = ASKED[name]
    program, guards = trace(function, p=value)
    assert holds(guards, p=value)
    assert not holds(guards, p=other)
    np.testing.assert_allclose(program(p=value), function(value), rtol=1e-6)


@pytest.mark.parametrize(
    "dropout",
    [
        lambda rate: flax.linen.Dropout(rate).apply({}, X, deterministic=False, rngs={"dropout": jax.random.key(1)}),
        lambda rate: nnx.Dropout(rate, rngs=nnx.Rngs(1))(X),
    ],
)
def test_the_rate_of_dropout_is_traced_as_long_as_there_is_dropout(dropout):
    program, guards = trace(dropout, rate=0.5)
    assert holds(guards, rate=0.2)
    assert not holds(guards, rate=0.0)
    np.testing.assert_allclose(program(rate=0.2), dropout(0.2), rtol=1e-6)


OPERATORS = [operator.add, operator.sub, operator.mul, operator.truediv, operator.mod, operator.floordiv]
NUMBERS = some.floats(0.125, 8, width=32)


@hypothesis.given(NUMBERS, NUMBERS, some.lists(some.tuples(some.sampled_from(OPERATORS), NUMBERS, some.booleans())))
def test_a_chain_of_operations_answers_as_floats_do(first, second, chain):
    def compute(p):
        for function, other, is_reflected in chain:
            p = function(other, p) if is_reflected else function(p, other)
        return p

    def ask(p):
        compute(p) > 1.0  # noqa: B015
        return X

    try:
        answers = [compute(value) > 1.0 for value in (first, second)]
    except ZeroDivisionError:
        return
    guards = Guards({"p": first})
    jax.eval_shape(lambda arrays: ask(**guards.numbers(arrays)), {"p": scalar()})
    assert holds(guards, p=second) == (answers[0] == answers[1])


def test_a_number_is_not_cached():
    with pytest.raises(TypeError, match="unhashable"):
        hash(Guards({"p": 0.5}).numbers({"p": jnp.float32(0.5)})["p"])


def test_floats_are_found_and_replaced_by_their_paths():
    node = {"_target_": "f", "a": 0.5, "b": [1, 2.5, {"c": -1.0}], "d": True, "e": 3, "f": "0.5", "g": (1.5,)}
    found = dict(floats_in("model", node))
    assert found == {"model.a": 0.5, "model.b[1]": 2.5, "model.b[2].c": -1.0, "model.g[0]": 1.5}
    replaced = with_floats("model", node, {"model.a": "A", "model.b[2].c": "C"})
    assert replaced == {**node, "a": "A", "b": [1, 2.5, {"c": "C"}]}
