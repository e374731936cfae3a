"""Evaluation of averaged predictions: of several runs, and of several views of each example.

Probabilities, the softmax of the logits, are averaged; the metrics are those of their logarithms taken as logits.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lenet_jax import components
from lenet_jax.augment import Mixup, flatten
from lenet_jax.data.stream_reader import read_split
from lenet_jax.errors import InputError
from lenet_jax.evaluation import count_examples, evaluate_task
from lenet_jax.interop.conventions import example_of
from lenet_jax.objective import Task, augment_inputs, predict
from lenet_jax.ops import map_batches
from lenet_jax.runs.evaluate import (
    EvaluationReport,
    Which,
    count_trained_on,
    find_weights,
    load_data,
    load_network,
    summarize_outputs,
)
from lenet_jax.runs.platforms import check_platform
from lenet_jax.runs.run_directory import Record
from lenet_jax.types import Model, Split, Variables


class AverageReport(NamedTuple):
    """The evaluation of averaged predictions, and how the single runs do, each on the examples as they are."""

    report: EvaluationReport  # its model and variables are those of the first run
    accuracies: list[float]  # of the single runs, without other views


def evaluate_average(
    records: Sequence[Record],
    data_node: Mapping[str, Any] | None = None,
    *,
    part: Literal["train", "validation", "test"] = "test",
    weights: Which = None,
    num_views: int = 0,
    seed: int = 0,
) -> AverageReport:
    """Evaluate the mean of the probabilities of several runs, each on an example and on augmented views of it.

    Args:
        records: of the runs, at least one, as `read_allowed` returns them; they classify the same data.
        data_node: the component that loads other data; None: those of the runs, which have to be the same.
        part: the split to evaluate on.
        weights: as for `evaluate_run`.
        num_views: how many views of each example are averaged besides the example itself, 0 or above; each is made by
            the augmentation of its run.
        seed: of the views. Those of an example depend on its place in the split alone.

    Raises:
        InputError: if the runs do not classify the same data, left no such weights, or have no augmentation for views.
    """
    check_platform()
    first = records[0]
    for record in records:
        if not components.build(record.config.objective).has_labels:
            raise InputError(f"evaluate: runs must classify for a mean of probabilities; {record.directory} does not.")
        if num_views and not components.named_parts("augment", record.config.augment):
            raise InputError(
                f"evaluate: `--tta` must be used with runs that were trained with an augmentation; {record.directory} "
                "was not; train it with augment=affine, or another."
            )
        if data_node is None and record.config.data != first.config.data:
            raise InputError(
                f"evaluate: runs must have the same data for a mean of probabilities; those of {record.directory} are "
                f"not those of {first.directory}; name others: data=NAME."
            )
        find_weights(record, weights)
    data = load_data(first, data_node)
    split = read_split(data, part)
    mean: Any = 0.0
    networks, accuracies = [], []
    for record in records:
        _check_like(record, first)
        model, variables = load_network(record, example_of(data.test.inputs), weights)
        trainer = record.config.trainer
        augments = components.named_parts("augment", record.config.augment).values()
        augment = flatten([components.build(each) for each in augments]) if num_views else ()
        augment = [each for each in augment if not isinstance(each, Mixup)]
        task = Task(
            model, components.build(record.config.objective), augment, trainer.compute_dtype, data.pixel_divisor
        )
        with jax.default_matmul_precision(trainer.matmul_precision):
            plain = np.asarray(jax.jit(functools.partial(_probabilities, task))(variables, split.inputs), np.float64)
            view = jax.jit(functools.partial(_view, task))
            keys = [jax.random.fold_in(jax.random.key(seed), number) for number in range(num_views)]
            views = [plain, *(np.asarray(view(variables, split.inputs, key), np.float64) for key in keys)]
        if plain.ndim != 2:
            raise InputError("evaluate: runs must have a class an example for a mean of probabilities.")
        networks.append((model, variables))
        accuracies.append(float(np.mean(plain.argmax(axis=-1) == np.asarray(_labels(split)))))
        mean = mean + sum(views) / (len(views) * len(records))
    outputs = jnp.log(jnp.maximum(jnp.asarray(mean, jnp.float32), jnp.finfo(jnp.float32).tiny))
    objective = components.build(first.config.objective)
    metrics = evaluate_task(
        Task(_AS_THEY_ARE, objective, (), "float32", 1.0), Variables({}, {}), Split(outputs, split.targets)
    )
    summary, predictions, confusion = summarize_outputs(metrics, outputs, split, data.num_classes)
    trained_on = count_trained_on(first.config.data, data_node, data, part)
    model, variables = networks[0]
    report = EvaluationReport(
        model, variables, split, data.pixel_divisor, summary, predictions, confusion, part, trained_on
    )
    return AverageReport(report, accuracies)


_AS_THEY_ARE = Model(lambda key: Variables({}, {}), lambda variables, x, *, train=False, key=None: (x, variables.state))
"""The model whose outputs are its inputs."""


def _check_like(record: Record, first: Record) -> None:
    """Check that a run has inputs and classes as another one.

    Raises:
        InputError: if it has not.
    """
    for key in ("image_shape", "num_classes"):
        one, other = first.run["data"][key], record.run["data"][key]
        if one != other:
            raise InputError(
                f"evaluate: runs must have the same {key} for a mean of probabilities; got {one} of {first.directory} "
                f"and {other} of {record.directory}."
            )


def _labels(split: Split) -> Any:
    return split.targets["targets"] if isinstance(split.targets, Mapping) else split.targets


def _probabilities(task: Task, variables: Variables, inputs: Any) -> Any:
    inputs = jax.tree.map(jnp.asarray, inputs)
    return map_batches(lambda part: jax.nn.softmax(predict(task, variables, part)), inputs)


def _view(task: Task, variables: Variables, inputs: Any, key: Any) -> Any:
    """Return the probabilities of a view of each input."""
    inputs = jax.tree.map(jnp.asarray, inputs)
    places = jnp.arange(count_examples(Split(inputs, ())))

    def of_part(part: Any) -> Any:
        inputs, places = part
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, places)
        return jax.nn.softmax(predict(task, variables, augment_inputs(task, inputs, keys)))

    return map_batches(of_part, (inputs, places))
