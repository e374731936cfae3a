"""Every operation and layer is its definition wherever JAX goes: rows x contexts x dtypes.

Each row is computed in every context at one dtype, which rotates; the others run with `-m slow`.
"""

import jax
import pytest

from tests.ops.contract import Cell
from tests.ops.contract_contexts import ON_ONE_DEVICE
from tests.ops.contract_rows import EMPTY, LAYERS, OPERATIONS

DTYPES = ("float32", "bfloat16", "float16", "float64")
ROWS = {**OPERATIONS, **{f"layers.{name}": row for name, row in LAYERS.items()}}


def cells(contexts, rows):
    """Return all combinations; those that do not run by default are marked as slow."""
    return [
        pytest.param(context, name, dtype, id=f"{context}-{name}-{dtype}", marks=[pytest.mark.slow] * ((r + c + d) % 4 > 0))
        for c, context in enumerate(contexts)
        for r, name in enumerate(rows)
        for d, dtype in enumerate(DTYPES)
    ]


@pytest.mark.parametrize(("context", "name", "dtype"), cells(ON_ONE_DEVICE, ROWS))
def test_it_is_the_definition(context, name, dtype):
    check(ON_ONE_DEVICE[context], ROWS[name], dtype)


@pytest.mark.parametrize(("context", "name", "dtype"), cells(ON_ONE_DEVICE, EMPTY))
def test_of_nothing_it_is_the_definition(context, name, dtype):
    check(ON_ONE_DEVICE[context], EMPTY[name], dtype)


def check(context, row, dtype):
    with jax.enable_x64(dtype == "float64"):
        cell = Cell(row, dtype)
        for found, right in context(cell):
            cell.check(found, right)
