"""What the programs of a run are made of, its float options as they are configured or as values of the programs."""

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lenet_jax import components, early_stopping
from lenet_jax.config import Config, TrainerConfig, to_dict
from lenet_jax.config.catalogue import TARGET
from lenet_jax.errors import InputError
from lenet_jax.interop.conventions import example_of
from lenet_jax.interop.models import build_model
from lenet_jax.objective import Batch, Task, measure, predict, training_loss
from lenet_jax.optimizers import chain_optimizer
from lenet_jax.optimizers.standard_form import apply_optimizer
from lenet_jax.traced_numbers import floats_in, with_floats
from lenet_jax.train_plan import TrainPlan
from lenet_jax.training import TrainState, init_train_state, make_task, train_step
from lenet_jax.types import Dataset, Objective, Split

CONSTANT = "lenet_jax.optimizers.schedules.constant"  # returns no schedule
_GROUPS = ("model", "optimizer", "schedule", "augment", "objective")


class Parts(NamedTuple):
    """What the programs of a run are made of."""

    task: Task
    optimizer: optax.GradientTransformation
    trainer: TrainerConfig

    def init(self, key: Any, initial: Mapping[str, Any] | None = None) -> TrainState:
        """Return the state before the first step, with some initial weights or None; see `init_train_state`."""
        model, objective = self.task.model, self.task.objective
        return init_train_state(
            model, self.optimizer, self.trainer, key, {}, objective=objective, initial=initial or {}
        )

    def step(self, state: TrainState, data: Dataset, indices: Any) -> tuple[TrainState, Any]:
        """Take a step on the examples `indices` of the training set; return the state after it, and the loss before."""
        task = self.task
        return train_step(
            task.model,
            self.optimizer,
            state,
            data,
            indices,
            objective=task.objective,
            augment=task.augment,
            compute_dtype=task.compute_dtype,
            grad_accumulation_steps=self.trainer.grad_accumulation_steps,
        )


def build_parts(config: Config, data: Dataset, plan: TrainPlan) -> Parts:
    """Build the components of a configuration, which is complete; its floats may be traced numbers.

    Raises:
        InputError: if one of them is not what its group asks for, or cannot be built.
    """
    trainer = config.trainer
    model = build_model(config.model, example_of(data.train.inputs), data.num_classes)
    objective = components.build(config.objective)
    if not isinstance(objective, Objective):
        name = config.objective[TARGET]
        raise InputError(f"`objective` must return an Objective; {name} returns a {type(objective).__name__}.")
    augments = [components.build(each) for each in components.named_parts("augment", config.augment).values()]
    lengths = {"num_steps": plan.epoch * trainer.max_epochs, "steps_per_epoch": plan.epoch}
    optimizer = components.build(config.optimizer)
    if not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
        name = config.optimizer[TARGET]
        raise InputError(
            f"`optimizer` must return an Optax gradient transformation; {name} returns a {type(optimizer).__name__}."
        )
    optimizer = chain_optimizer(
        optimizer,
        schedule=_build_schedule(config.schedule, **lengths),
        clip_norm=trainer.clip_norm,
        ema_decay=trainer.ema_decay,
    )
    return Parts(make_task(model, trainer, data, objective, augments), optimizer, trainer)


def _build_schedule(node: Any, **lengths: int) -> Any:
    schedule = components.build(node, **lengths)
    if not (callable(schedule) or hasattr(schedule, "update") or node[TARGET] == CONSTANT):
        raise InputError(
            "`schedule` must return a function of the step, or an Optax transformation; "
            f"{node[TARGET]} returns a {type(schedule).__name__}."
        )
    return schedule


def trace_step(parts: Parts, key: Any, pair: Split) -> Any:
    """Do once, with two examples, all that a run does, and return the model's outputs."""
    state = parts.init(key)
    keys = jax.random.split(key, 2)
    batch = Batch(pair.inputs, pair.targets, keys, Batch(pair.inputs, pair.targets, keys))
    outputs = predict(parts.task, state.variables, pair.inputs)
    sums = measure(parts.task, state.variables, pair.inputs, pair.targets, jnp.ones(2, bool))
    return outputs, sums, training_loss(parts.task, state.variables, batch), _update(parts, state)


def trace_update(parts: Parts, key: Any, pair: Split) -> Any:
    """Do of `trace_step` what the optimizer, its schedule and the trainer have a part in."""
    return _update(parts, parts.init(key))


def _update(parts: Parts, state: TrainState) -> Any:
    zero, params = jnp.zeros((), jnp.float32), state.variables.params
    updated = apply_optimizer(parts.optimizer, state.opt_state, params, params, zero, lambda params: zero)
    return updated, early_stopping.update(state.early_stopping, zero, state.iteration, parts.trainer.early_stopping)


# ---- the float options of a configuration ---------------------------------------------------------------------------


def float_options(config: Config) -> dict[str, float]:
    """Return the options that may be values of the programs, by path, such as "optimizer.learning_rate"."""
    content = to_dict(config)
    return {path: value for group in (*_GROUPS, "trainer") for path, value in floats_in(group, content[group])}


def with_numbers(config: Config, numbers: Mapping[str, Any]) -> Config:
    """Return a configuration with some of its float options replaced, by path."""
    replaced = {group: with_floats(group, getattr(config, group), numbers) for group in _GROUPS}
    return dataclasses.replace(config, **replaced, trainer=_with_fields("trainer", config.trainer, numbers))


def _with_fields(path: str, part: Any, numbers: Mapping[str, Any]) -> Any:
    """Return a dataclass with some of its floats replaced, which its own checks would refuse."""
    part = copy.copy(part)
    for field in dataclasses.fields(part):
        name, value = f"{path}.{field.name}", getattr(part, field.name)
        new = _with_fields(name, value, numbers) if dataclasses.is_dataclass(value) else numbers.get(name, value)
        object.__setattr__(part, field.name, new)
    return part
