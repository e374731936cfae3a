"""Splitting the minibatches of one run over several devices.

XLA makes one device of all cores of a CPU and splits each operation over them; every operation then waits for the
slowest core, and what is too small to be split leaves all but one idle. With a device a core, each one works on its own
part of the minibatch, and they wait for each other once a step. JAX makes them before its first use, if told by
`lenet_jax.environment.tune_environment` or

    jax.config.update("jax_num_cpu_devices", os.cpu_count())

`experiments/benchmarks/README.md` has what it gains.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

AXIS = "shards"
_ALIGNMENT = 64  # bytes
_SMALLEST_SHARD = 16  # examples; smaller ones leave the products too little to do


def choose_devices(batch_size: int) -> list[Any]:
    """Return the devices that a run with minibatches of this size is split over.

    On a CPU as many as divide the minibatch into parts of at least 16 examples; elsewhere the first device alone.
    """
    devices = jax.local_devices()
    if devices[0].platform != "cpu":
        return devices[:1]
    most = max(min(len(devices), batch_size // _SMALLEST_SHARD), 1)
    return devices[: next(n for n in range(most, 0, -1) if batch_size % n == 0)]


def jit_on(devices: list[Any], fn: Callable, **options: Any) -> Callable:
    """Jit a function that splits its work over the axis `AXIS`; arguments and results are the same on every device.

    Args:
        devices: one or several.
        fn: a function of arrays with a keyword argument `axis_name`, None if there is one device, else `AXIS`:
            `train_interval`, `evaluate` or what `make_train` returns, or `functools.partial` of them.
        options: those of `jax.jit`.
    """
    if len(devices) == 1:
        return jax.jit(fn, **options)
    mesh = Mesh(devices, (AXIS,))
    everywhere = PartitionSpec()

    def run(*args: Any) -> Any:
        return fn(*args, axis_name=AXIS)

    split = jax.shard_map(run, mesh=mesh, in_specs=everywhere, out_specs=everywhere, check_vma=False)
    same = NamedSharding(mesh, everywhere)
    return jax.jit(split, in_shardings=same, out_shardings=same, **options)


def put_on(devices: list[Any], tree: Any) -> Any:
    """Copy arrays to every device; those of one CPU share a single copy of NumPy arrays."""
    same = NamedSharding(Mesh(devices, (AXIS,)), PartitionSpec())
    if devices[0].platform == "cpu":
        tree = jax.tree.map(lambda x: _copy_aligned(x) if isinstance(x, np.ndarray) else x, tree)
    return jax.device_put(tree, same)


def _copy_aligned(x: np.ndarray) -> np.ndarray:
    """Return a copy that begins where XLA can use it as it is; nobody else may write to it."""
    memory = np.empty(x.nbytes + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    copy = memory[start : start + x.nbytes].view(x.dtype).reshape(x.shape)
    copy[...] = x
    copy.flags.writeable = False
    return copy
