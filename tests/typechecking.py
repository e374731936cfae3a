"""The type checker of the tests: beartype, which takes more than a float where one is asked for.

An int, as PEP 484 says; and an array of one, as the numbers of a component may be values of a compiled program.
"""

from beartype import BeartypeConf, FrozenDict, beartype
from jaxtyping import Array, Float

check = beartype(conf=BeartypeConf(hint_overrides=FrozenDict({float: float | int | Float[Array, ""]})))
