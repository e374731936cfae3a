"""Where the values of a run are first not finite."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from lenet_jax.evaluation import count_examples, evaluate_task
from lenet_jax.objective import Batch, Task, scale_inputs, training_loss
from lenet_jax.optimizers.standard_form import apply_optimizer
from lenet_jax.runs.prepared_run import PreparedRun
from lenet_jax.train_plan import minibatches
from lenet_jax.training import TrainState, evaluation_variables, minibatch
from lenet_jax.types import Dataset, Status, Variables
from lenet_jax.weights import named_leaves


class NotFinite(NamedTuple):
    """The first values that are not finite."""

    step: int  # counted from 1; of a validation, the steps done
    names: list[str]  # of the arrays of one kind, in order: "the gradient of conv1/kernel"
    count: int  # values of the first array that are NaN or infinite; 0: their squares are too large to be added up
    size: int  # values of the first array


def find_not_finite(prepared: PreparedRun) -> tuple[NotFinite | None, int]:
    """Train as the run does, and look at the values of each step in the order of their computation.

    Returns:
        The first that are not finite, None if all are; and the number of steps done.
    """
    task, optimizer, trainer = parts = prepared.parts
    data, plan = jax.device_put(prepared.data), prepared.plan
    num_train = count_examples(data.train)

    def step(state: TrainState, indices: Array, data: Dataset) -> tuple[TrainState, list[dict[str, Array]]]:
        values = _values_of_step(task, optimizer, state, minibatch(task, state, data.train, indices))
        state, _ = parts.step(state, data, indices)
        return state, [jax.tree.map(_faults, kind) for kind in values]

    def draw(state: TrainState) -> Array:
        return minibatches(plan, num_train, jax.random.split(state.key)[0], state.iteration, shuffle=trainer.shuffle)

    def validate(state: TrainState, data: Dataset) -> Array:
        return evaluate_task(task, evaluation_variables(state), data.validation).mean("loss")

    with jax.default_matmul_precision(trainer.matmul_precision):
        step, draw, validate = jax.jit(step), jax.jit(draw), jax.jit(validate)
        state = parts.init(jax.random.key(prepared.config.seed), prepared.initial_tensors)
        number = 0
        for _ in range(plan.num_intervals):
            for indices in draw(state):
                number += 1
                state, kinds = step(state, indices, data)
                for kind in jax.device_get(kinds):
                    names = [name for name, (is_faulty, *_) in kind.items() if is_faulty]
                    if names:
                        _, count, size = kind[names[0]]
                        return NotFinite(number, names, int(count), int(size)), number
                if int(state.status) == Status.DIVERGED:
                    return NotFinite(number, ["the step as a whole"], 0, 1), number
            if not jnp.isfinite(validate(state, data)):
                return NotFinite(number, ["the validation loss"], 1, 1), number
    return None, number


def _values_of_step(task: Task, optimizer: Any, state: TrainState, batch: Batch) -> list[dict[str, Array]]:
    """Return the arrays of a step by name, those of one kind together, in the order of their computation."""
    params = state.variables.params

    def mean_loss(params: PyTree) -> Array:
        return jnp.mean(training_loss(task, state.variables._replace(params=params), batch)[0].astype(jnp.float32))

    loss, grads = jax.value_and_grad(mean_loss)(params)
    updates, _ = apply_optimizer(optimizer, state.opt_state, params, grads, loss, mean_loss)
    return [
        _named("the input", batch.inputs),
        _named("the parameter", params),
        _outputs_of_layers(task, state.variables, batch.inputs),
        {"the loss": loss},
        _named("the gradient of", grads),
        _named("the updated parameter", optax.apply_updates(params, updates)),
    ]


def _outputs_of_layers(task: Task, variables: Variables, inputs: PyTree) -> dict[str, Array]:
    """Return the outputs of the layers for plain examples, as at inference; none if the model records no layers."""
    if task.model.trace is None:
        return {}
    images, variables = jax.tree.map(
        lambda x: x.astype(task.compute_dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x,
        (scale_inputs(inputs, task.pixel_divisor), variables),
    )
    return {f"the output of layer {layer.name}": layer.y for layer in task.model.trace(variables, images)}


def _named(words: str, tree: PyTree) -> dict[str, Array]:
    return {f"{words} {path}".rstrip(): leaf for path, leaf in named_leaves(tree).items()}


def _faults(x: Array) -> tuple[Array, Array, int]:
    """Return whether a step is refused for an array, how many of its values are not finite, and how many it has."""
    count = jnp.sum(~jnp.isfinite(x))
    squares = jnp.sum(jnp.square(x.astype(jnp.float32))) if jnp.issubdtype(x.dtype, jnp.floating) else jnp.float32(0)
    return (count > 0) | ~jnp.isfinite(squares), count, x.size
