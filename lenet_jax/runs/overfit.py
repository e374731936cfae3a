"""Whether a model and its objective can learn one minibatch by heart: one that cannot is broken."""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from lenet_jax.config.catalogue import TARGET
from lenet_jax.errors import InputError
from lenet_jax.evaluation import evaluate_task, on_device
from lenet_jax.runs.parts import CONSTANT, build_parts
from lenet_jax.runs.prepared_run import PreparedRun
from lenet_jax.training import TrainState, evaluation_variables, train_step
from lenet_jax.types import Dataset, Status

NUM_STEPS = 2000
THRESHOLD = 0.01  # of the loss before the first step
SIZE = 50
_INTERVAL = 100  # steps from one evaluation to the next


class Progress(NamedTuple):
    """The loss on the minibatch, as at inference, after some steps."""

    step: int
    loss: float
    goal: float  # the loss that is near zero
    diverged: bool = False

    @property
    def reached(self) -> bool:
        """Return whether the loss is near zero."""
        return self.loss <= self.goal


def overfit(prepared: PreparedRun) -> Iterator[Progress]:
    """Train on the first minibatch of the training set, and yield the loss on it until it is near zero.

    The learning rate is constant, and nothing is augmented. Where the minibatch is the whole training set, it is
    replaced by the first `SIZE` examples. The last one that is yielded has reached the goal, has diverged, or is of
    step `NUM_STEPS`.

    Raises:
        InputError: if the loss is not above 0 before the first step.
    """
    config = dataclasses.replace(prepared.config, augment={}, schedule={TARGET: CONSTANT})
    task, optimizer, trainer = parts = build_parts(config, prepared.data, prepared.plan)
    is_whole = trainer.batch_size is None
    size = min(prepared.plan.batch_size, SIZE) if is_whole else prepared.plan.batch_size
    batch = on_device(jax.tree.map(lambda x: x[:size], prepared.data.train))
    data = Dataset(batch, batch, batch, prepared.data.num_classes, prepared.data.pixel_divisor)

    def train(state: TrainState) -> TrainState:
        def step(state: TrainState, _: None) -> tuple[TrainState, None]:
            state, _loss = train_step(
                task.model,
                optimizer,
                state,
                data,
                jnp.arange(size),
                objective=task.objective,
                compute_dtype=trainer.compute_dtype,
                grad_accumulation_steps=1 if is_whole else trainer.grad_accumulation_steps,
            )
            return state, None

        return lax.scan(step, state, None, length=_INTERVAL)[0]

    def measure(state: TrainState) -> jax.Array:
        return evaluate_task(task, evaluation_variables(state), batch).mean("loss")

    with jax.default_matmul_precision(trainer.matmul_precision):
        train, measure = jax.jit(train), jax.jit(measure)
        state = parts.init(jax.random.key(config.seed), prepared.initial_tensors)
        first = float(measure(state))
        if first <= 0:
            raise InputError(
                f"`objective` must have a loss above 0 before the first step, for debug=overfit; got {first:g}."
            )
        goal = THRESHOLD * first
        yield Progress(0, first, goal)
        for _ in range(NUM_STEPS // _INTERVAL):
            state = train(state)
            diverged = int(state.status) == Status.DIVERGED
            progress = Progress(int(state.iteration), float(measure(state)), goal, diverged)
            yield progress
            if progress.reached or diverged:
                return
