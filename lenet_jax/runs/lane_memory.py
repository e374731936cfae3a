"""How many lanes fit into the memory of the devices, by what XLA says of the compiled programs."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax

from lenet_jax.runs.device_memory import memory_limit

USABLE = 0.9  # of the limit; the rest is for machine code, fragmentation and what else the process needs


class ProgramMemory(NamedTuple):
    """The memory of a compiled program on each of its devices, in bytes."""

    arguments: int
    temporary: int
    outputs: int  # without those that take the place of arguments


def program_memory(compiled: Any) -> ProgramMemory | None:
    """Return the memory that a compiled program of JAX needs; None if the platform does not say."""
    found = compiled.memory_analysis()
    if found is None:
        return None
    outputs = found.output_size_in_bytes - found.alias_size_in_bytes
    return ProgramMemory(found.argument_size_in_bytes, found.temp_size_in_bytes, max(outputs, 0))


def num_bytes(tree: Any) -> int:
    """Return the bytes of the arrays of a pytree, which may be shapes; keys as the integers that they are."""
    leaves = (leaf for leaf in jax.tree.leaves(tree) if hasattr(leaf, "shape"))
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves)


class Needed(NamedTuple):
    """What the programs of a group need of the memory of each device, in bytes."""

    lanes: int  # of all lanes on the device
    shared: int  # once, however many lanes there are: data and initial weights


def needed_memory(programs: Iterable[Any], states: int, shared: int) -> Needed | None:
    """Return what compiled programs need that do not run at the same time; None if the platform does not say.

    Their arguments are on the devices whether or not a program uses them.

    Args:
        programs: compiled programs of JAX.
        states: bytes of the states of all lanes of a device; empty ones are kept beside those in use.
        shared: bytes of data and initial weights.
    """
    found = [program_memory(program) for program in programs]
    known = [memory for memory in found if memory is not None]
    if len(known) < len(found):
        return None
    return Needed(2 * states + max(memory.temporary + memory.outputs for memory in known), shared)


def lanes_that_fit(num_lanes: int, needed: Needed, devices: Sequence[Any]) -> int:
    """Return how many lanes fit into the memory of the devices, at least 1 and at most as many as there are.

    The memory of a lane is that of all lanes, divided by their number. On an accelerator at least one lane a device is
    returned; what happens if even that does not fit is the device's answer.

    Args:
        num_lanes: the number with which the programs are compiled, the same on each device.
        needed: by these programs.
        devices: those of the lanes. Those of a CPU have one memory together, in which the data are twice: as they are
            loaded, and aligned for the programs.
    """
    limit = memory_limit(devices[0])
    if limit is None:
        return num_lanes
    is_one_memory = devices[0].platform == "cpu"
    lane = max(needed.lanes * len(devices) // num_lanes, 1)
    free = int(USABLE * limit) - needed.shared * (2 if is_one_memory else 1)
    places = max(free // lane, 1) * (1 if is_one_memory else len(devices))
    if places >= num_lanes:
        return num_lanes
    return places - places % len(devices) if places > len(devices) else places


class TooManyLanesError(Exception):
    """The programs of a group need more memory than there is."""

    def __init__(self, num_lanes: int, fitting: int, needed: Needed, devices: Sequence[Any]) -> None:
        """Say so.

        Args:
            num_lanes: of the programs.
            fitting: number of lanes that fit.
            needed: by the programs.
            devices: those of the lanes.
        """
        limit, lane = memory_limit(devices[0]) or 0, needed.lanes * len(devices) / num_lanes
        where = "all devices together" if devices[0].platform == "cpu" else "each device"
        super().__init__(
            f"{num_lanes} lanes on {len(devices)} devices do not fit into their memory: a lane needs {lane / 1e6:,.1f} "
            f"MB, the data {needed.shared / 1e6:,.1f} MB, and {USABLE:.0%} of {limit / 1e6:,.1f} MB is for {where}"
        )
        self.fitting = fitting


def check_fits(num_lanes: int, needed: Needed | None, devices: Sequence[Any]) -> None:
    """Check that the programs of a group fit into the memory of the devices; arguments as in `lanes_that_fit`.

    Raises:
        TooManyLanesError: if they do not, and fewer lanes would.
    """
    if needed is None or num_lanes == 1:
        return
    fitting = lanes_that_fit(num_lanes, needed, devices)
    if fitting < num_lanes:
        raise TooManyLanesError(num_lanes, fitting, needed, devices)


def fewer_lanes(error: Exception, num_lanes: int, num_devices: int) -> int | None:
    """Return the number of lanes to go on with after an error; None if it is no matter of memory, or of one lane.

    It is the number that fits, if that is known. If the device has run out of memory, it is half as many on each
    device; of a single one on each, on half of the devices.

    Args:
        error: raised when programs were compiled or run.
        num_lanes: of the programs.
        num_devices: of the programs; it divides the number of lanes.
    """
    if isinstance(error, TooManyLanesError):
        return error.fitting
    if not isinstance(error, jax.errors.JaxRuntimeError) or "RESOURCE_EXHAUSTED" not in str(error) or num_lanes == 1:
        return None
    each = num_lanes // num_devices
    return each // 2 * num_devices if each > 1 else num_devices // 2
