"""What the program of a group costs: memory and operations, by the compiled program, and the time of a step, measured.

Nothing is written, not even to the cache of compiled programs.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lenet_jax.runs.flops import count_flops
from lenet_jax.runs.lane_memory import ProgramMemory, check_fits, fewer_lanes, program_memory
from lenet_jax.runs.prepared_run import PreparedRun
from lenet_jax.runs.programs import (
    Layout,
    compile_executables,
    empty_lanes,
    lane_data,
    lane_inputs,
    make_layout,
    of_fold,
    put_on,
)
from lenet_jax.training import TrainState

NUM_STEPS = 5  # that are timed, after one that is not
_MAX_SECONDS = 20.0  # after which no other step is timed


class ProgramCost(NamedTuple):
    """What the program of a group of runs costs."""

    strategy: str
    num_lanes: int  # that fit into the memory of the devices
    num_devices: int
    parameters: int  # of a run
    memory: ProgramMemory | None  # of each device, of the program that trains all lanes; None: unknown
    flops: float | None  # a training step of one run; None: unknown
    steps: int  # of a run that nothing stops early
    seconds: float  # a training step of all lanes together: the median


def measure_cost(prepared: PreparedRun, strategy: str, num_lanes: int) -> ProgramCost:
    """Compile the programs of a group, run a few training steps of all its lanes, and return what they cost.

    If the lanes need more memory than the devices have, those that fit are measured, as `run_jobs` would run them.

    Args:
        prepared: any of the runs.
        strategy: as in `compile_programs`.
        num_lanes: as in `compile_programs`.
    """
    while True:
        layout = make_layout(strategy, num_lanes, prepared)
        try:
            memory, seconds = _measure(prepared, layout)
            break
        except Exception as error:  # if memory is exhausted, fewer lanes may fit; else it is raised again
            fewer = fewer_lanes(error, num_lanes, len(layout.devices))
            if fewer is None:
                raise
            num_lanes = fewer
    plan, trainer = prepared.plan, prepared.config.trainer
    with jax.default_matmul_precision(trainer.matmul_precision):
        flops = count_flops(prepared.parts.step, prepared.state, prepared.data, _first_batch(prepared))
    return ProgramCost(
        strategy,
        num_lanes,
        len(layout.devices),
        sum(leaf.size for leaf in jax.tree.leaves(prepared.state.variables.params)),
        memory,
        flops,
        plan.num_intervals * plan.interval,
        seconds,
    )


def _first_batch(prepared: PreparedRun) -> Any:
    return jnp.arange(prepared.plan.batch_size)


def _measure(prepared: PreparedRun, layout: Layout) -> tuple[ProgramMemory | None, float]:
    """Return the memory of the program that trains all lanes, and the seconds of a step of them."""
    num_lanes = layout.num_lanes
    programs = compile_executables(prepared, layout)
    check_fits(num_lanes, programs.needed, layout.devices)
    seeds, values, folds = lane_inputs(prepared, [prepared.config] * num_lanes)
    states = layout.put(empty_lanes(prepared.state, num_lanes))
    data, initial = (put_on(layout.devices, tree) for tree in (lane_data(prepared), prepared.initial_tensors))
    states = programs.start(states, (np.ones(num_lanes, bool), seeds, values), initial)

    def step(state: TrainState, lane: Any, data: Any) -> TrainState:
        values, fold = lane
        state, _loss = prepared.at(values).step(state, of_fold(data, fold), _first_batch(prepared))
        return state

    with jax.default_matmul_precision(prepared.config.trainer.matmul_precision):
        jitted = layout.jit_over_lanes(step, donate_argnums=0)
        compiled = jitted.lower(states, (values, folds), data).compile()
    return program_memory(programs.advance), _seconds(compiled, states, (values, folds), data)


def _seconds(step: Callable[..., Any], states: Any, *args: Any) -> float:
    """Return the median seconds of a step, each of which begins where the one before has ended."""
    states = jax.block_until_ready(step(states, *args))
    seconds: list[float] = []
    while len(seconds) < NUM_STEPS and sum(seconds) < _MAX_SECONDS:
        begin = time.perf_counter()
        states = jax.block_until_ready(step(states, *args))
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)
