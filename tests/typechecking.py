"""The type checker of the tests: beartype, which takes more than a float where one is asked for.

An int, as PEP 484 says; an array of one, or a `TracedNumber`, as the numbers of a component may be values of a program.
"""

from beartype import BeartypeConf, FrozenDict, beartype
from jaxtyping import Array, Float

from lenet_jax.traced_numbers import TracedNumber

check = beartype(conf=BeartypeConf(hint_overrides=FrozenDict({float: float | int | Float[Array, ""] | TracedNumber})))
