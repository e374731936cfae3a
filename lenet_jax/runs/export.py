"""The network of a run in formats that other programs read, checked against the run's own outputs."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lenet_jax import components
from lenet_jax.data.folds import build_data
from lenet_jax.data.stream_reader import read_split
from lenet_jax.errors import InputError, unknown_name
from lenet_jax.evaluation import predict_task
from lenet_jax.interop.conventions import example_of
from lenet_jax.interop.onnx import run_onnx, to_onnx
from lenet_jax.interop.orbax import load_orbax, save_orbax
from lenet_jax.objective import Task, predict
from lenet_jax.runs.evaluate import Which, find_weights, load_network
from lenet_jax.runs.platforms import check_platform
from lenet_jax.runs.run_directory import Record
from lenet_jax.storage import write_atomically
from lenet_jax.types import Dataset, Variables
from lenet_jax.weights import load_variables, save_variables

ENDINGS = {"stablehlo": ".stablehlo", "onnx": ".onnx", "safetensors": ".safetensors", "orbax": ".orbax"}
_ROUNDING = 1e-5  # relative
_PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


class Exported(NamedTuple):
    """A file of an exported network, and how what it computes differs from the run's network."""

    path: Path
    bytes: int
    inputs: str  # as "uint8 (N, 28, 28, 1)"
    outputs: str
    examples: int  # test examples that were compared
    same: int  # those whose largest output is the same one
    largest: float  # difference of an output


def export_run(
    record: Record, kind: str, path: Path | None = None, *, weights: Which = None, batch_size: int | None = None
) -> Exported:
    """Write the network of a run for another program, read it back, and compare its outputs for the test examples.

    As "stablehlo" and "onnx" it is a program that takes inputs as the run's data have them, uint8 pixels or floats, and
    returns the outputs at inference, logits of classification. It holds its weights, and none of this package's native
    kernels. As "safetensors" and "orbax" it is its weights alone, by their paths.

    Args:
        record: of the run, with a complete configuration, as `read_allowed` returns it.
        kind: "stablehlo", "onnx" (needs the packages onnx and onnxruntime), "safetensors" or "orbax".
        path: of the file, or the folder of Orbax; None: "model" with the ending of its kind, in the run's directory.
        weights: as for `lenet_jax.runs.evaluate.evaluate_run`.
        batch_size: of the program; None: any.

    Raises:
        InputError: if the kind is unknown, there is something at the path, the run left no such weights, or the network
            cannot be exported so.
    """
    if kind not in ENDINGS:
        raise unknown_name("export: --to", kind, ENDINGS)
    path = record.directory / f"model{ENDINGS[kind]}" if path is None else path
    if path.exists():
        raise InputError(f"export: `--output` must not exist yet; got {path}; remove it, or use another.")
    if batch_size is not None and kind not in ("stablehlo", "onnx"):
        raise InputError(f"export: `--batch` must be left out for {kind}, which holds weights only.")
    check_platform()
    find_weights(record, weights)
    config = record.config
    data: Dataset = build_data(config.data)
    inputs = read_split(data, "test").inputs
    if not hasattr(inputs, "shape"):
        raise InputError(f"export: `DIR` must be of a run whose inputs are one array; got a {type(inputs).__name__}.")
    model, variables = load_network(record, example_of(inputs), weights)
    task = Task(model, components.build(config.objective), (), config.trainer.compute_dtype, data.pixel_divisor)
    example = jax.ShapeDtypeStruct(inputs.shape[1:], jax.dtypes.canonicalize_dtype(inputs.dtype))
    with jax.default_matmul_precision(config.trainer.matmul_precision):
        of_weights = jax.jit(functools.partial(predict_task, task))
        expected = np.asarray(of_weights(variables, inputs))
        write, read = {
            "stablehlo": (_write_stablehlo, _read_stablehlo),
            "onnx": (_write_onnx, _read_onnx),
            "safetensors": (save_variables, lambda path: functools.partial(of_weights, load_variables(path, model))),
            "orbax": (save_orbax, lambda path: functools.partial(of_weights, load_orbax(path, model))),
        }[kind]
        if kind in ("stablehlo", "onnx"):
            write(path, functools.partial(_network, task, variables), example, batch_size)
        else:
            write(path, variables)
        found = _in_batches(read(path), np.asarray(inputs, example.dtype), batch_size)
    size = sum(each.stat().st_size for each in ([path] if path.is_file() else path.rglob("*")) if each.is_file())
    same = _count_same(expected, found)
    rows = "N" if batch_size is None else str(batch_size)
    of_inputs, of_outputs = (f"{x.dtype} ({', '.join([rows, *map(str, x.shape[1:])])})" for x in (inputs, expected))
    return Exported(path, size, of_inputs, of_outputs, len(inputs), same, float(np.abs(found - expected).max()))


def _count_same(expected: np.ndarray, found: np.ndarray) -> int:
    """Return of how many examples the largest output is the same, or as large but for rounding."""
    expected, found = (each.reshape(len(each), -1) for each in (expected, found))
    chosen = np.take_along_axis(expected, found.argmax(axis=-1)[:, None], axis=-1)[:, 0]
    return int(np.sum(chosen >= expected.max(axis=-1) - _ROUNDING * np.abs(expected).max(axis=-1)))


def _network(task: Task, variables: Variables, inputs: Any) -> Any:
    return predict(task, variables, inputs)


def _in_batches(call: Callable[[np.ndarray], Any], inputs: np.ndarray, batch_size: int | None) -> np.ndarray:
    """Return what a program computes of all inputs; the last ones fill its batch again and again."""
    if batch_size is None:
        return np.asarray(call(inputs))
    places = np.minimum(np.arange(-(-len(inputs) // batch_size) * batch_size), len(inputs) - 1)
    parts = [np.asarray(call(inputs[part])) for part in places.reshape(-1, batch_size)]
    return np.concatenate(parts)[: len(inputs)]


def _write_stablehlo(path: Path, network: Any, example: jax.ShapeDtypeStruct, batch_size: int | None) -> None:
    from jax import export

    rows = export.symbolic_shape("N")[0] if batch_size is None else batch_size
    shape: Any = (rows, *example.shape)
    try:
        exported = export.export(jax.jit(network), platforms=_PLATFORMS)(jax.ShapeDtypeStruct(shape, example.dtype))
    except Exception as error:  # of a network that asks for the size of the batch, or of an operation of its own
        first = next(iter(str(error).splitlines()), "").rstrip(".")
        remedy = "; a program of a fixed batch may do: --batch=64" if batch_size is None else ""
        raise InputError(f"export: `DIR` must hold a network that JAX can export; {first}{remedy}.") from error
    write_atomically(path, bytes(exported.serialize()))


def _read_stablehlo(path: Path) -> Callable[[np.ndarray], Any]:
    from jax import export

    exported = export.deserialize(bytearray(path.read_bytes()))
    return lambda inputs: exported.call(jnp.asarray(inputs))


def _write_onnx(path: Path, network: Any, example: jax.ShapeDtypeStruct, batch_size: int | None) -> None:
    write_atomically(path, to_onnx(network, example, batch_size))


def _read_onnx(path: Path) -> Callable[[np.ndarray], Any]:
    return functools.partial(run_onnx, path.read_bytes())
