"""Every operation and layer is its definition wherever JAX goes: rows x contexts x dtypes.

Each row is computed in every context at one dtype, which rotates; the others run with `-m slow`.
"""

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from lenet_jax import layers, ops
from tests.ops.contract import Cell
from tests.ops.contract_contexts import ON_ONE_DEVICE
from tests.ops.contract_devices import ON_TWO_DEVICES
from tests.ops.contract_rows import EMPTY, LAYERS, OPERATIONS

pytestmark = pytest.mark.usefixtures("without_type_checks")  # annotations are checked in the other tests

DTYPES = ("float32", "bfloat16", "float16", "float64")
ROWS = {**OPERATIONS, **{f"layers.{name}": row for name, row in LAYERS.items()}}


ALWAYS = ("jit", "shard_map")  # with these every row runs by default


def is_left_out(context, name, dtype):
    """Return whether `lax` itself fails there.

    Where XLA divides a program itself, its CPU backend aborts on some sums of half precision over devices. On explicit
    meshes, JAX has no second derivatives of convolutions in groups. The weight of an auxiliary loss is a constant,
    whose cotangent may not vary over devices. Jets have no rules for `reduce_window_max`, `scatter`,
    `remat` and functions with derivatives of their own.
    """
    if context.startswith("gspmd"):
        return dtype in ("bfloat16", "float16")
    if context == "jets":
        return "max_pool" in name or name in NO_JETS
    if context == "gradients_inside_shard_map" and name == "layers.auxiliary":
        return True
    return context == "explicit_hvp" and name in GROUPED


NO_JETS = {
    "normalize_batch",
    "normalize_batch images",
    "layers.batch_normalization",
    "layers.batch_normalization vectors",
    "layers.branch",
    "layers.convolution pooled",
    "layers.convolution table",
    "layers.rematerialized",
    "layers.serial",
}
GROUPED = {
    "layers.depthwise_convolution",
    "layers.depthwise_convolution 1d",
    "layers.separable_convolution",
    "layers.separable_convolution 3d",
    "conv1d dilation",
    "conv2d groups",
    "conv2d many groups",
    "conv2d_max_pool groups",
    "conv3d groups",
    "depthwise_conv1d",
    "depthwise_conv2d",
    "depthwise_conv2d strides",
    "depthwise_conv3d",
    "layers.convolution no bias",
    "separable_conv1d",
    "separable_conv2d",
    "separable_conv3d",
}


def cells(contexts, rows, share):
    """Return all combinations; one of `share` runs by default, the others are marked as slow."""
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
        if not is_left_out(context, name, dtype)
    ]


def test_every_public_operation_and_layer_has_a_row():
    of_no_arrays = {"BATCH_SIZE", "initializers", "fan_in_uniform", "glorot_uniform", "map_batches", "sliding_windows"}
    no_layers = {"Cost", "Layer", "Shape", "make_model", "take_auxiliary", "trace_layer"}
    rows = {name.split()[0] for name in ROWS}
    assert set(ops.__all__) - of_no_arrays <= rows
    assert {f"layers.{name}" for name in set(layers.__all__) - no_layers} <= rows


@pytest.mark.parametrize(("context", "name", "dtype"), cells(ON_ONE_DEVICE, ROWS, 29))
def test_it_is_the_definition(context, name, dtype):
    check(ON_ONE_DEVICE[context], ROWS[name], dtype)


@pytest.mark.parametrize(("context", "name", "dtype"), cells(ON_ONE_DEVICE, EMPTY, 37))
def test_of_nothing_it_is_the_definition(context, name, dtype):
    check(ON_ONE_DEVICE[context], EMPTY[name], dtype)


def check(context, row, dtype):
    with jax.enable_x64(dtype == "float64"):
        cell = Cell(row, dtype)
        for found, right in context(cell):
            cell.check(found, right)


if jax.config.jax_num_cpu_devices > 1:

    @pytest.mark.parametrize(("context", "name", "dtype"), cells(ON_TWO_DEVICES, ROWS, 29))
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
