"""The compiled programs of runs: start them, train up to the next validation, measure what came of it.

Runs whose configurations differ only in their seed and in what the optimizer keeps in its state share them. The
programs work on slots: the stacked states of as many runs as are trained at a time. A slot whose run has ended stays as
it is until another is started in it.
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from lenet_jax.config import Config
from lenet_jax.errors import unknown_name
from lenet_jax.evaluation import evaluate
from lenet_jax.lanes import AXIS, advance, over_lanes
from lenet_jax.metrics import no_examples
from lenet_jax.optimizers import hyperparameters, make_optimizer
from lenet_jax.precision import in_compute_dtype
from lenet_jax.runs.compilation_cache import use_compilation_cache
from lenet_jax.sharding import choose_devices, jit_on, put_on
from lenet_jax.training import Plan, init_train_state, train_interval
from lenet_jax.types import Dataset, Evaluation, Metrics, Model, Status, TrainState, Variables

STRATEGIES = ("auto", "map", "devices", "vmap")
_MOST_VMAPPED = 64  # slots, unless told otherwise; the driver halves them where the memory is too small
KEY_SHAPE = jax.eval_shape(lambda: jax.random.key(0))  # and type of any key


class Programs(NamedTuple):
    """Programs for runs of one kind, and what they work on; every array of `states` has the slots as first axis."""

    states: TrainState  # of runs that have ended, to start others in
    put: Callable[[TrainState], TrainState]  # states of NumPy arrays, as `to_numbers` has them -> on the devices
    data: Dataset  # on the devices
    start: Callable[..., TrainState]  # ((states, fresh, *slot_values), None)
    advance: Callable[..., tuple[TrainState, Evaluation]]  # (states, data); the states' memory is taken over
    measure: Callable[..., tuple[Metrics, Metrics]]  # ((variables, ended), data) -> of the training and the test set
    compile_seconds: float


def kind(config: Config) -> Config:
    """Return what a configuration has in common with all that share its programs."""
    defaults = hyperparameters(type(config.optimizer)())
    return dataclasses.replace(config, seed=0, optimizer=dataclasses.replace(config.optimizer, **defaults))


def choose_slots(strategy: str, num_jobs: int, batch_size: int | None, most: int | None = None) -> tuple[str, int]:
    """Return the strategy and the number of slots for so many jobs.

    "auto" is "vmap" on GPU and TPU. On a CPU it is what gives each job the bits that it has alone: "map", unless the
    minibatches are so small that a run alone would leave all cores but one idle; then "devices".

    Args:
        strategy: one of `STRATEGIES`, as in `compile_programs`.
        num_jobs: 1 or above.
        batch_size: of the jobs; None: all images.
        most: the upper limit of slots; None: a device each for "devices", 64 for "vmap".

    Raises:
        InputError: if the strategy is unknown.
    """
    if strategy not in STRATEGIES:
        raise unknown_name("sweep.strategy", strategy, STRATEGIES)
    devices = jax.local_devices()
    if strategy == "auto" and devices[0].platform != "cpu":
        strategy = "vmap"
    elif strategy == "auto":
        idle = batch_size is not None and len(devices) > len(choose_devices(batch_size)) == 1
        strategy = "devices" if idle and num_jobs > 1 else "map"
    limit = {"map": 1, "devices": len(devices), "vmap": _MOST_VMAPPED}[strategy] if most is None else most
    num_slots = 1 if strategy == "map" else min(num_jobs, limit)
    if strategy == "devices" and num_slots > len(devices):
        num_slots += -num_slots % len(devices)  # as many on each
    return strategy, num_slots


def _make_init(config: Config, model: Model, plan: Plan) -> tuple[optax.GradientTransformation, Callable]:
    """Return the optimizer, and what makes the state before the first step of a key and hyperparameters."""
    epochs = config.trainer.max_epochs
    optimizer = make_optimizer(
        config.optimizer,
        config.schedule,
        epoch_iterations=plan.epoch,
        num_epochs=epochs,
        clip_norm=config.trainer.clip_norm,
        ema_decay=config.trainer.ema_decay,
    )
    return optimizer, functools.partial(init_train_state, model, optimizer, config.trainer)


def state_shapes(config: Config, model: Model, plan: Plan) -> TrainState:
    """Return the shapes and dtypes of a run's state, as `to_numbers` has it; the arguments are `compile_programs`'."""
    _, init = _make_init(config, model, plan)
    return jax.eval_shape(to_numbers, jax.eval_shape(init, KEY_SHAPE, hyperparameters(config.optimizer)))


def compile_programs(
    config: Config, model: Model, plan: Plan, data: Dataset, *, strategy: str = "map", num_slots: int = 1
) -> Programs:
    """Compile the programs for runs of one kind, and put the data where they find them.

    Args:
        config: of any of the runs; see `kind`.
        model: built from it, with its augmentation.
        plan: the lengths of a run.
        data: what is trained and measured on.
        strategy: "map": one run after another, its minibatches split over the devices as those of a run alone.
            "devices": a share of the slots on each device; bit for bit what a run on one device gives. "vmap": each
            operation for all slots at once; equal to a run on one device within rounding.
        num_slots: runs that are trained at a time; 1 for "map".
    """
    begin = time.perf_counter()
    trainer = config.trainer
    optimizer, init = _make_init(config, model, plan)

    def start(lane: Any, _: None, *, axis_name: str | None = None) -> TrainState:
        state, fresh, seed, values = lane
        return lax.cond(fresh, lambda: init(jax.random.key(seed), values), lambda: state)

    def train(state: TrainState, data: Dataset, *, axis_name: str | None = None) -> tuple[TrainState, Evaluation]:
        if strategy == "map":
            return train_interval(model, optimizer, trainer, state, data, axis_name=axis_name)
        return advance(model, optimizer, trainer, state, data)

    def measure(lane: Any, data: Dataset, *, axis_name: str | None = None) -> tuple[Metrics, Metrics]:
        variables, ended = lane
        splits = (data.train, data.test)

        def look(variables: Variables) -> tuple[Metrics, Metrics]:
            measured = in_compute_dtype(model, trainer.compute_dtype)
            train, test = (evaluate(measured, variables, s, data.pixel_divisor, axis_name=axis_name) for s in splits)
            return train, test

        return lax.cond(ended, look, lambda _: (no_examples(), no_examples()), variables)

    state = jax.eval_shape(init, KEY_SHAPE, hyperparameters(config.optimizer))
    if strategy != "map":
        devices = jax.local_devices()[:num_slots]
    elif jax.tree.leaves(state.variables.state):  # of the whole minibatch, which is not split
        devices = jax.local_devices()[:1]
    else:
        devices = choose_devices(plan.batch_size)
    place, spread = _alone(devices) if strategy == "map" else _side_by_side(devices, strategy)

    states = _ended(state, num_slots)
    nothing = np.zeros(num_slots, bool)

    def compiled(fn: Callable, *args: Any, **options: Any) -> Any:
        return spread(fn, **options).lower(*jax.eval_shape(lambda *args: args, *args)).compile()

    with use_compilation_cache(), jax.default_matmul_precision(trainer.matmul_precision):
        return Programs(
            states=place(states),
            put=lambda numbers: place(_to_states(numbers, states)),
            data=put_on(devices, data),
            start=compiled(start, (states, nothing, *slot_values([config] * num_slots)), None),
            advance=compiled(train, states, data, donate_argnums=0),
            measure=compiled(measure, (states.best, nothing), data),
            compile_seconds=time.perf_counter() - begin,
        )


Spread = Callable[..., Any]  # (fn, **options of jax.jit) -> a jitted function of slots


def _alone(devices: list[Any]) -> tuple[Callable[[Any], Any], Spread]:
    """Return what puts states on the devices, and what makes a function of a single slot of a function of a run."""

    def spread(fn: Callable, **options: Any) -> Any:
        def of_slots(slots: Any, shared: Any, *, axis_name: str | None = None) -> Any:
            result = fn(jax.tree.map(lambda x: x[0], slots), shared, axis_name=axis_name)
            return jax.tree.map(lambda y: y[None], result)

        return jit_on(devices, of_slots, **options)

    return functools.partial(put_on, devices), spread


def _side_by_side(devices: list[Any], strategy: str) -> tuple[Callable[[Any], Any], Spread]:
    """Return the same for several slots."""
    mesh = Mesh(devices, (AXIS,))
    dealt = NamedSharding(mesh, PartitionSpec(AXIS) if strategy == "devices" else PartitionSpec())
    everywhere = NamedSharding(mesh, PartitionSpec())

    def spread(fn: Callable, **options: Any) -> Any:
        of_slots = over_lanes(lambda slot, shared: fn(slot, shared), strategy=strategy, devices=devices)
        return jax.jit(of_slots, in_shardings=(dealt, everywhere), out_shardings=dealt, **options)

    return functools.partial(jax.device_put, device=dealt), spread


def slot_values(configs: Sequence[Config]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return the seeds and the hyperparameters of runs of one kind, one a slot."""
    rows = [hyperparameters(config.optimizer) for config in configs]
    columns = {name: np.array([row[name] for row in rows], np.float32) for name in rows[0]}
    return np.array([config.seed for config in configs], np.uint32), columns


def _ended(state: TrainState, num_slots: int) -> TrainState:
    """Return slots in which nothing runs."""
    shapes = jax.eval_shape(to_numbers, state)
    empty = jax.tree.map(lambda leaf: np.zeros((num_slots, *leaf.shape), leaf.dtype), shapes)
    return _to_states(empty._replace(status=np.full(num_slots, Status.MAX_EPOCHS, np.int32)), state)


def to_numbers(state: TrainState) -> TrainState:
    """Return a state with the numbers of its keys in their place, which can be saved."""
    return jax.tree.map(lambda leaf: jax.random.key_data(leaf) if _is_key(leaf) else leaf, state)


def _to_states(numbers: TrainState, like: TrainState) -> TrainState:
    """Reverse `to_numbers`."""
    wrap = lambda number, leaf: jax.random.wrap_key_data(jnp.asarray(number)) if _is_key(leaf) else number  # noqa: E731
    return jax.tree.map(wrap, numbers, like)


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
