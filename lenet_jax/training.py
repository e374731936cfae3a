"""Training as pure functions: a step, the steps up to the next validation, a whole run.

`make_train` gives a run as one function of (key, hyperparameters, data) that can be jitted and vmapped. The command
line drives the same `train_interval` from the host, one dispatch a validation, so that it can show progress and log.
On the same devices both give bit-equal parameters.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, Int

from lenet_jax import early_stopping
from lenet_jax.config import TrainerConfig
from lenet_jax.errors import InputError, unknown_name
from lenet_jax.evaluation import evaluate, on_device, scale_pixels
from lenet_jax.losses import cross_entropy, training_losses
from lenet_jax.metrics import no_examples
from lenet_jax.optimizers import averaged_parameters
from lenet_jax.precision import in_compute_dtype
from lenet_jax.types import (
    Dataset,
    Evaluation,
    Key,
    Loss,
    Metrics,
    Model,
    Status,
    TrainResult,
    TrainState,
    Variables,
)

Hyperparameters = Mapping[str, float | Array]

# Examples that are worked on at a time, so that their patches stay in the processor's cache; see
# experiments/benchmarks/README.md for what it gains.
_PORTION = 64
_SMALLEST_PORTION = 16
# Two portions do not depend on each other, so what one leaves idle of two cores the other can use.
_PORTIONS_AT_A_TIME = 2


class Plan(NamedTuple):
    """The lengths of a run, in minibatch iterations; all known before it starts."""

    batch_size: int
    epoch: int  # iterations an epoch: the whole batches in the training set
    interval: int  # iterations from one validation to the next
    num_intervals: int  # in the longest possible run


def plan_run(config: TrainerConfig, num_train: int) -> Plan:
    """Work out the lengths of a run on `num_train` training examples.

    Raises:
        InputError: if a batch is larger than the training set, or the run is longer than can be counted.
    """
    batch_size = num_train if config.batch_size is None else config.batch_size
    if batch_size > num_train:
        raise InputError(
            f"`trainer.batch_size` must be at most the size of the training set, {num_train}; got {batch_size}."
        )
    if batch_size % config.num_portions:
        raise InputError(
            f"`trainer.num_portions` must divide the batch of {batch_size} examples; got {config.num_portions}."
        )
    epoch = num_train // batch_size
    if config.max_epochs * epoch >= 2**31:  # iterations are counted in int32
        raise InputError(
            f"`trainer.max_epochs` must be below {2**31 // epoch} for {epoch} iterations an epoch; "
            f"got {config.max_epochs}."
        )
    interval = early_stopping.validation_interval(epoch, config.early_stopping)
    return Plan(batch_size, epoch, interval, config.max_epochs * epoch // interval)


def init_train_state(
    model: Model,
    optimizer: optax.GradientTransformation,
    config: TrainerConfig,
    key: Key,
    hyperparameters: Hyperparameters,
) -> TrainState:
    """Return the state before the first step.

    Args:
        model: the network.
        optimizer: any Optax gradient transformation.
        config: the trainer's configuration.
        key: consumed; decides initial weights, the order of the examples and dropout.
        hyperparameters: values that replace those of the same name in the optimizer's state (those that
            `optax.inject_hyperparams` keeps there, as `make_optimizer` arranges); may be empty.

    Raises:
        InputError: if a hyperparameter is not in the optimizer's state.
    """
    init_key, run_key = jax.random.split(key)
    variables = model.init(init_key)
    return TrainState(
        variables=variables,
        opt_state=_set_hyperparameters(optimizer.init(variables.params), hyperparameters),
        key=run_key,
        iteration=jnp.zeros((), jnp.int32),
        early_stopping=early_stopping.init(config.early_stopping),
        best=jax.tree.map(jnp.copy, variables),  # buffers of its own, so that the state can be donated
        best_validation=no_examples(),
        status=jnp.asarray(Status.RUNNING, jnp.int32),
    )


def _set_hyperparameters(opt_state: Any, hyperparameters: Hyperparameters) -> Any:
    for name, value in hyperparameters.items():
        if not optax.tree_utils.tree_get_all_with_path(opt_state, name):
            found = optax.tree_utils.tree_get_all_with_path(opt_state, "hyperparams")
            valid = sorted({key for _, values in found for key in values})
            if not valid:
                raise InputError(
                    f"`hyperparameters` must be empty for an optimizer that keeps none in its state; got {name!r}; "
                    "build it with make_optimizer or optax.inject_hyperparams."
                )
            raise unknown_name("hyperparameters", name, valid)
        opt_state = optax.tree_utils.tree_set(opt_state, **{name: jnp.asarray(value, jnp.float32)})
    return opt_state


def train_step(
    model: Model,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    data: Dataset,
    indices: Int[Array, "N"],  # noqa: F821
    *,
    loss_fn: Loss = cross_entropy,
    num_portions: int = 1,
    axis_name: str | None = None,
) -> tuple[TrainState, Float[Array, ""]]:
    """Take one optimizer step on the mean cross-entropy of a minibatch.

    If its loss, the gradient or the update is not finite, the state stays as it is, but for its status: diverged. A run
    that does not run stays as it is.

    Args:
        model: the network.
        optimizer: any Optax gradient transformation.
        state: before the step.
        data: only its training split is used.
        indices: which training examples make up the minibatch.
        loss_fn: (logits, labels) -> loss of each example.
        num_portions: that the minibatch is worked on in, one after another, whose gradients are added: it takes less
            memory, and a model with state has the statistics of each portion. It divides the size of the minibatch.
        axis_name: a mapped axis, as of `jax.shard_map`, that the minibatch is split over: all of its devices get the
            same arguments, each computes the gradient of its part, and all return the same. A model with state, which
            depends on the whole minibatch, is not split.

    Returns:
        The state after the step, and the minibatch's mean loss before it; NaN if the step was not done.

    Raises:
        InputError: if the size of the axis does not divide the minibatch.
    """
    params, model_state = state.variables
    _, step_key = jax.random.split(state.key)
    step_key = jax.random.fold_in(step_key, state.iteration)
    batch_size = indices.shape[0]
    scale = 1.0 / batch_size
    # Batch statistics in the state are those of the whole batch.
    has_state = bool(jax.tree.leaves(model_state))
    if has_state:
        axis_name = None
    indices, shard = (indices, 0) if axis_name is None else _own_part(indices, axis_name)
    asked = _divide(indices.shape[0], num_portions)
    on_cpu = asked if has_state else _portion_size(asked)
    examples, losses = on_device(data.train), training_losses(model)

    def sum_losses(params: Any, model_state: Any, indices: Array, key: Key) -> tuple[Array, Any]:
        images = scale_pixels(examples.images[indices], data.pixel_divisor)
        variables = Variables(params, model_state)
        each, new_state = losses(loss_fn, variables, images, examples.labels[indices], key=key)
        return jnp.sum(each), new_state

    def mean_loss(params: Any) -> Array:
        """Return the same loss for other parameters, for optimizers that look around (`value_fn`)."""

        def total_loss(portions: Array, params: Any) -> Array:
            @jax.checkpoint  # its backward pass keeps one portion at a time
            def add(total: Array, xs: tuple[Array, Array]) -> tuple[Array, None]:
                number, indices = xs
                key = jax.random.fold_in(step_key, shard * portions.shape[0] + number)
                return total + sum_losses(params, model_state, indices, key)[0], None

            return lax.scan(add, jnp.zeros((), jnp.float32), (jnp.arange(portions.shape[0]), portions))[0]

        total = lax.platform_dependent(
            params,
            cpu=functools.partial(total_loss, indices.reshape(-1, on_cpu)),
            default=functools.partial(total_loss, indices.reshape(-1, asked)),
        )
        return (total if axis_name is None else lax.psum(total, axis_name)) * scale

    def total_gradient(portions: Array, params: Any, model_state: Any) -> tuple[Any, Array, Any]:
        def accumulate(carry: tuple[Any, Array, Any], xs: tuple[Array, Array]) -> tuple[tuple[Any, Array, Any], None]:
            grads, loss, model_state = carry
            number, indices = xs
            key = jax.random.fold_in(step_key, shard * portions.shape[0] + number)
            (more_loss, model_state), more = jax.value_and_grad(sum_losses, has_aux=True)(
                params, model_state, indices, key
            )
            return (jax.tree.map(jnp.add, grads, more), loss + more_loss, model_state), None

        start = (jax.tree.map(jnp.zeros_like, params), jnp.zeros((), jnp.float32), model_state)
        xs = (jnp.arange(portions.shape[0]), portions)
        at_a_time = min(_PORTIONS_AT_A_TIME, portions.shape[0]) if axis_name is None else 1
        return lax.scan(accumulate, start, xs, unroll=at_a_time)[0]

    grads, loss, new_model_state = lax.platform_dependent(
        params,
        model_state,
        cpu=functools.partial(total_gradient, indices.reshape(-1, on_cpu)),
        default=functools.partial(total_gradient, indices.reshape(-1, asked)),
    )
    if axis_name is not None:
        grads, loss = lax.psum((grads, loss), axis_name)

    grads, loss = jax.tree.map(lambda x: x * scale, (grads, loss))
    update = optax.with_extra_args_support(optimizer).update
    updates, opt_state = update(grads, state.opt_state, params, value=loss, value_fn=mean_loss)
    variables = Variables(optax.apply_updates(params, updates), new_model_state)

    finite = _is_finite((loss, grads, updates))
    running = state.status == Status.RUNNING
    variables, opt_state, iteration = jax.tree.map(
        functools.partial(jnp.where, finite & running),
        (variables, opt_state, state.iteration + 1),
        (state.variables, state.opt_state, state.iteration),
    )
    status = jnp.where(running & ~finite, jnp.int32(Status.DIVERGED), state.status)
    state = state._replace(variables=variables, opt_state=opt_state, iteration=iteration, status=status)
    return state, jnp.where(finite & running, loss, jnp.nan)


def averaged(state: TrainState) -> Variables:
    """Return the variables that a run is measured with: of averaged parameters, where its optimizer keeps such."""
    params = averaged_parameters(state.opt_state)
    return state.variables if params is None else state.variables._replace(params=params)


def _is_finite(tree: Any) -> Array:
    """Tell whether all numbers are finite, and not so large that the sum of their squares is not."""
    # First over all axes but the last, which a CPU does in vectors; a sum over all of them is one addition at a time.
    columns = [jnp.sum(leaf * leaf, axis=tuple(range(leaf.ndim - 1))) for leaf in jax.tree.leaves(tree)]
    return jnp.isfinite(sum(map(jnp.sum, columns)))


def _own_part(indices: Array, axis_name: str) -> tuple[Array, Array]:
    """Return this device's part of a minibatch, and its number."""
    num_parts = lax.axis_size(axis_name)
    if indices.shape[0] % num_parts:
        raise InputError(
            f"`axis_name` must name an axis whose size divides the minibatch of {indices.shape[0]} examples; "
            f"got {axis_name!r}, which has {num_parts} devices."
        )
    number = lax.axis_index(axis_name)
    return lax.dynamic_index_in_dim(indices.reshape(num_parts, -1), number, keepdims=False), number


def _divide(batch_size: int, num_portions: int) -> int:
    if num_portions < 1 or batch_size % num_portions:
        raise InputError(
            f"train_step: `num_portions` must be 1 or above and divide the minibatch of {batch_size} examples; "
            f"got {num_portions!r}."
        )
    return batch_size // num_portions


def _portion_size(batch_size: int) -> int:
    """Return the largest divisor of the batch size that is a good portion; the batch size itself if there is none."""
    divisors = (n for n in range(min(_PORTION, batch_size), _SMALLEST_PORTION - 1, -1) if batch_size % n == 0)
    return next(divisors, batch_size)


def _order(config: TrainerConfig, plan: Plan, num_train: int, key: Key, epoch: Array) -> Array:
    """Return the training examples of one epoch in order, whole batches only."""
    if config.shuffle:
        return jax.random.permutation(jax.random.fold_in(key, epoch), num_train)[: plan.epoch * plan.batch_size]
    return jnp.arange(plan.epoch * plan.batch_size)


def _batches(config: TrainerConfig, plan: Plan, num_train: int, state: TrainState) -> Int[Array, "steps batch"]:
    """Return the examples of each minibatch up to the next validation.

    An interval is an epoch or shorter, so it lies in at most two epochs.
    """
    order_key, _ = jax.random.split(state.key)
    epoch, start = state.iteration // plan.epoch, state.iteration % plan.epoch
    order = functools.partial(_order, config, plan, num_train, order_key)
    if plan.interval == plan.epoch:
        examples = order(epoch)
    else:
        two_epochs = jnp.concatenate([order(epoch), order(epoch + 1)])
        examples = lax.dynamic_slice(two_epochs, (start * plan.batch_size,), (plan.interval * plan.batch_size,))
    return examples.reshape(plan.interval, plan.batch_size)


def train_interval(
    model: Model,
    optimizer: optax.GradientTransformation,
    config: TrainerConfig,
    state: TrainState,
    data: Dataset,
    *,
    axis_name: str | None = None,
) -> tuple[TrainState, Evaluation]:
    """Train up to the next validation, evaluate, and apply the rules that end a run; `state` is of one that runs.

    An interval is an epoch, or shorter where patience is (`early_stopping.validation_interval`). A run whose patience
    ends before the validation after this one stops here: what it would still do could not change its result.
    `axis_name` names a mapped axis that the work is split over, as in `train_step`.

    Raises:
        InputError: while tracing, if the data do not fit the configuration.
    """
    num_train = data.train.images.shape[0]
    plan = plan_run(config, num_train)
    model = in_compute_dtype(model, config.compute_dtype)
    loss_fn = functools.partial(cross_entropy, label_smoothing=config.label_smoothing)

    def step(state: TrainState, indices: Array) -> tuple[TrainState, Array]:
        return train_step(
            model, optimizer, state, data, indices,
            loss_fn=loss_fn, num_portions=config.num_portions, axis_name=axis_name,
        )  # fmt: skip

    with jax.default_matmul_precision(config.matmul_precision):
        state, losses = lax.scan(step, state, _batches(config, plan, num_train, state))
        validation = evaluate(model, averaged(state), data.validation, data.pixel_divisor, axis_name=axis_name)
    evaluation = Evaluation(state.iteration, jnp.mean(losses), validation)
    return _apply_rules(config, plan, state, evaluation), evaluation


def _apply_rules(config: TrainerConfig, plan: Plan, state: TrainState, evaluation: Evaluation) -> TrainState:
    validation = evaluation.validation
    last = state.iteration - 1  # counted from 0
    finite = (state.status == Status.RUNNING) & jnp.isfinite(validation.loss_sum)
    error = jnp.where(finite, 1.0 - validation.accuracy, jnp.float32(jnp.inf))
    improved = error < state.early_stopping.best_error
    stopping = early_stopping.update(state.early_stopping, error, last, config.early_stopping)

    status = jnp.where(state.iteration >= plan.num_intervals * plan.interval, Status.MAX_EPOCHS, Status.RUNNING)
    out_of_patience = early_stopping.should_stop(stopping, last + plan.interval - 1)
    status = jnp.where(out_of_patience, Status.PATIENCE, status)
    status = jnp.where(finite, status, Status.DIVERGED)

    def keep_best(new: Any, old: Any) -> Any:
        return jax.tree.map(lambda n, o: jnp.where(improved, n, o), new, old)

    return state._replace(
        early_stopping=stopping,
        best=keep_best(averaged(state), state.best),
        best_validation=keep_best(validation, state.best_validation),
        status=status.astype(jnp.int32),
    )


def make_train(
    model: Model, optimizer: optax.GradientTransformation, config: TrainerConfig
) -> Callable[..., TrainResult]:
    """Return a whole run as one pure function, early stopping and best parameters included.

    The function `train(key, hyperparameters, data)` consumes the key and returns a `TrainResult`. It can be jitted, and
    vmapped over keys and hyperparameters; a run that has stopped stays as it is while the others go on.
    `hyperparameters` replaces values in the optimizer's state by name, for example {"learning_rate": 0.05}; they are
    traced, so another value does not compile again. {} keeps the optimizer's own. A keyword argument `axis_name` names
    a mapped axis that the work is split over, as in `train_step`.

    Raises:
        InputError: by `train` while it is traced, if the data do not fit the configuration or a name is unknown.
    """

    def train(
        key: Key, hyperparameters: Hyperparameters, data: Dataset, *, axis_name: str | None = None
    ) -> TrainResult:
        plan = plan_run(config, data.train.images.shape[0])
        state = init_train_state(model, optimizer, config, key, hyperparameters)
        nothing = jnp.full(plan.num_intervals, jnp.nan, jnp.float32)
        zeros = jnp.zeros(plan.num_intervals, jnp.int32)
        history = Evaluation(zeros, nothing, Metrics(nothing, zeros, zeros))

        def running(carry: tuple[TrainState, Evaluation]) -> Array:
            return carry[0].status == Status.RUNNING

        def advance(carry: tuple[TrainState, Evaluation]) -> tuple[TrainState, Evaluation]:
            state, history = carry
            number = state.iteration // plan.interval
            state, evaluation = train_interval(model, optimizer, config, state, data, axis_name=axis_name)
            return state, jax.tree.map(lambda column, value: column.at[number].set(value), history, evaluation)

        state, history = lax.while_loop(running, advance, (state, history))
        with jax.default_matmul_precision(config.matmul_precision):
            measured = in_compute_dtype(model, config.compute_dtype)
            test = evaluate(measured, state.best, data.test, data.pixel_divisor, axis_name=axis_name)
        return TrainResult(state.best, state.best_validation, test, state.iteration, state.status, history)

    return train
