"""Conversion between flax Linen modules and models. flax is imported only when a function is called."""

import warnings
from typing import Any

import jax
from jaxtyping import Array, PyTree

from lenet_jax.errors import InputError
from lenet_jax.interop.conventions import Example, as_arrays, carried, find_modes, fixed_shape, mode, zeros
from lenet_jax.types import Key, Model, Variables


def from_linen(module: Any, input_shape: Example) -> Model:
    """Convert a Linen module to a model, which every function of this package can train.

    The collection `params` is trained. The other collections that `init` makes are non-trainable state, unless each
    call changes their form: what a module sows is dropped, with a warning if it is more than `intermediates`. Return it
    as an output, and let an objective of your own use it. Boxes of metadata (`nn.with_partitioning`) are removed.

    If `__call__` has an argument named `train`, `training`, `is_training`, `deterministic` or `use_running_average`, or
    takes it among `**kwargs`, it is set according to the mode. The key of `apply` seeds the stream `dropout`, and any
    other for which the module asks. Other streams may be used at inference, too: without a key, what is drawn from them
    is the same at each call.

    Args:
        module: a `flax.linen.Module` that maps a batch of inputs to outputs.
        input_shape: shape of one example, as (height, width, channels); or, where it is no float32 array, a pytree of
            `jax.ShapeDtypeStruct`.

    Raises:
        InputError: if the module applies dropout at inference.
    """
    from flax.core import meta, unfreeze

    def init_all(key: Key, **options: bool) -> dict[str, Any]:
        params_key, dropout_key = jax.random.split(key)
        variables = module.init({"params": params_key, "dropout": dropout_key}, zeros(input_shape), **options)
        return as_arrays(unfreeze(meta.unbox(variables)))

    key = jax.random.key(0)
    modes = find_modes(type(module).__call__, lambda name: jax.eval_shape(lambda: init_all(key, **mode([name], False))))
    found = jax.eval_shape(lambda: init_all(key, **mode(modes, False)))
    state_names = _state_names(module, found, zeros(input_shape, 2), mode(modes, True))
    default_key = _inference_key(module, found, zeros(input_shape), mode(modes, False))

    def init(key: Key) -> Variables:
        variables = init_all(key, **mode(modes, False))
        return Variables(variables.get("params", {}), {name: variables[name] for name in state_names})

    def apply(variables: Variables, inputs: PyTree, *, train: bool = False, key: Key | None = None) -> tuple[Any, Any]:
        given = {"params": variables.params, **variables.state}
        options = mode(modes, train)
        if not train:
            return module.apply(given, inputs, rngs=_streams(default_key if key is None else key), **options), (
                variables.state
            )
        outputs, changed = _apply_mutable(module, given, inputs, key, options)
        return outputs, carried(changed, variables.state)

    return Model(init, apply, input_shape=fixed_shape(input_shape))


def _streams(key: Key | None) -> dict[str, Key]:
    """Return the keys of a call; flax takes `params` for each stream that is not given."""
    return {} if key is None else {"dropout": key, "params": jax.random.fold_in(key, 1)}


def _apply_mutable(module: Any, variables: PyTree, inputs: PyTree, key: Key | None, options: Any) -> tuple[Any, Any]:
    from flax.core import DenyList, meta

    mutable: Any = DenyList("params")
    outputs, changed = module.apply(variables, inputs, rngs=_streams(key), mutable=mutable, **options)
    return outputs, meta.unbox(changed)


def _state_names(module: Any, variables: PyTree, inputs: PyTree, options: dict[str, bool]) -> list[str]:
    """Return the collections that a call leaves in the form that it found them in."""
    key = jax.random.key(0)
    changed = jax.eval_shape(lambda given: _apply_mutable(module, given, inputs, key, options)[1], variables)
    others = [name for name in variables if name != "params"]
    kept = [name for name in others if name not in changed or _has_form(changed[name], variables[name])]
    dropped = sorted({*others, *changed} - {*kept, "intermediates"})
    if dropped:
        warnings.warn(
            f"from_linen: {', '.join(map(repr, dropped))} of {type(module).__name__} is dropped, as a call changes its "
            "form, which is what `sow` does; it is neither state nor part of the loss: return it as an output, and let "
            "an objective of your own use it.",
            stacklevel=3,
        )
    return kept


def _has_form(new: Any, old: Any) -> bool:
    if isinstance(old, dict):
        return all(name in new and _has_form(new[name], value) for name, value in old.items())
    shapes = [[x.shape for x in jax.tree.leaves(tree)] for tree in (new, old)]
    return jax.tree.structure(new) == jax.tree.structure(old) and shapes[0] == shapes[1]


def _inference_key(module: Any, variables: PyTree, inputs: PyTree, options: dict[str, bool]) -> Key | None:
    """Return the key of what a module draws at inference where none is given; None if it draws nothing then.

    Raises:
        InputError: if all of it is dropout.
    """
    from flax.errors import InvalidRngError

    key = jax.random.key(0)

    def draws_with(rngs: dict[str, Key]) -> bool:
        try:
            jax.eval_shape(lambda given: module.apply(given, inputs, rngs=rngs, **options), variables)
        except InvalidRngError:
            return False
        return True

    if draws_with({}):
        return None
    if draws_with({"dropout": key}):
        raise InputError(
            f"from_linen: `module` must not apply dropout at inference; {type(module).__name__} does, as its call has "
            "no argument for the mode; give it one, as train=False, and nn.Dropout(..., deterministic=not train)."
        )
    return key


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
