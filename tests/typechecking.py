"""The type checker of the tests: beartype, which takes more than a float where one is asked for.

An int, as PEP 484 says; an array of one, or a `TracedNumber`, as the numbers of a component may be values of a program.
"""

from beartype import BeartypeConf, FrozenDict, beartype
from jaxtyping import Array, Float

from lenet_jax.traced_numbers import TracedNumber

_beartype = beartype(
    conf=BeartypeConf(hint_overrides=FrozenDict({float: float | int | Float[Array, ""] | TracedNumber}))
)


def check(function):
    """Return a function that checks its arguments; one inside another function, made anew at each call, as it is.

    Making the checks takes 2 ms, and was a fifth of the time of all tests.
    """
    return function if "<locals>" in function.__qualname__ else _beartype(function)
