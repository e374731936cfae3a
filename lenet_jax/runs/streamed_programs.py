"""Training and measuring on data that are read as they are needed: the host feeds compiled programs chunk by chunk.

A single run gives the bits that it would give with the same data in memory: the order of the examples is drawn by the
same program, and each step and each batch of an evaluation is the same computation. Its place in the data is the
iteration in its state, so a checkpoint needs nothing else.
"""

import collections
import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lenet_jax.data.stream_reader import read_chunks
from lenet_jax.data.streams import StreamedDataset
from lenet_jax.errors import InputError
from lenet_jax.evaluation import count_examples
from lenet_jax.objective import no_totals, to_metrics
from lenet_jax.ops import BATCH_SIZE
from lenet_jax.runs.measured import Measured, results_of
from lenet_jax.runs.prepared_run import PreparedRun
from lenet_jax.streaming import add_chunk, train_chunk
from lenet_jax.training import Evaluation, TrainState, evaluation_variables, finish_interval, next_minibatches
from lenet_jax.types import Metrics, Split, Variables, has_weights

_CHUNK_BYTES = 1 << 24  # of the examples that are passed to a program at once, unless a minibatch has more
_IN_FLIGHT = 2  # chunks that wait for the device or are used by it

JitOverLanes = Callable[..., Any]  # as in `lenet_jax.runs.programs`


class Passes(NamedTuple):
    """What `lenet_jax.runs.programs.Programs` calls, for streamed data."""

    advance: Callable[..., tuple[TrainState, Evaluation]]
    measure: Callable[..., Measured]


def compile_passes(
    prepared: PreparedRun, jit_over_lanes: JitOverLanes, states: TrainState, values: Any, device: Any
) -> Passes:
    """Compile the programs of one run on streamed data.

    Args:
        prepared: the run.
        jit_over_lanes: jits a function (state, lane, shared) of a run over a single lane.
        states: shapes of the states, with their axis of one lane.
        values: shapes of the float options, likewise.
        device: to which chunks are copied.
    """
    run = _StreamedRun(prepared, jit_over_lanes, device)
    run.compile(states, values)
    return Passes(run.advance, run.measure)


def bytes_in_flight(prepared: PreparedRun) -> int:
    """Return how many bytes of examples are on the device at a time while a run trains."""
    plan, size = prepared.plan, _example_bytes(prepared.data.train)
    return (_IN_FLIGHT + 1) * _in_chunk(plan.batch_size * size, plan.interval) * plan.batch_size * size


class _StreamedRun:
    """The compiled programs of a run, and the loops around them. All of their arrays have an axis of one lane."""

    def __init__(self, prepared: PreparedRun, jit_over_lanes: JitOverLanes, device: Any) -> None:
        assert isinstance(prepared.data, StreamedDataset)
        self._prepared, self._data, self._jit, self._device = prepared, prepared.data, jit_over_lanes, device
        plan, example_bytes = prepared.plan, _example_bytes(prepared.data.train)
        self._steps = _in_chunk(plan.batch_size * example_bytes, plan.interval)
        self._evaluators: dict[str, Any] = {}
        self._batches: dict[str, tuple[int, int]] = {}  # of each split: size of a batch, batches in a chunk
        for part, split in self._data.splits().items():
            size = min(BATCH_SIZE, count_examples(split))
            self._batches[part] = size, _in_chunk(size * example_bytes, math.ceil(count_examples(split) / size))

    def compile(self, states: TrainState, values: Any) -> None:
        """Compile all programs for states and float options of these shapes."""
        prepared, plan, trainer = self._prepared, self._prepared.plan, self._prepared.config.trainer
        num_train, objective = count_examples(self._data.train), prepared.task.objective
        count, lane = jax.ShapeDtypeStruct((), jnp.int32), (values,)

        def train(state: TrainState, lane: Any, shared: Any) -> Any:
            return train_chunk(*prepared.at(*lane), state, *shared, batch_size=plan.batch_size)

        def finish(state: TrainState, lane: Any, _: Any) -> tuple[TrainState, Evaluation]:
            values, (losses, running), totals = lane
            task, _, config = prepared.at(values)
            return finish_interval(
                task.objective, config, plan, state, losses, running, to_metrics(task.objective, totals)
            )

        def sum_up(_: Any, lane: Any, __: Any) -> Metrics:
            values, totals = lane
            return to_metrics(prepared.at(values).task.objective, totals)

        def compiled(fn: Callable, *args: Any, **options: Any) -> Any:
            return self._jit(fn, **options).lower(*args).compile()

        self._totals = jax.tree.map(lambda x: np.asarray(x)[None], no_totals(objective, self._data.train.targets))
        chunk = _shapes(self._data.train, self._steps * plan.batch_size)
        self._draw = compiled(lambda state, *_: next_minibatches(trainer, plan, num_train, state), states, lane, ())
        self._train = compiled(train, states, lane, (chunk, count), donate_argnums=0)
        measured = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct((1, plan.interval, *x.shape[2:]), x.dtype), self._train.out_info[1]
        )
        self._current = compiled(lambda state, *_: evaluation_variables(state), states, lane, ())
        self._results = compiled(lambda state, *_: results_of(trainer, state), states, lane, ())
        self._finish = compiled(finish, states, (values, measured, self._totals), (), donate_argnums=0)
        self._sum_up = compiled(sum_up, (), (values, self._totals), ())
        for part in self._batches:
            self._evaluators[part] = self._compile_evaluation(part, states.variables, values, count)

    def _compile_evaluation(self, part: str, variables: Variables, values: Any, count: Any) -> Any:
        """Compile the evaluation of a chunk of a split; splits whose batches have one size share it."""
        same = [other for other in self._evaluators if self._batches[other] == self._batches[part]]
        if same:
            return self._evaluators[same[0]]
        batch_size, num_batches = self._batches[part]
        chunk = _shapes(self._data.splits()[part], batch_size * num_batches)

        def add(variables: Variables, lane: Any, shared: Any) -> Any:
            values, totals = lane
            return add_chunk(self._prepared.at(values).task, variables, totals, *shared, batch_size=batch_size)

        return self._jit(add).lower(variables, (values, self._totals), (chunk, count)).compile()

    def advance(self, states: TrainState, lane: Any, data: Any) -> tuple[TrainState, Evaluation]:
        """Train the run up to its next validation."""
        values, _ = lane
        batch_size = self._prepared.plan.batch_size
        order = jax.device_get(self._draw(states, (values,), ()))[0]
        measured, in_flight = [], _InFlight()
        for examples, count in self._chunks("train", order.ravel(), self._steps * batch_size):
            num_steps = count // batch_size
            states, new = self._train(states, (values,), (examples, np.int32(num_steps)))
            measured.append((new, num_steps))
            in_flight.add(new)
        columns = [jax.tree.map(lambda x, n=num_steps: np.asarray(x)[:, :n], new) for new, num_steps in measured]
        measured = jax.tree.map(lambda *parts: np.concatenate(parts, axis=1), *columns)
        totals = self._evaluate("validation", self._current(states, (values,), ()), values)
        return self._finish(states, (values, measured, totals), ())

    def measure(self, states: TrainState, lane: Any, data: Any) -> Measured:
        """Measure the weights of the run, which has finished."""
        _, values, _ = lane

        def on(part: str, variables: Variables) -> Metrics:
            return self._sum_up((), (values, self._evaluate(part, variables, values)), ())

        results = self._results(states, (values,), ())
        return results.measured(lambda variables: (on("train", variables), on("test", variables)))

    def _evaluate(self, part: str, variables: Variables, values: Any) -> Any:
        """Return the totals of a split."""
        size, num_batches = self._batches[part]
        totals, in_flight = self._totals, _InFlight()
        for examples, count in self._chunks(part, np.arange(len(self._data.sources[part])), size * num_batches):
            totals = self._evaluators[part](variables, (values, totals), (examples, np.int32(count)))
            in_flight.add(totals)
        return totals

    def _chunks(self, part: str, order: np.ndarray, size: int) -> Iterator[tuple[Split, int]]:
        """Yield chunks of a split on the device, and how many of their examples count."""
        has_labels = self._prepared.task.objective.has_labels
        chunks = read_chunks(self._data.sources[part], order, size, self._data.reading)
        with contextlib.closing(chunks):
            for (inputs, targets), count in chunks:
                if has_labels:
                    _check_labels(part, targets, self._data.num_classes)
                yield jax.device_put(Split(inputs, targets), self._device), count


class _InFlight:
    """What the device computes while the host reads on: little enough for its memory."""

    def __init__(self) -> None:
        self._results: collections.deque[Any] = collections.deque()

    def add(self, result: Any) -> None:
        """Add a result, and wait for one that is older."""
        self._results.append(result)
        if len(self._results) > _IN_FLIGHT:
            jax.block_until_ready(self._results.popleft())


def _check_labels(part: str, targets: Any, num_classes: int) -> None:
    labels = targets["targets"] if has_weights(targets) else targets
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= num_classes:
        raise InputError(f"data: labels of {part} must be 0 to {num_classes - 1}; got {low} to {high}.")


def _in_chunk(num_bytes: int, most: int) -> int:
    """Return how many parts of so many bytes are in a chunk, 1 to `most`."""
    return max(1, min(most, _CHUNK_BYTES // num_bytes))


def _example_bytes(split: Split) -> int:
    leaves = jax.tree.leaves((split.inputs, split.targets))
    return sum(math.prod(leaf.shape[1:]) * leaf.dtype.itemsize for leaf in leaves)


def _shapes(split: Split, count: int) -> Split:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((count, *x.shape[1:]), x.dtype), split)
