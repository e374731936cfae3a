"""Training as pure functions: a step, the steps up to the next validation, a whole run.

`make_train` returns a run as one function of (key, hyperparameters, data) that can be jitted and vmapped. The command
line calls the same `train_interval` from the host, once a validation, so that it can show progress and log. On the same
devices both give bit-identical parameters.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, Int, PyTree

from lenet_jax import early_stopping
from lenet_jax.augment import Augment, Mixup, flatten
from lenet_jax.config import TrainerConfig
from lenet_jax.early_stopping import EarlyStoppingState
from lenet_jax.errors import InputError
from lenet_jax.evaluation import (
    check_labels,
    check_splits,
    count_examples,
    count_outputs,
    evaluate_task,
    on_device,
)
from lenet_jax.layers.base import check_key
from lenet_jax.microbatching import accumulate_gradients, accumulate_loss, choose_size
from lenet_jax.objective import (
    Batch,
    Task,
    check_model,
    check_objective,
    is_streaming,
    loss_weights,
    no_examples,
    training_loss_and_metrics,
)
from lenet_jax.objectives import classification
from lenet_jax.ops.definitions import widen
from lenet_jax.optimizers import chain_optimizer, set_hyperparameters
from lenet_jax.optimizers.plateau import observe_validation
from lenet_jax.optimizers.standard_form import (
    Optimizer,
    apply_optimizer,
    check_averages,
    evaluation_parameters,
    fit_to_run,
    standard_form,
)
from lenet_jax.sharding import replicate, shard_examples
from lenet_jax.train_plan import TrainPlan, minibatches, plan_run
from lenet_jax.types import (
    Dataset,
    Key,
    Metrics,
    Model,
    Objective,
    Split,
    Status,
    Variables,
    is_concrete,
    show_fields,
)

Hyperparameters = Mapping[str, float | Array]


class Evaluation(NamedTuple):
    """A validation, and the training since the one before."""

    iteration: Int[Array, "..."]  # minibatch iterations done
    train_loss: Float[Array, "..."]  # mean over the steps since the last validation
    validation: Metrics
    running: Mapping[str, Float[Array, "..."]] = MappingProxyType({})  # means of metrics over the minibatches, each
    # measured before its step; empty without `running_metrics`


class TrainState(NamedTuple):
    """All that a run carries from one step to the next."""

    variables: Variables
    opt_state: PyTree
    key: Key  # of shuffling, augmentation and dropout; each use folds in the epoch or the iteration
    iteration: Int[Array, "..."]  # minibatch iterations done
    early_stopping: EarlyStoppingState
    best: Variables  # at the best validation
    best_validation: Metrics
    status: Int[Array, "..."]  # a Status


class TrainResult(NamedTuple):
    """The outcome of a whole run.

    Look at `status` first: no exception is raised for a run that diverged. Of such a run, `status` is Status.DIVERGED,
    `iterations` is the number of steps before the one whose loss, gradient or update was not finite, and `variables`,
    `validation` and `test` are of its best validation before that (of its last weights, if the configuration says
    `weights: last`); all three are finite. If there was no validation yet, `variables` are the initial ones and
    `validation` has no examples. The last row of `history` that is used is of the interval in which it diverged, with a
    `train_loss` that is NaN.
    """

    variables: Variables  # at the best validation; or the last ones, if the configuration says `weights: last`
    validation: Metrics  # of these variables
    test: Metrics  # of these variables
    iterations: Int[Array, "..."]  # minibatch iterations done
    status: Int[Array, "..."]  # a Status
    history: Evaluation
    """Arrays over the validations that a run may have. Those after the end have `iteration` 0, no examples, and losses
    of NaN, or of infinity where `jax_debug_nans` would report NaN, or of the largest float where `jax_debug_infs` would
    report that too; `history.iteration > 0` selects the others."""

    def __repr__(self) -> str:
        """Return one line, with shapes in the place of arrays."""
        return show_fields(self)


def make_task(
    model: Model,
    config: TrainerConfig,
    data: Dataset,
    objective: Objective | None = None,
    augment: Sequence[Augment | Mixup] = (),
) -> Task:
    """Return what a run trains and evaluates.

    Raises:
        InputError: if the objective is monitored by a value that it lacks, or there is more than one Mixup.
    """
    check_objective(objective or classification())
    return Task(model, objective or classification(), flatten(augment), config.compute_dtype, data.pixel_divisor)


def init_train_state(
    model: Model,
    optimizer: Optimizer,
    config: TrainerConfig,
    key: Key,
    hyperparameters: Hyperparameters,
    *,
    objective: Objective | None = None,
    initial: Mapping[str, Array] = MappingProxyType({}),
) -> TrainState:
    """Return the state before the first step.

    Args:
        model: the network.
        optimizer: any Optax gradient transformation.
        config: the trainer's configuration.
        key: consumed; decides initial weights, the order of the examples, augmentation and dropout.
        hyperparameters: values that replace those of the same name in the optimizer's state (those that
            `optax.inject_hyperparams` keeps there, as `make_optimizer` arranges); may be empty.
        objective: of the run; None: classification.
        initial: initial weights that replace those that the key makes, by path, such as "params/conv1/kernel".

    Raises:
        InputError: if a hyperparameter is not in the optimizer's state, or that has several moving averages.
    """
    init_key, run_key = jax.random.split(key)
    variables = jax.tree_util.tree_map_with_path(
        lambda path, leaf: initial.get(jax.tree_util.keystr(path, simple=True, separator="/"), leaf),
        model.init(init_key),
    )
    opt_state = standard_form(optimizer).init(variables.params)
    check_averages(opt_state)
    return TrainState(
        variables=variables,
        opt_state=set_hyperparameters(opt_state, hyperparameters),
        key=run_key,
        iteration=jnp.zeros((), jnp.int32),
        early_stopping=early_stopping.init(config.early_stopping, (objective or classification()).stopping),
        best=jax.tree.map(jnp.copy, variables),  # buffers of its own, so that the state can be donated
        best_validation=no_examples(objective or classification()),
        status=jnp.asarray(Status.RUNNING, jnp.int32),
    )


# ---- a step ---------------------------------------------------------------------------------------------------------


def train_step(
    model: Model,
    optimizer: Optimizer,
    state: TrainState,
    data: Dataset,
    indices: Int[Array, "N"],  # noqa: F821
    *,
    objective: Objective | None = None,
    augment: Sequence[Augment | Mixup] = (),
    compute_dtype: str = "float32",
    grad_accumulation_steps: int = 1,
) -> tuple[TrainState, Float[Array, ""]]:
    """Take one optimizer step on the mean loss of a minibatch.

    If the loss, the gradient or the update is not finite, the step is skipped and the status becomes DIVERGED; unless
    the optimizer has made a finite update of a gradient that is not, as `optax.apply_if_finite` does. A finished run is
    returned unchanged.

    Args:
        model: the network.
        optimizer: any Optax gradient transformation.
        state: before the step.
        data: only its training split is used.
        indices: which training examples make up the minibatch, 0 to the size of the training set - 1. Those that are
            traced, as under `jax.jit`, cannot be checked; JAX takes the nearest example for one that is out of range.
        objective: whose loss is minimized; None: classification.
        augment: augmentations of the examples, one after another.
        compute_dtype: "float32" or "bfloat16".
        grad_accumulation_steps: number of microbatches whose gradients are summed, to save memory; it divides the size
            of the minibatch. A model with state has the statistics of each microbatch.

    Returns:
        The state after the step, and the minibatch's mean loss before it; NaN if the step was skipped.

    Raises:
        InputError: if `grad_accumulation_steps` does not divide the minibatch, or an index that is not traced is out of
            range.
    """
    _check_indices(indices, count_examples(data.train))
    task = Task(model, objective or classification(), flatten(augment), compute_dtype, data.pixel_divisor)
    state, loss, _ = _step(
        task, optimizer, state, on_device(data.train), indices, grad_accumulation_steps=grad_accumulation_steps
    )
    return state, loss


def _check_indices(indices: Array, num_examples: int) -> None:
    if not is_concrete(indices) or not indices.size:
        return
    low, high = int(indices.min()), int(indices.max())
    if low < 0 or high >= num_examples:
        raise InputError(f"train_step: `indices` must be 0 to {num_examples - 1}; got {low} to {high}.")


def _step(
    task: Task,
    optimizer: Optimizer,
    state: TrainState,
    examples: Split,
    indices: Array,
    *,
    grad_accumulation_steps: int,
    running: Sequence[str] = (),
) -> tuple[TrainState, Array, dict[str, Array]]:
    """Take a step as `train_step`; also return the means of the metrics `running` over the minibatch."""
    batch_size = indices.shape[0]
    has_state = bool(jax.tree.leaves(state.variables.state))
    is_separable = task.model.takes_example_keys and not has_state
    batch = replicate(_draw_keys(task, state, indices))
    size = choose_size(batch_size, grad_accumulation_steps, is_separable=is_separable)

    def loss_fn(variables: Variables, part: "_Indexed") -> tuple[Array, PyTree]:
        model_state, sums = variables.state
        variables = replicate(variables._replace(state=model_state))
        batch = shard_examples(_gather(examples, shard_examples(part)))
        losses, model_state, more = training_loss_and_metrics(task, variables, batch, running)
        return losses, (model_state, jax.tree.map(jnp.add, sums, more))

    sums = {name: jnp.zeros((), jnp.float32) for name in running}
    variables = state.variables._replace(state=(state.variables.state, sums))

    per_loss = _per_loss(task.objective, examples.targets, indices)

    def mean_loss(params: PyTree) -> Array:
        """Return the minibatch loss at `params`, for optimizers that take a `value_fn`."""
        return accumulate_loss(loss_fn, variables._replace(params=params), batch, size) * per_loss

    grads, loss, (model_state, sums) = accumulate_gradients(loss_fn, variables, batch, size)
    grads, loss = jax.tree.map(lambda x: x * per_loss, (grads, loss))
    params = state.variables.params
    updates, opt_state = apply_optimizer(optimizer, state.opt_state, params, grads, loss, mean_loss)
    proposed = state._replace(
        variables=Variables(optax.apply_updates(params, updates), model_state),
        opt_state=opt_state,
        iteration=state.iteration + 1,
    )
    state, loss = _accept_if_finite(state, proposed, loss, grads)
    return state, loss, jax.tree.map(lambda x: jnp.where(jnp.isfinite(loss), x / batch_size, jnp.nan), sums)


def _per_loss(objective: Objective, targets: PyTree, indices: Array) -> Array | float:
    """Return the factor that makes the weighted sum of a minibatch's losses their mean; 0 if all weights are 0."""
    weights = loss_weights(objective, jax.tree.map(lambda x: x[indices], targets))
    if weights is None:
        return 1.0 / indices.shape[0]
    total = jnp.sum(weights, dtype=jnp.float32)
    return jnp.where(total > 0, 1.0 / jnp.where(total > 0, total, 1.0), 0.0)


class _Indexed(NamedTuple):
    """Examples of a minibatch by their places in the training set, and the keys of what is drawn for them."""

    indices: Array  # (N,)
    keys: Key  # (N,)
    partner: "_Indexed | None" = None


def _draw_keys(task: Task, state: TrainState, indices: Array) -> _Indexed:
    """Give each example of a minibatch a key by its position in it, and a partner where examples are mixed."""
    _, step_key = jax.random.split(jax.random.clone(state.key))
    step_key = jax.random.fold_in(step_key, state.iteration)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(step_key, jnp.arange(indices.shape[0]))
    if not any(isinstance(each, Mixup) for each in task.augment):
        return _Indexed(indices, keys)
    neighbour = jnp.roll(jnp.arange(indices.shape[0]), 1)
    return _Indexed(indices, keys, _Indexed(indices[neighbour], keys[neighbour]))


def _gather(examples: Split, part: _Indexed) -> Batch:
    inputs, targets = jax.tree.map(lambda x: x[part.indices], examples)
    return Batch(inputs, targets, part.keys, None if part.partner is None else _gather(examples, part.partner))


def minibatch(task: Task, state: TrainState, examples: Split, indices: Int[Array, "N"]) -> Batch:  # noqa: F821
    """Return the examples of the next step with the keys that the step gives them.

    Args:
        task: what is trained.
        state: before the step.
        examples: the training set, on a device.
        indices: which of them make up the minibatch.
    """
    return _gather(examples, _draw_keys(task, state, indices))


def _accept_if_finite(state: TrainState, proposed: TrainState, loss: Array, grads: PyTree) -> tuple[TrainState, Array]:
    """Return the proposed state of a running run whose results are finite, and the loss; else the state before, NaN.

    A gradient that is not finite may be the optimizer's own business, as that of `optax.apply_if_finite` and
    `optax.zero_nans`: the step is taken if the update is finite, and without its loss if that is not.
    """
    params = proposed.variables.params
    all_finite = _is_finite((loss, grads, params))
    finite = lax.cond(all_finite, lambda: True, lambda: _is_finite(params) & ~_is_finite(grads))
    running = state.status == Status.RUNNING
    keys = ("variables", "opt_state", "iteration")  # of what a step changes
    new, old = ([getattr(each, key) for key in keys] for each in (proposed, state))
    accepted = jax.tree.map(functools.partial(jnp.where, finite & running), new, old)
    status = jnp.where(running & ~finite, jnp.int32(Status.DIVERGED), state.status)
    state = state._replace(**dict(zip(keys, accepted, strict=True)), status=status)
    return state, jnp.where(finite & running & jnp.isfinite(loss), loss, jnp.nan)


def _is_finite(tree: PyTree) -> Array:
    """Tell whether all values are finite, and not so large that the sum of their squares is not in float32."""
    # First over all axes but the last, which a CPU does in vectors; a sum over all of them is one addition at a time.
    wide = [widen(leaf) for leaf in jax.tree.leaves(tree)]
    columns = [jnp.sum(leaf * leaf, axis=tuple(range(leaf.ndim - 1))) for leaf in wide]
    return jnp.isfinite(sum(map(jnp.sum, columns)))


# ---- up to the next validation --------------------------------------------------------------------------------------


def evaluation_variables(state: TrainState) -> Variables:
    """Return the variables to evaluate; see `lenet_jax.optimizers.standard_form.evaluation_parameters`."""
    params = evaluation_parameters(state.opt_state, state.variables.params)
    return state.variables._replace(params=params)


def train_interval(
    task: Task | Model,
    optimizer: Optimizer,
    config: TrainerConfig,
    state: TrainState,
    data: Dataset,
) -> tuple[TrainState, Evaluation]:
    """Train up to the next validation, evaluate, and apply the stopping criteria; `state` is of a running run.

    An interval is an epoch, or shorter where patience is (`early_stopping.validation_interval`). A run whose patience
    ends before the next validation stops here: its remaining steps could not change the result. A model as `task` is
    trained for classification.

    Raises:
        InputError: while tracing, if the data do not fit the configuration.
    """
    task = make_task(task, config, data) if isinstance(task, Model) else task
    num_train = count_examples(data.train)
    plan = plan_run(config, num_train)
    step = make_step(task, optimizer, config, on_device(data.train))
    with jax.default_matmul_precision(config.matmul_precision):
        batches = next_minibatches(config, plan, num_train, state)
        state, (losses, running) = lax.scan(step, state, batches)
        validation = evaluate_task(task, evaluation_variables(state), data.validation)
    return finish_interval(task.objective, config, plan, state, losses, running, validation)


def next_minibatches(
    config: TrainerConfig, plan: TrainPlan, num_train: int, state: TrainState
) -> Int[Array, "steps batch"]:
    """Return the training examples of each minibatch up to the next validation."""
    order_key, _ = jax.random.split(jax.random.clone(state.key))
    return minibatches(plan, num_train, order_key, state.iteration, shuffle=config.shuffle)


Step = Callable[[TrainState, Array], tuple[TrainState, tuple[Array, dict[str, Array]]]]


def make_step(task: Task, optimizer: Optimizer, config: TrainerConfig, examples: Split) -> Step:
    """Return the step of an interval: (state, indices) -> (state, (loss, means of the running metrics)).

    Args:
        task: what is trained.
        optimizer: any Optax gradient transformation.
        config: the trainer's configuration.
        examples: on a device, to which the indices refer.
    """

    def step(state: TrainState, indices: Array) -> tuple[TrainState, tuple[Array, dict[str, Array]]]:
        state, loss, means = _step(
            task,
            optimizer,
            state,
            examples,
            indices,
            grad_accumulation_steps=config.grad_accumulation_steps,
            running=_running_metrics(task.objective, config),
        )
        return state, (loss, means)

    return step


def finish_interval(
    objective: Objective,
    config: TrainerConfig,
    plan: TrainPlan,
    state: TrainState,
    losses: Array,
    running: Mapping[str, Array],
    validation: Metrics,
) -> tuple[TrainState, Evaluation]:
    """Apply the stopping criteria after the steps of an interval and its validation.

    Args:
        objective: of the run.
        config: the trainer's configuration.
        plan: the lengths of the run.
        state: after the steps.
        losses: of each step.
        running: the means of the running metrics of each step.
        validation: of the state.
    """
    mean_loss, *means = (_mean_loss(each, state.status) for each in (losses, *running.values()))
    evaluation = Evaluation(state.iteration, mean_loss, validation, dict(zip(running, means, strict=True)))
    return _apply_stopping_criteria(objective, config, plan, state, validation), evaluation


def _running_metrics(objective: Objective, config: TrainerConfig) -> list[str]:
    """Return the names of the metrics that are measured while a run trains: those that are means over the examples."""
    is_mean = {name: not is_streaming(metric) for name, metric in objective.metrics.items()}
    return [name for name in is_mean if is_mean[name] and config.running_metrics]


def _mean_loss(losses: Array, status: Array) -> Array:
    """Return the mean loss of an interval; of a run that goes on, without the steps whose loss was not finite."""
    mean = jnp.mean(losses)
    return jnp.where(jnp.isfinite(mean) | (status == Status.DIVERGED), mean, jnp.nanmean(losses))


def _apply_stopping_criteria(
    objective: Objective, config: TrainerConfig, plan: TrainPlan, state: TrainState, validation: Metrics
) -> TrainState:
    last = state.iteration - 1  # counted from 0
    finite = (state.status == Status.RUNNING) & jnp.isfinite(validation.loss_sum)
    monitored = validation.mean(objective.monitor)
    error = jnp.where(finite, 1.0 - monitored if objective.mode == "max" else monitored, jnp.float32(jnp.inf))
    improved = error < state.early_stopping.best_error
    stopping = early_stopping.update(state.early_stopping, error, last, config.early_stopping)
    own_rule_stops = jnp.asarray(False)
    if objective.stopping is not None:
        epochs = state.iteration.astype(jnp.float32) / plan.epoch
        own_state, own_rule_stops = objective.stopping.update(stopping.own_rule, monitored, epochs)
        stopping = stopping._replace(own_rule=own_state)

    status = jnp.where(state.iteration >= plan.num_intervals * plan.interval, Status.MAX_EPOCHS, Status.RUNNING)
    out_of_patience = early_stopping.should_stop(stopping, last + plan.interval - 1)
    status = jnp.where(out_of_patience & (objective.stopping is None), Status.PATIENCE, status)
    status = jnp.where(own_rule_stops, Status.OWN_RULE, status)
    status = jnp.where(finite, status, Status.DIVERGED)

    def keep_best(new: PyTree, old: PyTree) -> PyTree:
        return jax.tree.map(lambda n, o: jnp.where(improved, n, o), new, old)

    return state._replace(
        early_stopping=stopping,
        opt_state=observe_validation(state.opt_state, error),
        best=keep_best(evaluation_variables(state), state.best),
        best_validation=keep_best(validation, state.best_validation),
        status=status.astype(jnp.int32),
    )


# ---- a whole run ----------------------------------------------------------------------------------------------------


def make_train(
    model: Model,
    optimizer: Optimizer,
    config: TrainerConfig,
    *,
    objective: Objective | None = None,
    augment: Sequence[Augment | Mixup] = (),
    differentiable: bool = False,
) -> Callable[..., TrainResult]:
    """Return a whole run as one pure function, early stopping and best parameters included.

    The function `train(key, hyperparameters, data)` consumes the key and returns a `TrainResult`. It can be jitted, and
    vmapped over keys and hyperparameters; a run that has stopped is unchanged while the others go on.
    `hyperparameters` replaces values in the optimizer's state by name, for example {"learning_rate": 0.05}; they are
    traced, so another value does not recompile. {} keeps the optimizer's own.

    Args:
        model: the network; `lenet_jax.interop.to_model` makes one of a module of flax or Equinox.
        optimizer: any Optax gradient transformation; one of `make_optimizer` gets the lengths of the run for its
            schedule.
        config: the trainer's configuration; its `clip_norm` and `ema_decay` are put around the optimizer here.
        objective: loss and metrics; None: classification.
        augment: augmentations of the training examples, one after another.
        differentiable: whether `train` can be differentiated in reverse mode as well, with respect to hyperparameters
            and float inputs: hypergradients. Its loop then has `max_epochs` intervals, of which those after the stop do
            nothing, keeps the state before each of them, and computes each twice. Differentiate a loss, such as
            `result.validation.loss_sum`, or outputs of `result.variables`: an accuracy is piecewise constant, and so is
            the choice of the best weights (`config.weights="last"` makes none).

    Raises:
        InputError: if `model`, `optimizer`, `config` or `objective` is none; by `train` while it is traced, if the data
            do not fit the configuration or a name is unknown; if the objective has labels (classification) and targets
            are not integers (N,), or are known to be out of range: those of a `Dataset` that was made of concrete
            arrays are.
    """
    check_model("make_train", model)
    objective = objective or classification()
    check_objective(objective)
    if not (callable(getattr(optimizer, "init", None)) and callable(getattr(optimizer, "update", None))):
        raise InputError(
            f"make_train: `optimizer` must be an Optax transformation; got {optimizer!r}; make one, as "
            "lj.make_optimizer('sgd')."
        )
    if not isinstance(config, TrainerConfig):
        raise InputError(f"make_train: `config` must be a lj.config.TrainerConfig; got a {type(config).__name__}.")

    def fit(plan: TrainPlan) -> Optimizer:
        fitted = fit_to_run(optimizer, plan.epoch * config.max_epochs, plan.epoch)
        if config.clip_norm is None and config.ema_decay is None:
            return fitted
        return chain_optimizer(fitted, clip_norm=config.clip_norm, ema_decay=config.ema_decay)

    def train(key: Key, hyperparameters: Hyperparameters, data: Dataset) -> TrainResult:
        check_key("train", key)
        if not isinstance(data, Dataset):
            raise InputError(f"train: `data` must be a lj.Dataset of three lj.Split; got a {type(data).__name__}.")
        check_splits(data, objective)
        task = make_task(model, config, data, objective, augment)
        if objective.has_labels and data.label_ranges:
            check_labels(data, count_outputs(task, data.train))
        plan = plan_run(config, count_examples(data.train))
        fitted = fit(plan)
        state = init_train_state(model, fitted, config, key, hyperparameters, objective=objective)

        loop = _scan_intervals if differentiable else _loop_over_intervals
        nothing = no_evaluation(task.objective, config)
        state, history = loop(
            lambda state: train_interval(task, fitted, config, state, data), state, nothing, plan.num_intervals
        )
        validation = state.best_validation
        if config.weights == "last":
            number = jnp.maximum(state.iteration - 1, 0) // plan.interval
            validation = jax.tree.map(lambda column: column[number], history.validation)
        variables = result_variables(config, state)
        with jax.default_matmul_precision(config.matmul_precision):
            test = evaluate_task(task, variables, data.test)
        return TrainResult(variables, validation, test, state.iteration, state.status, history)

    return train


Interval = Callable[[TrainState], tuple[TrainState, Evaluation]]


def _loop_over_intervals(
    interval: Interval, state: TrainState, nothing: Evaluation, num_intervals: int
) -> tuple[TrainState, Evaluation]:
    """Take intervals until the run stops; return its state and the evaluations, `nothing` where it did not run."""

    def advance(carry: tuple[TrainState, Evaluation, Array]) -> tuple[TrainState, Evaluation, Array]:
        state, history, number = carry
        state, evaluation = interval(state)
        history = jax.tree.map(lambda column, x: column.at[number].set(x.astype(column.dtype)), history, evaluation)
        return state, history, number + 1

    history = jax.tree.map(lambda x: jnp.full((num_intervals, *x.shape), x, x.dtype), nothing)
    start = (state, history, jnp.zeros((), jnp.int32))
    state, history, _ = lax.while_loop(lambda carry: carry[0].status == Status.RUNNING, advance, start)
    return state, history


def _scan_intervals(
    interval: Interval, state: TrainState, nothing: Evaluation, num_intervals: int
) -> tuple[TrainState, Evaluation]:
    """Do the same by a loop of known length, which reverse mode differentiates."""

    def go_on(state: TrainState) -> tuple[TrainState, Evaluation]:
        state, evaluation = interval(state)
        return state, jax.tree.map(lambda like, x: x.astype(like.dtype), nothing, evaluation)

    @jax.checkpoint
    def advance(state: TrainState, _: None) -> tuple[TrainState, Evaluation]:
        return lax.cond(state.status == Status.RUNNING, go_on, lambda state: (state, nothing), state)

    return lax.scan(advance, state, None, length=num_intervals)


def result_variables(config: TrainerConfig, state: TrainState) -> Variables:
    """Return the variables that are the result of a run: at the best validation, or after the last step."""
    return evaluation_variables(state) if config.weights == "last" else state.best


def _unused_loss() -> float:
    config: Any = jax.config
    if not config.jax_debug_nans:
        return jnp.nan
    return float(jnp.finfo(jnp.float32).max) if config.jax_debug_infs else jnp.inf


def no_evaluation(objective: Objective, config: TrainerConfig) -> Evaluation:
    """Return the evaluation of a run that did not run: counts of 0, and losses as of `TrainResult.history`."""
    losses = jnp.full((), _unused_loss(), jnp.float32)
    running = dict.fromkeys(_running_metrics(objective, config), losses)
    return Evaluation(jnp.zeros((), jnp.int32), losses, no_examples(objective)._replace(loss_sum=losses), running)
