"""The command that classifies a user's own images by the network of a run."""

import json
from pathlib import Path
from typing import Any

from lenet_jax.cli.options import parse, weights_option
from lenet_jax.errors import InputError

_SWITCHES = ("--json", "--invert", "--no-invert", "--centre", "--no-centre")


def predict(directory: Path, arguments: list[str]) -> int:
    """Print the label of each image and its probability; return the exit code."""
    options = parse("predict", arguments, switches=_SWITCHES, values=("--weights",))
    if not options.rest:
        raise InputError("predict: usage: lenet-jax predict DIR FILE [FILE ...], images, folders, npz or npy files.")
    invert, centre = (_choice(options.switches, name) for name in ("invert", "centre"))

    from lenet_jax.runs.predict import predict_files
    from lenet_jax.runs.trust import read_allowed

    record = read_allowed(directory, options.allowed)
    paths = [Path(name) for name in options.rest]
    shown = None
    for each in predict_files(record, paths, weights=weights_option("predict", options), invert=invert, centre=centre):
        if "--json" in options.switches:
            print(json.dumps(_without_none(each), ensure_ascii=False))
            continue
        label = f"{each.label}" if each.class_name is None else f"{each.label} {each.class_name}"
        line = f"{each.name}: {label}, {each.confidence:.1%}"
        if each.index is None:
            line += f"; {each.preparation}"
        elif each.file != shown:
            print(f"{each.file}: {each.preparation}")
            shown = each.file
        print(line)
    return 0


def _choice(switches: frozenset[str], name: str) -> bool | None:
    """Return whether a switch is given, its opposite, or None for neither."""
    if {f"--{name}", f"--no-{name}"} <= switches:
        raise InputError(f"predict: `--{name}` and `--no-{name}` exclude each other; leave one out.")
    return True if f"--{name}" in switches else False if f"--no-{name}" in switches else None


def _without_none(prediction: Any) -> dict[str, Any]:
    return {name: value for name, value in prediction._asdict().items() if value is not None}
