"""Conversion between flax modules and models. flax is imported only when a function is called."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from lenet_jax.types import Key, Model, Variables


def from_linen(module: Any, input_shape: tuple[int, int, int]) -> Model:
    """Convert a Linen module to a model, which every function of this package can train.

    The collection `params` is trained; the other collections are non-trainable state. If `__call__` has an argument
    named `train`, `training`, `deterministic` or `use_running_average`, it is set according to the mode. The key of
    `apply` seeds the stream `dropout`.

    Args:
        module: a `flax.linen.Module` that maps images to logits.
        input_shape: height, width and channels of the images.
    """
    names = inspect.signature(type(module).__call__).parameters

    def mode(train: bool) -> dict[str, bool]:
        values = {"train": train, "training": train, "deterministic": not train, "use_running_average": not train}
        return {name: value for name, value in values.items() if name in names}

    def init(key: Key) -> Variables:
        params_key, dropout_key = jax.random.split(key)
        images = jnp.zeros((1, *input_shape), jnp.float32)
        variables = dict(module.init({"params": params_key, "dropout": dropout_key}, images, **mode(False)))
        return Variables(variables.pop("params", {}), variables)

    def apply(variables: Variables, images: Array, *, train: bool = False, key: Key | None = None) -> tuple[Array, Any]:
        rngs = {} if key is None else {"dropout": key}
        given = {"params": variables.params, **variables.state}
        if not train or not variables.state:
            return module.apply(given, images, rngs=rngs, **mode(train)), variables.state
        logits, state = module.apply(given, images, rngs=rngs, mutable=list(variables.state), **mode(train))
        return logits, dict(state)

    return Model(init, apply, input_shape=input_shape)


def from_nnx(make_module: Callable[[Any], Any], input_shape: tuple[int, int, int]) -> Model:
    """Convert an NNX module to a model, which every function of this package can train.

    The module's `nnx.Param`s are trained; its other variables are non-trainable state. `apply` calls `module.train()`
    or `module.eval()`, and its key seeds the module's random numbers.

    Args:
        make_module: `nnx.Rngs` -> a `flax.nnx.Module` that maps images to logits.
        input_shape: height, width and channels of the images.
    """
    from flax import nnx

    def split(module: Any) -> Any:
        return nnx.split(module, nnx.Param, nnx.RngState, ...)

    def init(key: Key) -> Variables:
        _, params, _, state = split(make_module(nnx.Rngs(key)))
        return Variables(nnx.to_pure_dict(params), nnx.to_pure_dict(state))

    def apply(variables: Variables, images: Array, *, train: bool = False, key: Key | None = None) -> tuple[Array, Any]:
        module = make_module(nnx.Rngs(jax.random.key(0) if key is None else key))
        _, params, _, state = split(module)
        nnx.replace_by_pure_dict(params, variables.params)
        nnx.replace_by_pure_dict(state, variables.state)
        nnx.update(module, params, state)
        if train:
            module.train()
        else:
            module.eval()
        logits = module(images)
        return logits, nnx.to_pure_dict(split(module)[3])

    return Model(init, apply, input_shape=input_shape)


def to_linen(model: Model) -> Any:
    """Convert a model to a `flax.linen.Module`, called as `module(images, train=False)`.

    Its variables are the parameter `model` and, if the model has state, the variable `model` of the collection `state`.
    In training it uses the random stream `dropout`.

    Args:
        model: the network.
    """
    from flax import linen

    has_state = bool(jax.tree.leaves(jax.eval_shape(model.init, jax.random.key(0)).state))

    class LinenModel(linen.Module):
        @linen.compact
        def __call__(self, images: Array, train: bool = False) -> Array:
            params = self.param("model", lambda key: model.init(key).params)
            state = {}
            if has_state:
                variable = self.variable("state", "model", lambda: model.init(self.make_rng("params")).state)
                state = variable.value
            key = self.make_rng("dropout") if train and self.has_rng("dropout") else None
            logits, state = model.apply(Variables(params, state), images, train=train, key=key)
            if has_state and train and self.is_mutable_collection("state"):
                variable.value = state
            return logits

    return LinenModel()


def to_nnx(model: Model, rngs: Any) -> Any:
    """Convert a model to a `flax.nnx.Module`, called as `module(images)`.

    `module.train()` and `module.eval()` choose its mode. Its variables are `params` and `state`. In training it uses
    the random stream `dropout`.

    Args:
        model: the network.
        rngs: `nnx.Rngs` with a stream `params` or `default`.
    """
    from flax import nnx

    class NnxModel(nnx.Module):
        def __init__(self) -> None:
            variables = model.init(rngs.params())
            self.params = nnx.Param(variables.params)
            self.state = nnx.BatchStat(variables.state)
            self.rngs = rngs
            self.deterministic = False

        def __call__(self, images: Array) -> Array:
            train = not self.deterministic
            key = self.rngs.dropout() if train else None
            variables = Variables(self.params.get_value(), self.state.get_value())
            logits, state = model.apply(variables, images, train=train, key=key)
            if train:
                self.state.set_value(state)
            return logits

    return NnxModel()
