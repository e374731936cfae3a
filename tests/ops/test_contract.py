"""Every operation and layer is its definition wherever JAX goes: rows x contexts x dtypes.

Each row is computed in every context at one dtype, which rotates; the others run with `-m slow`.
"""

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from tests.ops.contract import Cell
from tests.ops.contract_contexts import ON_ONE_DEVICE
from tests.ops.contract_devices import ON_TWO_DEVICES
from tests.ops.contract_rows import EMPTY, LAYERS, OPERATIONS

DTYPES = ("float32", "bfloat16", "float16", "float64")
ROWS = {**OPERATIONS, **{f"layers.{name}": row for name, row in LAYERS.items()}}


ALWAYS = ("jit", "shard_map")  # with these every row runs by default


def cells(contexts, rows, share):
    """Return all combinations; one of `share` runs by default, the others are marked as slow.

    XLA's CPU backend aborts on some sums of half precision over devices when it divides a program itself, those of
    `lax` included, so there only the other two dtypes are left.
    """
    return [
        pytest.param(
            context,
            name,
            dtype,
            id=f"{context}-{name}-{dtype}",
            marks=[pytest.mark.slow] * ((r + c + d) % 4 > 0 or (context not in ALWAYS and (r + c) % share > 0)),
        )
        for c, context in enumerate(contexts)
        for r, name in enumerate(rows)
        for d, dtype in enumerate(DTYPES)
        if not (context.startswith("gspmd") and dtype in ("bfloat16", "float16"))
    ]


@pytest.mark.parametrize(("context", "name", "dtype"), cells(ON_ONE_DEVICE, ROWS, 7))
def test_it_is_the_definition(context, name, dtype):
    check(ON_ONE_DEVICE[context], ROWS[name], dtype)


@pytest.mark.parametrize(("context", "name", "dtype"), cells(ON_ONE_DEVICE, EMPTY, 11))
def test_of_nothing_it_is_the_definition(context, name, dtype):
    check(ON_ONE_DEVICE[context], EMPTY[name], dtype)


def check(context, row, dtype):
    with jax.enable_x64(dtype == "float64"):
        cell = Cell(row, dtype)
        for found, right in context(cell):
            cell.check(found, right)


if jax.config.jax_num_cpu_devices > 1:

    @pytest.mark.parametrize(("context", "name", "dtype"), cells(ON_TWO_DEVICES, ROWS, 7))
    def test_on_two_devices_it_is_the_definition(context, name, dtype):
        check(ON_TWO_DEVICES[context], ROWS[name], dtype)

else:

    @pytest.mark.parametrize("marks", ["not slow", pytest.param("slow", marks=pytest.mark.slow)])
    def test_it_is_the_definition_on_two_devices(marks):
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-n0",
            "--tb=line",
            "-m",
            marks,
            "-k",
            "on_two_devices",
            __file__,
        ]
        environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "2"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=Path(__file__).parents[2])
        assert done.returncode == 0, done.stdout
