"""What the conversions share: examples to build a module with, names of modes, and arrays that a run can carry."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

Shape = tuple[int, ...]
Example = PyTree
"""What one example of the inputs is: the shape of a float32 array, or a pytree of `jax.ShapeDtypeStruct`."""

# Arguments of a module's call that say whether it trains, and what they are in training.
_MODES = {
    "train": True,
    "training": True,
    "is_training": True,
    "deterministic": False,
    "use_running_average": False,
    "inference": False,
}


def example_of(inputs: PyTree) -> Example:
    """Return what one example is that a model gets of the inputs of a data set; uint8 pixels arrive as float32.

    Args:
        inputs: arrays (N, ...), or a pytree of such.
    """

    def of(x: Any) -> jax.ShapeDtypeStruct:
        dtype = jnp.float32 if x.dtype == jnp.uint8 else jax.dtypes.canonicalize_dtype(x.dtype)
        return jax.ShapeDtypeStruct(x.shape[1:], dtype)

    return jax.tree.map(of, inputs)


def shapes_of(example: Example) -> Any:
    """Return the shape of an example, or a pytree of the shapes of its arrays."""
    return jax.tree.map(lambda x: x.shape, specification(example))


def fixed_shape(example: Example) -> Shape | None:
    """Return the shape of an example that is one array; None of a pytree of them."""
    found = specification(example)
    return found.shape if isinstance(found, jax.ShapeDtypeStruct) else None


def specification(example: Example) -> PyTree:
    """Return an example as a pytree of `jax.ShapeDtypeStruct`."""
    is_shape = isinstance(example, tuple | list) and all(isinstance(n, int) for n in example)
    return jax.ShapeDtypeStruct(tuple(example), jnp.float32) if is_shape else example


def zeros(example: Example, batch_size: int = 1) -> PyTree:
    """Return a batch of zeros."""
    return jax.tree.map(lambda x: jnp.zeros((batch_size, *x.shape), x.dtype), specification(example))


def find_modes(call: Callable[..., Any], accepts: Callable[[str], Any]) -> list[str]:
    """Return the names of arguments of a call that say whether it trains.

    Args:
        call: the function that is called.
        accepts: raises an exception if the call does not take an argument of that name; asked where the signature has
            `**kwargs`.
    """
    parameters = inspect.signature(call).parameters
    takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    return [name for name in _MODES if name in parameters or (takes_any and _succeeds(accepts, name))]


def _succeeds(accepts: Callable[[str], Any], name: str) -> bool:
    try:
        accepts(name)
    except Exception:  # whatever the user's code raises about an argument that it does not know
        return False
    return True


def mode(names: list[str], train: bool) -> dict[str, bool]:
    """Return arguments that say whether a call trains."""
    return {name: _MODES[name] is train for name in names}


def as_arrays(tree: PyTree) -> PyTree:
    """Return a pytree whose numbers are arrays of a type of their own, so that a run can carry and save them."""
    return jax.tree.map(lambda x: jnp.asarray(x).astype(jnp.result_type(x)), tree)


def carried(new: Any, old: Any) -> Any:
    """Return what a call has left of the state: the entries that it had before, in their types.

    Args:
        new: nested dictionaries of the state after a call, which may have entries that the call has added.
        old: the state before.
    """
    if isinstance(old, Mapping):
        return {name: carried(new[name], value) if name in new else value for name, value in old.items()}
    return jax.tree.map(lambda x, y: jnp.asarray(x).astype(y.dtype), new, old)
