"""Where the time of a step goes, and a trace of it."""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from lenet_jax.evaluation import evaluate_task
from lenet_jax.objective import Batch, training_loss
from lenet_jax.optimizers.standard_form import apply_optimizer
from lenet_jax.runs.prepared_run import PreparedRun
from lenet_jax.training import TrainState, evaluation_variables, minibatch
from lenet_jax.types import Dataset, Metrics

TRACE = "profile"  # folder of the trace
_MAX_ROUNDS = 30
_MAX_SECONDS = 10.0  # of all rounds, after which no other begins


class Part(NamedTuple):
    """A part of a step, or of what surrounds it."""

    name: str
    seconds: float  # of a call, the median
    compile_seconds: float


def profile(prepared: PreparedRun, directory: Path) -> list[Part]:
    """Measure the parts of a step at the initial weights, and write a trace of JAX's profiler.

    Args:
        prepared: the run, of which nothing is recorded.
        directory: in which the folder `TRACE` is created.
    """
    task, optimizer, trainer = parts = prepared.parts
    data = jax.device_put(prepared.data)
    indices = jnp.arange(prepared.plan.batch_size)

    def gather(state: TrainState, indices: Array, data: Dataset) -> Batch:
        return minibatch(task, state, data.train, indices)

    def forward(params: PyTree, state: TrainState, batch: Batch) -> Array:
        return jnp.mean(training_loss(task, state.variables._replace(params=params), batch)[0].astype(jnp.float32))

    def update(grads: PyTree, loss: Array, params: PyTree, state: TrainState, batch: Batch) -> tuple[PyTree, PyTree]:
        def loss_at(params: PyTree) -> Array:
            return forward(params, state, batch)

        updates, opt_state = apply_optimizer(optimizer, state.opt_state, params, grads, loss, loss_at)
        return optax.apply_updates(params, updates), opt_state

    def step(state: TrainState, indices: Array, data: Dataset) -> tuple[TrainState, Array]:
        return parts.step(state, data, indices)

    def evaluate(state: TrainState, data: Dataset) -> Metrics:
        return evaluate_task(task, evaluation_variables(state), data.validation)

    with jax.default_matmul_precision(trainer.matmul_precision):
        state = jax.jit(parts.init)(jax.random.key(prepared.config.seed), prepared.initial_tensors)
        params = state.variables.params
        data_part = _compile("data", gather, state, indices, data)
        batch = data_part()
        gradient = _compile("gradient", jax.value_and_grad(forward), params, state, batch)
        loss, grads = gradient()
        programs = [
            data_part,
            _compile("forward", forward, params, state, batch),
            gradient,
            _compile("optimizer", update, grads, loss, params, state, batch),
            _compile("step", step, state, indices, data),
            _compile("evaluation", evaluate, state, data),
        ]
        seconds = _measure(programs)
        with jax.profiler.trace(str(directory / TRACE)):
            for program in (programs[-2], programs[-2], programs[-1]):
                jax.block_until_ready(program())
    measured = [
        Part(program.name, each, program.compile_seconds) for program, each in zip(programs, seconds, strict=True)
    ]
    gathering, forwards, both, *others = measured
    backward = Part("backward", max(both.seconds - forwards.seconds, 0.0), both.compile_seconds)
    return [gathering, forwards, backward, *others]


class _Program(NamedTuple):
    name: str
    run: Callable[..., Any]
    args: tuple[Any, ...]
    compile_seconds: float

    def __call__(self) -> Any:
        return jax.block_until_ready(self.run(*self.args))


def _compile(name: str, fn: Callable[..., Any], *args: Any) -> _Program:
    begin = time.perf_counter()
    compiled = jax.jit(fn).lower(*args).compile()
    return _Program(name, compiled, args, time.perf_counter() - begin)


def _measure(programs: list[_Program]) -> list[float]:
    """Return the median seconds of a call of each program; they are called in turn, so that all meet the same load."""
    rounds: list[list[float]] = []
    for program in programs:
        program()
    while len(rounds) < _MAX_ROUNDS and sum(map(sum, rounds)) < _MAX_SECONDS:
        rounds.append([])
        for program in programs:
            begin = time.perf_counter()
            program()
            rounds[-1].append(time.perf_counter() - begin)
    return [statistics.median(times) for times in zip(*rounds, strict=True)]
