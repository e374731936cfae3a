"""One run in several processes, on one host or many: how they find each other, and what they agree on.

All processes do the same in the same order, as the programs of `lenet_jax.runs.mesh` are for the devices of all of
them. The first one records the run; the others write nothing.
"""

import contextlib
import os
import socket
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding

from lenet_jax.config import DistributedConfig
from lenet_jax.environment import command
from lenet_jax.errors import InputError
from lenet_jax.runs.supervision import is_asked_to_stop, is_supervised, supervise
from lenet_jax.weights import is_key

_OMPI = ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK")


def join(config: DistributedConfig) -> None:
    """Wait for the other processes of the run and join them; nothing if it has one process.

    The command runs again in a child of this process, which does not return; see `lenet_jax.runs.supervision`.

    Raises:
        InputError: if they cannot be found within the configured time, or the port of the first one is taken.
    """
    if not config.is_distributed:
        return
    address, count, number = _with_environment(config)
    if address is not None and number == 0 and not is_supervised():
        _check_free(address)
    if not is_supervised():
        supervise(command()[1:])
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM to itself
    jax.config.update("jax_enable_compilation_cache", False)  # jaxlib 0.10 waits for ever to serialize a program
    if not os.environ.get("JAX_CPU_COLLECTIVES_IMPLEMENTATION"):
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
    method = None if config.detect and None in (address, count, number) else "deactivate"
    try:
        jax.distributed.initialize(
            address,
            count,
            number,
            cluster_detection_method=method,
            initialization_timeout=config.timeout,
        )
    except (RuntimeError, ValueError) as error:
        raise _cannot_join(config, error) from error
    if jax.process_count() == 1:
        raise InputError("`distributed` must find several processes; it has found this one only; use distributed=none.")


def _with_environment(config: DistributedConfig) -> tuple[str | None, int | None, int | None]:
    """Return address, number of processes and number of this one, as far as the configuration or Open MPI says so."""
    count, number = config.num_processes, config.process_id
    if config.detect and all(name in os.environ for name in _OMPI):
        size, rank = (int(os.environ[name]) for name in _OMPI)
        count, number = count or size, rank if number is None else number
    return config.coordinator, count, number


def _check_free(address: str) -> None:
    """Check that this process can wait for the others at a port.

    Raises:
        InputError: if it is taken; gRPC would share it.
    """
    port = int(address.rpartition(":")[2])
    with contextlib.closing(socket.socket()) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind(("", port))
        except OSError as error:
            raise InputError(
                f"`distributed.coordinator` must be at a free port of the first process; {address} cannot be had: "
                f"{error.strerror}; use another port."
            ) from error


def _cannot_join(config: DistributedConfig, error: Exception) -> InputError:
    reason = str(error).splitlines()[0].rstrip(".")
    if "should be defined" in reason or "must be defined" in reason:
        return InputError(
            "`distributed=auto` must be used in a job of SLURM or MPI, which tells processes of each other; none is "
            "found; give distributed.coordinator=HOST:PORT, distributed.num_processes=N, distributed.process_id=I."
        )
    where = config.coordinator or "the address that was found"
    return InputError(
        f"`distributed` must find all processes at {where} within {config.timeout} s, distributed.timeout; {reason}."
    )


def is_writer() -> bool:
    """Return whether this process records the run: the first one, or the only one."""
    return not jax.distributed.is_initialized() or jax.process_index() == 0


def agreed(interrupted: Callable[[], bool]) -> Callable[[], bool]:
    """Return a function that tells all processes the same: whether one of them was asked to stop."""
    if jax.process_count() == 1:
        return interrupted

    def any_interrupted() -> bool:
        own = np.array(interrupted() or is_asked_to_stop())
        return bool(np.any(multihost_utils.process_allgather(own)))

    return any_interrupted


def check_same(what: str, number: int) -> None:
    """Check that all processes have read the same.

    Raises:
        InputError: if they have not.
    """
    if jax.process_count() == 1:
        return
    found = np.unique(multihost_utils.process_allgather(np.array(number))).tolist()
    if len(found) > 1:
        raise InputError(
            f"{what} must be the same for all processes; they found {found}; give them one file system, and resume."
        )


def put(tree: Any, shardings: Any) -> Any:
    """Copy arrays of NumPy, and random keys, to devices that may be of several processes.

    Args:
        tree: the arrays, the same in all processes.
        shardings: where they go, a pytree of the same structure.
    """
    return jax.tree.map(_put, tree, shardings)


def _put(x: Any, sharding: NamedSharding) -> Any:
    if sharding.is_fully_addressable:
        return jax.device_put(x, sharding)
    if is_key(x):
        return jax.random.wrap_key_data(_put(np.asarray(jax.random.key_data(x)), sharding))
    x = np.asarray(x)
    return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])


def fetch(tree: Any) -> Any:
    """Return arrays of NumPy with the values of arrays that may be divided over processes; all take part in it."""

    def whole(x: Any) -> Any:
        if not isinstance(x, jax.Array) or x.is_fully_addressable or x.is_fully_replicated:
            return x
        return multihost_utils.process_allgather(x, tiled=True)

    return jax.device_get(jax.tree.map(whole, tree))
