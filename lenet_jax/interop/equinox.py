"""Conversion of Equinox modules to models. equinox is imported only when the function is called."""

import importlib
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from lenet_jax.errors import InputError
from lenet_jax.interop.conventions import Example, as_arrays, carried, find_modes, fixed_shape, mode, zeros
from lenet_jax.layers.base import is_one_key
from lenet_jax.traced_numbers import TracedNumber
from lenet_jax.types import Key, Model, Variables
from lenet_jax.weights import named_leaves

_AXIS = "batch"  # of the examples, unless the module's batch normalization names another


def from_equinox(make_module: Callable[[Key], Any], input_shape: Example, *, is_traced: bool = False) -> Model:
    """Convert an Equinox module to a model, which every function of this package can train.

    The module is called on one example, as the data hold it (channels last), and mapped over the batch by `jax.vmap`,
    with the axis name "batch" or that of its `eqx.nn.BatchNorm`. Its arrays of floats are trained; its other arrays
    and its `eqx.nn.State` are non-trainable state. It is in inference mode but for training. If `__call__` has an
    argument `key`, each example has a key of its own there in training, None at inference; if it has one named
    `state`, it returns its output and the new state.

    Args:
        make_module: key -> an `equinox.Module`, or the pair (module, state) of `eqx.nn.make_with_state`.
        input_shape: shape of one example, as (height, width, channels); or, where it is no float32 array, a pytree of
            `jax.ShapeDtypeStruct`.
        is_traced: whether options of the module are traced numbers, so that it must be made anew in each call.

    Raises:
        InputError: if the module cannot be called.
    """
    eqx: Any = importlib.import_module("equinox")

    def make(key: Key) -> tuple[Any, Any]:
        made = make_module(key)
        return made if isinstance(made, tuple) else (eqx.nn.delete_init_state(made), eqx.nn.State(made))

    abstract, abstract_state = eqx.filter_eval_shape(make, jax.random.key(0))
    if not callable(abstract):
        raise InputError(f"from_equinox: `module` must have a method __call__; {type(abstract).__name__} has none.")
    state_structure = jax.tree.structure(abstract_state)
    leaves = named_leaves(abstract)
    numbers = _numbers_in(abstract)  # options of the configuration: no variables of the model
    arrays = {
        name: leaf for name, leaf in leaves.items() if isinstance(leaf, jax.ShapeDtypeStruct) and name not in numbers
    }
    is_trained = {name: jnp.issubdtype(leaf.dtype, jnp.inexact) for name, leaf in arrays.items()}
    axis = _axis_name(eqx, abstract)
    arguments = inspect.signature(type(abstract).__call__).parameters
    takes_key, takes_state = "key" in arguments, "state" in arguments

    def init(key: Key) -> Variables:
        module, state = make(key)
        found = {name: leaf for name, leaf in named_leaves(module).items() if name in arrays}
        params = {name: found[name] for name in arrays if is_trained[name]}
        others = {
            "arrays": {name: found[name] for name in arrays if not is_trained[name]},
            "state": _numbered(state),
        }
        return Variables(params, as_arrays({name: values for name, values in others.items() if values}))

    def call(
        variables: Variables, inputs: PyTree, key: Key | None, train: bool, options: dict[str, bool]
    ) -> tuple[Any, Any]:
        made = make(jax.random.key(0))[0] if is_traced else abstract
        values = {**named_leaves(made), **variables.params, **variables.state.get("arrays", {})}
        module = jax.tree.unflatten(jax.tree.structure(made), values.values())
        module = eqx.nn.inference_mode(module, value=not train)
        places = map(str, range(state_structure.num_leaves))
        state = jax.tree.unflatten(state_structure, [variables.state["state"][place] for place in places])

        def of_example(x: PyTree, key: Key | None) -> tuple[Any, Any]:
            supplied = {**options, **({"key": key} if takes_key else {})}
            return module(x, state=state, **supplied) if takes_state else (module(x, **supplied), state)

        mapped = jax.vmap(of_example, (0, None if key is None else 0), (0, None), axis_name=axis)
        outputs, state = mapped(inputs, key)
        return outputs, {"state": _numbered(state)}

    def accepts(name: str) -> Any:
        key = jax.random.key(0)
        return jax.eval_shape(lambda: call(init(key), zeros(input_shape), None, False, mode([name], False))[0])

    modes = find_modes(type(abstract).__call__, accepts)

    def apply(variables: Variables, inputs: PyTree, *, train: bool = False, key: Key | None = None) -> tuple[Any, Any]:
        if key is not None and is_one_key(key):
            count = jax.tree.leaves(inputs)[0].shape[0]
            key = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(count))
        outputs, state = call(variables, inputs, key, train, mode(modes, train))
        return outputs, carried(state, variables.state) if train else variables.state

    return Model(init, apply, input_shape=fixed_shape(input_shape), takes_example_keys=True)


def _numbered(state: Any) -> dict[str, Any]:
    """Return the arrays of an `eqx.nn.State` by their numbers; its own keys are no names."""
    return {str(number): leaf for number, leaf in enumerate(jax.tree.leaves(state))}


def _numbers_in(module: Any) -> set[str]:
    """Return the names of the leaves that are a `TracedNumber`."""
    is_number = lambda part: type(part) is TracedNumber  # noqa: E731
    marked = jax.tree.map(lambda part: jax.tree.map(lambda _: is_number(part), part), module, is_leaf=is_number)
    return {name for name, found in named_leaves(marked).items() if found is True}


def _axis_name(eqx: Any, module: Any) -> Any:
    """Return the name of the axis over which a module normalizes, or that of the examples.

    Raises:
        InputError: if its layers name several.
    """

    def is_normalization(part: Any) -> bool:
        return isinstance(part, eqx.nn.BatchNorm)

    parts = jax.tree.leaves(module, is_leaf=is_normalization)
    names = {part.axis_name for part in parts if is_normalization(part)} or {_AXIS}
    if len(names) > 1:
        raise InputError(
            f"from_equinox: `axis_name` of all eqx.nn.BatchNorm must be the same; got {', '.join(map(repr, names))}."
        )
    return names.pop()
