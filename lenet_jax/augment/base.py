"""What an augmentation is."""

from collections.abc import Callable

from jaxtyping import Array

from lenet_jax.errors import InputError

Augment = Callable[..., Array]
"""(key, images (N, H, W, C)) -> images of the same shape."""


def check_range(
    function: str, name: str, value: float, limit: float, *, above: bool = False, integer: bool = False
) -> None:
    """Check that an argument is 0 or above, or `above` 0, and below a limit.

    Raises:
        InputError: if it is not.
    """
    if not 0 <= value < limit or (above and value == 0) or (integer and not isinstance(value, int)):
        kind = "an integer, " if integer else ""
        least = "above 0" if above else "0 or above"
        below = "" if limit >= 1e9 else f" and below {limit:g}"
        raise InputError(f"{function}: `{name}` must be {kind}{least}{below}; got {value!r}.")
