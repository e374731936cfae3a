"""Arguments that are arrays or numbers: brought into their type, or refused by name."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array

from lenet_jax.errors import InputError


def to_array(function: str, argument: str, value: Any) -> Array:
    """Return an array, or what one can be made of, as an array of JAX.

    Raises:
        InputError: if none can be made of it; the message names the `argument` of `function`.
    """
    try:
        return jnp.asarray(value)
    except (TypeError, ValueError, OverflowError) as error:
        dtype = f" of dtype {value.dtype}" if isinstance(value, np.ndarray) else ""
        got = repr(value) if value is None else f"a {type(value).__name__}{dtype}"
        raise InputError(f"{function}: `{argument}` must be an array of numbers; got {got}.") from error


def check_floating(function: str, argument: str, array: Array) -> None:
    """Check that an array is floating point.

    Raises:
        InputError: if it is not.
    """
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise InputError(
            f"{function}: `{argument}` must be floating point; got {array.dtype}; convert it with .astype(float)."
        )


def to_number(function: str, argument: str, value: Any, rule: str, holds: Callable[[Any], Any]) -> Any:
    """Return a number in its range, one of NumPy or JAX as one of Python, which leaves the dtype of arrays as it is.

    A number that is traced is not known: it is not checked, and returned as it is.

    Args:
        function: name of the function that messages speak of.
        argument: name of its argument.
        value: what was given for it.
        rule: what it must be.
        holds: number -> whether it is that.

    Raises:
        InputError: if it is no number, or out of its range.
    """
    if isinstance(value, Tracer):
        return value
    try:
        in_range = bool(holds(value))
    except (TypeError, ValueError):
        in_range = False
    if not in_range:
        raise InputError(f"{function}: `{argument}` must be {rule}; got {plain(value)!r}.")
    return plain(value)


def plain(value: Any) -> Any:
    """Return a number or array of NumPy or JAX as a Python number or lists."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic | jax.Array) else value
