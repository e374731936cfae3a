"""Conversion between flax NNX modules and models. flax is imported only when a function is called."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from lenet_jax.interop.conventions import Example, as_arrays, carried, find_modes, fixed_shape, mode, zeros
from lenet_jax.types import Key, Model, Variables


def from_nnx(make_module: Callable[[Any], Any], input_shape: Example, *, is_traced: bool = False) -> Model:
    """Convert an NNX module to a model, which every function of this package can train.

    The module's `nnx.Param`s are trained; its other variables are non-trainable state, but for what a call sows, which
    is dropped, and the state of its random numbers, which the key of `apply` seeds at each call. `apply` calls
    `module.train()` or `module.eval()`; if `__call__` has an argument named `train`, `training`, `is_training`,
    `deterministic` or `use_running_average`, or takes it among `**kwargs`, it is set according to the mode; one named
    `rngs` gets `nnx.Rngs` of that key. Variables with `nnx.with_partitioning` are sharded as flax does it: over the
    mesh that `jax.set_mesh` has set, without which flax refuses to make them.

    Args:
        make_module: `nnx.Rngs` -> a `flax.nnx.Module` that maps a batch of inputs to outputs.
        input_shape: shape of one example, as (height, width, channels); or, where it is no float32 array, a pytree of
            `jax.ShapeDtypeStruct`.
        is_traced: whether options of the module are traced numbers, so that it must be made anew in each call.
    """
    from flax import nnx

    module = nnx.eval_shape(lambda: make_module(nnx.Rngs(0)))
    _, _, randomness, _ = parts = nnx.split(module, nnx.Param, nnx.RngState, ...)

    takes_rngs = "rngs" in inspect.signature(type(module).__call__).parameters

    def init(key: Key) -> Variables:
        _, params, _, state = nnx.split(make_module(nnx.Rngs(key)), nnx.Param, nnx.RngState, ...)
        return Variables(as_arrays(nnx.to_pure_dict(params)), as_arrays(nnx.to_pure_dict(state)))

    def call(variables: Variables, inputs: PyTree, key: Key | None, train: bool, modes: list[str]) -> tuple[Any, Any]:
        made = nnx.split(make_module(nnx.Rngs(0)), nnx.Param, nnx.RngState, ...) if is_traced else parts
        graph, params, _, state = made[0], *jax.tree.map(lambda x: x, made[1:])  # copies, to be changed
        nnx.replace_by_pure_dict(params, variables.params)
        nnx.replace_by_pure_dict(state, variables.state)
        key = jax.random.key(0) if key is None else key
        seeded = _seeded(randomness, key)
        made = nnx.merge(graph, params, seeded, state)
        if train:
            made.train()
        else:
            made.eval()
        options: dict[str, Any] = {**mode(modes, train)}
        if takes_rngs:
            options["rngs"] = nnx.Rngs(jax.random.fold_in(key, len(jax.tree.leaves(randomness))))
        outputs = made(inputs, **options)
        return outputs, nnx.to_pure_dict(nnx.state(made))

    def accepts(name: str) -> Any:
        key = jax.random.key(0)
        return jax.eval_shape(lambda: call(init(key), zeros(input_shape), key, False, [name])[0])

    modes = find_modes(type(module).__call__, accepts)

    def apply(variables: Variables, inputs: PyTree, *, train: bool = False, key: Key | None = None) -> tuple[Any, Any]:
        outputs, state = call(variables, inputs, key, train, modes)
        return outputs, carried(state, variables.state) if train else variables.state

    return Model(init, apply, input_shape=fixed_shape(input_shape))


def _seeded(randomness: Any, key: Key) -> Any:
    """Return the state of a module's random streams, each with a key of its own and nothing drawn yet."""
    leaves, structure = jax.tree.flatten(randomness)

    def seed(number: int, leaf: Any) -> Array:
        if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jnp.zeros(leaf.shape, leaf.dtype)
        own = jax.random.fold_in(key, number)
        return jax.random.split(own, leaf.shape) if leaf.shape else own

    return jax.tree.unflatten(structure, [seed(number, leaf) for number, leaf in enumerate(leaves)])


def to_nnx(model: Model, rngs: Any) -> Any:
    """Convert a model to a `flax.nnx.Module`, called as `module(images)`.

    `module.train()` and `module.eval()` choose its mode. Its variables are `params` and `state`. In training it uses
    the random stream `dropout`, or `default`, if there is one.

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
            has_stream = "dropout" in self.rngs or "default" in self.rngs
            key = self.rngs.dropout() if train and has_stream else None
            variables = Variables(self.params.get_value(), self.state.get_value())
            logits, state = model.apply(variables, images, train=train, key=key)
            if train:
                self.state.set_value(state)
            return logits

    return NnxModel()
