"""What a user has of a network, of whichever library, as a model: for configurations and for Python alike."""

import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.core import Tracer

from lenet_jax import components
from lenet_jax.config.catalogue import TARGET
from lenet_jax.errors import InputError
from lenet_jax.interop.conventions import Example, fixed_shape, shapes_of
from lenet_jax.interop.equinox import from_equinox
from lenet_jax.interop.functions import from_functions
from lenet_jax.interop.linen import from_linen
from lenet_jax.interop.nnx import from_nnx
from lenet_jax.layers import Layer, make_model
from lenet_jax.traced_numbers import TracedNumber
from lenet_jax.types import Model

_ALLOWED = (
    "a lj.Model, a Layer of lenet_jax.layers, a flax Linen module, a flax NNX module (made by a class or function with "
    "an argument `rngs`), an Equinox module (made by one with an argument `key`), or a pair of functions (init, apply)"
)


def to_model(found: Any, input_shape: Example, num_outputs: int | None = None) -> Model:
    """Return a model of a network of any library; its conversion says how it is trained.

    | `found`, or what `found` returns if it is a function or a class | is converted by |
    |---|---|
    | a `lj.Model` | nothing |
    | a `Layer` of `lenet_jax.layers` | `lj.layers.make_model` |
    | a flax Linen module | `from_linen` |
    | a flax NNX module; `found` is a class or function that takes `rngs` | `from_nnx` |
    | an Equinox module, or (module, state); `found` is a class or function that takes `key` | `from_equinox` |
    | a pair of functions (init, apply) | `from_functions` |

    A class or function gets `input_shape`, `num_outputs`, `rngs` (`nnx.Rngs`) and `key`, each if its signature has an
    argument of that name. One that takes `rngs` or `key` is called in the model's `init`, so that its key decides the
    initial weights. `model._target_` of a configuration names such a class or function.

    Args:
        found: as above.
        input_shape: shape of one example, as (height, width, channels) or (D,); or, where it is no float32 array, a
            pytree of `jax.ShapeDtypeStruct`, for which a function gets a pytree of shapes.
        num_outputs: number of outputs, such as classes, for a function that takes it.

    Raises:
        InputError: if it is none of these.

    >>> to_model((lambda key: jax.random.normal(key, (3, 2)), lambda weights, x: x @ weights), (3,)).input_shape
    (3,)
    """
    model, kind = _convert(found, {}, input_shape, num_outputs)
    if model is None:
        raise InputError(f"to_model: `found` must be, or return, {_ALLOWED}; got {kind}.")
    return model


def build_model(node: Mapping[str, Any], input_shape: Example, num_outputs: int) -> Model:
    """Build the model of a complete configuration.

    Args:
        node: the complete configuration of the component; see `to_model` for what its function may return.
        input_shape: of one example, as in `to_model`.
        num_outputs: number of outputs, such as logits.

    Raises:
        InputError: if its function returns no model, or the layers do not fit the inputs.
    """
    function, options = components.function_and_options(node)
    with components.reporting(node[TARGET]):
        model, kind = _convert(function, options, input_shape, num_outputs)
    if model is None:
        raise InputError(f"`model` must return {_ALLOWED}; {node[TARGET]} returns {kind}.")
    return model


def _convert(
    found: Any, options: Mapping[str, Any], example: Example, num_outputs: int | None
) -> tuple[Model | None, str]:
    """Return a model, or None, and in words what was found in its place."""
    if not (inspect.isclass(found) or inspect.isroutine(found) or isinstance(found, functools.partial)):
        return _from_object(found, example)
    names = _argument_names(found)
    surroundings = {"input_shape": shapes_of(example), "num_outputs": num_outputs}
    make = functools.partial(found, **options, **{name: surroundings[name] for name in surroundings if name in names})
    given = jax.tree.leaves(make.keywords, is_leaf=lambda each: type(each) is TracedNumber)
    is_traced = any(isinstance(each, TracedNumber | Tracer) for each in given)
    if "rngs" in names:
        from flax import nnx

        made = _abstractly(lambda key: make(rngs=nnx.Rngs(key)))
        is_module = isinstance(made, nnx.Module)
        model = from_nnx(lambda rngs: make(rngs=rngs), example, is_traced=is_traced) if is_module else None
        return model, f"{_kind(made)} for `rngs`"
    if "key" in names:
        made = _abstractly(lambda key: make(key=key))
        module = made[0] if isinstance(made, tuple) and made else made
        is_module = _is_instance(module, "equinox", "Module")
        model = from_equinox(lambda key: make(key=key), example, is_traced=is_traced) if is_module else None
        return model, f"{_kind(made)} for `key`"
    return _from_object(make(), example)


def _argument_names(function: Callable[..., Any]) -> list[str]:
    try:
        return list(components.call_parameters(function))
    except (TypeError, ValueError):  # it has no signature, as some that are written in C
        return []


def _from_object(found: Any, example: Example) -> tuple[Model | None, str]:
    if isinstance(found, Model):
        return found, ""
    if isinstance(found, Layer):
        shape = fixed_shape(example)
        if shape is None:
            raise InputError("to_model: the inputs of a Layer must be one array an example; got several.")
        return make_model(found, shape), ""
    if _is_instance(found, "flax.linen", "Module"):
        return from_linen(found, example), ""
    if _is_instance(found, "flax.nnx", "Module"):
        return None, f"{_kind(found)} whose weights are there already, whatever the seed"
    if _is_instance(found, "equinox", "Module"):
        return None, f"{_kind(found)} whose weights are there already, whatever the seed"
    if isinstance(found, tuple | list) and len(found) == 2 and all(map(callable, found)):
        init, apply = found
        return from_functions(init, apply, example), ""
    return None, _kind(found)


def _is_instance(value: Any, module: str, name: str) -> bool:
    """Tell whether a value is of a library's class; if nobody has imported the library, it is not."""
    library = sys.modules.get(module)
    return library is not None and isinstance(value, getattr(library, name))


def _abstractly(make: Callable[[Any], Any]) -> Any:
    """Return what a function makes of a key, with shapes in place of arrays: only its types may be looked at."""
    made = []
    jax.eval_shape(lambda key: made.append(make(key)), jax.random.key(0))
    return made[0]


def _kind(value: Any) -> str:
    name = type(value).__name__
    return f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"
