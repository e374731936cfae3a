"""What one run over several devices computes and sends: a table for 1, 2 and 4 devices of a CPU.

python -m experiments.scaling [KEY=VALUE ...]   the overrides of `lenet-jax train`, as model=resnet18 sharding=fsdp

The numbers are those of XLA for one step of the compiled program, so they are the same on a busy machine. Operations
are of the definitions in `jax.lax`: those of a native kernel would not be counted.
"""

import collections
import math
import os
import re
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

os.environ |= {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "4", "LENET_JAX_KERNELS": "none"}

import jax
import jax.numpy as jnp

from lenet_jax.hydra_app.composition import compose_config
from lenet_jax.runs.mesh import over_mesh
from lenet_jax.runs.prepared_run import PreparedRun, prepare_run
from lenet_jax.training import TrainState

_BYTES = {"pred": 1, "u8": 1, "s8": 1, "bf16": 2, "f16": 2, "s64": 8, "u64": 8, "f64": 8}  # others: 4
_COLLECTIVE = re.compile(r"= (.*?) (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(?:-start)?\(")


class Step(NamedTuple):
    """One training step of a compiled program."""

    devices: int
    flops: float  # a device
    collectives: dict[str, int]  # bytes of the results, on a device, by kind
    parameters: int  # bytes


def collective_bytes(program: str) -> dict[str, int]:
    """Return the bytes that the collective operations of a program return, by kind, each counted once.

    Args:
        program: its text, in HLO.
    """
    found: dict[str, int] = collections.Counter()
    for shapes, kind in _COLLECTIVE.findall(program):
        for dtype, sizes in re.findall(r"(\w+)\[([\d,]*)\]", shapes):
            found[kind] += _BYTES.get(dtype, 4) * math.prod(int(n) for n in sizes.split(",") if n)
    return dict(found)


def measure_step(run: PreparedRun, num_devices: int) -> Step:
    """Compile one step of a run that is divided over devices, and return what it computes and sends."""

    def step(state: TrainState, indices: Any, data: Any) -> tuple[TrainState, Any]:
        return run.parts.step(state, data, indices)

    def put_in_lane(tree: Any) -> Any:
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct((1, *x.shape), x.dtype), tree)

    jit = _on_one_device if run.mesh is None else over_mesh(run.mesh, run.state)[1]
    indices = jax.ShapeDtypeStruct((run.plan.batch_size,), jnp.int32)
    data = jax.eval_shape(lambda tree: tree, run.data)
    compiled = jit(step).lower(put_in_lane(run.state), put_in_lane(indices), data).compile()
    parameters = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(run.state.variables.params))
    return Step(num_devices, compiled.cost_analysis()["flops"], collective_bytes(compiled.as_text()), parameters)


def _on_one_device(step: Any) -> Any:
    def of_lanes(states: Any, indices: Any, data: Any) -> Any:
        state, indices = jax.tree.map(lambda x: x[0], (states, indices))
        return step(state, indices, data)

    return jax.jit(of_lanes)


def measure_steps(overrides: Sequence[str], counts: Sequence[int] = (1, 2, 4)) -> list[Step]:
    """Return a step of a configuration on each number of devices."""
    chosen = any(each.startswith("sharding=") for each in overrides)
    overrides = [*overrides, *([] if chosen else ["sharding=data"])]
    return [measure_step(prepare_run(compose_config([*overrides, f"sharding.num_devices={n}"])), n) for n in counts]


def table(steps: Sequence[Step]) -> str:
    """Return a table in Markdown; the efficiency is the share of one device in its operations, by what each does."""
    rows = ["| devices | operations a device | efficiency | sent a step |", "|---|---|---|---|"]
    alone = steps[0].flops / steps[0].devices
    for step in steps:
        sent = ", ".join(f"{kind} {count:,} B" for kind, count in sorted(step.collectives.items())) or "nothing"
        share = alone / step.devices / step.flops
        rows.append(f"| {step.devices} | {step.flops / 1e6:.2f} M | {share:.3f} | {sent} |")
    return "\n".join([f"parameters: {steps[0].parameters:,} bytes", "", *rows])


def main(overrides: Sequence[str]) -> None:
    """Print the table."""
    print(table(measure_steps(overrides)))


if __name__ == "__main__":
    main(sys.argv[1:])
