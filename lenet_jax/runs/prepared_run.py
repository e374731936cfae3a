"""A configuration prepared: components built, data loaded and checked against each other, nothing run or written.

A configuration is prepared once, for single runs, sweeps, resume, verify and workers alike. Runs that differ only in
their seeds and in the hyperparameters that their optimizer keeps in its state share one `PreparedRun`.
"""

import functools
import json
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lenet_jax import components
from lenet_jax.config import Config, to_dict
from lenet_jax.config.catalogue import TARGET
from lenet_jax.environment import make_deterministic
from lenet_jax.errors import InputError
from lenet_jax.evaluation import check_splits, count_examples
from lenet_jax.interop.conventions import example_of
from lenet_jax.interop.models import build_model
from lenet_jax.objective import Batch, Task, measure, predict, training_loss
from lenet_jax.optimizers import chain_optimizer, from_component, hyperparameters
from lenet_jax.runs.provenance import describe_data, describe_run
from lenet_jax.storage import to_json
from lenet_jax.train_plan import TrainPlan, plan_run
from lenet_jax.training import TrainState, init_train_state, make_task
from lenet_jax.types import Dataset, Objective, Split, Variables

_CONJUGATE_GRADIENT = "lenet_jax.optimizers.scaled_conjugate_gradient.scaled_conjugate_gradient"
_CLASSIFICATION = "lenet_jax.objectives.classification"
_CONSTANT = "lenet_jax.optimizers.schedules.constant"
KEY_SHAPE = jax.eval_shape(lambda: jax.random.key(0))  # and dtype of any key


class PreparedRun(NamedTuple):
    """A run that is ready to be compiled."""

    config: Config  # with all options
    data: Dataset
    task: Task
    optimizer: optax.GradientTransformation
    plan: TrainPlan
    state: TrainState  # shapes and dtypes of its state

    def init(self, key: Any, values: Any) -> TrainState:
        """Return the state before the first step; see `init_train_state`."""
        objective, trainer = self.task.objective, self.config.trainer
        return init_train_state(self.task.model, self.optimizer, trainer, key, values, objective=objective)

    def describe(self) -> dict[str, Any]:
        """Return what `run.json` records of the run before it starts."""
        return describe_run(self.config, _describe_data(_as_key(self.config.data)))


def program_signature(config: Config) -> str:
    """Return what a configuration has in common with all that share its compiled programs."""
    content = to_dict(config)
    content["seed"] = None
    content["optimizer"] |= dict.fromkeys(hyperparameters(content["optimizer"]), "traced")
    return to_json(content)


def prepare_run(config: Config) -> PreparedRun:
    """Build the components of a configuration, load its data, and check that they fit together.

    Args:
        config: complete, as `lenet_jax.components.complete_config` returns it.

    Raises:
        InputError: if the data cannot be had, or something does not fit.
    """
    if config.trainer.deterministic:
        make_deterministic()  # before JAX looks for devices
    data = _load(_as_key(config.data))
    plan = plan_run(config.trainer, count_examples(data.train))
    _check_optimizer(config, plan)
    model = build_model(config.model, example_of(data.train.inputs), data.num_classes)
    objective = components.build(config.objective)
    if not isinstance(objective, Objective):
        name = config.objective[TARGET]
        raise InputError(f"`objective` must return an Objective; {name} returns a {type(objective).__name__}.")
    augments = [components.build(each) for each in components.named_parts("augment", config.augment).values()]
    task = make_task(model, config.trainer, data, objective, augments)
    lengths = {"num_steps": plan.epoch * config.trainer.max_epochs, "steps_per_epoch": plan.epoch}
    optimizer = chain_optimizer(
        from_component(config.optimizer),
        schedule=components.build(config.schedule, **lengths),
        clip_norm=config.trainer.clip_norm,
        ema_decay=config.trainer.ema_decay,
    )
    run = PreparedRun(config, data, task, optimizer, plan, state=None)  # pyright: ignore[reportArgumentType]
    with components.reporting("`model` or `optimizer`"):
        run = run._replace(state=jax.eval_shape(run.init, KEY_SHAPE, hyperparameters(config.optimizer)))
    if config.objective[TARGET] == _CLASSIFICATION:
        _check_labels(data)
    _check_fit(run)
    return run


def prepare_runs(configs: Iterable[Config]) -> dict[str, PreparedRun]:
    """Prepare the runs of each program once, by its signature.

    Raises:
        InputError: as `prepare_run`.
    """
    firsts: dict[str, Config] = {}
    for config in configs:
        firsts.setdefault(program_signature(config), config)
    if any(config.trainer.deterministic for config in firsts.values()):
        make_deterministic()
    return {signature: prepare_run(config) for signature, config in firsts.items()}


_shared: dict[str, PreparedRun] = {}


def prepare_shared(config: Config) -> PreparedRun:
    """Return the prepared run of a configuration's program, which this process keeps until another one is asked for."""
    signature = program_signature(config)
    if signature not in _shared:
        _shared.clear()
        _shared[signature] = prepare_run(config)
    return _shared[signature]


def _check_labels(data: Dataset) -> None:
    """Check that the targets of all splits are labels of the classes."""
    for part, split in data.splits().items():
        labels = np.asarray(split.targets)
        if not np.issubdtype(labels.dtype, np.integer) or labels.ndim != 1:
            raise InputError(f"data: `targets` of {part} must be integers (N,); got {labels.dtype}{labels.shape}.")
        if labels.min() < 0 or labels.max() >= data.num_classes:
            raise InputError(
                f"data: labels of {part} must be 0 to {data.num_classes - 1}; got {labels.min()} to {labels.max()}."
            )


def _check_fit(run: PreparedRun) -> None:
    """Check by shapes alone that model, augmentations, objective and data fit, unless all of them are built in.

    The built-in ones are known to fit where the data are images and labels, and tracing a large network takes seconds.
    """
    data, config = run.data, run.config
    classifies = config.objective[TARGET] == _CLASSIFICATION
    if classifies and all(target.startswith("lenet_jax.") for _, target in components.targets(config)):
        return

    def measured(variables: Variables, key: Any, split: Split) -> Any:
        keys = jax.random.split(key, 2)
        batch = Batch(split.inputs, split.targets, keys, Batch(split.inputs, split.targets, keys))
        outputs = predict(run.task, variables, split.inputs)
        sums = measure(run.task, variables, split.inputs, split.targets, jnp.ones(2, bool))
        return outputs, sums, training_loss(run.task, variables, batch)

    pair = jax.tree.map(lambda x: jax.ShapeDtypeStruct((2, *x.shape[1:]), x.dtype), data.train)
    with components.reporting("`model`, `augment`, `objective` and `data` together"):
        variables = jax.eval_shape(run.task.model.init, KEY_SHAPE)
        outputs, _, _ = jax.eval_shape(measured, variables, KEY_SHAPE, pair)
    if classifies and outputs.shape != (2, data.num_classes):
        raise InputError(
            f"`model` must return {data.num_classes} logits an example, `num_outputs`; got outputs of shape "
            f"(N, {', '.join(map(str, outputs.shape[1:]))})."
        )


def _check_optimizer(config: Config, plan: TrainPlan) -> None:
    """Check that an optimizer which needs the same loss in each step gets it."""
    if config.optimizer[TARGET] != _CONJUGATE_GRADIENT:
        return
    name = components.short_name(config.optimizer)
    if plan.epoch > 1:
        raise InputError(
            f"`trainer.batch_size` must be null, the whole training set, for {name}; got {plan.batch_size}."
        )
    if config.schedule[TARGET] != _CONSTANT:
        raise InputError(
            f"`schedule` must be constant for {name}, which has no learning rate; "
            f"got {components.short_name(config.schedule)}."
        )


# ---- data, which runs usually share ---------------------------------------------------------------------------------


def _as_key(node: Any) -> str:
    return to_json(node)


@functools.lru_cache(maxsize=1)
def _load(node: str) -> Dataset:
    data = components.build(json.loads(node))
    if not isinstance(data, Dataset):
        raise InputError(f"`data` must return a Dataset; {json.loads(node)[TARGET]} returns a {type(data).__name__}.")
    check_splits(data)
    return data


@functools.lru_cache(maxsize=4)
def _describe_data(node: str) -> dict[str, Any]:
    return describe_data(json.loads(node), _load(node))


# ---- states as arrays that can be saved -----------------------------------------------------------------------------


def unwrap_keys(state: Any) -> Any:
    """Return a pytree with the integers of its random keys in place of the keys, so that it can be saved."""
    return jax.tree.map(lambda leaf: jax.random.key_data(leaf) if _is_key(leaf) else leaf, state)


def wrap_keys(values: Any, like: Any) -> Any:
    """Reverse `unwrap_keys`; `like` is the pytree with its keys."""
    wrap = lambda value, leaf: jax.random.wrap_key_data(jnp.asarray(value)) if _is_key(leaf) else value  # noqa: E731
    return jax.tree.map(wrap, values, like)


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
