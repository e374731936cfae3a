"""Metrics and predictions of a model on every example of a split, batch by batch."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PyTree

from lenet_jax.errors import InputError
from lenet_jax.objective import (
    Task,
    Totals,
    add_examples,
    check_model,
    no_totals,
    predict,
    to_metrics,
)
from lenet_jax.objectives import classification
from lenet_jax.ops import BATCH_SIZE, map_batches
from lenet_jax.sharding import num_shards, replicate, shard_examples
from lenet_jax.types import Dataset, Key, Metrics, Model, Objective, Split, Variables, has_weights, is_concrete


def evaluate(
    model: Model,
    variables: Variables,
    split: Split,
    pixel_divisor: float = 256.0,
    *,
    objective: Objective | None = None,
    compute_dtype: str = "float32",
    batch_size: int = BATCH_SIZE,
) -> Metrics:
    """Measure a model on every example of a split, the last partial batch included.

    Args:
        model: the network.
        variables: its parameters and state; the state is not changed.
        split: inputs and targets.
        pixel_divisor: uint8 pixels are divided by it.
        objective: its metrics are measured; None: classification.
        compute_dtype: "float32" or "bfloat16".
        batch_size: examples that are evaluated at a time, 1 or above.

    Raises:
        InputError: if the split is empty, has not one target an input, or `batch_size` is below 1; if the objective
            has labels and the targets are none, or are known, as outside of `jax.jit`, and do not fit the outputs.
    """
    check_model("evaluate", model)
    task = Task(model, objective or classification(), (), compute_dtype, pixel_divisor)
    if task.objective.has_labels and count_examples(split):
        _check_split("evaluate", "`split`", split, task.objective)
        labels = split.targets["targets"] if has_weights(split.targets) else split.targets
        if is_concrete(labels):
            labels = jax.device_get(labels)
            low, high = int(labels.min()), int(labels.max())
            _check_range("evaluate", "`split`", low, high, count_outputs(task, split))
    return evaluate_task(task, variables, split, batch_size=batch_size)


def evaluate_task(task: Task, variables: Variables, split: Split, *, batch_size: int = BATCH_SIZE) -> Metrics:
    """Measure a task on every example of a split; see `evaluate`."""
    num_examples = count_examples(split)
    if num_examples == 0 or batch_size < 1:
        raise InputError(
            f"evaluate: `split` needs at least one example and `batch_size` must be 1 or above; "
            f"got {num_examples} examples and {batch_size!r}."
        )
    _check_split("evaluate", "`split`", split, task.objective)
    split = on_device(split)
    batch_size = min(batch_size, num_examples)
    batch_size += -batch_size % num_shards()

    def add(totals: Totals, start: Array) -> tuple[Totals, None]:
        indices = shard_examples(start + jnp.arange(batch_size))
        mask = indices < num_examples
        inputs, targets = jax.tree.map(lambda x: x[jnp.minimum(indices, num_examples - 1)], split)
        return add_examples(task, replicate(variables), totals, inputs, targets, mask), None

    starts = jnp.arange(0, num_examples, batch_size)
    totals, _ = lax.scan(add, no_totals(task.objective, split.targets), starts)
    return to_metrics(task.objective, totals)


def predict_logits(
    model: Model,
    variables: Variables,
    images: ArrayLike,
    pixel_divisor: float = 256.0,
    *,
    compute_dtype: str = "float32",
    batch_size: int = BATCH_SIZE,
) -> Float[Array, "N classes"]:
    """Return the logits of every image.

    Args:
        model: the network.
        variables: its parameters and state.
        images: (N, H, W, C), at least one; uint8, or floats, which are taken as they are.
        pixel_divisor: uint8 pixels are divided by it.
        compute_dtype: "float32" or "bfloat16".
        batch_size: images that are evaluated at a time, 1 or above.
    """
    task = Task(model, classification(), (), compute_dtype, pixel_divisor)
    return predict_task(task, variables, jnp.asarray(images), batch_size=batch_size)


def predict_task(task: Task, variables: Variables, inputs: PyTree, *, batch_size: int = BATCH_SIZE) -> PyTree:
    """Return the outputs of a task for every input; see `predict_logits`."""
    return map_batches(lambda part: predict(task, variables, part), jax.tree.map(jnp.asarray, inputs), batch_size)


def on_device(split: Split) -> Split:
    """Return a split of JAX arrays, which can be indexed by traced integers."""
    return jax.tree.map(jnp.asarray, split)


def check_splits(data: Dataset, objective: Objective | None = None) -> None:
    """Check that each split consists of arrays with one common, not empty, first axis.

    Args:
        data: the data set; its arrays may be traced.
        objective: if it has labels, the targets must be integers (N,); None: they may be anything.

    Raises:
        InputError: if one does not.
    """
    for name, split in data.splits().items():
        _check_split("data", name, split, objective)


def check_labels(data: Dataset, num_outputs: int) -> None:
    """Check that the labels of all splits, as far as they are known, are 0 to num_outputs - 1.

    Raises:
        InputError: if they are not.
    """
    for part, low, high in data.label_ranges:
        _check_range("data", part, low, high, num_outputs)


def _check_range(origin: str, part: str, low: int, high: int, num_outputs: int) -> None:
    if low < 0 or high >= num_outputs:
        raise InputError(f"{origin}: labels of {part} must be 0 to {num_outputs - 1}; got {low} to {high}.")


def count_outputs(task: Task, split: Split) -> int:
    """Return the number of outputs of a task's model for an example of a split; nothing is computed.

    Raises:
        InputError: if the outputs are no array with an axis of the examples and one of the outputs.
    """

    def outputs(inputs: Any, key: Key) -> Any:
        return predict(task, task.model.init(key), inputs)

    example = jax.tree.map(lambda x: jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype), split.inputs)
    found = jax.eval_shape(outputs, example, jax.eval_shape(lambda: jax.random.key(0)))
    shape = getattr(found, "shape", None)
    if shape is None or len(shape) < 2 or shape[0] != 1:
        what = f"a {type(found).__name__}" if shape is None else f"shape {shape}"
        raise InputError(
            f"model: outputs for a batch of one example must be logits (1, classes); got {what}; for other targets "
            "than labels give an objective, such as lj.objectives.regression()."
        )
    return shape[-1]


def _check_split(origin: str, name: str, split: Split, objective: Objective | None) -> None:
    for part, tree in (("inputs", split.inputs), ("targets", split.targets)):
        for leaf in jax.tree.leaves(tree):
            if not getattr(leaf, "shape", ()):
                found = "single numbers, as of a list" if hasattr(leaf, "shape") else f"a {type(leaf).__name__}"
                raise InputError(f"{origin}: `{part}` of {name} must be arrays (N, ...); got {found}.")
    counts = [leaf.shape[0] for leaf in jax.tree.leaves((split.inputs, split.targets))]
    if len(set(counts)) != 1 or counts[0] == 0:
        found = " and ".join(map(str, counts))
        raise InputError(f"{origin}: {name} must have one target an input, and at least one example; got {found}.")
    if objective is not None and objective.has_labels:
        labels = split.targets["targets"] if has_weights(split.targets) else split.targets
        _check_label_arrays(origin, name, labels)


def _check_label_arrays(origin: str, name: str, targets: Any) -> None:
    shape, dtype = getattr(targets, "shape", None), getattr(targets, "dtype", None)
    if shape is None or dtype is None or len(shape) != 1 or not jnp.issubdtype(dtype, jnp.integer):
        found = f"a {type(targets).__name__}" if shape is None else f"{dtype}{shape}"
        raise InputError(
            f"{origin}: `targets` of {name} must be integers (N,) for an objective of classes; got {found}; for others "
            "choose it: objective=regression, lj.objectives.regression()."
        )


def count_examples(split: Split) -> int:
    """Return the number of examples of a split."""
    return jax.tree.leaves(split.inputs)[0].shape[0]
