"""The devices of one run that is divided over several: which they are, and programs that are compiled for all of them.

What a program does on several devices is in `lenet_jax.sharding`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from lenet_jax import components
from lenet_jax.config import Config
from lenet_jax.config.catalogue import TARGET
from lenet_jax.errors import InputError
from lenet_jax.runs.processes import put
from lenet_jax.sharding import Sharding, make_mesh, state_specs
from lenet_jax.train_plan import TrainPlan
from lenet_jax.training import TrainState


class RunMesh(NamedTuple):
    """The devices of a run, and how it is divided over them."""

    sharding: Sharding
    mesh: Mesh

    @property
    def devices(self) -> list[Any]:
        """Return the devices, of all processes."""
        return list(self.mesh.devices.flat)

    def describe(self) -> dict[str, Any]:
        """Return what `run.json` records of it."""
        return {
            "axes": dict(self.mesh.shape),
            "state": "replicated" if self.sharding.smallest is None else "sharded",
            "processes": len({device.process_index for device in self.devices}),
        }


def build_mesh(config: Config, plan: TrainPlan) -> RunMesh | None:
    """Return the devices of a configured run; None: it has one device to itself.

    Raises:
        InputError: if there are too few devices, or they do not divide a microbatch.
    """
    sharding = components.build(config.sharding)
    if not isinstance(sharding, Sharding):
        name = config.sharding[TARGET]
        raise InputError(f"`sharding` must return a Sharding; {name} returns a {type(sharding).__name__}.")
    mesh = make_mesh(sharding, jax.devices())
    _check_processes(mesh)
    if mesh is None:
        return None
    _check_division(plan.batch_size, config.trainer.grad_accumulation_steps, mesh.size)
    return RunMesh(sharding, mesh)


def _check_processes(mesh: Mesh | None) -> None:
    """Check that a run of several processes is divided over the devices of all of them."""
    if jax.process_count() > 1 and (mesh is None or mesh.size < jax.device_count()):
        raise InputError(
            f"`sharding` must divide a run of {jax.process_count()} processes over all {jax.device_count()} devices; "
            "use sharding=data or sharding=fsdp, with sharding.num_devices=null."
        )


def _check_division(batch_size: int, steps: int, num_devices: int) -> None:
    size = batch_size // steps
    if size % num_devices == 0:
        return
    fewer = next(n for n in range(num_devices, 0, -1) if size % n == 0)
    near = max(size // num_devices, 1) * num_devices * steps
    of_steps = f" in {steps} microbatches (trainer.grad_accumulation_steps)" if steps > 1 else ""
    raise InputError(
        f"`trainer.batch_size` must give each of {num_devices} devices as many examples of a microbatch; got "
        f"{batch_size}{of_steps}; use trainer.batch_size={near}, or sharding.num_devices={fewer}."
    )


def over_mesh(run: RunMesh, state: TrainState) -> tuple[Callable[[Any], Any], Callable[..., Any]]:
    """Return a function that copies states to the devices, and one that jits a function of a run over a single lane.

    Args:
        run: the devices.
        state: shapes and dtypes of the state of a run.
    """
    specs = state_specs(run.sharding, state, run.mesh.size)
    states = jax.tree.map(lambda spec: NamedSharding(run.mesh, PartitionSpec(None, *spec)), specs)
    replicated = NamedSharding(run.mesh, PartitionSpec())

    def place(result: Any) -> Any:
        """Constrain the states in a result to their places, and replicate the rest."""
        if isinstance(result, TrainState):
            return jax.tree.map(lax.with_sharding_constraint, result, states)
        if type(result) is tuple:
            return tuple(map(place, result))
        return lax.with_sharding_constraint(result, replicated)

    def jit_over_lanes(fn: Callable, **options: Any) -> Any:
        def of_lanes(states: Any, lanes: Any, shared: Any) -> Any:
            state, lane = jax.tree.map(lambda x: x[0], (states, lanes))
            with jax.sharding.use_abstract_mesh(run.mesh.abstract_mesh):
                return place(jax.tree.map(lambda y: y[None], fn(state, lane, shared)))

        return jax.jit(of_lanes, in_shardings=(states, replicated, replicated), **options)

    return lambda tree: put(tree, states), jit_over_lanes
