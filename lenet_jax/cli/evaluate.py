"""The command that evaluates a finished run, or the runs of a sweep together."""

import sys
from pathlib import Path
from typing import Any

from lenet_jax.cli.options import Options, find_own_modules, parse, weights_option
from lenet_jax.errors import InputError


def evaluate(directory: Path, arguments: list[str]) -> int:
    """Print the evaluation of a finished run on its test images, on another part of its data, or on other data."""
    from lenet_jax.report.text import average_lines, data_line, evaluation_table, trained_on_warning
    from lenet_jax.runs.average import evaluate_average
    from lenet_jax.runs.evaluate import evaluate_run

    options = parse(
        "evaluate", arguments, switches=("--ensemble",), values=("--config-dir", "--weights", "--tta", "--seed")
    )
    num_views, seed = (
        _count(options.values.get("--tta", "0"), "--tta"),
        _count(options.values.get("--seed", "0"), "--seed"),
    )
    weights = weights_option("evaluate", options)
    part, overrides = _split_and_data(options.rest)
    for override in overrides:
        if not override.lstrip("+~").startswith(("data=", "data.")):
            raise InputError(f"evaluate: options are data=NAME and data.KEY=VALUE; got {override!r}.")
    records = _read(directory, options)
    record, data = records[0], None
    if overrides:
        from lenet_jax.hydra_app.composition import compose_data

        find_own_modules()
        data = compose_data(record.config.data, overrides, config_dir=options.values.get("--config-dir"))
    if len(records) == 1 and not num_views:
        evaluation = evaluate_run(record, data, part=part, weights=weights)
    else:
        average = evaluate_average(records, data, part=part, weights=weights, num_views=num_views, seed=seed)
        evaluation = average.report
        for line in average_lines(average, num_views, seed):
            print(line)
    print(data_line(record.config.data if data is None else data, evaluation))
    for line in evaluation_table(evaluation, part):
        print(line)
    if warning := trained_on_warning(evaluation):
        print(f"lenet-jax: {warning}", file=sys.stderr)
    return 0


def _read(directory: Path, options: Options) -> list[Any]:
    """Return the record of a run, or with --ensemble those of the finished runs of a sweep."""
    from lenet_jax.runs.trust import read_allowed
    from lenet_jax.sweeps.ledger import DONE, IDENTITY, Ledger

    is_sweep = (directory / IDENTITY).is_file()
    if "--ensemble" not in options.switches:
        if is_sweep:
            raise InputError(
                f"evaluate: `DIR` must be the directory of a run; {directory} is that of a sweep; name a job of it, "
                f"{directory / '0'}, or add --ensemble for the mean of all."
            )
        return [read_allowed(directory, options.allowed)]
    if not is_sweep:
        raise InputError(f"evaluate: `--ensemble` must be used with the directory of a sweep; {directory} is none.")
    ledger = Ledger(directory)
    done = [entry for entry in ledger.known_entries() if entry.state == DONE]
    if not done:
        raise InputError(f"evaluate: {directory} must have finished jobs; it has none; lenet-jax resume {directory}.")
    return [read_allowed(ledger.run_directory(entry), options.allowed) for entry in done]


def _count(text: str, name: str) -> int:
    if not text.isdecimal():
        raise InputError(f"evaluate: `{name}` must be an integer, 0 or above; got {text!r}.")
    return int(text)


_PARTS = ("train", "validation", "test")


def _split_and_data(overrides: list[str]) -> tuple[Any, list[str]]:
    """Return the part of the data that is meant, and the overrides that name other data.

    `data.split` is also an option of some data sets, EMNIST's "balanced" and so on: what is no part is left to them.
    """
    names = [override for override in overrides if override.startswith("data.split=")]
    found = [name.removeprefix("data.split=") for name in names]
    parts = [name for name in found if name in _PARTS]
    if found and not parts and not any(override.startswith("data=") for override in overrides):
        raise InputError(f"evaluate: `data.split` must be train, validation or test; got {found[0]!r}.")
    rest = [override for override in overrides if override.removeprefix("data.split=") not in _PARTS]
    return (parts or ["test"])[-1], rest
