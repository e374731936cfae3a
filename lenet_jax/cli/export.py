"""The command that writes the network of a run for other programs."""

import sys
from pathlib import Path

from lenet_jax.cli.options import parse, weights_option
from lenet_jax.errors import InputError

_READ = {
    "stablehlo": "jax.export.deserialize(bytearray(open(FILE, 'rb').read())).call(inputs)",
    "onnx": "onnxruntime.InferenceSession(FILE).run(None, {INPUT: inputs})",
    "safetensors": "lj.load_variables(FILE, model), or train init=FILE",
    "orbax": "lenet_jax.interop.orbax.load_orbax(FOLDER, model), or train init=FOLDER",
}


def export(directory: Path, arguments: list[str]) -> int:
    """Export the network of a run, print how it differs from the run's, and return the exit code."""
    options = parse("export", arguments, values=("--to", "--output", "--weights", "--batch"))
    kind, output, batch = (options.values.get(name) for name in ("--to", "--output", "--batch"))
    if options.rest or kind is None:
        raise InputError("export: usage: lenet-jax export DIR --to stablehlo|onnx|safetensors|orbax [--output=FILE].")
    if batch is not None and not (batch.isdecimal() and int(batch)):
        raise InputError(f"export: `--batch` must be an integer, 1 or above; got {batch!r}.")

    from lenet_jax.report.text import size
    from lenet_jax.runs.export import export_run
    from lenet_jax.runs.trust import read_allowed

    record = read_allowed(directory, options.allowed)
    exported = export_run(
        record,
        kind,
        None if output is None else Path(output),
        weights=weights_option("export", options),
        batch_size=None if batch is None else int(batch),
    )
    print(f"{exported.path}, {size(exported.bytes)}: inputs {exported.inputs}, outputs {exported.outputs}")
    print(f"read it by {_READ[kind]}")
    print(
        f"{exported.same} of {exported.examples} test examples have the same largest output; the largest difference of "
        f"an output is {exported.largest:.2g}"
    )
    if exported.same < exported.examples:
        print("lenet-jax: the exported network is not the run's; do not use it.", file=sys.stderr)
        return 1
    return 0
