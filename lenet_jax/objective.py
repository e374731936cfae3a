"""From the examples of a minibatch to their loss, and from those of a split to its metrics: composed in one place.

inputs -> augmentation -> compute dtype -> network -> loss and metrics
"""

import inspect
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Num, PyTree

from lenet_jax.augment import Augment, Mixup
from lenet_jax.errors import InputError, unknown_name
from lenet_jax.types import Heads, Key, Metrics, Model, Objective, Variables, has_weights


class Task(NamedTuple):
    """What a run trains and evaluates: all that lies between the arrays of a data set and a loss."""

    model: Model
    objective: Objective
    augment: Sequence[Augment | Mixup] = ()  # one after another, in training only
    compute_dtype: str = "float32"  # "bfloat16": mixed precision (Micikevicius et al. 2018, section 3.1)
    pixel_divisor: float = 256.0  # of uint8 inputs


class Batch(NamedTuple):
    """Examples of a minibatch, or a part of it."""

    inputs: PyTree
    targets: PyTree
    keys: Key  # (N,): of what is drawn for each example
    partner: "Batch | None" = None  # for each example another one of the minibatch, where they are mixed


def training_loss(task: Task, variables: Variables, batch: Batch) -> tuple[Float[Array, "N"], PyTree]:  # noqa: F821
    """Return the weighted loss of each example in training, and the new state of the model; consumes the keys."""
    return training_loss_and_metrics(task, variables, batch, ())[:2]


def training_loss_and_metrics(
    task: Task, variables: Variables, batch: Batch, names: Sequence[str]
) -> tuple[Float[Array, "N"], PyTree, dict[str, Float[Array, ""]]]:  # noqa: F821
    """Return what `training_loss` does, and the sums over the examples of the metrics `names`, of the same outputs.

    They are those of the network as it trains, dropout and augmentation included, and without weights. The target of an
    example that is mixed with another one is its own.
    """
    inputs, targets, keys = _augmented(task, batch)
    key = keys if task.model.takes_example_keys else keys[0]
    outputs, state = _apply(task, variables, inputs, train=True, key=key)
    heads = [(1.0, outputs.main), *outputs.auxiliary] if isinstance(outputs, Heads) else [(1.0, outputs)]
    count = batch.keys.shape[0]

    def loss(outputs: PyTree, targets: PyTree) -> Array:
        values = _per_example("loss", task.objective.loss, outputs, _plain(targets), count)
        weights = loss_weights(task.objective, targets)
        return values if weights is None else weights.astype(values.dtype) * values

    losses = [_weighted(a, _weighted(w, loss(y, t))) for a, y in heads for w, t in targets]
    plain, metrics = _plain(batch.targets), {}
    for name in names:
        metric: Any = task.objective.metrics[name]
        metrics[name] = jnp.sum(_per_example(name, metric, heads[0][1], plain, count).astype(jnp.float32))
    return sum(losses[1:], losses[0]), state, metrics


# ---- weights --------------------------------------------------------------------------------------------------------


def loss_weights(objective: Objective, targets: PyTree) -> Float[Array, "N"] | None:  # noqa: F821
    """Return the weight of each example's loss; None if all are 1."""
    weights = targets["weights"] if has_weights(targets) else None
    if objective.weight is None:
        return weights
    plain = _plain(targets)
    own = _checked("weight", objective.weight(plain), jax.tree.leaves(plain)[0].shape[0])
    return own if weights is None else weights * own


def _metric_weights(objective: Objective, targets: PyTree) -> Array | None:
    """Return the weight of each example in the metrics; None if all are 1."""
    weights = targets["weights"] if has_weights(targets) else None
    if objective.weight is None:
        return weights
    counts = (objective.weight(_plain(targets)) > 0).astype(jnp.float32)
    return counts if weights is None else weights * counts


def _plain(targets: PyTree) -> PyTree:
    return targets["targets"] if has_weights(targets) else targets


# ---- metrics --------------------------------------------------------------------------------------------------------


class Totals(NamedTuple):
    """What some examples add up to."""

    metrics: Metrics  # weighted sums, where examples have weights
    weights: tuple[Array, Array] | None  # sums of the weights in the loss and in the metrics; None: all are 1
    streams: Mapping[str, PyTree]  # states of the metrics that are no means


def no_totals(objective: Objective, targets: PyTree) -> Totals:
    """Return the totals of no examples, for examples with such targets."""
    streams = {name: each.init() for name, each in objective.metrics.items() if is_streaming(each)}
    is_weighted = objective.weight is not None or has_weights(targets)
    zero = jnp.zeros((), jnp.float32)
    return Totals(no_examples(objective), (zero, zero) if is_weighted else None, streams)


def add_examples(
    task: Task,
    variables: Variables,
    totals: Totals,
    inputs: PyTree,
    targets: PyTree,
    mask: Bool[Array, "N"],  # noqa: F821
) -> Totals:
    """Return the totals with the examples where `mask` is true, as they are at inference."""
    objective, count = task.objective, mask.shape[0]
    outputs, plain = predict(task, variables, inputs), _plain(targets)
    of_loss, of_metrics = loss_weights(objective, targets), _metric_weights(objective, targets)
    if of_metrics is not None:
        mask = mask & (of_metrics > 0)

    def total(name: str, fn: Any, weights: Array | None) -> Array:
        values = _per_example(name, fn, outputs, plain, count)
        return _masked_sum(values if weights is None else weights * values.astype(jnp.float32), mask)

    sums, streams = {}, dict(totals.streams)
    for name, metric in objective.metrics.items():
        if is_streaming(metric):
            streams[name] = _update_stream(metric, streams[name], outputs, plain, mask)
            sums[name] = jnp.zeros((), jnp.float32)
        else:
            sums[name] = total(name, metric, of_metrics)
    loss = total("loss", objective.evaluation_loss or objective.loss, of_loss)
    metrics = Metrics(loss, sums, jnp.sum(mask, dtype=jnp.int32))
    weights = None
    if totals.weights is not None and of_loss is not None and of_metrics is not None:
        weights = (_masked_sum(of_loss, mask), _masked_sum(of_metrics, mask))
    summed, weights = jax.tree.map(jnp.add, (totals.metrics, totals.weights), (metrics, weights))
    return Totals(summed, weights, streams)


def to_metrics(objective: Objective, totals: Totals) -> Metrics:
    """Return the metrics of all examples; weighted means and those that are no means times the number of examples."""
    metrics, count = totals.metrics, totals.metrics.num_examples.astype(jnp.float32)
    if totals.weights is not None:
        of_loss, of_metrics = (count / jnp.where(each > 0, each, 1.0) for each in totals.weights)
        scaled = {name: of_metrics * each for name, each in metrics.sums.items()}
        metrics = metrics._replace(loss_sum=of_loss * metrics.loss_sum, sums=scaled)
    results: Any = {name: objective.metrics[name] for name in totals.streams}
    results = {name: count * metric.result(totals.streams[name]) for name, metric in results.items()}
    return metrics._replace(sums={**metrics.sums, **results})


def measure(task: Task, variables: Variables, inputs: PyTree, targets: PyTree, mask: Bool[Array, "N"]) -> Metrics:  # noqa: F821
    """Return the metrics of the examples where `mask` is true, as at inference."""
    totals = add_examples(task, variables, no_totals(task.objective, targets), inputs, targets, mask)
    return to_metrics(task.objective, totals)


def is_streaming(metric: Any) -> bool:
    """Tell whether a metric is a `StreamingMetric`, or has what makes one."""
    return all(hasattr(metric, name) for name in ("init", "update", "result"))


def _update_stream(metric: Any, state: PyTree, outputs: PyTree, targets: PyTree, mask: Array) -> PyTree:
    if "mask" in inspect.signature(metric.update).parameters:
        return metric.update(state, outputs, targets, mask=mask)

    def add(state: PyTree, example: PyTree) -> tuple[PyTree, None]:
        (outputs, targets), counts = example
        new = metric.update(state, *jax.tree.map(lambda x: x[None], (outputs, targets)))
        return jax.tree.map(lambda new, old: jnp.where(counts, new, old), new, state), None

    return jax.lax.scan(add, state, ((outputs, targets), mask))[0]


def check_model(caller: str, model: Any) -> None:
    """Check that a model is one, and not yet a module of another library.

    Raises:
        InputError: if it is none.
    """
    if not isinstance(model, Model):
        raise InputError(
            f"{caller}: `model` must be a lj.Model; got a {type(model).__name__}; make one of it: "
            "lj.interop.to_model(model, input_shape)."
        )


def check_objective(objective: Objective) -> None:
    """Check that an objective is one, and is monitored by a value that it has.

    Raises:
        InputError: if it is not, or its mode is unknown.
    """
    if not isinstance(objective, Objective):
        raise InputError(
            f"objective: `objective` must be a lj.Objective; got {objective!r}; make one, as "
            "lj.objectives.regression()."
        )
    if "loss" in objective.metrics:
        raise InputError("objective: `metrics` must have no 'loss', which is reported besides; give it another name.")
    names = ("loss", *objective.metrics)
    if objective.monitor not in names:
        raise unknown_name("objective: monitor", objective.monitor, names)
    if objective.mode not in ("min", "max"):
        raise InputError(f"objective: `mode` must be 'min' or 'max'; got {objective.mode!r}.")


def no_examples(objective: Objective) -> Metrics:
    """Return the metrics of no example: zeros, to add to."""
    sums = {name: jnp.zeros((), jnp.float32) for name in objective.metrics}  # a buffer each, so they can be donated
    return Metrics(jnp.zeros((), jnp.float32), sums, jnp.zeros((), jnp.int32))


def predict(task: Task, variables: Variables, inputs: PyTree) -> PyTree:
    """Return the outputs for a batch at inference, in float32 at least."""
    return _apply(task, variables, inputs, train=False, key=None)[0]


def scale_inputs(inputs: PyTree, pixel_divisor: float) -> PyTree:
    """Return inputs with uint8 pixels as float32, divided by `pixel_divisor`; all others are unchanged."""

    def scale(x: Num[Array, "..."]) -> Num[Array, "..."]:
        return x.astype(jnp.float32) / jnp.float32(pixel_divisor) if x.dtype == jnp.uint8 else x

    return jax.tree.map(scale, inputs)


def augment_inputs(task: Task, inputs: PyTree, keys: Key) -> PyTree:
    """Return inputs scaled and augmented as in training, but not mixed; consumes the keys (N,), one an example."""
    return _change(task.augment, scale_inputs(inputs, task.pixel_divisor), keys)


def _augmented(task: Task, batch: Batch) -> tuple[PyTree, list[tuple[Array | float, PyTree]], Key]:
    """Return inputs, weighted targets, and the keys that are left for the model."""
    inputs = scale_inputs(batch.inputs, task.pixel_divisor)
    if not task.augment:
        return inputs, [(1.0, batch.targets)], batch.keys
    own, keys = _split(batch.keys)
    inputs = _change(task.augment, inputs, own)
    mixup = next((each for each in task.augment if isinstance(each, Mixup)), None)
    if mixup is None or batch.partner is None:
        return inputs, [(1.0, batch.targets)], keys
    other = _change(task.augment, scale_inputs(batch.partner.inputs, task.pixel_divisor), _split(batch.partner.keys)[0])
    mix, keys = _split(keys)
    weight = mixup.draw_weights(mix)
    inputs = jax.tree.map(lambda x, y: _weighted(weight, x) + _weighted(1 - weight, y), inputs, other)
    return inputs, [(weight, batch.targets), (1 - weight, batch.partner.targets)], keys


def _change(augment: Sequence[Augment | Mixup], inputs: PyTree, keys: Key) -> PyTree:
    """Apply augmentations to each example, one after another, each with a key of its own."""
    steps = [each for each in augment if not isinstance(each, Mixup)]

    def change(key: Key, example: PyTree) -> PyTree:
        for own, step in zip(jax.random.split(key, max(len(steps), 1)), steps, strict=False):
            example = step(own, example)
        return example

    changed = jax.vmap(change)(keys, inputs)
    before, after = ([x.shape[1:] for x in jax.tree.leaves(each)] for each in (inputs, changed))
    if before != after:
        shapes = [" and ".join(map(str, each)) for each in (before, after)]
        raise InputError(
            f"augment: an augmentation must return an example of the same shape, {shapes[0]} here; got {shapes[1]}."
        )
    return changed


def _apply(task: Task, variables: Variables, inputs: PyTree, *, train: bool, key: Key | None) -> tuple[Any, PyTree]:
    inputs = scale_inputs(inputs, task.pixel_divisor)
    if task.compute_dtype == "float32":
        return task.model.apply(variables, inputs, train=train, key=key)
    low = variables._replace(params=_cast(variables.params, task.compute_dtype))
    outputs, state = task.model.apply(low, _cast(inputs, task.compute_dtype), train=train, key=key)
    return _cast(outputs, "float32"), state


def _cast(tree: PyTree, dtype: str) -> PyTree:
    return jax.tree.map(lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)


def _split(keys: Key) -> tuple[Key, Key]:
    pairs = jax.vmap(jax.random.split)(keys)
    return pairs[:, 0], pairs[:, 1]


def _weighted(weight: Array | float, x: Array) -> Array:
    """Return an array times a weight, or a weight of each example."""
    if isinstance(weight, int | float):
        return x if weight == 1 else weight * x
    per_example = tuple(range(1, x.ndim)) if weight.ndim else ()
    return jnp.expand_dims(weight, per_example).astype(x.dtype) * x


def _per_example(name: str, fn: Callable[[Any, Any], Any], outputs: PyTree, targets: PyTree, count: int) -> Array:
    """Return what a loss or a metric returns for outputs and targets, checked.

    Raises:
        InputError: if it is not one value an example, or each value is one of all examples.
    """
    _check_no_broadcasting(name, fn, outputs, targets)
    return _checked(name, fn(outputs, targets), count)


def _checked(name: str, values: Any, count: int) -> Array:
    if jnp.shape(values) != (count,):
        raise InputError(
            f"objective: `{name}` must return one value an example, of shape ({count},) here; got shape "
            f"{jnp.shape(values)}; the means over the examples are taken by lenet_jax."
        )
    return jnp.asarray(values)


def _check_no_broadcasting(name: str, fn: Callable[[Any, Any], Any], outputs: PyTree, targets: PyTree) -> None:
    """Check that outputs (N, 1) and targets (N,), or the other way round, do not become (N, N) in a function of them.

    A function that broadcasts them makes, of 1009 outputs and 2003 targets, an array of 1009 x 2003.

    Raises:
        InputError: if the function broadcasts them.
    """
    leaves = itertools.product(jax.tree.leaves(outputs), jax.tree.leaves(targets))
    pair = next((pair for pair in leaves if {x.shape[1:] for x in pair} == {(), (1,)}), None)
    if pair is None:
        return

    def of(count: int, tree: PyTree) -> PyTree:
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct((count, *x.shape[1:]), x.dtype), tree)

    try:
        jaxpr = jax.make_jaxpr(fn)(of(1009, outputs), of(2003, targets))
    except Exception:  # as it should, whatever it raises
        return
    if re.search(r"\[(1009,2003|2003,1009)[,\]]", str(jaxpr)):
        raise InputError(
            f"objective: `{name}` must not combine outputs of shape {pair[0].shape} with targets of shape "
            f"{pair[1].shape}, which JAX broadcasts to all pairs of examples; drop an axis: outputs[:, 0] or "
            "targets[:, 0]."
        )


def _masked_sum(values: Array, mask: Array) -> Array:
    return jnp.sum(jnp.where(mask, values.astype(jnp.float32), jnp.float32(0)))
