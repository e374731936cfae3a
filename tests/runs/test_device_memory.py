"""The memory of a device: what JAX says of an accelerator, and the machine's or the cgroup's of a CPU."""

import os

import jax
import pytest

from lenet_jax.runs.device_memory import machine_memory, memory_limit

MACHINE = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


class Gpu:
    platform = "gpu"

    def __init__(self, stats):
        self._stats = stats

    def memory_stats(self):
        return self._stats


def test_an_accelerator_says_itself_how_much_its_programs_may_use():
    assert memory_limit(Gpu({"bytes_limit": 100, "bytes_in_use": 40})) == 100
    assert memory_limit(Gpu({"bytes_in_use": 40})) is None
    assert memory_limit(Gpu(None)) is None


def test_the_devices_of_a_cpu_have_the_memory_of_the_machine():
    assert memory_limit(jax.devices("cpu")[0]) == machine_memory() <= MACHINE


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("groups", "limits", "expected"),
    [
        ("0::/a/b\n", {"a/b/memory.max": "3000\n", "a/memory.max": "2000\n", "memory.max": "max\n"}, 2000),
        ("0::/a/b\n", {"a/b/memory.max": "max\n"}, MACHINE),
        ("0::/of/the/host\n", {"memory.max": "4000\n"}, 4000),  # as in a container, which has other paths
        ("5:cpu,memory:/a\n4:cpuset:/\n0::/\n", {"memory/a/memory.limit_in_bytes": "5000\n"}, 5000),
        (
            "4:memory:/\n",
            {"memory/memory.limit_in_bytes": f"{2**63 - 4096}\n"},
            MACHINE,
        ),  # no limit, as version 1 has it
        ("4:cpuset:/a\n", {"a/memory.max": "5\n", "memory/a/memory.limit_in_bytes": "5\n"}, MACHINE),
        ("", {}, MACHINE),
    ],
)
def test_a_cgroup_or_one_around_it_may_leave_less(groups, limits, expected, tmp_path):
    write(tmp_path / "proc/self/cgroup", groups)
    for name, text in limits.items():
        write(tmp_path / "sys/fs/cgroup" / name, text)
    assert machine_memory(tmp_path) == expected


def test_a_system_without_cgroups_has_its_memory(tmp_path):
    assert machine_memory(tmp_path) == MACHINE
