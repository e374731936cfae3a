"""Pairs of functions (init, apply), as plain JAX code has them, as models."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import PyTree

from lenet_jax.interop.conventions import Example, fixed_shape
from lenet_jax.types import Key, Model, Variables


def from_functions(init: Callable[..., Any], apply: Callable[..., Any], input_shape: Example | None = None) -> Model:
    """Convert a pair of pure functions to a model, which every function of this package can train.

    Args:
        init: key -> params, any pytree of arrays that is trained; or -> `lj.Variables(params, state)`.
        apply: (params, inputs) -> outputs; or, where `init` returns `Variables`, (variables, inputs) -> (outputs, new
            state). It gets `train`, true or false, and `key`, one key for the batch in training and None at inference,
            by name, each if its signature has an argument of that name.
        input_shape: shape of one example, where it is known.
    """
    has_state = isinstance(jax.eval_shape(init, jax.random.key(0)), Variables)
    names = inspect.signature(apply).parameters

    def init_variables(key: Key) -> Variables:
        made = init(key)
        return made if has_state else Variables(made, {})

    def apply_variables(
        variables: Variables, inputs: PyTree, *, train: bool = False, key: Key | None = None
    ) -> tuple[Any, Any]:
        options = {name: value for name, value in (("train", train), ("key", key)) if name in names}
        if has_state:
            return apply(variables, inputs, **options)
        return apply(variables.params, inputs, **options), variables.state

    return Model(init_variables, apply_variables, input_shape=None if input_shape is None else fixed_shape(input_shape))
